"""The records of a run folder, for whoever does rounds again; reading them needs no torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from fedray.core.errors import ConfigError
from fedray.run.withheld import read_withheld
from fedray.rundir import checkpoint
from fedray.rundir.configs import check_given
from fedray.rundir.folder import RunFolder
from fedray.rundir.names import METRICS, NOT_PRIVATE, configs
from fedray.tracking.jsonl import read_records


@dataclass(frozen=True)
class Recorded:
    """The records of a run, as its folder is now.

    Args:
        folder: the run folder, which is only read.
        records: the record of each round from 1 on, by its number.
        summary: the content of ``summary.json``; empty before the run has ended.
    """

    folder: RunFolder
    records: Mapping[int, Mapping[str, Any]]
    summary: Mapping[str, Any]

    @classmethod
    def read(cls, run_dir: Path) -> Recorded:
        """Read a run folder, whether the run goes on, has ended or has failed.

        Raises:
            ConfigError: there is no run, or its records are damaged.
        """
        folder = RunFolder(run_dir)
        folder.config()
        metrics = run_dir / METRICS
        records = read_records(metrics) if metrics.exists() else []
        return cls(folder, {record["round"]: record for record in records if record["round"] > 0}, folder.summary())

    @cached_property
    def whole(self) -> dict[int, dict[str, Any]]:
        """The records with what ``privacy`` has taken out of them: who failed, and losses; never to be shown unasked.

        Raises:
            ConfigError: the file that has it is damaged.
        """
        return {round: _joined(record, self._withheld.get(round, {})) for round, record in self.records.items()}

    @cached_property
    def _withheld(self) -> dict[int, dict[str, Any]]:
        return read_withheld(self.folder.path / NOT_PRIVATE)

    def failures(self, round: int) -> Sequence[Mapping[str, Any]]:
        """Return the failures of a round as its record has them, be it the round in which the run failed."""
        if round in self.records:
            found: Sequence[Mapping[str, Any]] = self.whole[round].get("failures", ())
        elif self.error(round) is None:
            found = ()
        else:
            found = self.summary.get("failures") or self._withheld.get(round, {}).get("failures", ())
        return found

    def error(self, round: int) -> str | None:
        """Return the reason for which the run failed in a round; None: it did not fail in it."""
        failed = self.summary.get("status") == "failed" and round not in self.records
        return self.summary["error"] if failed and round == self.summary["rounds"] + 1 else None

    @property
    def last(self) -> int:
        """The last recorded round; 0: none."""
        return max(self.records, default=0)

    def check_config(self, given: Collection[str] = (), function: str = "verify") -> None:
        """Raise ConfigError where rounds cannot be done again: their noise is forgotten, or Python alone has parts.

        Args:
            given: keys of the config whose parts are given, as Python has them.
            function: the function of ``fedray`` that takes them.
        """
        said = yaml.safe_load(self.folder.config()) or {}
        adding = [said.get("privacy"), *(said.get("transforms") or ())]
        if any(isinstance(part, Mapping) and part.get("noise") == "secure" for part in adding):
            raise ConfigError(
                f"{self.folder.path}: its rounds cannot be done again, as the keys of its noise are forgotten "
                "(noise: secure), by which cohorts may be drawn as well; a run with noise: seeded can be, and is not "
                "private"
            )
        check_given(self.folder.path, said, given, function)

    def config_of(self, round: int) -> Path:
        """Return the config that a round was run with."""
        return [path for first, path in configs(self.folder.path) if first <= round][-1]

    @cached_property
    def anchors(self) -> dict[int, str | None]:
        """The rounds after which one can begin: 0, and each checkpoint, with what is wrong with it, or None.

        Raises:
            ConfigError: a checkpoint has a format that this fedray does not read.
        """
        found: dict[int, str | None] = {0: None}
        for round in sorted(checkpoint.rounds_in(self.folder.checkpoints)):
            try:
                format = json.loads((self._folder(round) / "state.json").read_bytes()).get("format")
            except (OSError, ValueError, AttributeError) as error:
                found[round] = f"it cannot be read: {error}"
                continue
            if format not in checkpoint.READ:
                read = " and ".join(map(str, checkpoint.READ))
                raise ConfigError(
                    f"{self._folder(round)} has format {format}, this fedray reads {read}; take the fedray of the run"
                )
            try:
                checkpoint.read(self.folder.checkpoints, round, self.folder.state)
                found[round] = None
            except ValueError as error:
                found[round] = str(error)
        return found

    def _folder(self, round: int) -> Path:
        return checkpoint.folder_of(self.folder.checkpoints, round)

    def before(self, round: int) -> int:
        """Return the nearest round before ``round`` after which one can begin."""
        return max(start for start, wrong in self.anchors.items() if start < round and wrong is None)

    def seconds(self, first: int, last: int) -> float:
        """Return the time of the workers in rounds, those that are not recorded left out."""
        told = [self.records[round] for round in range(first, last + 1) if round in self.records]
        spent = [record.get("usage", {}).get("cpu_seconds") for record in told]
        walls = [record.get("seconds", 0.0) * record.get("workers", 1) for record in told]
        return sum(float(cpu or wall) for cpu, wall in zip(spent, walls, strict=True))


def _joined(record: Mapping[str, Any], withheld: Mapping[str, Any]) -> dict[str, Any]:
    parts = {name: {**record.get(name, {}), **part} for name, part in withheld.items() if isinstance(part, dict)}
    return {**record, **withheld, **parts}


def sampled(recorded: Recorded, count: int | None) -> list[int]:
    """Return the rounds to do again: those that cost least, which are those soon after a checkpoint or the start.

    Of rounds that cost the same, some that lie evenly.

    Args:
        recorded: the records.
        count: so many; None: all of them.
    """
    known = [number for number, record in sorted(recorded.records.items()) if record.get("model_sha256")]
    if count is None:
        return known
    costs: dict[int, list[int]] = {}
    for number in known:
        costs.setdefault(number - recorded.before(number), []).append(number)
    chosen: list[int] = []
    for _, alike in sorted(costs.items()):
        left = count - len(chosen)
        apart = (len(alike) - 1) / max(1, left - 1)
        chosen += alike if len(alike) <= left else [alike[round(apart * place)] for place in range(left)]
    return sorted(chosen)


def stretches(recorded: Recorded, rounds: list[int]) -> dict[int, int]:
    """Return what must be done again for some rounds: the start of each stretch, with its last round."""
    found: dict[int, int] = {}
    for number in sorted(rounds):
        found[recorded.before(number)] = number
    return found
