"""The space of a search, ranges and lists of values, and the draws from it, each named by its trial and its key."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fedray.core.errors import ConfigError
from fedray.core.rng import numpy_generator
from fedray.sweep.grid import SEED, split_values

RANGES = ("uniform", "log_uniform", "integers", "log_integers")
"""The names of ranges; of integers both ends belong to it."""


@dataclass(frozen=True)
class Range:
    """A range of numbers, ``{log_uniform: [1e-4, 1]}``.

    >>> Range("log_uniform", 1e-4, 1.0).at(0.5)
    '0.01'
    >>> [Range("integers", 1, 3).at(place) for place in (0.0, 0.5, 0.999)]
    ['1', '2', '3']

    Args:
        kind: one of ``RANGES``.
        low: the least value; above 0 for those by logarithm.
        high: the largest.
    """

    kind: str
    low: float
    high: float

    @property
    def log(self) -> bool:
        """True where factors are equally likely, rather than differences."""
        return self.kind.startswith("log_")

    @property
    def whole(self) -> bool:
        """True for integers."""
        return self.kind.endswith("integers")

    def at(self, place: float) -> str:
        """Return the value at a place in [0, 1), as YAML text of six digits."""
        edge = 0.5 if self.whole else 0.0
        low, high = self.low - edge, self.high + edge
        value = low * (high / low) ** place if self.log else low + (high - low) * place
        return self.text(value)

    def text(self, value: float) -> str:
        """Return a value as YAML text, within the range."""
        if self.whole:
            return str(int(min(max(round(value), self.low), self.high)))
        return repr(min(max(float(f"{value:.6g}"), self.low), self.high))


@dataclass(frozen=True)
class Choice:
    """A list of values of any kind, as YAML text.

    >>> Choice(("fedavg", "fedprox")).at(0.7)
    'fedprox'
    """

    values: tuple[str, ...]

    def at(self, place: float) -> str:
        """Return the value at a place in [0, 1)."""
        return self.values[int(place * len(self.values))]


def ranged(key: str, values: Sequence[str]) -> Range | None:
    """Return the range that the value of an axis is; None where it is a list of values.

    Raises:
        ConfigError: a range without two numbers, or beside other values.
    """
    found = [one for one in map(_mapping, values) if len(one) == 1 and next(iter(one)) in RANGES]
    if not found:
        return None
    ((kind, ends),) = found[0].items()
    such_as = f"{key}={{{kind}: {'[1, 8]' if kind.endswith('integers') else '[1e-4, 1]'}}}"
    if len(values) > 1:
        raise ConfigError(f"{key}: a range stands alone, as in '{such_as}'")
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        raise ConfigError(f"{key}: {kind}={ends}: it must be two numbers, as in '{such_as}'") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{key}: {kind}={ends}: the first number must be below the second")
    if kind.startswith("log_") and low <= 0:
        raise ConfigError(f"{key}: {kind}={ends}: both numbers must be above 0, as a logarithm is taken of them")
    if kind.endswith("integers") and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"{key}: {kind}={ends}: both must be whole numbers")
    return Range(kind, low, high)


def _mapping(text: str) -> Mapping[str, Any]:
    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return read if isinstance(read, Mapping) else {}


def space_of(axes: Mapping[str, str]) -> dict[str, Range | Choice]:
    """Return what each key but ``seed`` is drawn from.

    Raises:
        ConfigError: a mistake in a range or a list.
    """
    if ranged(SEED, split_values(axes.get(SEED, "0"), SEED)):
        raise ConfigError("seed: a list is needed: every setting is run with each of these seeds")
    lists = {key: split_values(text, key) for key, text in axes.items() if key != SEED}
    return {key: ranged(key, values) or Choice(tuple(values)) for key, values in lists.items()}


def draw(space: Mapping[str, Range | Choice], trial: int, seed: int) -> dict[str, str]:
    """Draw a value for each key: a pure function of the search's seed, the trial and the key, of nothing else.

    >>> draw({"local.optimizer.lr": Range("log_uniform", 1e-4, 1.0)}, trial=3, seed=0)
    {'local.optimizer.lr': '0.000829819'}
    """

    def place(key: str) -> float:
        named = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "little")
        return float(numpy_generator(seed, "sweep", trial, named).random())

    return {key: one.at(place(key)) for key, one in space.items()}
