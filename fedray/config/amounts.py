"""An amount of local work: a number, or a draw of one for each client and round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any, Literal

from fedray.config.binding import bind
from fedray.config.bounds import check_at_least_1

MOST_STEPS = 10**9
"""More epochs, steps or rows of a batch than that are a slip of the pen; all arithmetic with them is exact in int64."""

MOST_ROUNDS = 10**7
"""More rounds than that are as well: learning rates and draws of all of them are looked at before the first."""


def check_rounds(rounds: int) -> None:
    """Raise ValueError unless a run can have so many rounds."""
    check_at_least_1(rounds=rounds)
    if rounds > MOST_ROUNDS:
        raise ValueError(f"rounds={rounds}: it must be at most {MOST_ROUNDS}")


@dataclass(frozen=True)
class Drawn:
    """A whole number that each client draws anew in each round, uniformly from ``low`` to ``high``, both included.

    >>> bind(Drawn, {"name": "uniform", "low": 1, "high": 5}, "local.steps")
    Drawn(low=1, high=5, clients=1.0, name='uniform')

    Args:
        low: the least, at least 0.
        high: the most.
        clients: the chance of each client, anew in each round, to be one of those who draw, from 0 to 1; the others do
            ``high``.  With 0.9 and ``low`` 1 they are the stragglers of FedProx (arXiv:1812.06127), who come to a part
            of the work; there nine of ten clients of a cohort are chosen exactly.
        name: of the distribution.
    """

    low: int
    high: int
    clients: float = 1.0
    name: Literal["uniform"] = "uniform"

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= MOST_STEPS:
            said = f"low={self.low}, high={self.high}"
            raise ValueError(f"{said}: they must be at least 0 and at most {MOST_STEPS}, and low at most high")
        if not 0.0 <= self.clients <= 1.0:
            raise ValueError(f"clients={self.clients}: the share of clients that draw must be from 0 to 1")


Amount = int | dict[str, Any]
"""A number, or the section of a config that says how it is drawn."""


def checked_amount(value: Any, name: str) -> Amount:
    """Return an amount as a config writes it.

    Raises:
        ValueError: it is neither a number of steps or epochs nor a draw of one.
    """
    if isinstance(value, Mapping):
        drawn = asdict(bind(Drawn, value, name))
        share = drawn.pop("clients")
        return {"name": drawn.pop("name"), **drawn, **({} if share == 1.0 else {"clients": share})}
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name}={value}: it must be a whole number, or drawn: {{name: uniform, low: 1, high: 5}}")
    number = int(value)
    if number < 0:
        raise ValueError(f"{name}={number}: it must be at least 0")
    if number > MOST_STEPS:
        raise ValueError(f"{name}={number}: it must be at most {MOST_STEPS}")
    return number


def bounds(amount: Amount) -> tuple[int, int]:
    """Return the least and the most that an amount can be.

    >>> bounds(3), bounds({"name": "uniform", "low": 1, "high": 5})
    ((3, 3), (1, 5))
    """
    return (amount["low"], amount["high"]) if isinstance(amount, dict) else (amount, amount)
