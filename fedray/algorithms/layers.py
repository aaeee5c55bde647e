"""The layers of a model, and how they are shared out among fragments."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

from fedray.core.errors import ConfigError, counted
from fedray.core.layout import Layout

Pattern = Literal["strided", "sequential"]
"""``strided``: layer i is in fragment ``i mod P``; ``sequential``: fragments are runs of layers."""


def check_pattern(pattern: str) -> None:
    """Raise ValueError unless it is one."""
    if pattern not in get_args(Pattern):
        raise ValueError(f"pattern={pattern!r}: it must be {' or '.join(get_args(Pattern))}")


def layers_of(layout: Layout) -> list[list[str]]:
    """Return the names of the trained tensors that travel, layer by layer, in the order of the model.

    A layer is what has one number in the names of its tensors, as ``blocks.3``, or, without any, one module.

    >>> from torch import nn
    >>> model = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(2, 2)]), "head": nn.Linear(2, 1)})
    >>> layers_of(Layout.of(model))
    [['blocks.0.weight', 'blocks.0.bias'], ['head.weight', 'head.bias']]
    """
    found: dict[str, list[str]] = {}
    for entry in layout.parameters:
        if entry.region == "shared":
            words = entry.name.split(".")
            number = next((place for place, word in enumerate(words) if word.isdecimal()), len(words) - 2)
            found.setdefault(".".join(words[: number + 1]), []).append(entry.name)
    return list(found.values())


def shared_out(layout: Layout, fragments: int, pattern: Pattern) -> tuple[tuple[str, ...], ...]:
    """Return the names of the tensors in each of so many fragments, which share out the layers.

    Where there are fewer layers, each tensor is one.

    >>> from torch import nn
    >>> layout = Layout.of(nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(5))))
    >>> shared_out(layout, 2, "strided")
    (('0.weight', '2.weight', '4.weight'), ('1.weight', '3.weight'))
    >>> shared_out(layout, 2, "sequential")
    (('0.weight', '1.weight'), ('2.weight', '3.weight', '4.weight'))

    Raises:
        ConfigError: there are fewer tensors than fragments.
    """
    layers = layers_of(layout)
    if len(layers) < fragments:
        layers = [[name] for names in layers for name in names]
    if len(layers) < fragments:
        raise ConfigError(
            f"algorithm.fragments={fragments}: a fragment has a tensor at least, and of this model "
            f"{counted(len(layers), 'tensor')} travel: take fewer"
        )
    if pattern == "strided":
        chosen = [layers[first::fragments] for first in range(fragments)]
    else:
        ends = [number * len(layers) // fragments for number in range(fragments + 1)]
        chosen = [layers[start:stop] for start, stop in pairwise(ends)]
    return tuple(tuple(name for names in some for name in names) for some in chosen)
