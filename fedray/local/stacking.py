"""The stacking of clients, if any, and the number in a stack: a deterministic rule, decided once for a run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from fedray.core.draws import named, put_back
from fedray.core.errors import ConfigError
from fedray.core.losses import ignored_class, per_example, summed
from fedray.core.rng import torch_generator
from fedray.data.columns.inputs import Inputs
from fedray.local.lane_choice import lanes_size, mostly_frozen, number_of, unworthy
from fedray.local.lanes import Lanes, lanes_of
from fedray.local.modes import train_mode
from fedray.local.operations import Products, products, work
from fedray.local.schedule import batch_widths
from fedray.local.task import LocalTask, Stacking
from fedray.local.trial import Obstacle, obstacle, tolerance
from fedray.models.prototype import hooked
from fedray.optim import ELEMENTWISE, TorchOptimizer
from fedray.tasks import outputs_of

Stack = Literal["auto", "off", "lanes"] | int

CPU_PARAMETERS = 1 << 18
"""The parameters of a model above which a CPU gains nothing from stacking: one client already fills the caches."""

CPU_UNFOLDED = 1 << 18
"""The numbers that a convolution gathers in a step, on average, above which a CPU gains nothing from stacking.

In a stack they are grouped convolutions, whose kernels are slower, by about what a stack saves in calls.
"""

CPU_SCORES = 1 << 17
"""The scores of an attention in a step, on average, above which a CPU gains nothing from stacking.

vmap knows no fused attention, so a stack has them all in memory.
"""

GPU_PARAMETERS = 1 << 26
"""The parameters of a model above which a GPU gains nothing from stacking.

They are far more than on a CPU, as one client alone leaves a GPU waiting for its next kernel.
"""

GPU_RECURRENT = 16
"""The clients of a stack below which a GPU is faster with a recurrent layer's fused kernel, one by one."""

BLOCK_BYTES = {"cpu": 4 << 20, "cuda": 1 << 30}
"""The bytes of the parameters of one block: about a core's second-level cache, or what a GPU spares easily."""

LARGEST_BLOCK = {"cpu": 128, "cuda": 1024}

STEP_WORK = {"cpu": 12_000_000, "cuda": 1_000_000_000}
"""The parameters times the examples of a stacked step below which it is mostly the cost of calling its kernels."""

COUPLED = "the loss of a batch is not the mean of its examples' losses"

_ALONE = Stacking(1, False, "")


def decide(task: LocalTask, wanted: Stack, cohort: float, device: Literal["cpu", "cuda"]) -> Stacking:
    """Decide the stacking of a run.

    Clients step together in one of two ways.  ``lanes`` is one ordinary forward of all their rows, in which modules
    that train go client by client (see ``fedray.local.lanes``); otherwise the step is vmapped.  A trial step of two
    unequal clients gives in either what each alone gives, or clients step one by one.

    ``auto`` stacks if the optimizer is elementwise, the model is small enough for the device, has no batch statistics,
    on a CPU no large convolutions and attentions (see ``operations.work``: counted, so that it is the same on every
    machine).  The block then holds as many clients as make a step worth its overhead, as far as they fit a cache, on a
    CPU at most half the cohort.  Clients that step one by one are a block each.  It takes lanes on a CPU where most
    multiplications are with frozen weights, if ``lane_choice.unworthy`` knows no reason against it, and where vmap does
    not run the model, or trains another one.  Of several variants of a model each is tried, and the smallest blocks are
    taken.

    Args:
        task: the local training problem (its own ``stacking`` is ignored).
        wanted: ``auto``, ``off``, or the number of clients in a block; ``lanes``, or ``lanes:8`` with that number.
        cohort: expected cohort size.
        device: type of the workers' devices.

    Raises:
        ConfigError: the algorithm's program fails in a stack, or joins clients.
    """
    if task.submodels is not None:
        return min((decide(part, wanted, cohort, device) for part in task.parts()), key=lambda found: found.size)
    count = task.layout.trained
    if wanted in ("off", 1):
        return Stacking(1, False, "local.stack turns it off")
    counted = None if device != "cpu" or task.data.silos or not isinstance(wanted, str) else _products(task)
    if isinstance(wanted, str) and wanted != "auto":
        return _in_lanes(task, number_of(wanted), cohort, device, counted)
    if wanted == "auto" and counted is not None and mostly_frozen(counted):
        unpaid = unworthy(counted, usual_batch(task), count)
        found = _in_lanes(task, None, cohort, device, counted) if unpaid is None else Stacking(1, False, unpaid)
        if found.stacked or unpaid is not None:
            return found
    size = stacked_size(task, cohort, device) if isinstance(wanted, str) else wanted
    if size == 1 and count <= _largest(device):
        why = f"{count:,} parameters and a cohort of {cohort:g} make stacks of one client"
        return Stacking(1, False, "each client is in a silo of its own" if task.data.silos else why)
    why_not = _obstacle(task, size if isinstance(wanted, str) else None, count, device)
    if why_not is None:
        return Stacking(size, True, f"{size} clients step at once: {count:,} parameters, elementwise optimizer")
    # vmap trains the padding row of an embedding, for one, which lanes leave alone.
    if wanted == "auto" and counted is not None and why_not.of_way:
        found = _in_lanes(task, None, cohort, device, counted)
        return found if found.stacked else replace(found, reason=f"{why_not.reason}; {found.reason}")
    return Stacking(1, False, why_not.reason)


