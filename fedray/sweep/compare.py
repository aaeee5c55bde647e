"""A config compared with its baselines: each client alone, and all rows in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedray.config.layers import Layers, overlay
from fedray.core.errors import ConfigError
from fedray.core.messages import PERSONAL
from fedray.core.record import own as own_section
from fedray.data import ClientData
from fedray.experiment.build import Config
from fedray.experiment.evaluate import checkpoint_of, evaluate_model, evaluate_run
from fedray.experiment.experiment import Experiment
from fedray.metrics.intervals import Interval, intervals, of_classes, to_json, usual
from fedray.models.prototype import last_of
from fedray.run.plan import Plan
from fedray.run.snapshot import first_state, model_of, restore
from fedray.run.worker import Job
from fedray.rundir.client_state import ClientStore
from fedray.rundir.client_table import metrics_in, newest_part
from fedray.rundir.each_client import MOST_SHOWN, SUPPORT, frequent_among, most_frequent
from fedray.rundir.folder import RunFolder
from fedray.rundir.names import COMPLETE, CONFIG
from fedray.rundir.state_rows import StateRows
from fedray.sweep.finished import check_same, warn_of_changes

ALONE, POOLED = "local_only", "centralized"

MOST_CLIENTS = 10
"""Clients up to which each has a line of its own."""

# What baselines do without: parts that say how updates travel, or who lies.
_PLAIN: dict[str, Any] = {
    "transforms": [],
    "server": None,
    "aggregator": "mean",
    "attack": None,
    "failures": {"dropout": 0.0},
}


@dataclass(frozen=True)
class Contender:
    """A run of a comparison.

    Args:
        algorithm: its name.
        words: the data that its models are trained on, in words.
        config: its config.
        folder: its run folder.
    """

    algorithm: str
    words: str
    config: Config
    folder: RunFolder

    @property
    def done(self) -> bool:
        """True if nothing is left to do."""
        return self.folder.summary().get("status") in COMPLETE

    def experiment(self) -> Experiment:
        """Build its run, fresh or to be resumed.

        Raises:
            ConfigError: it cannot be built.
        """
        begun = (self.folder.path / CONFIG).exists()
        return self.config.experiment(self.folder, resume=begun)


@dataclass(frozen=True)
class Line:
    """A line of a comparison.

    Args:
        words: the data that the models are trained on.
        rows: the number of training rows of a model; None: they differ.
        test: metrics on the test set; where there are several models, their mean, each client counted once.
        own: metrics on the clients' own held-out rows, each with its spread, as in a record.
        note: the reason for what is missing.
        name: a short one, for the head of a column.
        clients: ``examples`` and metrics of each client on its own held-out rows, by its id, if they are few; None or
            NaN: no value; as ``support`` how many rows each class has, where that is known.
        intervals: of all examples together, by ``test`` and ``own``, and by the metric: 95 % intervals of one model.
        frequent: the most frequent class of all of them, and its share, by ``test`` and ``own``, where that is known.
        seed: of the run; None: there is none.
    """

    words: str
    rows: int | None = None
    test: dict[str, float] = field(default_factory=dict)
    own: dict[str, dict[str, Any]] = field(default_factory=dict)
    note: str = ""
    name: str = ""
    clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)
    frequent: dict[str, tuple[str, float]] = field(default_factory=dict)
    seed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        told = asdict(replace(self, intervals={}, frequent={}))
        for one in told["clients"].values():
            if found := frequent_among(one.get(SUPPORT)):
                one["frequent"] = _in_words(found)
        told["intervals"] = {section: to_json(own) for section, own in self.intervals.items()}
        told["frequent"] = {section: _in_words(found) for section, found in self.frequent.items()}
        return told


def contenders(name: str, layers: Layers, algorithms: Sequence[str], folder: Path) -> list[Contender]:
    """Return the runs of a comparison: the baselines, the config as it is, and with other algorithms.

    Args:
        name: of the config.
        layers: the config, see :func:`fedray.config.layers.load_layers`.
        algorithms: names of further algorithms.
        folder: of all the run folders.

    Raises:
        ConfigError: a mistake in the config, or nothing to compare by: neither a test set nor held-out rows.
    """
    own = Config.bind(name, *layers)
    for one in _laid(name, layers, algorithms, folder, {}):  # before the data are read, which may take minutes
        check_same(one.folder, one.config, "the comparison", apart=("evaluate",))
    data = own.plan().task.data
    evaluate = replace(own.evaluate, every=own.evaluate.every or own.schema.rounds)
    if data.holdout_sizes.any() and not evaluate.clients_every:
        evaluate = replace(evaluate, clients_every=own.schema.rounds)
    if data.test is None and not evaluate.clients_every:
        raise ConfigError(
            "data: there is nothing to compare by; give a test set, or hold out a share of each client's rows "
            "(data.holdout=0.2)"
        )
    told = {"evaluate": {"every": evaluate.every, "clients_every": evaluate.clients_every}}
    return _laid(name, layers, algorithms, folder, told)


def _laid(
    name: str, layers: Layers, algorithms: Sequence[str], folder: Path, told: Mapping[str, Any]
) -> list[Contender]:
    """Return the runs of a comparison, with what it ``told`` all of them laid over the config."""

    def laid(algorithm: str | None, words: str, plain: bool = False) -> Contender:
        over: dict[str, Any] = {**told, **(_PLAIN if plain else {})}
        if algorithm is not None:
            over["algorithm"] = {"name": algorithm}
        config = Config.bind(name, *(overlay(layer, over) for layer in layers))
        chosen = algorithm or str(_name(config))
        return Contender(chosen, words, config, RunFolder(folder / chosen.replace(":", ".")))

    mine = laid(None, "federated")
    names = [one for one in dict.fromkeys(algorithms) if one != mine.algorithm]
    if reserved := [one for one in (mine.algorithm, *names) if one in (ALONE, POOLED)]:
        raise ConfigError(f"algorithm: {reserved[0]} is a baseline that is compared in any case; name another one")
    return [
        laid(ALONE, "each client alone", plain=True),
        laid(POOLED, "all rows in one place", plain=True),
        replace(mine, words=f"federated, {mine.algorithm}"),
        *(laid(one, f"federated, {one}") for one in names),
    ]


def check(wanted: Sequence[Contender]) -> None:
    """Check that what is in the folders of runs is of their configs; warn where code or data have changed since.

    Raises:
        ConfigError: a folder holds a run of another config.
    """
    for one in wanted:
        check_same(one.folder, one.config, "the comparison")
    warn_of_changes([(one.folder, one.config) for one in wanted])


def _name(config: Config) -> str:
    return config.algorithm_parts().name


def lines(contender: Contender, note: str = "") -> Iterator[Line]:
    """Yield the lines of a run that is finished; of one that could not be, its note.

    Raises:
        ConfigError: the run's checkpoint cannot be read.
    """
    if note:
        yield Line(contender.words, note=note)
        return
    final: dict[str, Any] = contender.folder.summary().get("final") or {}
    own: dict[str, dict[str, Any]] = final.get(own_section(final)) or {}
    if contender.algorithm == ALONE:
        plan = contender.config.plan(contender.folder.encoding(), contender.folder.inputs(), contender.folder.meaning())
        yield from _alone(plan, contender, own, *_together(contender, final))
        return
    evaluated = evaluate_run(contender.config, contender.folder, None, warn=False) if final.get("test") else None
    test = evaluated.numbers if evaluated is not None else {}
    data = contender.config.plan(contender.folder.encoding()).task.data
    tested = data.test is not None and contender.config.evaluate.every > 0
    note = "no model of all" if tested and not test else ""
    sizes = data.sizes
    rows = int(sizes[-1] if contender.algorithm == POOLED else sizes.sum())
    test.pop("examples", None)
    name = "pooled" if contender.algorithm == POOLED else contender.algorithm
    spans, frequent = _together(contender, final)
    spans |= {"test": evaluated.intervals} if evaluated is not None and evaluated.intervals else {}
    seed = contender.config.schema.seed
    yield Line(contender.words, rows, test, own, note, name, _each(contender.folder), spans, frequent, seed)


def _in_words(found: tuple[str, float]) -> dict[str, Any]:
    return {"class": found[0], "share": found[1]}


def _together(
    contender: Contender, final: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Interval]], dict[str, tuple[str, float]]]:
    """Return the intervals of all clients' rows together, and the most frequent class of these and of the test set."""
    tables, spans, frequent = final.get("tables", {}), {}, {}
    for section, place in (("test", "test"), ("own", own_section(final))):
        table = tables.get(place, {}).get(SUPPORT)
        if not table:
            continue
        classes = [str(name) for name in table["classes"]]
        if found := most_frequent(classes, table["counts"]):
            frequent[section] = found
        if section == "own":
            means = {name: spread.get("mean") for name, spread in final[place].items()}
            chosen = contender.config.chosen_metrics()
            known = of_classes(usual() if chosen is None else chosen, classes)
            spans[section] = intervals(known, means, table["counts"], table["examples"])
    return {section: own for section, own in spans.items() if own}, frequent


