"""Model and data as Python gives them, in the place of parts that a config names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fedray.config.binding import is_plain
from fedray.config.registry import Imported, Registry
from fedray.config.sections import ModelSection
from fedray.core.errors import ConfigError
from fedray.data import ClientData
from fedray.data.sites import Sites, here
from fedray.data.spec import DataSpec


@dataclass(frozen=True)
class GivenModel:
    """A function that makes the module, in the place of a model that a config names."""

    model_fn: Callable[[], nn.Module]
    regions: ModelSection = field(default_factory=ModelSection)
    name: str = "python"

    def build(self, spec: DataSpec) -> nn.Module:
        """Return what the function returns; ConfigError if that is no module."""
        module = self.model_fn()
        if not isinstance(module, nn.Module):
            raise ConfigError(f"model_fn: it must return an nn.Module, got {type(module).__name__}")
        return module


@dataclass(frozen=True, eq=False)
class GivenData:
    """Data that are there, in the place of a source that a config names."""

    data: ClientData

    def load(self, seed: int, sites: Callable[[], Sites] = here) -> ClientData:
        """Return them."""
        return self.data


def only_python_has(registry: Registry, part: Any) -> str | None:
    """Return words for a part that no config can name, and None for one that it can.

    >>> from fedray.local.losses import losses
    >>> only_python_has(losses, losses["mse"]), only_python_has(losses, max)
    (None, 'builtins.max')
    """
    if is_plain(part) or isinstance(part, Imported | Mapping) or registry.get(getattr(part, "name", "")) in _kin(part):
        return None
    what = part.model_fn if isinstance(part, GivenModel) else part.data if isinstance(part, GivenData) else part
    what = what if hasattr(what, "__qualname__") else type(what)
    return f"{what.__module__}.{what.__qualname__}"


def _kin(part: Any) -> tuple[Any, ...]:
    return (part, type(part))
