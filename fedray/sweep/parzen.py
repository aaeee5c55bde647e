"""Settings that Optuna's tree-structured Parzen estimator draws, batch by batch; its storage is in the sweep folder.

A batch is drawn when all runs of the one before have ended, and what they reached is told in the order of their trials;
each draw has a seed of its own.  So the settings are a function of the search and of what the runs reached.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fedray.core.errors import ConfigError
from fedray.core.rng import integer
from fedray.sweep.folder import Sweep
from fedray.sweep.grid import axes_of
from fedray.sweep.search import Setting
from fedray.sweep.space import Range, space_of
from fedray.sweep.stages import levels, value_of

JOURNAL = "optuna.journal"
"""Optuna's storage in the sweep's folder, a ``JournalStorage`` of lines of JSON."""

_NAME = "fedray"


def check_installed() -> None:
    """Raise ConfigError where Optuna is missing."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ConfigError("--sampler tpe: needs Optuna: pip install 'fedray[optuna]'") from None


def with_next_batch(sweep: Sweep) -> Sweep:
    """Tell what the drawn settings have reached, all of whose runs have ended, and draw a batch more, if one is wanted.

    Raises:
        ConfigError: the storage is of another search, or cannot be read.
    """
    drawn = [one for batch in sweep.batches for one in batch]
    study = _study(sweep)
    if len(study.trials) < len(drawn):
        raise ConfigError(f"{sweep.folder / JOURNAL}: trials are missing in it; sweep anew with another --dir")
    _tell(study, sweep, drawn)
    if len(drawn) >= (wanted := sweep.search.trials or 0):
        return sweep
    space = space_of({key: ",".join(values) for key, values in axes_of(sweep.axes).items()})
    distributions = _distributions(space)
    if drawn and study.trials[0].distributions != distributions:
        raise ConfigError(f"{sweep.folder} holds a search over other values; take another --dir")
    end = max(len(study.trials), min(len(drawn) + sweep.search.batch, wanted))
    for trial in range(len(study.trials), end):
        study.sampler = _sampler(integer(sweep.search.seed, "sweep", trial) % 2**32)
        study.ask(distributions)
    batch = tuple(_setting(space, trial.params) for trial in study.trials[len(drawn) :])
    batches = (*sweep.batches, batch)
    return sweep.but(batches=batches, cells=sweep.cells_of(batches))


def _study(sweep: Sweep) -> Any:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(logging.WARNING)
    path = sweep.folder / JOURNAL
    direction: Any = "maximize" if sweep.search.monitor.direction == "max" else "minimize"
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        study = optuna.create_study(storage=storage, study_name=_NAME, direction=direction, load_if_exists=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be used: {error}") from None
    if study.direction.name.lower() != direction:
        raise ConfigError(f"{sweep.folder} holds a search by another metric; take another --dir")
    return study


def _sampler(seed: int) -> Any:
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed)


def _distributions(space: Mapping[str, Any]) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def of(one: Any) -> Any:
        if not isinstance(one, Range):
            return CategoricalDistribution(one.values)
        if one.whole:
            return IntDistribution(int(one.low), int(one.high), log=one.log)
        return FloatDistribution(one.low, one.high, log=one.log)

    return {key: of(one) for key, one in space.items()}


def _setting(space: Mapping[str, Any], params: Mapping[str, Any]) -> Setting:
    return tuple((key, one.text(params[key]) if isinstance(one, Range) else params[key]) for key, one in space.items())


def _tell(study: Any, sweep: Sweep, drawn: list[Setting]) -> None:
    """Tell what is not told yet, in the order of the trials."""
    from optuna.trial import Trial, TrialState

    if not any(trial.state == TrialState.RUNNING for trial in study.trials[: len(drawn)]):
        return
    reached: dict[Setting, dict[int | None, float | None]] = {}
    for level in levels(sweep):
        there = sweep.but(until=level.rung)
        for setting, cells in level.settings.items():
            reached.setdefault(setting, {})[level.rung] = value_of(there, cells)
    for frozen, setting in zip(study.trials, drawn, strict=False):
        if frozen.state != TrialState.RUNNING:
            continue
        values = reached[setting]
        if None in values.values():
            study.tell(frozen.number, state=TrialState.FAIL)
        elif None in values:
            study.tell(frozen.number, values[None])
        else:
            trial = Trial(study, frozen._trial_id)
            for rung, value in values.items():
                assert rung is not None
                assert value is not None
                trial.report(value, rung)
            study.tell(frozen.number, state=TrialState.PRUNED)
