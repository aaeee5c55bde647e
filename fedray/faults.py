"""Faults on purpose: what tests of a night on a cluster inject at named points of the program.

A point is passed by name with the round and the block, never by time.  Outside of tests no plan is set and a point is
one comparison.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

PLAN = "FEDRAY_FAULTS"
"""Environment variable: path of a JSON file, a list of ``{point, round, block, action}``; ``block`` may be left out.

Each fault happens once in all processes together: it leaves a file ``<plan>.<number>`` behind.  Actions: ``kill`` (the
process, with SIGKILL), ``hang`` (for ever), ``raise`` (RuntimeError), ``memory`` (MemoryError), ``disk`` (OSError: no
space left).
"""


def point(name: str, round: int, block: int = -1) -> None:
    """A place where the plan may want a fault.

    Raises:
        Exception: as planned.
    """
    plan = os.environ.get(PLAN)
    if plan is None:
        return
    for number, fault in enumerate(json.loads(Path(plan).read_text())):
        here = fault["point"] == name and fault["round"] == round and fault.get("block", block) == block
        if here and _first(Path(f"{plan}.{number}")):
            _act(fault["action"], f"fault injected at {name}, round {round}, block {block}")


def _first(marker: Path) -> bool:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _act(action: str, text: str) -> None:
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            threading.Event().wait()
        case "memory":
            raise MemoryError(text)
        case "disk":
            raise OSError(28, text)
        case _:
            raise RuntimeError(text)
