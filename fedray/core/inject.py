"""Faults on purpose, which tests of a night on a cluster put in at named points of the program.

A point is passed by name with the round and the block, never by time.  Outside of tests no plan is set and a point is
one comparison.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import psutil

PLAN = "FEDRAY_FAULTS"
"""Environment variable: path of a JSON file, a list of ``{point, round, block, action}``; ``block`` may be left out.

Each fault happens once in all processes together: it leaves a file ``<plan>.<number>`` behind.  Actions: ``kill`` (the
process, with SIGKILL), ``kill_parent`` (of a Ray worker: its node), ``stop_node`` (SIGSTOP to the parent and all its
children: a silent node), ``hang`` (for ever), ``wait`` (until there is a file ``<plan>.go``), ``raise`` (RuntimeError),
``memory`` (MemoryError), ``disk`` (OSError: no space left), ``lose`` (:class:`Lost`).
"""

_LOOK = 0.05
"""Seconds between two looks for a file."""


class Lost(Exception):
    """An answer that did not come."""


def point(name: str, round: int, block: int = -1) -> None:
    """Raise, hang or kill here if the plan of faults says so; ``name`` is the place.

    Raises:
        Exception: as planned.
    """
    plan = os.environ.get(PLAN)
    if plan is None or not Path(plan).exists():
        return
    for number, fault in enumerate(json.loads(Path(plan).read_text())):
        here = fault["point"] == name and fault["round"] == round and fault.get("block", block) == block
        if here and _first(Path(f"{plan}.{number}")):
            _act(fault["action"], Path(f"{plan}.go"), f"fault injected at {name}, round {round}, block {block}")


def _first(marker: Path) -> bool:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _act(action: str, go: Path, text: str) -> None:
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill_parent":
            os.kill(os.getppid(), signal.SIGKILL)
            threading.Event().wait()
        case "stop_node":
            me, node = psutil.Process(), psutil.Process(os.getppid())
            for process in (*(child for child in node.children() if child != me), node, me):
                process.suspend()
        case "lose":
            raise Lost(text)
        case "hang":
            threading.Event().wait()
        case "wait":
            while not go.exists():
                time.sleep(_LOOK)
        case "memory":
            raise MemoryError(text)
        case "disk":
            raise OSError(28, text)
        case _:
            raise RuntimeError(text)
