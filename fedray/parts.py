"""The parts of fedray, for packages that bring their own: every registry, and the class of every kind of part.

This module and the names of ``fedray.__all__`` are kept; other modules may move.  A package registers its parts when it
is imported, and names that module in the entry-point group ``fedray.parts``::

    from dataclasses import dataclass
    import numpy as np
    from fedray import parts

    @parts.samplers.register("first")
    @dataclass(frozen=True)
    class First(parts.Sampler):
        clients: int = 1

        def cohort(self, sizes, seed, round):
            return np.arange(self.clients)

        def expected(self, sizes):
            return float(self.clients)

The same class needs no package where a config names it ``my_module:First``.

>>> from fedray import parts
>>> list(parts.samplers), issubclass(parts.samplers["full"], parts.Sampler)
(['full', 'poisson', 'round_robin', 'separated', 'trace', 'uniform', 'weighted'], True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedray.aggregators.base import Aggregator, UpdateOutOfRange, aggregators
from fedray.aggregators.gathered import CoordinateWise, Gathered, Rows, Selected
from fedray.algorithms.base import Algorithm, algorithms
from fedray.attacks.base import Attack, attacks
from fedray.config.registry import Registry
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.layout import Layout
from fedray.core.losses import LossFn
from fedray.core.messages import Aggregate, BlockUpdate
from fedray.core.now import Now
from fedray.core.record import RoundRecord
from fedray.core.rng import numpy_generator, torch_generator
from fedray.data import ClientData, DataSpec, FederatedData
from fedray.data.augment import Augmentation, ColumnsAugmentation, augmentations
from fedray.data.partition import Partitioner
from fedray.data.registry import data_sources, partitioners
from fedray.data.sources.base import Source
from fedray.local.added import Added
from fedray.local.batches import Batch, Output, Trace
from fedray.local.clients import Clients
from fedray.local.losses import losses
from fedray.local.step import Step
from fedray.local.variants import Variant
from fedray.metrics.base import MeanMetric, Metric, metrics
from fedray.models.lora import adapted
from fedray.models.registry import Model, models
from fedray.optim import LRSchedule, OptimizerFn, TorchOptimizer, lr_schedules, optimizers
from fedray.sampling import Sampler, samplers
from fedray.server import PerClient, Server, ServerOptimizer, server_optimizers
from fedray.tasks.base import Task, tasks
from fedray.tracking.base import RunInfo, Tracker, trackers
from fedray.tracking.callbacks import Callback, callbacks
from fedray.transforms.base import Setting, Transform, transforms
from fedray.transforms.codec import Codec, Draws

__all__ = [
    "Added",
    "Aggregate",
    "Aggregator",
    "Algorithm",
    "Attack",
    "Augmentation",
    "Batch",
    "BlockUpdate",
    "Callback",
    "ClientData",
    "Clients",
    "Codec",
    "ColumnsAugmentation",
    "ConfigError",
    "CoordinateWise",
    "DataSpec",
    "Draws",
    "FederatedData",
    "Gathered",
    "LRSchedule",
    "Layout",
    "LossFn",
    "MeanMetric",
    "Metric",
    "Model",
    "Now",
    "OptimizerFn",
    "Output",
    "Partitioner",
    "PerClient",
    "Registry",
    "RoundRecord",
    "Rows",
    "RunFailed",
    "RunInfo",
    "Sampler",
    "Selected",
    "Server",
    "ServerOptimizer",
    "Setting",
    "Source",
    "Step",
    "Task",
    "TorchOptimizer",
    "Trace",
    "Tracker",
    "Transform",
    "UpdateOutOfRange",
    "Variant",
    "adapted",
    "aggregators",
    "algorithms",
    "attacks",
    "augmentations",
    "callbacks",
    "data_sources",
    "losses",
    "lr_schedules",
    "metrics",
    "models",
    "numpy_generator",
    "optimizers",
    "partitioners",
    "samplers",
    "server_optimizers",
    "tasks",
    "torch_generator",
    "trackers",
    "transforms",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        gone = {
            "AlgorithmConfig": "it is called Algorithm",
            "ServerRule": "an algorithm has start, broadcast and step itself",
        }
        if name in gone:
            raise AttributeError(
                f"fedray.parts has no {name} any more; now {gone[name]}: see docs/write-your-own.md", name=name
            )
        raise AttributeError(f"module 'fedray.parts' has no attribute {name!r}", name=name)
