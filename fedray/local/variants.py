"""Variants of a model: narrower modules that some clients train in the place of the whole one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedray.core.layout import Layout
from fedray.core.messages import STATISTICS, Broadcast, Ints, Parts
from fedray.core.rng import Stream
from fedray.data.columns.inputs import Inputs
from fedray.models.narrow import Kept, check_narrow, kept_units, narrow, places
from fedray.models.prototype import Prototype
from fedray.tasks import outputs_of


@dataclass(frozen=True)
class Variant:
    """A share of the units of every layer.

    >>> Variant(0.5).units(8, round=3).tolist(), Variant(0.5, rolls=True).units(8, round=6).tolist()
    ([0, 1, 2, 3], [0, 5, 6, 7])

    Args:
        rate: the share, in (0, 1]; ``ceil(rate n)`` of n units.
        rolls: the share begins one unit later in each round, and goes on at the first unit; False: it is the first.
    """

    rate: float
    rolls: bool = False

    def units(self, count: int, round: int) -> Tensor:
        """Return which of ``count`` units there are in a round, from 1 on: increasing, ``[k]``."""
        # The product of 0.1 and 30 is above 3.
        size = max(1, math.ceil(round_off(self.rate * count)))
        first = (round - 1) % count if self.rolls else 0
        return ((torch.arange(size) + first) % count).sort().values


def round_off(number: float) -> float:
    """Return a number without what is left of rounding, below one part in a thousand million."""
    return round(number, 9)


def drawn(choices: int, seed: int, keys: Ints) -> Ints:
    """Draw one of so many choices for each client ``[C]``, once for a run; each has the same chance."""
    clients = torch.from_numpy(np.asarray(keys, dtype=np.int64))
    uniform = Stream(seed, "variant", 0).uniform(clients, torch.zeros_like(clients), 1)[:, 0]
    found: Ints = (uniform * choices).to(torch.int64).numpy()
    return found


@dataclass(eq=False)
class Submodels:
    """The variants of a model, as modules, layouts, and places in the whole.

    >>> build = lambda: nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> models = Submodels((Variant(1.0), Variant(0.5)), build, Layout.of(build()), torch.zeros(1, 2))
    >>> [layout.size for layout in models.layouts]
    [17, 9]
    >>> models.places(1, round=1).tolist()
    [0, 1, 2, 3, 8, 9, 12, 13, 16]

    Args:
        variants: at least one.
        model_fn: builds the whole module.
        layout: of the whole module.
        x: inputs of a batch, ``[B, ...]``, to be sent through the whole module.
    """

    variants: tuple[Variant, ...]
    model_fn: Callable[[], nn.Module]
    layout: Layout
    x: Inputs = field(repr=False)
    _known: dict[int, tuple[object, Tensor]] = field(default_factory=dict, repr=False)
    _whole: nn.Module | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.variants)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_known": {}, "_whole": None}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the variants."""
        return tuple(str(variant.rate) for variant in self.variants)

    @cached_property
    def layouts(self) -> tuple[Layout, ...]:
        """The layout of each variant."""
        return tuple(self.layout.like(self.module(number)) for number in range(len(self)))

    def module(self, number: int) -> nn.Module:
        """Make the module of a variant, with the numbers that it has in the first round."""
        module = self.model_fn()
        return narrow(module, self._kept(module, number, 1))

    def prototype(self, number: int) -> Prototype:
        """Return what builds the module of a variant."""
        return Prototype(partial(self.module, number))

    def check(self) -> None:
        """Raise ConfigError where the whole module, or what is left of it, cannot be a variant."""
        whole = self.model_fn().eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs = outputs_of(whole, self.x).shape
        for number in range(len(self)):
            check_narrow(self.module(number), self.x, outputs)

    def places(self, number: int, round: int) -> Tensor:
        """Return the places in the whole vector of a variant's values in a round, int64 ``[P of the variant]``."""
        key = round if self.variants[number].rolls else None
        if number not in self._known or self._known[number][0] != key:
            # The same module for all rounds: building it may take minutes.
            whole = self.model_fn() if self._whole is None else self._whole
            self._whole = whole if key else None
            self._known[number] = key, places(self.layout, self._kept(whole, number, round))
        return self._known[number][1]

    def _kept(self, module: nn.Module, number: int, round: int) -> Kept:
        return kept_units(module, self.x, partial(self.variants[number].units, round=round))

    def places_of(self, name: str, number: int, round: int) -> Tensor:
        """Return the places in a part of an update of a variant's values of that part."""
        own, whole = self.layouts[number], self.layout
        if name == STATISTICS:
            span, start = slice(own.trained, own.size), whole.trained
        else:
            span, start = own.spans[name], int(whole.spans[name].start)
        return self.places(number, round)[span] - start

    def sent(self, number: int, whole: Mapping[str, int]) -> dict[str, int]:
        """Return the length of each part that clients of a variant send, of those that the whole model's do."""
        layout = self.layouts[number]
        widths = {name: span.stop - span.start for name, span in layout.spans.items()} | {STATISTICS: layout.buffers}
        return {name: widths[name] for name in whole}

    def received(self, number: int, down: Broadcast) -> Broadcast:
        """Return what clients of a variant receive of a broadcast to all."""
        parts: Parts = {}
        for name, part in down.parts.items():
            whole = name == "model"
            index = self.places(number, down.round) if whole else self.places_of(name, number, down.round)
            parts[name] = part[index.to(part.device)]
        return Broadcast(down.round, parts, down.weight)
