"""The harness sees all of a command's processes, no others, and leaves none behind."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.machine import busy, machine, slug
from benchmarks.processes import (
    CommandFailed,
    Family,
    PeakPss,
    PeakRss,
    execute,
    measurement,
    peak_rss,
    pss,
    title,
)

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")

MB = 10**6
# A child holds 40 MB; then its parent waits for a word from the test, and ends as told.
HOLD = "a = bytearray(b'x') * 40_000_000; print('1', flush=True); import time; time.sleep(600)"
PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {HOLD!r}], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
open(sys.argv[1]).read()
exec(sys.argv[2])
"""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What the parent waits for."""
    os.mkfifo(path := tmp_path / "gate")
    return path


def let_go(gate: Path) -> None:
    """Lets the parent end, if it has come so far."""
    with contextlib.suppress(OSError):  # nobody waits there yet
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))


def lives(pid: int) -> bool:
    """Whether there is more of a process than its exit status."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_this_process_is_what_proc_says() -> None:
    assert os.getpid() in Family(os.getppid()).alive()
    assert 0 < pss(os.getpid()) <= peak_rss(os.getpid())
    assert title(os.getpid())


def test_a_process_that_is_gone_counts_nothing() -> None:
    gone = max(psutil.pids()) + 4_000_000
    assert (pss(gone), peak_rss(gone), title(gone)) == (0, 0, "")


def test_memory_of_the_whole_tree_is_added_up(gate: Path) -> None:
    everyone, child = PeakPss(), PeakRss(f"{sys.executable} -c {HOLD}")

    def watch(pids: list[int], elapsed: float) -> None:
        everyone(pids, elapsed)
        child(pids, elapsed)
        if child.peak > 40 * MB or everyone.looks > 500:
            let_go(gate)

    end = "child.kill(); child.wait(); print('noise'); print('{\"done\": 1}')"
    assert measurement([*python(PARENT), str(gate), end], watch, period=0.02) == {"done": 1}
    assert 40 * MB < child.peak < 100 * MB
    assert 40 * MB < everyone.peak < 200 * MB
    assert sum(everyone.programs.values()) == everyone.peak
    assert everyone.looks > 1


def test_what_a_command_leaves_behind_is_ended(gate: Path) -> None:
    seen: set[int] = set()

    def watch(pids: list[int], elapsed: float) -> None:
        seen.update(pids)
        if len(seen) == 2:
            let_go(gate)

    with pytest.raises(CommandFailed, match="exit status 5"):
        execute([*python(PARENT), str(gate), "os._exit(5)"], watch, period=0.02)
    assert len(seen) == 2
    assert not any(map(lives, seen))


def test_an_interrupted_measurement_leaves_nothing_behind(gate: Path) -> None:
    seen: set[int] = set()

    def watch(pids: list[int], elapsed: float) -> None:
        seen.update(pids)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute([*python(PARENT), str(gate), "pass"], watch, period=0.02)
    assert not any(map(lives, seen))


def test_a_command_that_hangs_is_ended() -> None:
    seen: set[int] = set()
    hangs = python("import signal; signal.pause()")
    with pytest.raises(CommandFailed, match=r"not done after 0\.1 s"):
        execute(hangs, lambda pids, elapsed: seen.update(pids), period=0.02, timeout=0.1)
    assert seen
    assert not any(map(lives, seen))


def test_a_failure_shows_what_was_said_last() -> None:
    with pytest.raises(CommandFailed, match=r"exit status 3\n.*went wrong"):
        execute(python("import sys; print('went wrong', file=sys.stderr); sys.exit(3)"))


def test_commands_do_not_inherit_thread_counts_or_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "7")
    told = execute(python("import os; print(os.environ.get('OMP_NUM_THREADS'), os.environ.get('RAY_ADDRESS'))"))
    assert told.split() == ["None", "None"]


def test_the_machine_is_described_without_its_name() -> None:
    where = machine()
    assert where["cores"] == str(os.cpu_count())
    assert os.uname().nodename not in where.values()
    assert slug({"cpu": "AMD EPYC 9354 32-Core Processor", "cores": "2"}) == "amd-epyc-9354-2c"
    assert 0.0 <= busy(0.02) <= 1.0
