"""Rounds of a run from Python, done again there with what it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fedray
from fedray.core.errors import ConfigError
from fedray.data import ClientData
from fedray.tracking.jsonl import read_records
from tests.helpers import class_problem
from tests.replay.conftest import print_of


def train(folder: Path, loss_fn: Any, **options: Any) -> tuple[Path, fedray.FederatedModel, ClientData]:
    """Train four rounds with a loss of one's own; returns the run folder, the model and the data."""
    problem = class_problem((7, 3, 12, 9), test=20)
    model = fedray.FederatedModel(problem.model_fn, loss_fn=loss_fn)
    place: dict[str, Any] = {"cluster": "inline", "run_dir": folder, "progress": False}
    args = fedray.TrainArgs(rounds=4, checkpoint_every=2, keep=2, **options)
    place |= {"sampler": fedray.Uniform(clients=4), "algorithm": fedray.Scaffold()}
    place["metrics"] = [lambda output, y: output[:, 0]]
    return fedray.train(model, problem.data, args, **place).run_dir, model, problem.data


def entropy(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(output, y)


def careless(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if len(y) == 7:
        raise ValueError("seven rows")
    return nn.functional.cross_entropy(output, y)


def test_the_model_of_a_run_is_evaluated_as_the_run_did_it(tmp_path: Path) -> None:
    run, model, data = train(tmp_path / "run", entropy, checkpoint_best="test.loss")
    records = {record["round"]: record["test"] for record in read_records(run / "metrics.jsonl")}
    best = min(records, key=lambda round: records[round]["loss"])
    for round, at in ((None, 4), (3, 3), ("best", best)):
        found = fedray.evaluate(run, model, data, round=round)  # type: ignore[arg-type]
        assert found.pop("examples") == 20
        assert found.items() <= records[at].items()
    assert set(fedray.evaluate(run, model, data, metrics=["accuracy"])) == {"examples", "loss", "accuracy"}
    other = class_problem((7, 3, 12, 9), test=5, seed=8).data
    assert fedray.evaluate(run, model, other)["examples"] == 5
    with pytest.raises(ConfigError, match=r"Python, which alone has its data, .*give them to fedray\.evaluate"):
        fedray.evaluate(run)
    with pytest.raises(ConfigError, match="no checkpoint of round 1; there are: "):
        fedray.evaluate(run, model, data, round=1)
    with pytest.raises(ConfigError, match=r"^round: the number of a round, .* or None is needed, got 'last'"):
        fedray.evaluate(run, model, data, round="last")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="this machine has no 'tpu'"):
        fedray.evaluate(run, model, data, device="tpu")


def test_the_model_of_a_run_whose_config_names_all_needs_nothing_else(tmp_path: Path) -> None:
    data = {"name": "synthetic", "clients": 3, "examples": 4, "features": 2, "classes": 2, "test": 8}
    options: dict[str, Any] = {"cluster": "inline", "run_dir": tmp_path / "run", "progress": False}
    result = fedray.train(fedray.FederatedModel("logistic"), data, fedray.TrainArgs(rounds=2), **options)
    test = result.history[-1].test
    found = fedray.evaluate(result.run_dir)
    assert {name: found[name] for name in test} == test


@pytest.mark.parametrize("name", ["run #3.csv", "te: st.csv", "[1].csv", "2024", "größe 😀.csv"])
def test_the_path_of_a_test_set_is_a_path_whatever_yaml_would_read_in_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "a,y\n0.5,p\n-0.5,n\n1.5,p\n"
    for file in ("one.csv", "two.csv", name):
        Path(file).write_text(rows)
    data = {"name": "csv", "train": ["one.csv", "two.csv"], "target": "y"}
    options: dict[str, Any] = {"cluster": "inline", "run_dir": tmp_path / "run", "progress": False}
    fedray.train(fedray.FederatedModel("logistic"), data, fedray.TrainArgs(rounds=1), **options)
    assert fedray.evaluate(tmp_path / "run", data=name)["examples"] == 3


def test_a_run_is_verified_and_looked_into_with_what_it_was_given(tmp_path: Path) -> None:
    run, model, data = train(tmp_path / "run", entropy)
    before = print_of(run)
    found = fedray.verify(run, model, data, rounds=2)
    assert (found.word, found.checkpoints, found.doubts) == ("equal", {2: None, 4: None}, [])
    assert [check.round for check in found.checks] == [1, 3]
    assert fedray.verify(run, model, data, algorithm="scaffold", rounds=1).word == "equal"
    seen = fedray.debug(run, model, data, round=3, client=2)
    assert (seen.word, seen.round, seen.trouble) == ("equal", 3, None)
    assert all(step.gradient > 0 for step in seen.steps)
    assert str(seen).startswith("round   3: the same bits as recorded, ")
    other = fedray.verify(run, model, class_problem((7, 3, 12, 9), seed=8).data, rounds=1)
    assert other.word == "different"
    assert "the training data are others" in other.reasons
    lacking = r"Python, which alone has its data, local\.loss, model: give them to fedray\."
    with pytest.raises(ConfigError, match=lacking + "verify"):
        fedray.verify(run)
    with pytest.raises(ConfigError, match="alone has its data: give"):
        fedray.verify(run, model)
    with pytest.raises(ConfigError, match=lacking + "debug"):
        fedray.debug(run)
    with pytest.raises(ConfigError, match="not what the run was given: algorithm"):
        fedray.debug(run, model, data, round=1, client="0", algorithm=fedray.FedAvg())
    with pytest.raises(ConfigError, match="rounds: a number from 1 on is needed"):
        fedray.verify(run, model, data, rounds=0)
    with pytest.raises(ConfigError, match="round: a number from 1 on is needed"):
        fedray.debug(run, model, data, round="1")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="metrics: no part that rounds depend on"):
        fedray.verify(run, model, data, metrics=["f1"])
    assert print_of(run) == before


def test_the_first_client_that_fails_is_found_with_its_line(tmp_path: Path) -> None:
    run, model, data = train(tmp_path / "run", careless, on_failure="drop", min_share=0.0, stack="off")
    seen = fedray.debug(run, model, data)
    assert (seen.client, seen.word, seen.failure == seen.recorded) == ("0", "equal", True)
    assert seen.trouble is not None
    assert seen.trouble.words == "ValueError: seven rows"
    assert 'raise ValueError("seven rows")' in str(seen)