def stacked_size(task: LocalTask, cohort: float, device: Literal["cpu", "cuda"]) -> int:
    """Return the clients in a stacked block under ``auto``.

    A block has clients of one silo, and those have one each.
    """
    if task.data.silos:
        return 1
    parameters = task.layout.trained
    worth = math.ceil(STEP_WORK[device] / (parameters * usual_batch(task)))
    fitting = min(LARGEST_BLOCK[device], BLOCK_BYTES[device] // (4 * parameters))
    # A GPU is not busy with what is not worth a step: two would do the halves in the time of the whole.
    share = 2 if device == "cpu" else 1
    return max(1, min(worth, fitting, math.ceil(cohort / share)))


def usual_batch(task: LocalTask) -> int:
    """Return the number of examples in a step of the median client."""
    examples = np.median(task.data.sizes, keepdims=True).astype(np.int64)
    return int(batch_widths(task.args, examples)[0])


def _largest(device: Literal["cpu", "cuda"]) -> int:
    return CPU_PARAMETERS if device == "cpu" else GPU_PARAMETERS


def _obstacle(task: LocalTask, chosen: int | None, count: int, device: Literal["cpu", "cuda"]) -> Obstacle | None:
    """Return the reason not to stack, if any; ``chosen`` is the size of the blocks where nobody asked for one."""
    if chosen and count > _largest(device):
        return Obstacle(f"{count:,} parameters: above {_largest(device):,} stacking does not pay on a {device}")
    module = task.model_fn()
    if why := unsuited(task, module):
        return Obstacle(why)
    recurrent = [name for name, m in module.named_modules() if isinstance(m, nn.RNNBase)]
    if chosen and recurrent and (device == "cpu" or chosen < GPU_RECURRENT):
        fused = "its fused kernel is as fast one by one as its steps are in a stack"
        return Obstacle(f"{recurrent[0]} is recurrent: {fused}")
    try:
        if chosen and device == "cpu" and (slower := _slower(task, module)):
            return Obstacle(slower)
        if coupled(task, module):
            return Obstacle(COUPLED)
        with _whole_batches():
            return obstacle(replace(task, stacking=_ALONE), _optimizer(task, module)[2], usual_batch(task))
    except ConfigError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        return Obstacle(f"it does not run under vmap ({type(error).__name__}: {text[:120]})", of_way=True)


@contextmanager
def _whole_batches() -> Iterator[None]:
    """Let vmap refuse an operation that it could only do for one client after the other, as those of some libraries."""
    functorch: Any = torch._C._functorch
    before = functorch._is_vmap_fallback_enabled()
    functorch._set_vmap_fallback_enabled(False)
    try:
        yield
    finally:
        functorch._set_vmap_fallback_enabled(before)


def _in_lanes(
    task: LocalTask, number: int | None, cohort: float, device: Literal["cpu", "cuda"], counted: Products | None
) -> Stacking:
    """Return the stacking in lanes, or one by one with the reason.

    Args:
        task: the local training problem.
        number: clients in a block; None: as many as are worth it.
        cohort: expected cohort size.
        device: type of the workers' devices.
        counted: the multiplications of a forward, if they are known.
    """
    found = _lanes(task)
    if isinstance(found, str):
        return Stacking(1, False, f"not in lanes: {found}")
    count = task.layout.trained
    if number is not None:
        size = number
    elif counted is None:
        size = stacked_size(task, cohort, device)
    else:
        size = lanes_size(counted, usual_batch(task), count, cohort)
    if size == 1:
        return Stacking(1, False, f"{count:,} parameters and a cohort of {cohort:g} make lanes of one client")
    return Stacking(size, True, f"{size} clients step at once in lanes: {count:,} parameters, {_share(counted)}", found)


def _share(counted: Products | None) -> str:
    """Return how much of the work clients in lanes have in common, in words."""
    if counted is None:
        return "elementwise optimizer"
    return f"{counted.frozen / max(1.0, counted.frozen + counted.trained):.0%} of multiplications with frozen weights"


def _lanes(task: LocalTask) -> Lanes | str:
    """Return the lanes of a task whose trial succeeds in them, or why it has none."""
    module = task.model_fn()
    if task.private is not None:
        return "gradients of single rows are taken under vmap"
    if why := unsuited(task, module):
        return why
    found = lanes_of(train_mode(module), task.layout, _example(task))
    if isinstance(found, str):
        return found
    try:
        if coupled(task, module):
            return COUPLED
        decays = _optimizer(task, module)[2]
        why_not = obstacle(replace(task, stacking=replace(_ALONE, lanes=found)), decays, usual_batch(task))
        return found if why_not is None else why_not.reason
    except ConfigError:
        raise
    except Exception as error:
        return f"it does not run in them ({type(error).__name__}: {' '.join(str(error).split())[:120]})"


def unsuited(task: LocalTask, module: nn.Module) -> str | None:
    """Return why clients cannot step together in any way, as far as a look shows it."""
    kind, groups, _ = _optimizer(task, module)
    if kind not in ELEMENTWISE:
        return f"the optimizer {kind.__name__} is not known to be elementwise"
    if groups > 1:
        return "the optimizer has several parameter groups"
    if normed := batch_statistics(module):
        return normed
    if held := [name for name, parameter in module.named_parameters() if hooked(parameter)]:
        return f"{held[0]} has hooks, which would not see the gradients of single clients"
    return None


def _example(task: LocalTask) -> Inputs:
    """Return two inputs."""
    x, _ = task.data.rows(np.zeros(1, dtype=np.int64)).take(np.zeros((1, 2), dtype=np.int64))
    return x[0]


def _products(task: LocalTask) -> Products | None:
    """Return the multiplications of a forward of the model; None: it does not run."""
    with put_back(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # who trains is warned again
        try:
            return products(task.model_fn(), _example(task))
        except Exception:
            return None


def _slower(task: LocalTask, module: nn.Module) -> str | None:
    """Name the operation that a CPU does so much more slowly in a stack that a step gains nothing, if there is one."""
    counted, batch = work(module, _example(task)), usual_batch(task)
    for amount, limit, what in (
        (round(counted.unfolded * batch), CPU_UNFOLDED, "a convolution unfolds {:,} numbers"),
        (round(counted.scores * batch), CPU_SCORES, "an attention has {:,} scores"),
    ):
        if amount > limit:
            return f"{what.format(amount)} in a step: above {limit:,} stacking does not pay on a cpu"
    return None


def _optimizer(task: LocalTask, module: nn.Module) -> tuple[type[Optimizer], int, bool]:
    """Return the client optimizer's class, its number of parameter groups, and True if it decays weights."""
    if isinstance(task.optimizer_fn, TorchOptimizer):
        return task.optimizer_fn.kind, 1, bool(getattr(task.optimizer_fn, "weight_decay", 0.0))
    optimizer = task.optimizer_fn([p for p in module.parameters() if p.requires_grad])
    groups = optimizer.param_groups
    return type(optimizer), len(groups), bool(groups[0].get("weight_decay"))


def batch_statistics(module: nn.Module) -> str | None:
    """Name the part that normalises by its batch, if one does."""
    batch = [name for name, m in module.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return f"batch statistics in {batch[0]}" if batch else None


def coupled(task: LocalTask, module: nn.Module) -> bool:
    """Return True if the loss joins the examples of a batch: class weights, contrast, a sum.

    A loss that leaves out targets does, unless it is known to be a sum over those that count, divided by their number.

    Changes the parameters of ``module``.
    """
    if summed(task.loss_fn) is not None:
        return False
    if ignored_class(task.loss_fn) is not None:
        return True
    few = np.unique(np.linspace(0, len(task.data) - 1, 8).astype(np.int64))
    x, y = (t.flatten(0, 1) for t in task.data.rows(few).take(np.tile(np.arange(8), (len(few), 1))))
    draw = torch_generator(task.seed, "local")
    with torch.no_grad(), named(task.seed, "local"):
        # A fresh model may say the same of all examples.
        for parameter in (p for p in module.parameters() if p.requires_grad):  # copies may share what is frozen
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
        output = outputs_of(module.eval(), x)
        whole, apart = task.loss_fn(output, y), per_example(task.loss_fn, output, y).mean()
    close = tolerance([*module.parameters(), *module.buffers()])
    return not torch.isclose(whole, apart, rtol=close, atol=0.0, equal_nan=True).item()
