"""First layers that a fit does not move: what they make of each example is computed once, not in each step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from fedray.data.columns.rows import Rows
from fedray.local.batched import Forward
from fedray.local.batches import Batches
from fedray.local.step import Fit

LIMIT = 64 << 20
"""The most bytes of features of a block; a fit with more runs all layers in each step."""


def without_fixed(
    fit: Fit, forward: Forward, leaves: Mapping[str, Tensor], device: torch.device
) -> tuple[Batches, Forward] | None:
    """Return the batches of a fit as the first layer that moves is given them, and the layers from there on.

    The fit of a head over a body that stays, as FedRep's, so takes one forward of the body for all of its passes.

    Args:
        fit: a fit without hooks and noise, whose models are in the order of its clients.
        forward: the module's layers.
        leaves: the models' tensors ``[C, *shape]`` by name.
        device: of the models.

    Returns:
        None: the first layer with tensors moves, examples are used once, or the features would take too much memory.
    """
    orders, count = fit.orders, 0 if fit.moved is None else forward.fixed(fit.moved)
    if orders.augment.parts or not any(f"{name}.weight" in leaves for name in forward.names[:count]):
        return None
    sizes = orders.sizes if orders.places is None else orders.sizes[orders.places]
    longest = int(sizes.max())
    if longest * len(sizes) >= int(fit.schedule.count.sum()):
        return None
    rows = orders.opened if orders.places is None else orders.opened.of(orders.places)
    first, rest = forward.cut(count)
    every = np.broadcast_to(np.arange(longest), (len(sizes), longest))
    with torch.no_grad():
        some, _ = rows.take(every[:1, :1])
        width = first({name: leaf[:1] for name, leaf in leaves.items()}, some)[0, 0].numel()
        if 4 * width * every.size > LIMIT:
            return None
        x, y = rows.take(every)
        features = first(dict(leaves), x)
    starts = np.arange(len(sizes), dtype=np.int64) * longest
    known = Rows(features.flatten(0, 1), y.flatten(0, 1), starts, sizes, device)
    return Batches(known, fit.schedule, device), rest
