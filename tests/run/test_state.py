"""What is asked of the server's state."""

from __future__ import annotations

import math
from pathlib import Path

from fedray.core.record import RoundRecord
from fedray.run.state import COMPLETE
from tests.helpers import class_problem, federation


def test_a_round_lacks_its_evaluation_until_its_record_has_that_phase(tmp_path: Path) -> None:
    state = federation(class_problem(), tmp_path).state
    assert not state.to_evaluate
    state.pending = RoundRecord(1)
    assert state.to_evaluate
    state.pending.phases[COMPLETE] = 0.0
    assert not state.to_evaluate


def test_a_model_is_finite_if_its_trained_parameters_are(tmp_path: Path) -> None:
    one = federation(class_problem(), tmp_path)
    assert one.state.is_finite(one.plan.layout, {})
    one.state.vector[3] = math.inf
    assert not one.state.is_finite(one.plan.layout, {})
