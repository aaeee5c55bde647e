"""The rarer of two classes: what an answer that is always the other one gives, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from fedray.core.messages import Ints

RARE = 0.1
"""The share of examples below which one of two classes is rare."""


def rarely(counts: Ints, classes: Sequence[str], *, metrics: bool = False, weights: bool = False) -> str:
    """Return a warning where one of two classes is rare; empty: none is, or all that is advised is done.

    >>> import numpy as np
    >>> rarely(np.array([190, 10]), ["well", "ill"]).partition(":")[0]
    'class ill has 10 of 200 training examples'
    >>> rarely(np.array([180, 20]), ["well", "ill"])
    ''

    Args:
        counts: the training examples of each class, int64 ``[K]``.
        classes: their names.
        metrics: metrics of single classes are measured.
        weights: examples are weighted by their class.
    """
    total, fewest = int(counts.sum()), int(counts.min()) if counts.size == 2 else 0
    if not 0 < fewest < RARE * total or (metrics and weights):
        return ""
    rarer = int(counts.argmin())
    look = "" if metrics else "look at other numbers too, `metrics: [auroc, sensitivity, specificity]`"
    weigh = "" if weights else "have it count as it is rare, `local.class_weights: balanced`"
    other = classes[1 - rarer]
    return (
        f"class {classes[rarer]} has {fewest:,} of {total:,} training examples: to answer {other} always is "
        f"right in {1 - fewest / total:.1%}; {', and '.join(filter(None, (look, weigh)))}"
    )
