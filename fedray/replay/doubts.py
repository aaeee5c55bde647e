"""Reasons why a round that is done again may have other bits: whatever they depend on beside config and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedray.core.hardware import machine, versions
from fedray.replay.recorded import Recorded
from fedray.run.origin import changed_code, changes
from fedray.run.plan import Plan


@dataclass(frozen=True)
class Doubt:
    """A reason for other bits.

    Args:
        words: the reason.
        place: it lies in the machine or its software, with which results are close; else in what is computed.
    """

    words: str
    place: bool


_MACHINE = {"cpu": "vector instructions", "arch": "processor", "gpu": "GPU", "torch": "torch"}
_VERSIONS = ("fedray", "python", "numpy")


def doubts(
    recorded: Recorded, state: Mapping[str, Any], plan: Plan, round: int, gpus: float, code: Mapping[str, str]
) -> Iterator[Doubt]:
    """Yield the reasons.

    Args:
        recorded: the run.
        state: of a checkpoint of it; empty: there is none.
        plan: the plan of the round, as it is made now.
        round: the round.
        gpus: of a worker, as it is made now.
        code: the SHA-256 of each file of the user's own code, as it is now.
    """
    before = state.get("machine") or recorded.summary.get("machine") or {}
    yield from _others(before, machine(), _MACHINE)
    told = recorded.records.get(round, {})
    kinds = told.get("usage", {}).get("hardware", ())
    if ranked := [kind for kind in kinds if kind.endswith(" ranks")]:
        who = "clients" if len(ranked) == len(kinds) else "some clients"
        ranks = " or ".join(sorted({kind.rpartition(", ")[2] for kind in ranked}))
        yield Doubt(f"{who} were trained on {ranks}, and here by one process", place=True)
    if any("AVX" not in kind and "aarch" not in kind for kind in kinds) and not gpus:
        yield Doubt("workers had GPUs, and here they have none", place=True)
    yield from _others(recorded.summary.get("versions", {}), versions(), {name: name for name in _VERSIONS})
    if "fingerprint" in state and (found := changes(state["fingerprint"], plan.task.data.fingerprint())):
        yield Doubt(f"the training data are others ({found})", place=False)
    if words := changed_code(recorded.folder.path, round, code):
        yield Doubt(words, place=False)
    said, rate = told.get("train", {}).get("lr"), plan.task.rate.of(round)
    if said is not None and rate is not None and said != rate:
        words = f"the learning rate was {said:.6g} and is now {rate:.6g}, as `rounds` was another number"
        yield Doubt(words, place=False)


def _others(before: Mapping[str, str], now: Mapping[str, str], names: Mapping[str, str]) -> Iterator[Doubt]:
    for name, words in names.items():
        if name in before and before[name] != now.get(name):
            yield Doubt(f"{words}: {before[name]} then, {now.get(name)} now", place=True)
