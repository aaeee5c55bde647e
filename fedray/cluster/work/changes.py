"""A broadcast to a node that has the one before: what of the model has changed since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_MODEL = "model"

PLACES, VALUES = "model.places", "model.values"
"""The places of what has changed, int64 ``[n, 2]``: the first and the one behind the last; and the values there."""


def changed(parts: Mapping[str, Tensor], moved: Sequence[slice]) -> dict[str, Tensor]:
    """Return the parts of a broadcast with some places of its model in the place of all.

    >>> one = {"model": torch.tensor([1.0, 2.0, 3.0, 4.0]), "control": torch.ones(1)}
    >>> found = changed(one, [slice(1, 2), slice(3, 4)])
    >>> found["model.values"], sorted(found)
    (tensor([2., 4.]), ['control', 'model.places', 'model.values'])
    >>> before = torch.zeros(4)
    >>> with_changes(found, before)["model"]
    tensor([0., 2., 0., 4.])
    """
    others = {name: part for name, part in parts.items() if name != _MODEL}
    values = torch.cat([parts[_MODEL][place] for place in moved])
    return {**others, PLACES: torch.tensor([[place.start, place.stop] for place in moved]), VALUES: values}


def with_changes(parts: Mapping[str, Tensor], before: Tensor) -> dict[str, Tensor]:
    """Return the whole of such parts, its model in the memory of the one before; a whole broadcast stays as it is."""
    found = dict(parts)
    if PLACES not in found:
        return found
    places, values = found.pop(PLACES).tolist(), found.pop(VALUES)
    pieces = values.split_with_sizes([stop - start for start, stop in places])
    for (start, stop), piece in zip(places, pieces, strict=True):
        before[start:stop] = piece
    return {**found, _MODEL: before}
