"""FedBABU against the paper's loop."""

from __future__ import annotations

from pathlib import Path

from fedray.algorithms import FedBABU
from tests.algorithms.classes import LR, ROUNDS, STEPS, Classes, assert_is_the_loop
from tests.algorithms.test_fedper import BODY


def test_the_body_is_trained_and_averaged_and_the_head_stays_as_it_was_first(tmp_path: Path) -> None:
    classes = Classes()
    w = classes.initial()
    for _ in range(ROUNDS):
        ends = []
        for c in range(4):
            model = w.clone()
            for _ in range(STEPS):
                model[BODY] = model[BODY] - LR * classes.gradient(c, model)[BODY]
            ends.append(model)
        w = classes.mean(ends)
    assert_is_the_loop(classes, FedBABU(), w, tmp_path, [w] * 4)
