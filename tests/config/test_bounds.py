"""Options at their bounds, within them and beyond, and no number at all."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from fedray.config.bounds import check_above_0, check_at_least_0, check_at_least_1, check_decays


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (check_above_0, [1e-300, math.inf], [0.0, -1.0, math.nan]),
        (check_at_least_0, [0.0, 3], [-1e-300, math.nan]),
        (check_at_least_1, [1, 9], [0, -1]),
        (check_decays, [0.0, 0.999], [1.0, -0.1, math.nan]),
    ],
)
def test_what_is_beyond_a_bound_is_named_with_it(
    check: Callable[..., None], good: list[float], bad: list[float]
) -> None:
    for value in good:
        check(option=value, other=good[0])
    for value in bad:
        with pytest.raises(ValueError, match=rf"^option={value}: it must be (above|at least) "):
            check(other=good[0], option=value)
