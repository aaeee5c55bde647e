"""Several Ray nodes on this machine, each with its own plan of faults, and what they may leave behind: nothing."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from fedray.core import inject

DEADLINE = 90.0

# A dead node is noticed in seconds rather than a minute.
_HEALTH = {"health_check_period_ms": 1000, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}
_MEMORY = 100 << 20


def fault(point: str, round: int, action: str = "kill", block: int | None = None) -> dict[str, Any]:
    """One entry of a plan."""
    return {"point": point, "round": round, "action": action} | ({} if block is None else {"block": block})


def eventually(true: Callable[[], Any], what: str) -> None:
    """Wait for what happens in other processes."""
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, f"{what}: not in {DEADLINE:g} s"
        threading.Event().wait(0.05)


class Nodes:
    """A head, ``head``, which this process is connected to, and further nodes.

    A fault is planned for a node: the first of its processes that passes the point acts on it.  ``driver`` is this
    process.
    """

    def __init__(self) -> None:
        import fedray.cluster  # before Ray, which reads its settings when it is imported

        assert fedray.cluster.SETTINGS
        from ray.cluster_utils import Cluster

        # Short, as the path of a Unix socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="fr-"))
        self._cluster = Cluster()
        self._members: dict[str, Any] = {}
        # torch would set the last one itself, below the others, for good.
        temporary = ("RAY_TMPDIR", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR")
        self._environment = dict.fromkeys(temporary, str(self.folder))
        (self.folder / "ray").mkdir()

    def add(self, name: str, cpus: int = 2, **args: Any) -> None:
        """Start a node; the first is the head."""
        if not self._members:
            settings = _HEALTH | args.pop("settings", {})
            args |= {"include_dashboard": False, "include_log_monitor": False, "_system_config": settings}
        with _environment(self._environment | {inject.PLAN: str(self._plan(name))}):
            args.setdefault("object_store_memory", _MEMORY)
            self._members[name] = self._cluster.add_node(num_cpus=cpus, temp_dir=str(self.folder / "ray"), **args)

    @property
    def address(self) -> str:
        """Of the control store."""
        return str(self._cluster.address)

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """This process is a driver of the cluster, and its faults those of ``driver``."""
        import ray

        with _environment(self._environment | {inject.PLAN: str(self._plan("driver"))}):
            tempfile.tempdir = None  # found anew, from the environment
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
            try:
                yield
            finally:
                ray.shutdown()
                tempfile.tempdir = None

    def id(self, name: str) -> str:
        """Ray's, of a node."""
        return str(self._members[name].node_id)

    @contextlib.contextmanager
    def crowded(self, name: str) -> Iterator[None]:
        """Somebody else has one CPU of a node."""
        from ray.util import remove_placement_group

        from fedray.cluster.place.placement import Size
        from fedray.cluster.place.reservation import reserve

        group = reserve(self.id(name), [Size()])
        assert group.wait(DEADLINE)
        try:
            yield
        finally:
            remove_placement_group(group)

    # Faults

    def _plan(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def plan(self, **planned: list[dict[str, Any]]) -> None:
        """From here on these faults, by node, and no others."""
        for file in self.folder.glob("*.json*"):
            file.unlink()
        for name, entries in planned.items():
            self._plan(name).write_text(json.dumps(entries))

    def to_come(self) -> list[str]:
        """What is planned and has not happened."""
        return [
            f"{file.stem}: {entry}"
            for file in sorted(self.folder.glob("*.json"))
            for number, entry in enumerate(json.loads(file.read_text()))
            if not Path(f"{file}.{number}").exists()
        ]

    # Processes

    def processes(self, title: str, name: str | None = None) -> list[int]:
        """Ids of the processes, on one node or all, whose command line begins with ``title``; ended ones have none."""
        mark = str(self._plan(name) if name else self.folder)
        return sorted(
            process.pid
            for process in psutil.process_iter(["environ", "cmdline"])
            if process.pid != os.getpid()
            and (process.info["environ"] or {}).get(inject.PLAN, "").startswith(mark)
            and " ".join(process.info["cmdline"] or []).startswith(title)
        )

    def reserved(self) -> list[str]:
        """Placement groups that are still there."""
        from ray.util import placement_group_table

        groups = placement_group_table().values()
        return [group["name"] for group in groups if group["state"] != "REMOVED"]

    def all_gone(self, *titles: str) -> None:
        """Wait until there are no such processes."""
        for title in titles:
            eventually(lambda title=title: not self.processes(title), f"{title} ends")  # type: ignore[misc]

    def kill(self, name: str) -> None:
        """Everything of a node that there still is, silent or not."""
        member = self._members.pop(name)
        found = set[psutil.Process]()
        for pid in self.processes("", name):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                # An agent of Ray overwrites its environment by its title, and ends with nobody once it was stopped.
                found |= {process, *process.children(recursive=True)}
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._cluster.remove_node(member, allow_graceful=False)
        self._cluster.wait_for_nodes(DEADLINE)

    def close(self) -> None:
        """End all nodes; nothing may remain."""
        with _environment(self._environment):
            self._cluster.shutdown()
        eventually(lambda: not self.processes(""), "all processes end")
        shutil.rmtree(self.folder)


def our_buffers() -> list[str]:
    """Shared buffers that this process has open or mapped."""
    gc.collect()  # an exception that was caught keeps the frames it passed in a cycle
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(link.readlink()))
    return [target for target in found if "memfd:fedray" in target]


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
