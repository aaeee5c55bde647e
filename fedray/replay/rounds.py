"""Rounds of a run, done again by the engine itself in this process; its folder is read, and never written to."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fedray.config.layers import NO_LISTENERS, load_layers
from fedray.config.sections import FailuresSection
from fedray.core.errors import ConfigError, listed
from fedray.core.quiet import quieted
from fedray.core.record import RoundRecord
from fedray.experiment.build import Config
from fedray.models.prototype import last_of
from fedray.replay.doubts import Doubt, doubts
from fedray.replay.recorded import Recorded
from fedray.run.absent import left_out
from fedray.run.executor import InlineExecutor
from fedray.run.loop import Rounds
from fedray.run.models import fingerprint_in, model_sha256
from fedray.run.plan import Plan
from fedray.run.snapshot import first_state, restore, snapshot
from fedray.run.state import ServerState
from fedray.run.worker import Job, devices_of
from fedray.rundir import checkpoint
from fedray.rundir.checkpoint import Checkpoint
from fedray.rundir.client_state import ClientStore
from fedray.rundir.configs import changed_keys, with_given
from fedray.rundir.names import PYTHON
from fedray.rundir.scratch import scratch

UNASKED = ("worker", "deadline", "memory", "left_out")
"""The stages of failures that depend on machines, and not on what clients compute."""

HERE = [*NO_LISTENERS, "cluster.name=inline", "failures.block_timeout=null", "driver.gpus=0", "worker.ranks=1"]
"""Changes of a run's config, so that its rounds are done in this process."""

_log = logging.getLogger("fedray")

MakeExecutor = Callable[[Job, tuple[torch.device, ...]], InlineExecutor]


@dataclass(frozen=True)
class Repeated:
    """A round that was done again.

    Args:
        record: its record now.
        state: the server's state after it, valid until the next round.
        plan: the plan of the round.
    """

    record: RoundRecord
    state: ServerState
    plan: Plan


