"""The differences of two runs, by what their folders say alone: reading them needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from fedray.core.errors import ConfigError, listed
from fedray.replay.recorded import Recorded
from fedray.rundir import checkpoint
from fedray.rundir.code import code_at
from fedray.rundir.configs import changed_keys

_ELSEWHERE = ("run.dir:", "python.run_dir:")


@dataclass(frozen=True)
class Differences:
    """The differences of two runs.

    Args:
        compared: the rounds that both have recorded.
        first: the first of them that differs; None: none does.
        told: the differences of that round, in words, the first run's side first.
        config: keys of the config of that round, or of the last that both have, with both values.
        versions: versions of packages.
        hardware: all else that bits depend on.
        data: names of training data with other content.
        code: files of the user's own code with other content.
        unrecorded: of these, what a run folder does not tell, with the folders that do not; of code both, as a run that
            needs none of the user's own tells none.
    """

    compared: int
    first: int | None
    told: list[str] = field(default_factory=list)
    config: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    hardware: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    unrecorded: dict[str, list[str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return them ready for JSON."""
        return asdict(self)


def differences(one: Recorded, other: Recorded) -> Differences:
    """Compare two runs round by round, by the hash of the model, or where none is recorded by the training loss.

    Raises:
        ConfigError: they have no recorded round in common.
    """
    both = sorted(one.records.keys() & other.records.keys())
    if not both:
        names = " and ".join(str(run.folder.path) for run in (one, other))
        raise ConfigError(f"{names} have no recorded round in common, so there is nothing to compare")
    first = next((round for round in both if _apart(one.records[round], other.records[round])), None)
    at = both[-1] if first is None else first
    states = [checkpoint.newest_state(run.folder.checkpoints) for run in (one, other)]
    machines = [
        run.summary.get("machine") or state.get("machine", {}) for run, state in zip((one, other), states, strict=True)
    ]
    known = [code_at(run.folder.path, at) for run in (one, other)]
    codes = [code or {} for code in known]
    marks = [state.get("fingerprint", {}) for state in states]
    versions = [run.summary.get("versions", {}) for run in (one, other)]
    kept: dict[str, list[Any]] = {"versions": versions, "hardware": machines, "data": marks}
    if known == [None, None]:
        kept["code"] = codes
    absent = {name: _without(one, other, *sides) for name, sides in kept.items()}
    return Differences(
        compared=len(both),
        first=first,
        told=[] if first is None else list(_told(one.records[first], other.records[first])),
        config=list(_config(one, other, at)),
        versions=list(_pairs(*versions)),
        hardware=[*_pairs(*machines), *_workers(one.records[at], other.records[at])],
        data=[name for name in {**marks[0], **marks[1]} if marks[0].get(name) != marks[1].get(name)]
        if all(marks)
        else [],
        code=[name for name in {**codes[0], **codes[1]} if codes[0].get(name) != codes[1].get(name)],
        unrecorded={name: folders for name, folders in absent.items() if folders},
    )


def _without(one: Recorded, other: Recorded, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the folders of the runs that have recorded nothing."""
    return [str(run.folder.path) for run, side in ((one, first), (other, second)) if not side]


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    hashes = one.get("model_sha256"), other.get("model_sha256")
    if all(hashes):
        return hashes[0] != hashes[1]
    return bool(one.get("train") != other.get("train"))


def _told(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """Say what differs in a round, from what is nearest to the clients on."""
    for name, words in (("clients", "clients"), ("examples", "examples"), ("stack", "clients that step at once")):
        if one.get(name) != other.get(name):
            yield f"{words}: {_short(one.get(name))} and {_short(other.get(name))}"
    failed = [
        [f"{failure['client']} ({failure['stage']})" for failure in side.get("failures", ())] for side in (one, other)
    ]
    if failed[0] != failed[1]:
        yield f"failures: {listed(failed[0], none='none')} and {listed(failed[1], none='none')}"
    for section in ("train", "test"):
        sides = one.get(section, {}), other.get(section, {})
        for name in {**sides[0], **sides[1]}:
            if sides[0].get(name) != sides[1].get(name):
                yield f"{section}.{name}: {_short(sides[0].get(name))} and {_short(sides[1].get(name))}"
    hashes = [str(side.get("model_sha256", ""))[:12] for side in (one, other)]
    if all(hashes):
        yield f"model: {hashes[0]} and {hashes[1]}"


def _config(one: Recorded, other: Recorded, round: int) -> Iterator[str]:
    texts = [run.config_of(round).read_text() for run in (one, other)]
    rounds = [(yaml.safe_load(text) or {}).get("rounds") for text in texts]
    if rounds[0] != rounds[1]:
        yield f"rounds: {rounds[0]} -> {rounds[1]}"
    yield from (words for words in changed_keys(*texts) if not words.startswith(_ELSEWHERE))


def _workers(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    kinds = [side.get("usage", {}).get("hardware", []) for side in (one, other)]
    if kinds[0] != kinds[1]:
        yield f"workers: {listed(kinds[0], none='unknown')} -> {listed(kinds[1], none='unknown')}"


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    for name in {**one, **other} if one and other else ():
        if one.get(name) != other.get(name):
            yield f"{name}: {one.get(name)} -> {other.get(name)}"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "nothing" if value is None else str(value)
