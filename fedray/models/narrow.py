"""A narrower module of a module: some units of every layer, and where their numbers stand in the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fedray.core.errors import ConfigError, one_line
from fedray.core.layout import Layout
from fedray.data.columns.inputs import Inputs, call, like
from fedray.models.prototype import hooked

Units = Callable[[int], Tensor]
"""The number of units of a layer to those that stay, increasing, ``[k]``."""

Kept = dict[str, tuple[Tensor, Tensor]]
"""By layer, the outputs and the inputs that stay."""

_MAKERS: dict[type[nn.Module], tuple[str, str]] = {
    nn.Linear: ("out_features", "in_features"),
    nn.Conv1d: ("out_channels", "in_channels"),
    nn.Conv2d: ("out_channels", "in_channels"),
    nn.Conv3d: ("out_channels", "in_channels"),
}
"""Layers that make units of others, with the attributes of their numbers."""

_NORMS: dict[type[nn.Module], str] = {
    nn.BatchNorm1d: "num_features",
    nn.BatchNorm2d: "num_features",
    nn.BatchNorm3d: "num_features",
    nn.InstanceNorm1d: "num_features",
    nn.InstanceNorm2d: "num_features",
    nn.InstanceNorm3d: "num_features",
    nn.GroupNorm: "num_channels",
    nn.LayerNorm: "normalized_shape",
    nn.RMSNorm: "normalized_shape",
}
"""Layers that keep units apart, with the attribute of their number."""

_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm)
"""Layers whose units are the last dimension of what they are given; that of the others is the second."""


def kept_units(module: nn.Module, x: Inputs, units: Units) -> Kept:
    """Return the units of every layer that stay; all inputs of the first layer do, and all outputs of the last.

    In a forward pass units that do not stay are not a number, so that each layer sees which of its inputs are missing:
    after pooling, flattening, sums and concatenations as well.

    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 4, 2))
    >>> kept = kept_units(model, torch.zeros(1, 1, 4, 4), lambda count: torch.arange(count // 2))
    >>> [(outputs.tolist(), inputs.tolist()) for outputs, inputs in kept.values()]
    [([0, 1], [0]), ([0, 1], [0, 1, 2, 3, 4, 5, 6, 7])]

    Args:
        module: the whole model, on the CPU.
        x: inputs of a batch, ``[B, ...]``.
        units: of any layer.

    Raises:
        ConfigError: a layer that cannot be cut, with its name.
    """
    layers = dict(_layers(module))
    x = like(x, lambda one: torch.ones_like(one) if one.is_floating_point() else one)
    order: list[str] = []
    with _watched(layers, lambda name, layer, given: order.append(name)):
        _run(module, x)
    if twice := next((name for name in order if order.count(name) > 1), None):
        raise _refusal(twice, layers[twice], "it is used twice in a forward")
    if idle := next((name for name in layers if name not in order), None):
        raise _refusal(idle, layers[idle], "the forward does not use it")
    last = [name for name in order if type(layers[name]) in _MAKERS][-1]
    kept: Kept = {}

    def look(name: str, layer: nn.Module, given: Tensor) -> None:
        inputs = _present(name, layer, given)
        if type(layer) in _NORMS:
            kept[name] = inputs, inputs
        else:
            count = int(getattr(layer, _MAKERS[type(layer)][0]))
            kept[name] = torch.arange(count) if name == last else units(count), inputs

    def lack(name: str, layer: nn.Module, output: Tensor) -> Tensor:
        marked = torch.full_like(output, torch.nan).movedim(_axis(layer), 0)
        marked[kept[name][0]] = 1.0
        return marked.movedim(0, _axis(layer))

    with _watched(layers, look, lack):
        output = _run(module, x)
    if output.isnan().any():
        raise ConfigError(
            f"model: its last layer is {last}, and its outputs come from narrower ones as well: it cannot be cut"
        )
    return kept


def narrow(module: nn.Module, kept: Mapping[str, tuple[Tensor, Tensor]]) -> nn.Module:
    """Take the units that do not stay from a module's layers; returns the module.

    Raises:
        ConfigError: a group normalisation whose groups do not divide what stays.
    """
    for name, (outputs, inputs) in kept.items():
        layer: Any = module.get_submodule(name)
        if type(layer) in _MAKERS:
            for attribute, stays in zip(_MAKERS[type(layer)], (outputs, inputs), strict=True):
                setattr(layer, attribute, len(stays))
        elif isinstance(layer, nn.LayerNorm | nn.RMSNorm):
            layer.normalized_shape = (len(outputs),)
        elif isinstance(layer, nn.GroupNorm):
            if layer.num_groups == layer.num_channels:
                layer.num_groups = len(outputs)
            if len(outputs) % layer.num_groups:
                why = f"{layer.num_groups} groups do not divide the {len(outputs)} channels that stay"
                raise _refusal(name, layer, why)
            layer.num_channels = len(outputs)
        else:
            setattr(layer, _NORMS[type(layer)], len(outputs))
        for own, parameter in layer.named_parameters(recurse=False):
            values = _cut(parameter.detach(), outputs, inputs).clone()
            setattr(layer, own, nn.Parameter(values, parameter.requires_grad))
        for own, buffer in layer.named_buffers(recurse=False):
            setattr(layer, own, _cut(buffer, outputs, inputs).clone())
    return module


def places(layout: Layout, kept: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """Return the places in the whole vector of the numbers of the narrower one, in its order, int64 ``[k]``.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> kept = kept_units(model, torch.zeros(1, 2), lambda count: torch.tensor([1]))
    >>> places(Layout.of(model), kept)  # [0.weight 0 to 3, 0.bias 4 and 5, 1.weight 6 and 7, 1.bias 8]
    tensor([2, 3, 5, 7, 8])
    """
    found = []
    for entry in layout.entries:
        positions = torch.arange(entry.start, entry.stop).view(entry.shape)
        outputs, inputs = kept.get(entry.name.rpartition(".")[0], (None, None))
        if outputs is not None and inputs is not None:
            positions = _cut(positions, outputs, inputs)
        found.append(positions.reshape(-1))
    return torch.cat(found)


def check_narrow(module: nn.Module, x: Inputs, outputs: torch.Size) -> None:
    """Raise ConfigError unless a narrower module takes inputs ``[B, ...]`` and gives what the whole one does."""
    output = _run(module, x)
    if output.shape != outputs:
        raise ConfigError(f"model: cut, it gives {tuple(output.shape)}, and whole {tuple(outputs)}: it cannot be cut")


def _layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers that have units.

    Raises:
        ConfigError: one that has parameters, and is not known.
    """
    for name, layer in module.named_modules():
        own = dict(layer.named_parameters(recurse=False))
        known = type(layer) in _MAKERS or type(layer) in _NORMS
        if not known and own:
            raise _refusal(name, layer, "layers that can are Linear, Conv and normalisations of channels")
        if getattr(layer, "groups", 1) != 1:
            raise _refusal(name, layer, "it is a convolution in groups")
        if len(getattr(layer, "normalized_shape", (1,))) != 1:
            raise _refusal(name, layer, "it normalises more than channels")
        if any(map(hooked, own.values())):
            raise _refusal(name, layer, "its parameters have hooks")
        if known:
            yield name, layer


def _present(name: str, layer: nn.Module, given: Tensor) -> Tensor:
    """Return the places of the inputs that are not missing."""
    missing = given.isnan().movedim(_axis(layer), 0).flatten(1)
    if (missing.any(1) != missing.all(1)).any() or missing.all():
        raise _refusal(name, layer, "units of the layers before are mixed on their way to it, as attention does")
    return (~missing.any(1)).nonzero().flatten()


def _axis(layer: nn.Module) -> int:
    return -1 if isinstance(layer, _LAST) else 1


def _cut(tensor: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
    for dim, stays in zip(range(tensor.dim()), (outputs, inputs), strict=False):
        tensor = tensor.index_select(dim, stays)
    return tensor


def _run(module: nn.Module, x: Inputs) -> Tensor:
    modes = {part: part.training for part in module.modules()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output: Tensor = call(module.eval(), x)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"model: its layers cannot be cut: {one_line(error)[:300]}") from error
    finally:
        for part, training in modes.items():
            part.training = training
    return output


@contextmanager
def _watched(
    layers: Mapping[str, nn.Module],
    before: Callable[[str, nn.Module, Tensor], Any],
    after: Callable[[str, nn.Module, Tensor], Tensor] | None = None,
) -> Iterator[None]:
    """Return the context in which functions see what layers are given, and what they make."""
    handles = []
    try:
        for name, layer in layers.items():

            def given(layer: nn.Module, args: tuple[Any, ...], name: str = name) -> None:
                before(name, layer, args[0])

            def made(layer: nn.Module, args: Any, output: Tensor, name: str = name) -> Tensor | None:
                return None if after is None else after(name, layer, output)

            handles += [layer.register_forward_pre_hook(given), layer.register_forward_hook(made)]
        yield
    finally:
        for handle in handles:
            handle.remove()


def _refusal(name: str, layer: nn.Module, why: str) -> ConfigError:
    return ConfigError(f"model: {name or 'it'} ({type(layer).__name__}) cannot be cut to some of its units: {why}")
