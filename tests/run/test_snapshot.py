"""The state of a run as a checkpoint, and back: the same bits, or a reason why not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fedray.aggregators import Aggregator, CenteredClip, Mean
from fedray.algorithms import FedAvg, FedAvgM, Scaffold
from fedray.algorithms.base import Algorithm
from fedray.config.registry import name_of
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.local.clients import Clients
from fedray.run.snapshot import layout_of, restore, snapshot
from tests.helpers import class_problem, federation


@pytest.mark.parametrize("aggregator", [Mean(), CenteredClip(0.05)], ids=name_of)
@pytest.mark.parametrize("algorithm", [FedAvg(), FedAvgM(), Scaffold()], ids=name_of)
def test_a_restored_state_goes_on_with_the_same_bits(
    algorithm: Algorithm, aggregator: Aggregator, tmp_path: Path
) -> None:
    whole = federation(class_problem(), tmp_path / "whole", algorithm, aggregator=aggregator, rounds=5)
    whole.run()
    half = federation(class_problem(), tmp_path / "half", algorithm, aggregator=aggregator, rounds=5)
    half.run(2)
    saved = snapshot(half.plan, half.state, {"by": "a test"})
    assert saved.state["by"] == "a test"
    other = federation(class_problem(), tmp_path / "half", algorithm, aggregator=aggregator, rounds=5)
    restore(other.plan, other.state, saved)
    assert other.state.round == 2
    other.run()
    assert torch.equal(other.vector, whole.vector)


def test_another_model_algorithm_or_number_of_rounds_is_refused(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path / "a", rounds=3)
    run.run()
    saved = snapshot(run.plan, run.state, {})
    wider = federation(class_problem(classes=4), tmp_path / "b")
    with pytest.raises(ConfigError, match=r"the checkpoint's model has .* values, the configured one"):
        restore(wider.plan, wider.state, saved)
    with pytest.raises(ConfigError, match="rounds=2: the run has done 3 rounds already"):
        restore(replace(run.plan, rounds=2), run.state, saved)
    momentum = federation(class_problem(), tmp_path / "c", FedAvgM())
    with pytest.raises(ConfigError, match="has kept nothing for the server"):
        restore(momentum.plan, momentum.state, saved)
    centred = federation(class_problem(), tmp_path / "d", aggregator=CenteredClip(1.0))
    words = r"has kept nothing for the aggregator, the config wants delta\[83\]\nresume with the algorithm, agg"
    with pytest.raises(ConfigError, match=words):
        restore(centred.plan, centred.state, saved)
    with pytest.raises(ConfigError, match=r"has kept delta\[83\] for the aggregator, the config wants nothing"):
        restore(run.plan, run.state, snapshot(centred.plan, centred.state, {}))


@dataclass(frozen=True)
class Counts(Algorithm):
    integers: bool = False

    def initial_state(self, c: Clients) -> dict[str, Tensor]:
        return {"rounds": torch.zeros(1, dtype=torch.int64 if self.integers else torch.float32)}

    def client(self, c: Clients) -> None:
        c.state["rounds"] += 1


def test_client_state_of_another_type_is_refused_and_that_of_before_was_float32(tmp_path: Path) -> None:
    runs = [federation(class_problem(), tmp_path / str(integers), Counts(integers)) for integers in (False, True)]
    saved = []
    for run in runs:
        run.run()
        saved.append(snapshot(run.plan, run.state, {}))
    assert [each.state["keeps"]["clients"] for each in saved] == [["rounds[1]"], ["rounds[1] int64"]]
    words = r"has kept rounds\[1\] for the clients, the config wants rounds\[1\] int64\n"
    with pytest.raises(ConfigError, match=words):
        restore(runs[1].plan, runs[1].state, saved[0])


def test_a_checkpoint_names_its_tensors_for_whoever_has_no_plan(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path)
    saved = snapshot(run.plan, run.state, {})
    assert isinstance(layout_of(saved), Layout)
    assert layout_of(saved).to_json() == run.plan.layout.to_json()
    with pytest.raises(ConfigError, match="of an earlier fedray"):
        layout_of(replace(saved, state={}))
