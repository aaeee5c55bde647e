"""The blocks of a cohort: a pure function of the cohort and the config, never of the number of workers."""

from __future__ import annotations

import numpy as np

from fedray.core.messages import Floats, Ints


def cut(cohort: Ints, steps: Ints, size: int, pins: Ints, *alike: Ints | Floats | None) -> list[Ints]:
    """Cut a cohort into blocks of at most ``size`` clients that are alike, the longest first.

    Clients with about as many local steps stand together, so that little of a stacked step is padding; blocks come out
    longest first, so that the last ones to be handed out are short.

    >>> [block.tolist() for block in cut(np.array([3, 5, 8, 9]), np.array([1, 4, 4, 2]), 2, np.zeros(4, dtype=int))]
    [[5, 8], [9, 3]]

    Args:
        cohort: client indices, increasing, ``[n]``.
        steps: local steps of each, ``[n]``.
        size: clients in a block, at least 1.
        pins: the place where each must be trained, ``[n]``.
        alike: further numbers of each, ``[n]``, of which a block has one, such as a learning rate; None: all have it.
    """
    kinds = np.stack([pins, *(numbers for numbers in alike if numbers is not None)])
    apart = pins if len(kinds) == 1 else np.unique(kinds, axis=1, return_inverse=True)[1].reshape(-1)
    order = np.lexsort((-steps, apart))
    ends = np.flatnonzero(np.diff(apart[order])) + 1
    pieces = [run[start : start + size] for run in np.split(order, ends) for start in range(0, len(run), size)]
    return [cohort[piece] for piece in sorted(pieces, key=lambda piece: -int(steps[piece[0]]))]
