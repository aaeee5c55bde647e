"""The evaluation of a model on a test set, outside of training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fedray.config.registry import made
from fedray.core.errors import ConfigError, listed
from fedray.core.layout import Layout
from fedray.core.messages import Floats
from fedray.core.metrics import Mean, auc, merge
from fedray.data.augment_chain import Augment, chosen
from fedray.data.columns.rows import CPU, Examples
from fedray.data.sources.tables import TableSource
from fedray.experiment.build import Config
from fedray.experiment.changed import of_files, sha256
from fedray.experiment.preflight import output_shape
from fedray.local.kernels import cuda_kernels
from fedray.local.losses import loss_on
from fedray.local.task import MOST_ROWS, Precision
from fedray.local.views import is_model
from fedray.metrics import AUROC, Metric
from fedray.metrics.intervals import Interval
from fedray.metrics.measures import Measures, States, together
from fedray.run.evaluation import Evaluator, TestChunk, rows_at_once, take_from
from fedray.run.models import load_frozen
from fedray.run.origin import changes, warn_of_code
from fedray.run.plan import Plan
from fedray.run.snapshot import model_of
from fedray.rundir import checkpoint
from fedray.rundir.checkpoint import Checkpoint
from fedray.rundir.folder import RunFolder

_MARGIN = "margin"
_log = logging.getLogger("fedray")


class Evaluation(NamedTuple):
    """The evaluation of a model on a test set.

    Args:
        numbers: ``examples``, the loss and the metrics.
        intervals: of those that are shares of examples or areas under the ROC curve.
    """

    numbers: dict[str, float]
    intervals: dict[str, Interval]


def evaluate_model(
    module: nn.Module,
    test: Examples,
    measures: Measures,
    *,
    rows: int = MOST_ROWS,
    seed: int = 0,
    round: int = 0,
    device: torch.device = CPU,
    precision: Precision = "fp32",
    augment: Augment | None = None,
) -> Evaluation:
    """Return the metrics of a module over examples, as a run has them in its record.

    Beside them, ``examples`` is their number; for two classes ``auc`` is exact, by the second class's logit minus the
    first's.

    Args:
        module: the model, on ``device``.
        test: the examples.
        measures: the loss and the metrics.
        rows: examples that are evaluated at once; where memory is too short, the half of them, and so on.
        seed: names, with ``round``, what model and loss draw.
        round: the round in which a run evaluates this model, the one after that which made it.
        device: the device of the model.
        precision: as ``local.precision``.
        augment: the changes of inputs.

    Raises:
        MemoryError: memory is too short for a single example (on a GPU ``torch.cuda.OutOfMemoryError``).
    """

    def values(output: Tensor, y: Tensor) -> dict[str, Tensor]:
        found = measures(output, y)
        if y.dtype == torch.int64 and output.dim() == 2 and output.shape[1] == 2:
            found[_MARGIN] = output[:, 1] - output[:, 0]
        return found

    evaluator = Evaluator(module, measures.loss, values, seed, device, precision, augment=augment or Augment())
    means: list[Mapping[str, Mean]] = []
    margins: list[Floats] = []
    states: list[States] = []
    for chunk in TestChunk.cut(len(test), rows):
        with evaluator.named(round, chunk.index):
            found = evaluator.values(take_from(test, device), chunk.stop, chunk.start)
        if _MARGIN in found:
            margins.append(found.pop(_MARGIN))
        means.append({n: Mean(float(value.sum()), len(value)) for n, value in found.items() if n in measures.means})
        states.append(measures.states(found, np.zeros(chunk.stop - chunk.start, dtype=np.int64), 1)[0])
    result = {"examples": float(len(test)), **{name: mean.result for name, mean in merge(means).items()}}
    sums = together(states)
    result |= measures.numbers(sums)
    exact: list[Metric] = []
    if margins:
        result["auc"] = auc(np.concatenate(margins), np.asarray(test.y))
        exact = [AUROC(label="auc").of(measures.task)] if measures.task.kind == "classes" else []
    return Evaluation(result, measures.intervals(result, sums, exact))


Which = int | Literal["best"] | None
"""A checkpoint: that of a round, of the best one by ``checkpoint.best``, or the newest good one."""


def checkpoint_of(folder: RunFolder, round: Which) -> Checkpoint:
    """Read a checkpoint of a run.

    Raises:
        ConfigError: there is no such checkpoint.
    """
    if round == "best":
        best = checkpoint.best_of(checkpoint.newest_state(folder.checkpoints))
        if best is None:
            raise ConfigError(
                f"{folder.path}: no round is its best; a run with checkpoint.best, such as test.accuracy, keeps it"
            )
        round = int(best["round"])
    known = checkpoint.rounds_in(folder.checkpoints)
    if round is None:
        found = checkpoint.newest(folder.checkpoints)
    elif round in known:
        try:
            found = checkpoint.read(folder.checkpoints, round)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    else:
        found = None
    if found is None:
        which = "" if round is None else f" of round {round}"
        raise ConfigError(f"{folder.path}: no checkpoint{which}; there are: {listed(known, none='none')}")
    return found


def vector_of(plan: Plan, folder: RunFolder, round: Which) -> Tensor:
    """Return the global vector ``[P]`` of a checkpoint, the newest good one by default.

    Raises:
        ConfigError: there is no such checkpoint, or it does not belong to the plan's model.
    """
    return _fitting(checkpoint_of(folder, round), plan.layout, folder)


def _fitting(saved: Checkpoint, layout: Layout, folder: RunFolder) -> Tensor:
    vector = model_of(saved)
    if len(vector) != layout.size:
        raise ConfigError(f"{folder.path}: its model has {len(vector):,} values, the configured one {layout.size:,}")
    return vector


def evaluate_run(
    config: Config,
    folder: RunFolder,
    round: Which,
    device: str = "cpu",
    *,
    warn: bool = True,
    threshold: float | None = None,
) -> Evaluation:
    """Evaluate a run's checkpoint on its config's test set, as the run itself does.

    Of a model of tables nothing is read but the test table, by the encoding that is a part of the model.

    Args:
        config: the run's config.
        folder: the run's folder.
        round: of the checkpoint; ``best``: by ``checkpoint.best``; ``None``: the newest good one.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        warn: warn of training data, and of code, that are not those that the model was trained with.
        threshold: of two classes that of the answers, in the place of the task's own.

    Raises:
        ConfigError: no test set, no checkpoint, no such device, a server without a whole model, or a threshold of a
            task that has none.
    """
    place = device_named(device)
    saved = checkpoint_of(folder, round)
    encoding = saved.state.get("encoding") or folder.encoding()
    if encoding is not None and isinstance(config.data, TableSource):
        test, spec = config.data.read_test(encoding)
        layout = Layout.of(config.model_fn(spec)(), config.model_regions())
        now = of_files(config.data) if warn else {}
        before = {name: mark for name, mark in saved.state.get("fingerprint", {}).items() if name in now}
        matters = "; the result does not depend on them"
        held = bool(config.data.holdout)
        if warn:
            _warn_of_training_tables(config.data, saved.state.get("fingerprint", {}))
        augment = Augment(chosen(folder.inputs() or ()))
    else:
        plan = config.plan(encoding, folder.inputs(), saved.state.get("meaning"))
        augment = plan.task.augment
        test, spec, layout = plan.task.data.test, plan.task.data.spec, plan.layout
        now, before = dict(plan.task.data.fingerprint()), saved.state.get("fingerprint", {})
        matters, held = "", bool(plan.task.data.evaluation_sizes.any())
    if warn and before and (words := changes(before, now)):
        _log.warning("the training data are not those that the model was trained on (%s)%s", words, matters)
    if warn:
        warn_of_code(folder.path, saved.round, config.code())
    if test is None:
        clients = f"evaluate the clients, each on held-out rows of its own: fedray evaluate {folder.path} --clients"
        anew = "hold rows of each client out of the training of a new run, by data.holdout=0.2"
        raise ConfigError(
            f"data.test: this run has no test set; give one with --data PATH, or {clients if held else anew}"
        )
    if not is_model(made(config.algorithm), layout):
        raise ConfigError(
            f"{folder.path}: the server of this run has no whole model to test, as clients keep a part of it, or the "
            f"algorithm says so; evaluate the models of its clients: fedray evaluate {folder.path} --clients"
        )
    module = config.model_fn(spec)()
    load_frozen(saved.state, layout, module, folder.path)
    layout.load(module, _fitting(saved, layout, folder))
    x, _ = test.slice(0, 2)
    rows = rows_at_once(config.evaluate.batch_size, module, x)  # type: ignore[arg-type]
    about, _ = config.about(spec, tuple(test.slice(0, 2)[1].shape), lambda: output_shape(module, x, CPU))
    about = about.told((saved.state.get("meaning") or {}).get("task"))
    about = about if threshold is None else about.at(threshold)
    loss, precision, seed = loss_on(config.loss_fn(about), place), config.local.precision, config.schema.seed
    with cuda_kernels(precision, config.local.deterministic) if place.type == "cuda" else nullcontext():
        return evaluate_model(
            module.to(place),
            test,
            config.measures(about, loss),
            rows=rows,
            seed=seed,
            round=saved.round + 1,
            device=place,
            precision=precision,
            augment=augment,
        )


def _warn_of_training_tables(source: TableSource, trained: Mapping[str, str]) -> None:
    """Warn of tables of the test set whose rows the model was trained on.

    Args:
        source: of the test set.
        trained: the SHA-256 of each training table, by its name.
    """
    names = {mark: name for name, mark in trained.items()}
    for path in source.tests():
        if path.is_file() and (name := names.get(sha256(path))) is not None:
            but = "; only the rows that were held out are new to it" if source.holdout else ""
            _log.warning("%s has the rows of %r that the model was trained on: this is no test%s", path, name, but)


def device_named(name: str) -> torch.device:
    """Return a device of this machine by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    known = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    known += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name not in known:
        raise ConfigError(f"--device: this machine has no {name!r}; it has {listed(known)}")
    return torch.device("cuda", 0) if name == "cuda" else torch.device(name)
