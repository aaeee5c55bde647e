"""The choice for a config: from the disk, where such a model was measured on such a machine before, or measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from fedray.cluster.start.head import joins
from fedray.config.registry import dump, name_of
from fedray.core.cpus import usable_cpus
from fedray.core.hardware import machine, processor, versions
from fedray.core.stages import stage
from fedray.experiment.build import Config
from fedray.models.prototype import peek
from fedray.run.plan import Plan
from fedray.rundir import durable
from fedray.rundir.names import cache_folder
from fedray.rundir.scratch import scratch
from fedray.tune.candidates import knobs
from fedray.tune.process import Processes
from fedray.tune.search import Candidate, Probe, Row, search

VERSION = 1
"""Rises when the same measurements lead to another choice than before."""


@dataclass(frozen=True)
class Tuned:
    """A choice, and what it rests on.

    Args:
        changes: overrides of the config; empty: it is best as it is.
        rows: the candidates; the first is the config as it is.
        when: date and time of the measurement, to the minute.
        kept: True if it was measured before.
    """

    changes: tuple[str, ...]
    rows: tuple[Row, ...]
    when: str
    kept: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        rows = [row.to_json() for row in self.rows]
        return {"changes": list(self.changes), "when": self.when, "kept": self.kept, "candidates": rows}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Self:
        """Return the choice of what ``to_json`` has returned."""
        rows = tuple(Row.from_json(row) for row in said["candidates"])
        return cls(tuple(said["changes"]), rows, str(said["when"]), bool(said["kept"]))


def tuned(path: Path, overrides: Sequence[str] = (), *, again: bool = False, least: int = 9) -> Tuned:
    """Return the choice for a config.

    Args:
        path: its file.
        overrides: those of the user, none of which is changed.
        again: measure anew.
        least: rounds of each candidate that are measured at least.

    Raises:
        ConfigError: the config is refused.
        RunFailed: its short runs fail.
    """
    config = Config.load(path, overrides)
    config.place.check()
    plan = config.plan()
    turned = knobs(config, plan, overrides)
    file = cache_folder("tune") / f"{key_of(traits(config, plan, turned))}.json"
    if not again and (before := read(file)) is not None:
        return replace(before, kept=True)
    size, rounds = plan.task.stacking.size, config.schema.rounds
    del plan  # the short runs have data and model of their own
    with scratch() as folder:
        found = measured(size, turned, Processes(path, overrides, rounds, least, folder))
    with suppress(OSError):  # it is measured again
        file.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(file, json.dumps(found.to_json()).encode())
    return found


def measured(size: int, turned: Sequence[Sequence[Candidate]], run: Any) -> Tuned:
    """Search, and tell each run as a stage.

    Args:
        size: clients that step at once in the config as it is.
        turned: the candidates of each knob.
        run: does a short run with overrides.
    """
    every, begun = 1 + sum(map(len, turned)), 0  # and two more where something is picked

    def measure(changes: tuple[str, ...]) -> Probe:
        nonlocal begun
        begun += 1
        again = ", again" if begun > every else ""
        stage(f"measuring {' '.join(changes) or 'the config as it is'}{again} (run {begun} of {max(begun, every)})")
        probe: Probe = run(changes)
        return probe

    found = list(search(size, turned, measure))
    when = datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    return Tuned(found[-1][1].changes, tuple(row for row, _ in found), when)


def read(file: Path) -> Tuned | None:
    """Return a choice that was kept; None: there is none, or none that can be read."""
    try:
        return Tuned.from_json(json.loads(file.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def key_of(about: Any) -> str:
    """Return a hash of what a choice depends on."""
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()


def traits(config: Config, plan: Plan, turned: Sequence[Sequence[Candidate]]) -> dict[str, Any]:
    """Return all that a choice depends on, as far as it is known before a run: model, work, data, machine, candidates.

    Learning rates, seeds, and options of algorithms are none of it, so that one measurement serves a sweep over them.

    Args:
        config: the experiment.
        plan: the plan of it.
        turned: the candidates of each knob; values that are given are none.
    """
    task, data = plan.task, plan.task.data
    amounts = ("epochs", "steps", "batch_size", "accumulate", "stack", "precision", "memory_format", "deterministic")
    return {
        "version": [VERSION, {name: found for name, found in versions().items() if name != "cpus"}],
        "machine": [machine(), processor(), usable_cpus().count, torch.cuda.device_count(), joins()],
        "place": [dump(part) for part in (config.place.cluster, config.place.worker, config.place.driver)],
        "tensors": [(name, str(t.dtype), list(t.shape)) for name, t in peek(task.model_fn).state_dict().items()],
        "trained": [task.layout.size, task.layout.trained, len(task.layout.frozen)],
        "parts": [name_of(part) for part in (config.algorithm, config.aggregator, *config.transforms)],
        "optimizer": {name: value for name, value in dump(config.optimizer).items() if name != "lr"},
        "private": None if config.privacy is None else [config.privacy.unit, config.privacy.model],
        "local": {name: getattr(config.local, name) for name in amounts},
        "stacking": [task.stacking.size, task.stacking.stacked, task.stacking.lanes is not None],
        "cohort": round(plan.sampler.expected(data.sizes), 3),
        "data": [str(data.spec), len(data.sizes), [int(size) for size in np.quantile(data.sizes, (0.0, 0.5, 1.0))]],
        "candidates": [[list(one.changes) for one in knob] for knob in turned],
    }
