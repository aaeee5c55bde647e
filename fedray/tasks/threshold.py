"""The threshold of a decision between two classes: the probability of the second one above which it is the answer."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

from fedray.core.errors import ConfigError

T = TypeVar("T")

MIDDLE = 0.5
"""The threshold of an answer that is the likelier class."""


def check_threshold(threshold: float) -> None:
    """Raise ValueError unless a threshold is a probability that some examples could be above, and some below."""
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"threshold={threshold}: a probability above 0 and below 1 is needed, such as 0.3")


def log_odds(threshold: float) -> float:
    """Return the logit above which a probability is above a threshold.

    >>> log_odds(0.5), round(log_odds(0.2), 4)
    (0.0, -1.3863)
    """
    return math.log(threshold / (1.0 - threshold))


def in_words(threshold: float, name: str) -> str:
    """Return what a threshold does, for the log; empty: the likelier class is the answer.

    >>> in_words(0.3, "malignant"), in_words(0.5, "malignant")
    ('; malignant is the answer above a probability of 0.3', '')
    """
    return "" if threshold == MIDDLE else f"; {name} is the answer above a probability of {threshold:g}"


def replaced(task: T, threshold: float) -> T:
    """Return a task with another threshold.

    Raises:
        ConfigError: it is no probability.
    """
    try:
        check_threshold(threshold)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    found = copy.copy(task)
    object.__setattr__(found, "threshold", float(threshold))
    return found
