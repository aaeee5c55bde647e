"""Cutting a cohort into blocks: a pure function of the cohort and the config, never of the number of workers."""

from __future__ import annotations

import numpy as np

from fedray.messages import Ints


def cut(cohort: Ints, steps: Ints, size: int) -> list[Ints]:
    """Blocks of at most ``size`` clients, the longest first.

    Clients with about as many local steps stand together, so that little of a stacked step is padding; blocks come out
    longest first, so that the last ones to be handed out are short.

    >>> [block.tolist() for block in cut(np.array([3, 5, 8, 9]), np.array([1, 4, 4, 2]), 2)]
    [[5, 8], [9, 3]]

    Args:
        cohort: client indices, increasing, ``[n]``.
        steps: local steps of each, ``[n]``.
        size: clients in a block, at least 1.
    """
    order = cohort[np.argsort(-steps, kind="stable")]
    return [order[start : start + size] for start in range(0, len(order), size)]
