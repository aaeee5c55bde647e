"""APFL against the paper's loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.algorithms import APFL
from tests.algorithms.classes import LR, ROUNDS, STEPS, Classes, assert_is_the_loop


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.one_in(2)
def test_apfl_is_the_papers_loop(adaptive: bool, tmp_path: Path) -> None:
    classes = Classes()
    x = classes.initial()
    own, share = [x] * 4, [0.3] * 4
    for _ in range(ROUNDS):
        ends = []
        for c in range(4):
            w = x
            for _ in range(STEPS):
                v, a = own[c], share[c]
                slope = classes.gradient(c, a * v + (1 - a) * w)
                own[c] = v - LR * a * slope
                if adaptive:
                    share[c] = min(1.0, max(0.0, a - LR * float((v - w) @ slope)))
                w = w - LR * classes.gradient(c, w)
            ends.append(w)
        x = classes.mean(ends)
    assert (len(set(share)) > 1) == adaptive
    mixed = [a * v + (1 - a) * x for v, a in zip(own, share, strict=True)]
    assert_is_the_loop(classes, APFL(alpha=0.3, adaptive=adaptive), x, tmp_path, mixed)


def test_a_share_is_one() -> None:
    with pytest.raises(ValueError, match=r"^alpha=1.5: it must be at least 0 and at most 1$"):
        APFL(alpha=1.5)
