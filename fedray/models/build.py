"""From a config's ``model`` section to a module with its first parameters."""

from __future__ import annotations

from typing import Any

from torch import nn

from fedray.config.registry import bind_part
from fedray.core.draws import named
from fedray.core.regions import Regions
from fedray.data.spec import DataSpec
from fedray.models.registry import Model, models


def resolve_model(node: Any, key: str = "model") -> Model:
    """Make the model of a config section: a registered one, or the user's own if the name has a colon.

    >>> resolve_model({"name": "mlp", "hidden": [8]})
    MLP(hidden=[8], activation='relu', dropout=0.0)

    Args:
        node: ``{name: ..., **options}``, or just the name.
        key: the place of the section in the config, for messages.

    Raises:
        ConfigError: unknown name or option, wrong type, or the user's factory cannot be imported or takes other
            arguments.
    """
    part: Model = bind_part(models, node, key)
    return part


def initial_model(model: Model, spec: DataSpec, seed: int, regions: Regions | None = None) -> nn.Module:
    """Build the model with its first parameters: a function of the seed alone.

    What ``regions`` has as frozen gets no gradient.

    The process's generators on the CPU are named by (seed, "init") while the model is built, and put back as they were:
    calling this neither reads nor moves them.  A user's factory that draws from a generator of its own, or on a device,
    is on its own.

    Raises:
        ConfigError: the model does not fit the data, the user's factory fails, or it has nothing of a name that is to
            be frozen or personal.
    """
    with named(seed, "init"):
        module = model.build(spec)
    return module if regions is None else regions.freeze(module)
