"""Traces of rounds: what is in them, that they change nothing, and that none is worth a run."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedray
from fedray.core.errors import ConfigError
from fedray.run.profiling import Profile, Tracer

X = np.random.default_rng(0).standard_normal((40, 4)).astype("f4")
Y = (X[:, 0] > 0).astype("i8")


def train(folder: Path, cluster: Any = "inline", rounds: int = 4, **options: Any) -> fedray.Result:
    data = fedray.FederatedData.from_arrays(X, Y, np.repeat(["a", "b", "c", "d"], 10))
    args = fedray.TrainArgs(rounds=rounds, tracking=[])
    model = fedray.FederatedModel("logistic")
    return fedray.train(model, data, args, cluster=cluster, run_dir=folder, progress=False, **options)


def names(path: Path) -> list[str]:
    """The names of the events of a trace."""
    with gzip.open(path) as file:
        return [event.get("name", "") for event in json.load(file)["traceEvents"]]


def test_the_rounds_asked_for_are_in_the_trace_and_their_bits_are_the_same(tmp_path: Path) -> None:
    plain, traced = train(tmp_path / "plain"), train(tmp_path / "traced", profile="2-3")
    assert [r.model_sha256 for r in traced.history] == [r.model_sha256 for r in plain.history]
    assert [path.name for path in (tmp_path / "traced" / "profile").iterdir()] == ["driver.json.gz"]
    found = names(tmp_path / "traced" / "profile" / "driver.json.gz")
    assert {"round 2", "round 3"} <= set(found)
    assert not {"round 1", "round 4"} & set(found)
    assert any(name.startswith("aten::") for name in found)
    assert "a trace of rounds 2 to 3 of the driver" in (tmp_path / "traced" / "log.txt").read_text()
    assert "profile: 2-3" in (tmp_path / "traced" / "config.yaml").read_text()
    assert not (tmp_path / "plain" / "profile").exists()


def test_the_last_round_is_traced_too(tmp_path: Path) -> None:
    train(tmp_path / "run", rounds=2, profile=2)
    assert "round 2" in names(tmp_path / "run" / "profile" / "driver.json.gz")


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("all", "run: profile=all: rounds are needed, such as 3-5, or 3"),
        ("3-9", "run.profile=3-9: the run has 4 rounds"),
    ],
)
def test_rounds_that_there_are_not_are_refused(profile: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        train(tmp_path / "run", profile=profile)
    assert not (tmp_path / "run").exists()


def test_a_worker_writes_its_trace_once_its_last_round_is_over(tmp_path: Path) -> None:
    """As its process may be ended at any time."""
    tracer = Tracer(Profile(tmp_path, 2, 3), "node1/0")
    for round in (1, 2, 2, 3):
        tracer.enter(round)
        torch.ones(2).sum()
        tracer.leave(round)
        assert list(tmp_path.iterdir()) == ([tmp_path / "node1-0.json.gz"] if round == 3 else [])
    assert names(tmp_path / "node1-0.json.gz").count("round 2") >= 1
    tracer.enter(4)
    tracer.close()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_trace_that_cannot_be_written_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    tracer = Tracer(Profile(tmp_path / "file" / "profile", 1, 1), "driver")
    tracer.enter(1)
    with caplog.at_level(logging.WARNING):
        tracer.close()
    assert "profile: there is no trace of driver: " in caplog.text
