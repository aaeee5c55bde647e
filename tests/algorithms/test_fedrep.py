"""FedRep against the paper's loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.algorithms import FedRep
from fedray.config.sections import LocalSection
from tests.algorithms.classes import LR, ROUNDS, STEPS, Classes, assert_is_the_loop
from tests.algorithms.test_fedper import BODY, HEAD
from tests.helpers import class_problem, federation


@pytest.mark.parametrize("head_epochs", [None, 2])
def test_the_head_with_the_body_fixed_and_then_the_body(head_epochs: int | None, tmp_path: Path) -> None:
    classes = Classes()
    first = classes.initial()
    w, own = first.clone(), [first] * 4
    for _ in range(ROUNDS):
        for c in range(4):
            model = w.clone()
            model[HEAD] = own[c][HEAD]
            for part, steps in ((HEAD, STEPS if head_epochs is None else head_epochs), (BODY, STEPS)):
                for _ in range(steps):
                    model[part] = model[part] - LR * classes.gradient(c, model)[part]
            own[c] = model
        w = classes.mean(own)
    w[HEAD] = first[HEAD]
    for model in own:
        model[BODY] = w[BODY]
    assert_is_the_loop(classes, FedRep(head_epochs=head_epochs), w, tmp_path, own)


@pytest.mark.parametrize("stack", [3, "off"])
def test_without_a_head_at_home_it_is_fedavg_bitwise(stack: int | str, tmp_path: Path) -> None:
    class Everything(FedRep):
        def stays(self, entry: object) -> bool:
            return False

    from fedray.algorithms import FedAvg

    vectors = []
    for name, config in (("fedavg", FedAvg()), ("all", Everything())):
        run = federation(class_problem(), tmp_path / name, config, args=LocalSection(2, 4), stack=stack)  # type: ignore[arg-type]
        run.run()
        vectors.append(run.vector.clone())
    assert vectors[0].equal(vectors[1])
