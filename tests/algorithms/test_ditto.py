"""Ditto against the paper's loop."""

from __future__ import annotations

from pathlib import Path

from fedray.algorithms import Ditto
from tests.algorithms.classes import LR, ROUNDS, STEPS, Classes, assert_is_the_loop


def test_ditto_is_the_papers_loop(tmp_path: Path) -> None:
    classes, lam = Classes(), 0.7
    w = classes.initial()
    own = [w] * 4
    for _ in range(ROUNDS):
        ends = [w] * 4
        for c in range(4):
            for _ in range(STEPS):
                ends[c] = ends[c] - LR * classes.gradient(c, ends[c])
                own[c] = own[c] - LR * (classes.gradient(c, own[c]) + lam * (own[c] - w))
        w = classes.mean(ends)
    assert_is_the_loop(classes, Ditto(lam=lam), w, tmp_path, own)
