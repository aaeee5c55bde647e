"""Everything a worker needs to train and evaluate: one picklable description, the same on every worker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from fedray.config.sections import LocalSection
from fedray.core.fragments import Fragments
from fedray.core.layout import Layout
from fedray.core.losses import LossFn
from fedray.core.messages import Ints
from fedray.core.shards import Shard
from fedray.data.augment_chain import Augment
from fedray.data.columns.base import ClientData
from fedray.data.columns.inputs import Inputs, like
from fedray.local.class_weights import unweighted
from fedray.local.gradients import backward_nodes
from fedray.local.lanes import Lanes
from fedray.local.moments import Moments, moments_of
from fedray.local.private import ExamplePrivacy
from fedray.local.program import ClientProgram, Profile, fragments_of
from fedray.local.rate import LearningRate
from fedray.local.variants import Submodels
from fedray.metrics.base import Metric
from fedray.metrics.measures import Measures, measured
from fedray.optim import OptimizerFn
from fedray.tasks import Task, task_of

ModelFn = Callable[[], nn.Module]
Precision = Literal["fp32", "tf32", "bf16"]


MOST_ROWS = 1024
"""The rows of a piece of an evaluation, where all of them fit the memory that a piece may take."""

EVALUATED: dict[str, str] = {
    "keep": "evaluations take the mean of the statistics that the last cohort ended with",
    "local": "a client's personal model has the client's own statistics; the global model, and clients that have not "
    "trained, take the mean of the statistics that the last cohort ended with",
}
"""The statistics that evaluations take where the server's stay as they are."""


@dataclass(frozen=True)
class Stacking:
    """The number of clients that step at once, with the reason.

    Args:
        size: clients in a block, C >= 1.
        stacked: True: one step for the whole block; False: one client after the other.
        reason: one line for ``fedray plan`` and the log.
        lanes: the modules that go client by client in one ordinary forward of all rows; None: the step is vmapped.
    """

    size: int
    stacked: bool
    reason: str
    lanes: Lanes | None = None


@dataclass(frozen=True)
class Sharing:
    """The number of devices that share the batch of a client that steps alone, with the reason.

    Args:
        devices: at most so many, if its worker has them; 1: the worker's first device does it all.
        reason: one line for ``fedray plan`` and the log; empty where no worker has more than one.
        ranks: the processes of a worker that share the model out as well.
        bare: each of these builds the model bare, see :mod:`fedray.models.bare`; False: whole, with its values.
    """

    devices: int = 1
    reason: str = ""
    ranks: int = 1
    bare: bool = False


@dataclass(frozen=True)
class MemoryFormat:
    """The order in memory of the images that clients train on, with the reason.

    >>> x = torch.zeros(2, 3, 4, 5)
    >>> MemoryFormat(True).put(x).stride(), MemoryFormat().put(x).stride()
    ((60, 1, 15, 3), (60, 20, 5, 1))

    Args:
        channels_last: the channels of a place lie next to each other (``torch.channels_last``).
        reason: one line for ``fedray plan`` and the log; empty where there are no images to be put in another order.
    """

    channels_last: bool = False
    reason: str = ""

    def put(self, x: Inputs) -> Inputs:
        """Return a batch of inputs with its images ``[B, C, H, W]`` in this order; their values are the same."""
        return like(x, _channels_last) if self.channels_last else x

    def keep(self, output: torch.Tensor) -> torch.Tensor:
        """Return a model's output, in whose backward pass gradients of images come in this order, too.

        A reshape of an image in this order, as ``nn.Flatten`` makes it, copies it, and hands back a gradient in the
        usual order, with which poolings, norms and activations before it take two to eight times as long.
        """
        for node in backward_nodes(output) if self.channels_last else ():
            if node.name() == "CloneBackward0":
                node.register_hook(_handed_back)
        return output


def _handed_back(found: tuple[torch.Tensor | None, ...], taken: tuple[torch.Tensor | None, ...]) -> Any:
    """Return the gradients that a step of the backward pass has found, those of images in channels-last order."""
    last = torch.channels_last
    return tuple(g.contiguous(memory_format=last) if g is not None and g.dim() == 4 else g for g in found)


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    if x.dim() != 4 or not x.is_floating_point():
        return x
    _, c, h, w = x.shape
    # Of a single channel both orders are the same memory, and the strides alone tell a convolution which it is.
    return x.contiguous(memory_format=torch.channels_last).as_strided(x.shape, (c * h * w, 1, w * c, c))


