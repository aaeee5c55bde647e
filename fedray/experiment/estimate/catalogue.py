"""The content of the registries, for a terminal."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fedray.aggregators import aggregators
from fedray.algorithms.base import algorithms
from fedray.attacks import attacks
from fedray.config.registry import Registry, nearest
from fedray.core.errors import ConfigError
from fedray.data import data_sources, partitioners
from fedray.data.augment import augmentations
from fedray.local.losses import losses
from fedray.metrics import metrics
from fedray.models import models
from fedray.optim import lr_schedules, optimizers
from fedray.sampling import samplers
from fedray.server import server_optimizers
from fedray.tasks import tasks
from fedray.tracking import trackers
from fedray.tracking.callbacks import callbacks
from fedray.transforms import transforms

KINDS: dict[str, Registry] = {
    "algorithms": algorithms,
    "servers": server_optimizers,
    "models": models,
    "data": data_sources,
    "partitioners": partitioners,
    "augmentations": augmentations,
    "transforms": transforms,
    "aggregators": aggregators,
    "attacks": attacks,
    "samplers": samplers,
    "optimizers": optimizers,
    "schedules": lr_schedules,
    "losses": losses,
    "tasks": tasks,
    "metrics": metrics,
    "trackers": trackers,
    "callbacks": callbacks,
}

_REFERENCE = re.compile(r":\w+:`(?:~[\w.]*\.)?([\w.]+)`")
"""A name that the site of the documentation makes a link of."""


def catalogue(kind: str | None = None) -> RenderableType:
    """List the registered parts: the name of each, what it is, and below its options with their defaults.

    >>> from fedray.core.terminal import plain
    >>> print(plain(catalogue("aggregators")), end="")  # doctest: +ELLIPSIS
    aggregators
      centered_clip     ...
      mean              Weighted mean sum_i w_i delta_i / sum_i w_i of accepted clients (FedAvg, ...).
      median            Coordinate-wise median (...).
      ...
      trimmed_mean      Coordinate-wise trimmed mean (...).
                        trim=0.1

    Args:
        kind: one of the keys of ``KINDS``; None means all of them.

    Raises:
        ConfigError: unknown kind.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"unknown kind {kind!r}{nearest(kind, KINDS)}; known: {', '.join(KINDS)}")
    chosen = KINDS if kind is None else {kind: KINDS[kind]}
    parts: list[RenderableType] = []
    for title, registry in chosen.items():
        parts += [Text(), Text(title, style="bold"), Padding(_table(registry), (0, 0, 0, 2))]
    return Group(*parts[1:])


def summary(part: object) -> str:
    """Return the first paragraph of a part's documentation, as plain text on one line."""
    text = inspect.cleandoc(getattr(part, "__doc__", None) or "")
    return _REFERENCE.sub(r"\1", " ".join(text.partition("\n\n")[0].split())).replace("``", "")


def call(name: str, options: dict[str, Any]) -> str:
    """Write a part as it would be made: ``fedprox(weight=auto, mu=0.01)``."""
    return f"{name}({_options(options)})"


def _options(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value(given)}" for key, given in options.items())


def value(given: Any) -> str:
    """Write a value as YAML has it, on one line.

    >>> value([0.9, None]), value({"name": "iid", "clients": 3})
    ('[0.9, null]', '{name: iid, clients: 3}')
    """
    if isinstance(given, dict):
        return "{" + ", ".join(f"{key}: {value(one)}" for key, one in given.items()) + "}"
    if isinstance(given, list | tuple):
        return "[" + ", ".join(map(value, given)) + "]"
    if given is None or isinstance(given, bool):
        return {None: "null", True: "true", False: "false"}[given]
    return str(given)


def _table(registry: Registry) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    if not registry:
        table.add_row(Text("none"), Text("Your own is named my_module:name."))
    for name, part in registry.items():
        table.add_row(Text(name), Text(summary(part)))
        if options := _options(_defaults(part)):
            table.add_row(Text(), Text(options, style="dim"))
    return table


def _defaults(part: type) -> dict[str, Any]:
    needed: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    for field in dataclasses.fields(part) if dataclasses.is_dataclass(part) else ():
        if not field.init:
            continue
        if field.default is not dataclasses.MISSING:
            optional[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            optional[field.name] = field.default_factory()
        else:
            needed[field.name] = "<needed>"
    return {**needed, **optional}
