"""The preflight: model, optimizer, loss and data are tried together once, before anything is started."""

from __future__ import annotations

import copy
import warnings
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedray.algorithms.base import Algorithm
from fedray.algorithms.composition import Composition
from fedray.algorithms.fragments import check_fragments
from fedray.algorithms.variants import check_variants
from fedray.config.sections import EvaluateSection
from fedray.core.errors import ConfigError, an, listed, one_line
from fedray.core.hidden_state import HiddenState
from fedray.core.layout import Layout
from fedray.core.losses import LossFn
from fedray.core.regions import described
from fedray.data import ClientData
from fedray.data.columns.inputs import Inputs, shapes
from fedray.data.columns.rows import CPU
from fedray.experiment.loss_fit import check_named, check_targets, instead_of
from fedray.local.schedule import single_rows
from fedray.local.stacking import batch_statistics
from fedray.local.task import LocalTask, ModelFn
from fedray.local.views import serves
from fedray.metrics.confusion import Averaged
from fedray.metrics.measures import Measures
from fedray.models.prototype import Prototype
from fedray.optim import OptimizerFn
from fedray.tasks import OneOfClasses, Task, Unsupervised, outputs_of
from fedray.tasks.positions import Positions


def made_module(model_fn: ModelFn) -> nn.Module:
    """Make a first module.

    Raises:
        ConfigError: it cannot be made, or has parameters that get their shapes from data.
    """
    try:
        module = model_fn()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"model: it cannot be made: {one_line(error)}") from error
    for name, value in module.named_parameters():
        if isinstance(value, nn.UninitializedParameter):
            raise ConfigError(
                f"model: {name} has no shape before the first batch; give the layer its number of inputs, "
                "as nn.Linear has it and nn.LazyLinear does not"
            )
    if extra := [name for name in module.state_dict() if name.endswith("_extra_state")]:
        raise ConfigError(
            f"model: {extra[0]} is state that is no tensor (get_extra_state), which can be neither averaged nor saved"
        )
    return module