@dataclass(frozen=True)
class LocalTask:
    """The local training problem.

    Args:
        model_fn: builds the module, the same at each call.
        optimizer_fn: parameters to a ``torch.optim.Optimizer``; a new one for each client and round.
        loss_fn: (output, target) to a scalar, the mean over the batch.
        data: the clients' data.
        layout: the model's layout.
        args: the config section ``local``, as the algorithm runs with it.
        program: the clients' half of the algorithm.
        seed: the run's seed.
        rate: the learning rate of each round.
        stacking: the decision for this run.
        sharing: the other one, for workers with several devices.
        format: the order of images in memory, where clients step one by one.
        statistics: clients send the change of their buffers, as ``Composition.statistics`` says.
        carried: names of the buffers that clients take on from the mean of the last cohort's, for evaluations alone.
        evaluated_rows: the most rows that an evaluation takes at once.
        augment: the changes of the inputs of batches.
        receives: lengths of what clients receive besides the model, by name.
        addressed: lengths of the rows that the server sends to each client alone, by name.
        profile: the names and widths of what clients send and keep, as a trial has seen them.
        submodels: the narrower models that clients train; None: all train the whole one.
        metrics: the metrics of evaluations; None: those that readers of such a task expect.
        task: the meaning of the model's outputs; None: by the data.
        why: the reason for this task, where it is not that of the data alone.
        target: the shape of one target; None: not known.
        private: the protection of the clients' single rows; None: there is none.
        shard: the part of the model that this process holds, whose layout ``layout`` is; None: all of it.
    """

    model_fn: ModelFn
    optimizer_fn: OptimizerFn
    loss_fn: LossFn
    data: ClientData
    layout: Layout
    args: LocalSection
    program: ClientProgram
    seed: int
    rate: LearningRate = field(default_factory=LearningRate)
    stacking: Stacking = field(default_factory=lambda: Stacking(1, False, "not decided"))
    sharing: Sharing = field(default_factory=Sharing)
    format: MemoryFormat = field(default_factory=MemoryFormat)
    statistics: bool = False
    carried: frozenset[str] = frozenset()
    evaluated_rows: int = MOST_ROWS
    augment: Augment = field(default_factory=Augment)
    receives: Mapping[str, int] = field(default_factory=dict)
    addressed: Mapping[str, int] = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)
    submodels: Submodels | None = None
    metrics: tuple[Metric, ...] | None = None
    task: Task | None = None
    why: str = ""
    target: tuple[int, ...] | None = None
    private: ExamplePrivacy | None = None
    shard: Shard | None = None

    @cached_property
    def about(self) -> Task:
        """The meaning of the model's outputs."""
        return task_of(self.data.spec) if self.task is None else self.task

    @cached_property
    def measures(self) -> Measures:
        """The loss and the metrics of evaluations.

        Raises:
            ConfigError: a metric is none of such a task.
        """
        return measured(unweighted(self.loss_fn), self.about, self.metrics)

    def with_variants(self) -> LocalTask:
        """Return the task with the variants of the model that its program has, if any.

        Raises:
            ConfigError: the model cannot be cut to one of them.
        """
        variants = self.program.variants()
        if not variants:
            return self
        x, _ = self.data.probe().rows(np.zeros(1, dtype=np.int64)).take(np.zeros((1, 2), dtype=np.int64))
        models = Submodels(variants, self.model_fn, self.layout, x[0])
        models.check()
        return replace(self, submodels=models)

    def variants(self, clients: Ints) -> Ints:
        """Return the variant of the model that each client trains, ``[C]``; 0 where there is one model."""
        if self.submodels is None:
            return np.zeros(len(clients), dtype=np.int64)
        return self.program.variant_of(self.seed, self.data.keys(clients))

    def layouts(self, clients: Ints) -> list[tuple[Layout, int]]:
        """Return the layouts of what some clients train, each with the number of those who do."""
        if self.submodels is None:
            return [(self.layout, len(clients))]
        layouts = self.submodels.layouts
        counts = np.bincount(self.variants(clients), minlength=len(layouts)).tolist()
        return list(zip(layouts, counts, strict=True))

    def on_rank(self, rank: int, ranks: int) -> LocalTask:
        """Return the part of it of one of the ranks that train a client together."""
        shard = Shard(self.layout, rank, ranks)
        return replace(self, layout=shard.layout, shard=shard)

    def parts(self) -> tuple[LocalTask, ...]:
        """Return the local training problem of each variant of the model; of the whole one, where there are none."""
        if (models := self.submodels) is None:
            return (self,)
        return tuple(
            replace(self, model_fn=models.prototype(number), layout=layout, submodels=None)
            for number, layout in enumerate(models.layouts)
        )

    @cached_property
    def fragments(self) -> Fragments | None:
        """The fragments of the model, of which one travels in each round; None: all of it does.

        Raises:
            ConfigError: they do not share out the tensors that travel.
        """
        return fragments_of(self.program, self.layout)

    def moved(self, round: int) -> tuple[slice, ...] | None:
        """Return the places of the model that a round may begin with other values in than the one before; None: any."""
        if self.fragments is None or round < 2:
            return None
        return (*self.fragments.at(round - 1).columns.places, slice(self.layout.trained, self.layout.size))

    @cached_property
    def moments(self) -> Moments | None:
        """The state of client optimizers that is kept; None: none.

        Raises:
            ConfigError: it is none that can be kept.
        """
        return moments_of(self.optimizer_fn, self.layout) if self.args.keep_optimizer else None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on what was decided, for the head of the log."""
        devices = (f"devices: {self.sharing.reason}",) if self.sharing.reason else ()
        return (
            f"an example: {self.data.spec.inputs} to {self.about.targets}",
            *((f"task: {self.about.name}: {self.why}",) if self.why else ()),
            *self.data.notes,
            *((f"inputs: {self.augment.words}",) if self.augment.parts else ()),
            *((f"variants: {self.trains}",) if self.trains else ()),
            f"stacking: {self.stacking.reason}",
            *devices,
            *((f"memory format: {self.format.reason}",) if self.format.reason else ()),
            *((f"learning rate: {self.rate.words}",) if self.rate.words else ()),
            *((f"local.buffers={self.args.buffers}: {EVALUATED[self.args.buffers]}",) if self.statistics else ()),
        )

    @property
    def trains(self) -> str:
        """The number of clients that train each variant of the model, in words; empty where there are none."""
        if self.submodels is None:
            return ""
        everyone = self.layouts(np.arange(len(self.data)))
        found = zip(self.submodels.names, everyone, strict=True)
        return ", ".join(f"{count:,} clients at rate {name}: D = {layout.trained:,}" for name, (layout, count) in found)


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context in which models run: bfloat16 autocast under ``bf16``, else nothing."""
    if precision != "bf16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