class Replay:
    """Rounds of a run, done again.

    Args:
        recorded: the run.
        executor: makes the executor.
        given: parts as Python has them, by dotted keys of the config, such as ``local.loss``; of a run from Python all
            that its config does not name.
    """

    def __init__(
        self, recorded: Recorded, executor: MakeExecutor = InlineExecutor, given: Mapping[str, Any] | None = None
    ) -> None:
        self._given = dict(given or {})
        recorded.check_config(self._given)
        self._recorded, self._executor = recorded, executor
        self._plans: dict[Path, tuple[Plan, Config]] = {}
        self._gpus = torch.cuda.is_available()

    def plan(self, round: int) -> Plan:
        """Return the plan of a round, as the run's config and the data are now.

        Raises:
            ConfigError: the config, the data or the code that it names have changed, so that they do not fit.
        """
        return self._built(round)[0]

    def _built(self, round: int) -> tuple[Plan, Config]:
        path = self._recorded.config_of(round)
        if path not in self._plans:
            here = HERE if self._gpus else [*HERE, "worker.gpus=0"]
            raw, content = load_layers(path, here)
            if self._given:
                self._check_given(path)
                raw, content = {}, with_given(content, self._given)
            config = Config.bind(self._recorded.folder.path.name, raw, content)
            self._plans[path] = self._planned(config), config
        return self._plans[path]

    def _check_given(self, path: Path) -> None:
        """Check that the parts that are given are those that a config names, where it names them.

        Raises:
            ConfigError: they are others.
        """
        _, content = load_layers(path)
        config = Config.bind(self._recorded.folder.path.name, {}, with_given(content, self._given))
        found = changed_keys(path.read_text(), config.to_yaml(), frozenset(config.defaults()))
        if others := [words for words in found if not words.startswith(f"{PYTHON}.")]:
            raise ConfigError(
                f"{self._recorded.folder.path}: what is given is not what the run was given: {listed(others)}; give "
                "what fedray.train was given"
            )

    def _planned(self, config: Config) -> Plan:
        folder, records = self._recorded.folder, self._recorded.whole
        plan = config.plan(folder.encoding(), folder.inputs(), folder.meaning())
        unasked = {
            round: [one["client"] for one in record.get("failures", ()) if one["stage"] in UNASKED]
            for round, record in records.items()
        }
        named = FailuresSection(left_out={round: names for round, names in unasked.items() if names})
        return replace(plan.bare(), left_out=left_out(named, plan.task.data))

    def doubts(self, start: int, round: int) -> list[Doubt]:
        """Return the reasons for other bits of a round now, see :func:`fedray.replay.doubts.doubts`."""
        plan, config = self._built(round)
        state = self._state(start).state if start else checkpoint.newest_state(self._recorded.folder.checkpoints)
        return list(doubts(self._recorded, state, plan, round, config.place.worker.gpus, config.code()))

    def _state(self, round: int) -> Checkpoint:
        try:
            return checkpoint.read(self._recorded.folder.checkpoints, round, self._recorded.folder.state)
        except ValueError as error:
            raise ConfigError(f"{self._recorded.folder.path}: {error}") from None

    def rounds(self, start: int, last: int) -> Iterator[Repeated]:
        """Do the rounds after ``start`` up to ``last`` again, and yield each before the next begins.

        Args:
            start: 0, or the round of a checkpoint.
            last: the last round, at least ``start + 1``.

        Raises:
            ConfigError: the model is not that of the run, or the checkpoint is damaged.
            RunFailed: a round fails, as the run's policy has it.
        """
        with contextlib.closing(self._rounds(start, last)) as rounds:
            while True:
                # Nobody between two rounds is to be silent with the engine.
                with quieted(_log.name, logging.CRITICAL):
                    one = next(rounds, None)
                if one is None:
                    return
                yield one

    def _rounds(self, start: int, last: int) -> Generator[Repeated, None, None]:
        saved = self._state(start) if start else None
        with scratch() as place:
            (place / "state").mkdir()
            if saved is not None:
                self._bring_state(saved, place / "state")
            while start < last:
                path = self._recorded.config_of(start + 1)
                end = next((r for r in range(start + 1, last) if self._recorded.config_of(r + 1) != path), last)
                for one in self._stretch(saved, start, end, place):
                    yield one
                    if one.record.round == end < last:
                        saved = _copied(snapshot(one.plan, one.state, {}))
                start = end

    def _bring_state(self, saved: Checkpoint, place: Path) -> None:
        """Bring the clients' state to a place of our own: a run that goes on deletes what it needs no more."""
        for name in saved.state.get("segments", ()):
            try:
                os.link(self._recorded.folder.state / name, place / name)  # nothing is ever appended to them
            except OSError:
                shutil.copyfile(self._recorded.folder.state / name, place / name)

    def _stretch(self, saved: Checkpoint | None, start: int, last: int, place: Path) -> Iterator[Repeated]:
        plan, config = self._built(start + 1)
        job = Job(plan.task, plan.algorithm, place / "state", config.place.worker.threads)
        executor = self._executor(job, devices_of(config.place.worker.gpus))
        try:
            vector = executor.global_vector(plan.layout.size)
            module = last_of(plan.task.model_fn)
            vector.copy_(plan.layout.pack(dict(module.state_dict())))
            self._check_frozen(fingerprint_in(self._recorded.folder.path, plan.layout, module))
            state = first_state(plan, vector, ClientStore(place / "state", job.state_fields()))
            if saved is not None:
                restore(plan, state, saved)
                state.pending = state.trained = None
            state.store.kept = frozenset(path.name for path in (place / "state").iterdir())
            self._enter(plan, state, start + 1)
            for record in Rounds(plan, state, executor, lambda state: None, awaited=True):
                record.model_sha256 = model_sha256(state.vector, plan.beside(state.server))
                yield Repeated(record, state, plan)
                if record.round >= last:
                    return
                self._enter(plan, state, record.round + 1)
        finally:
            executor.close()

    def _enter(self, plan: Plan, state: ServerState, round: int) -> None:
        """Cut blocks as the run did, which may have had too little memory for larger ones."""
        stack = self._recorded.records.get(round, {}).get("stack")
        while stack and plan.block_size(state.halvings) > stack:
            state.halvings += 1

    def _check_frozen(self, frozen: str | None) -> None:
        state = checkpoint.newest_state(self._recorded.folder.checkpoints)
        if state.get("frozen", frozen) != frozen:
            raise ConfigError("model: what is frozen in it is not what it was when the run was started")


def _copied(saved: Checkpoint) -> Checkpoint:
    """Return a checkpoint whose tensors are its own."""
    return replace(saved, tensors={name: tensor.clone() for name, tensor in saved.tensors.items()})