def check_optimizer(optimizer_fn: OptimizerFn, module: nn.Module) -> torch.optim.Optimizer:
    """Make the client optimizer once, and return it.

    Raises:
        ConfigError: it cannot be made, or needs more than one gradient a step.
    """
    try:
        optimizer = optimizer_fn([p for p in module.parameters() if p.requires_grad])
    except Exception as error:
        raise ConfigError(f"optimizer: it cannot be made: {one_line(error)}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ConfigError(f"optimizer: a torch.optim.Optimizer is needed, this is a {type(optimizer).__name__}")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ConfigError("optimizer: LBFGS needs several gradients for a step, a local step has one; take another")
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise ConfigError("optimizer: SparseAdam needs sparse gradients, and clients train with dense ones; take Adam")
    return optimizer


def check_held_out(evaluate: EvaluateSection, data: ClientData) -> None:
    """Raise ConfigError where clients are to be evaluated, and none has rows for it."""
    if evaluate.clients_every and not data.evaluation_sizes.any():
        raise ConfigError(
            "evaluate.clients_every: no client has held-out rows to evaluate on, or a test set of its own; "
            "set data.holdout=0.2 (in Python: data.with_holdout(0.2, seed)), or leave it out"
        )


def untested(task: LocalTask, evaluate: EvaluateSection, data: ClientData) -> tuple[str, ...]:
    """Say that the test set is not evaluated, where the server has no whole model to do so with."""
    if serves(task) or not evaluate.every or data.test is None:
        return ()
    instead = "evaluate.clients_every evaluates the clients' own"
    return (f"evaluate.every: the test set is not evaluated, as the server has no whole model; {instead}",)


_POSITIVE = frozenset(
    {"1", "yes", "y", "true", "positive", "pos", "ja", "j", "wahr", "positiv", "oui", "vrai", "sí", "si"}
)
"""Names of a class that nobody takes for the negative one."""


def taken_for_positive(measures: Measures) -> tuple[str, ...]:
    """Say which class counts as the positive one of two whose names do not tell it, where nobody has said it."""
    found: dict[str, list[str]] = {}
    for metric in measures.metrics:
        if isinstance(metric, Averaged) and (name := metric.unsaid) is not None and name.casefold() not in _POSITIVE:
            found.setdefault(name, []).append(metric.title)
    other = {name: next(one for one in measures.task.classes if one != name) for name in found}
    return tuple(
        f"metrics: {listed(titles)}: the positive class is {name!r}, the second of two; if it is {other[name]!r}, say "
        f"{{name: {titles[0]}, positive: {other[name]}}}, or data.classes: [{name}, {other[name]}] for all of them"
        for name, titles in found.items()
    )


def check_algorithm(algorithm: Composition, layout: Layout, module: nn.Module) -> None:
    """Raise ConfigError where the model lacks what an algorithm or its parts need."""
    of, said = type(algorithm.program), {algorithm.program.region(entry) for entry, _ in described(module)}
    if of.region is not Algorithm.region and not layout.personal and said <= {"shared", "personal"}:
        names = listed([entry.name for entry in layout.entries])
        raise ConfigError(
            f"algorithm: {algorithm.name} keeps nothing with the clients in this model, and would be another "
            f"algorithm; its tensors are {names}"
        )
    algorithm.check(layout)
    check_variants(algorithm, layout)
    check_fragments(algorithm, layout)


def check_classes(algorithm: Composition, task: Task) -> None:
    """Raise ConfigError where an algorithm looks at the classes of examples, and these have none or many each."""
    program = algorithm.program
    if not program.needs_classes:
        return
    many = isinstance(task, Positions)
    if not isinstance(task, OneOfClasses) or (many and not program.of_positions):
        needs = "a class for each example, or position" if program.of_positions else "a class for each example"
        raise ConfigError(
            f"algorithm: {algorithm.name} needs {needs}, and an output for each class, as in task: classification, and "
            f"this is {task.name}; take another"
        )


def needs_statistics(algorithm: Composition, module: nn.Module, layout: Layout) -> bool:
    """Tell if evaluations need the clients' buffers, as the server's stay as they were.

    Raises:
        ConfigError: they do, and clients must not send them.
    """
    buffers = algorithm.args.buffers
    if buffers == "mean" or not layout.buffers:
        return False
    if not any(transform.needs_uniform for transform in algorithm.transforms):
        return True
    if normed := batch_statistics(module):
        raise ConfigError(
            f"evaluate: the model has {normed}, which local.buffers={buffers} leaves with the clients, "
            "and beside clip or noise they send the update alone, so that nobody can evaluate the model; "
            "set evaluate.every=0 and evaluate.clients_every=0, or take GroupNorm in the place of BatchNorm"
        )
    return False


class Tried(NamedTuple):
    """The result of a try of the model.

    Args:
        untried: the reason why nothing was tried, for a warning: workers have GPUs, this machine has none, and the
            model does not run on its CPU.
        metrics: the names of the numbers of an evaluation; None: nothing is evaluated, or it was not tried.
        device: the device that it was tried on, and that the program is to be tried on: the CPU if it runs there.
    """

    untried: str | None = None
    metrics: tuple[str, ...] | None = None
    device: torch.device = CPU


def check_fit(
    task: LocalTask, module: nn.Module, evaluated: bool, device: torch.device = CPU, said: LossFn | None = None
) -> Tried:
    """Put one small batch through model and loss, and through the evaluation if there is one.

    Args:
        task: the local training problem.
        module: its model.
        evaluated: True if the model is evaluated by fedray.
        device: the workers'; a model that runs on no CPU is tried there, if this machine has such a device.
        said: the loss that the config names, or Python gives; None: that of the task.

    Raises:
        ConfigError: naming the part that does not fit, with the shapes.
    """
    x, y = two_examples(task.data)
    told = f"inputs {shapes(x)}, targets {tuple(y.shape)} {y.dtype}"
    placed = [*module.parameters(), *module.buffers()]
    try:
        with HiddenState({"model": module}, placed).put_back():
            output, device = _output(module, x, device)
    except ConfigError:
        raise
    except Exception as error:
        if device.type == "cuda" and not torch.cuda.is_available():
            return Tried(f"model: it was not tried, as it does not run on this machine's CPU: {one_line(error)[:200]}")
        raise ConfigError(f"model: it does not take the data ({told}): {one_line(error)[:300]}") from error
    if isinstance(task.model_fn, Prototype):
        task.model_fn.check(x)
    shape = tuple(output.shape)
    if not task.data.spec.outputs and not isinstance(task.about, Unsupervised):
        raise ConfigError(f"task: {task.about.name} needs targets, and the data has none; give them, or leave task out")
    task.about.check(shape, tuple(y.shape))
    if said is not None:
        check_named(said, task.about, shape, tuple(y.shape))
    instead = "" if said is None else f"; {instead_of(task.about)}"
    try:
        with torch.no_grad(), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            loss = task.loss_fn(output, y)
    except Exception as error:
        raise ConfigError(
            f"local.loss: it does not fit the model's output {shape} ({told}): {one_line(error)[:300]}{instead}"
        ) from error
    if shape != tuple(y.shape) and any("target size" in str(warning.message) for warning in warned):
        if task.about.kind == "classes":
            each = f"it compares each output with each target: the model gives {shape} for targets {tuple(y.shape)}"
            raise ConfigError(f"local.loss: {each}{instead}")
        raise ConfigError(
            f"model: it gives {shape} for targets {tuple(y.shape)}, which the loss would compare each with each; give "
            f"it {y.shape[-1]} output(s), or, where the targets are classes, give them as integers: y.astype(int)"
        )
    if not isinstance(loss, torch.Tensor):
        raise ConfigError(f"local.loss: it must give a tensor with one number, got {an(type(loss).__name__)}")
    if loss.numel() != 1:
        raise ConfigError(f"local.loss: it must give one number for a batch, got {tuple(loss.shape)}")
    if said is not None:
        check_targets(task.loss_fn, task.about, output, y)
    if not evaluated:
        return Tried(device=device)
    try:
        with torch.no_grad():
            return Tried(None, tuple(task.measures.trial(output.float(), y)), device)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"evaluate: the model's output {shape} cannot be evaluated ({told}): {one_line(error)[:300]}"
        ) from error