def _alone(
    plan: Plan,
    contender: Contender,
    own: dict[str, dict[str, Any]],
    spans: dict[str, dict[str, Interval]],
    frequent: dict[str, tuple[str, float]],
) -> Iterator[Line]:
    """Yield a line for each client, where they are few, and one for all: their models on the one test set."""
    data = plan.task.data
    found = dict(_tested(plan, contender.folder)) if data.test is not None else {}
    if len(data) <= MOST_CLIENTS:
        for client, test in found.items():
            yield Line(f"{data.client_id(client)} alone", int(data.sizes[client]), test, seed=plan.task.seed)
    names = dict.fromkeys(name for test in found.values() for name in test)
    mean = {name: float(np.mean([test[name] for test in found.values()])) for name in names}
    absent = len(data) - len(found)
    note = f"{absent} of them never drawn" if data.test is not None and absent else ""
    each = _each(contender.folder)
    yield Line("each client alone, mean", None, mean, own, note, "alone", each, spans, frequent, plan.task.seed)


def _each(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """Return what each client got in the last evaluation, by the models that they would use; empty: not known."""
    part = newest_part(folder.path)
    if part is None:
        return {}
    views = part["view"].to_pylist()
    view = "personal" if "personal" in views else "global"
    if views.count(view) > MOST_SHOWN:
        return {}
    names = ["examples", *metrics_in(part), *({SUPPORT} & {*part.column_names})]
    return {row["client"]: {name: row[name] for name in names} for row in part.to_pylist() if row["view"] == view}


def _tested(plan: Plan, folder: RunFolder) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield each client that has trained, with what its own model gives on the test set."""
    data: ClientData = plan.task.data
    saved = checkpoint_of(folder, None)
    module = last_of(plan.task.model_fn)
    vector = plan.layout.pack(dict(module.state_dict()))
    job = Job(plan.task, plan.algorithm, folder.state)
    state = first_state(plan, vector.clone(), ClientStore(folder.state, job.state_fields()))
    restore(plan, state, saved)
    rows = StateRows(folder.state, job.state_fields())
    try:
        for client in range(len(data)):
            one = np.array([client])
            kept, (known,) = rows.read(one, state.store.of(one), vector.device)
            if not known:
                continue
            model = model_of(saved).clone().unsqueeze(0)
            plan.layout.put_personal(model, kept[PERSONAL])
            plan.layout.load(module, model[0])
            assert data.test is not None
            found = evaluate_model(
                module,
                data.test,
                plan.task.measures,
                rows=plan.task.evaluated_rows,
                seed=plan.task.seed,
                round=saved.round + 1,
                augment=plan.task.augment,
            ).numbers
            yield client, {name: value for name, value in found.items() if name != "examples"}
    finally:
        rows.close()
