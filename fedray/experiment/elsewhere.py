"""The places of the options of the parts that a config chooses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from fedray.aggregators import aggregators
from fedray.algorithms.base import algorithms
from fedray.attacks import attacks
from fedray.config.binding import options_of
from fedray.config.elsewhere import of_sections
from fedray.config.registry import Registry
from fedray.config.sections import ExperimentSchema, LocalSection, ModelSection
from fedray.data import data_sources
from fedray.metrics import metrics
from fedray.models import models
from fedray.optim import lr_schedules, optimizers
from fedray.privacy import Privacy
from fedray.sampling import samplers
from fedray.server import ServerOptimizer, server_optimizers
from fedray.tasks import tasks
from fedray.tracking import trackers
from fedray.transforms import transforms

_PARTS: dict[str, tuple[Registry, Any]] = {
    "data": (data_sources, None),
    "model": (models, None),
    "task": (tasks, None),
    "algorithm": (algorithms, ExperimentSchema.algorithm),
    "aggregator": (aggregators, ExperimentSchema.aggregator),
    "sampler": (samplers, ExperimentSchema.sampler),
    "attack": (attacks, None),
    "local.optimizer": (optimizers, LocalSection.optimizer),
    "local.lr_schedule": (lr_schedules, LocalSection.lr_schedule),
    "server": (server_optimizers, "sgd"),
    "server.lr_schedule": (lr_schedules, ServerOptimizer.lr_schedule),
    "transforms": (transforms, None),
    "metrics": (metrics, None),
    "tracking": (trackers, None),
}
"""The registry of each part, and the part that options without a name are for."""


def all_keys(resolved: Mapping[str, Any]) -> Iterator[str]:
    """Yield the full keys of all options that a config has a place for: of its sections, and of the parts it chooses.

    >>> said = {"algorithm": {"name": "fedprox"}, "transforms": ["clip"], "local": {"optimizer": "adam"}}
    >>> keys = set(all_keys(said))
    >>> {"algorithm.mu", "transforms[0].norm", "local.optimizer.lr", "local.epochs"} <= keys
    True
    >>> "server.lr" in keys
    False

    Args:
        resolved: the config, maybe with mistakes.
    """
    yield from of_sections()
    for key, (registry, usual) in _PARTS.items():
        node: Any = resolved
        for word in key.split("."):
            node = node.get(word) if isinstance(node, Mapping) else None
        if node is None and not key.startswith("server"):
            node = usual
        listed = {f"{key}[{i}]": one for i, one in enumerate(node)} if isinstance(node, list) else {key: node}
        for place, one in listed.items():
            yield from (f"{place}.{option}" for option in _options(registry, one, usual))
    yield from (f"model.{option}" for option in options_of(ModelSection))
    yield from (f"privacy.{option}" for option in options_of(Privacy))


def _options(registry: Registry, node: Any, usual: Any) -> list[str]:
    """Return the options of the part that is meant, or made; of one that is named by its import path none is known."""
    if isinstance(node, Mapping):
        node = node.get("name", usual)
    kind = registry.get(node) if isinstance(node, str) else type(node)
    return options_of(kind) if isinstance(kind, type) and dataclasses.is_dataclass(kind) else []