def two_examples(data: ClientData) -> tuple[Inputs, torch.Tensor]:
    """Return inputs and targets ``[2, ...]``: the first example of the first client, twice."""
    x, y = data.rows(np.zeros(1, dtype=np.int64), CPU).take(np.zeros((1, 2), dtype=np.int64))
    return x[0], y[0]


def output_shape(module: nn.Module, x: Inputs, device: torch.device) -> tuple[int, ...] | None:
    """Return the shape of a model's outputs; None where it does not run, as :func:`check_fit` will tell."""
    try:
        with HiddenState({"model": module}, [*module.parameters(), *module.buffers()]).put_back():
            return tuple(_output(module, x, device)[0].shape)
    except Exception:
        return None


def _output(module: nn.Module, x: Inputs, device: torch.device) -> tuple[torch.Tensor, torch.device]:
    """Return the model's output, on the CPU, and where it was made: there, or on ``device`` if it runs on no CPU."""
    with torch.no_grad():
        try:
            return outputs_of(module.eval(), x), CPU
        except Exception:
            if device.type != "cuda" or not torch.cuda.is_available():
                raise
            return outputs_of(copy.deepcopy(module).to(device), x.to(device)).cpu(), device


def check_single_rows(task: LocalTask, module: nn.Module, dropped: bool) -> tuple[str, ...]:
    """Train on a batch of one row, if a client will, where batch normalisation and its like need two.

    Args:
        task: the local training problem.
        module: its model, which stays as it is.
        dropped: clients that fail are given up, and the run goes on without them.

    Returns:
        The warnings for before the first round.

    Raises:
        ConfigError: such batches cannot be trained on, with the number of the clients and what can be done.
    """
    alone = single_rows(task.args, task.data.sizes, task.data.keys(np.arange(len(task.data))))
    if not alone.any() or (reason := _single_row_fails(task, module, int(np.argmax(alone)))) is None:
        return ()
    if task.args.batch_size == 1:
        raise ConfigError(f"local.batch_size=1: the model cannot train on a single row ({reason}); take at least 2")
    whole = task.data.sizes == 1
    if (cut := alone & ~whole).any():
        more = f"; {int(whole.sum())} more have one row in all" if whole.any() else ""
        raise ConfigError(
            f"local.last_batch=keep: the last batch of {_counted(task.data, cut)} has one row, on which the model "
            f"cannot train ({reason}); set local.last_batch=merge, or drop, or another local.batch_size{more}"
        )
    said = f"{_counted(task.data, whole)} have one row to train on, on which the model cannot train ({reason})"
    if not dropped:
        raise ConfigError(f"data: {said}; leave them out, give them more, or set failures.on_failure=drop")
    return (f"{said}: they give no update whenever they are drawn",)


def _single_row_fails(task: LocalTask, module: nn.Module, client: int) -> str | None:
    """Return why training fails on one row of a client, where on two it does not."""
    module, rows = copy.deepcopy(module).train(), task.data.rows(np.array([client]))
    errors: list[str | None] = []
    for count in (1, 2):
        x, y = rows.take(np.zeros((1, count), dtype=np.int64))
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                task.loss_fn(outputs_of(module, x[0]), y[0])
            errors.append(None)
        except Exception as error:
            errors.append(one_line(error)[:200])
    return errors[0] if errors[1] is None else None


def _counted(data: ClientData, which: NDArray[np.bool_]) -> str:
    return f"{int(which.sum()):,} of {len(which):,} clients (the first is {data.client_id(int(np.argmax(which)))!r})"
