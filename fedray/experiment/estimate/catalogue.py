"""The content of the registries, as text."""

from __future__ import annotations

import dataclasses
from typing import Any

from fedray.aggregators import aggregators
from fedray.algorithms.base import algorithms
from fedray.config.registry import Registry, nearest
from fedray.core.errors import ConfigError
from fedray.data import data_sources, partitioners
from fedray.local.losses import losses
from fedray.models import models
from fedray.optim import optimizers
from fedray.sampling import samplers
from fedray.transforms import transforms

KINDS: dict[str, Registry] = {
    "algorithms": algorithms,
    "models": models,
    "data": data_sources,
    "partitioners": partitioners,
    "transforms": transforms,
    "aggregators": aggregators,
    "samplers": samplers,
    "optimizers": optimizers,
    "losses": losses,
}


def catalogue(kind: str | None = None) -> str:
    """List the registered parts, one to a line: its name, its options with their defaults, and what it is.

    >>> print(catalogue("samplers").splitlines()[-1])
      weighted(clients=<needed>)  A fixed number of clients without replacement, likelier with more examples.

    Args:
        kind: one of the keys of ``KINDS``; None means all of them.

    Raises:
        ConfigError: unknown kind.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"unknown kind {kind!r}{nearest(kind, KINDS)}; known: {', '.join(KINDS)}")
    chosen = KINDS if kind is None else {kind: KINDS[kind]}
    return "\n\n".join(_section(title, registry) for title, registry in chosen.items())


def summary(part: object) -> str:
    """Return the first line of a part's documentation, as plain text."""
    lines = (getattr(part, "__doc__", None) or "").strip().splitlines()
    return lines[0].replace("``", "") if lines else ""


def call(name: str, options: dict[str, Any]) -> str:
    """Write a part as it would be made: ``fedprox(weight=auto, mu=0.01)``."""
    return f"{name}({', '.join(f'{key}={value(given)}' for key, given in options.items())})"


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


def _section(title: str, registry: Registry) -> str:
    lines = [f"  {call(name, _defaults(part))}  {summary(part)}" for name, part in registry.items()]
    return "\n".join([title, *lines])


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
