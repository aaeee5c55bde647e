"""Training alone, against a loop for each client."""

from __future__ import annotations

from pathlib import Path

from fedray.algorithms import LocalOnly
from fedray.config.sections import EvaluateSection
from tests.algorithms.classes import LR, ROUNDS, STEPS, Classes, assert_is_the_loop
from tests.helpers import class_problem, federation


def test_each_client_trains_alone(tmp_path: Path) -> None:
    classes = Classes()
    own = [classes.initial()] * 4
    for c in range(4):
        for _ in range(ROUNDS * STEPS):
            own[c] = own[c] - LR * classes.gradient(c, own[c])
    assert_is_the_loop(classes, LocalOnly(), classes.initial(), tmp_path, own)


def test_nothing_travels_and_the_server_has_no_model(tmp_path: Path) -> None:
    run = federation(class_problem(test=9, holdout=0.3), tmp_path, LocalOnly(), evaluate=EvaluateSection(1, 1))
    for record in run.run():
        assert (record.bytes["down"], record.bytes["up"]) == (0, 0)
        assert (record.test, record.clients_test) == ({}, {})
        assert record.clients_personal
