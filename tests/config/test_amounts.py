"""Amounts are numbers or draws, in a file and in Python; what is neither is refused by its key."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fedray
from fedray.config.amounts import MOST_STEPS, bounds, checked_amount
from fedray.config.binding import bind
from fedray.config.local import LocalSection
from fedray.core.errors import ConfigError

DRAWN = {"name": "uniform", "low": 1, "high": 5}


def test_an_amount_is_written_as_a_config_has_it() -> None:
    assert checked_amount({"low": 1, "high": 5}, "steps") == DRAWN
    assert checked_amount({"low": 1, "high": 5, "clients": 0.9}, "steps") == {**DRAWN, "clients": 0.9}
    assert checked_amount({"low": 1, "high": 5, "clients": 1}, "steps") == DRAWN
    assert type(checked_amount(np.int64(3), "steps")) is int
    assert bounds(checked_amount(MOST_STEPS, "steps")) == (MOST_STEPS, MOST_STEPS)


@pytest.mark.parametrize("option", ["epochs", "steps"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("many", r"{0}=many: it must be a whole number, or drawn: \{{name: uniform, low: 1, high: 5\}}"),
        (1.5, r"{0}=1\.5: it must be a whole number"),
        (True, "{0}=True: it must be a whole number"),
        (-1, "{0}=-1: it must be at least 0"),
        ({"low": 1}, r"{0}\.high: a value is needed"),
        ({"low": 3, "high": 2}, "{0}: low=3, high=2: .* low at most high"),
        ({"low": -1, "high": 2}, "{0}: low=-1"),
        ({"low": 1, "high": 2, "clients": 1.5}, "{0}: clients=1.5: the share of clients that draw .* from 0 to 1"),
        ({"low": 1, "high": 2, "clients": 2}, "{0}: clients=2.0: "),
        ({"low": 1, "high": 2, "name": "normal"}, r"{0}\.name: .*normal"),
        ({"low": 1, "hight": 2}, r"{0}\.hight: unknown key \(did you mean 'high'\?\)"),
    ],
)
def test_what_is_no_amount_is_named(option: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^local: {message.format(option)}"):
        bind(LocalSection, {option: value}, "local")
    with pytest.raises(ConfigError, match=f"^local: {message.format(option)}"):
        fedray.TrainArgs(**{option: value})
