"""Evaluations go on in smaller pieces where memory is short, and say the same within a run and after it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import fedray
from fedray.core.errors import ConfigError
from fedray.data.columns.rows import CPU, Examples
from fedray.experiment.build import Config
from fedray.experiment.evaluate import evaluate_model, evaluate_run
from fedray.experiment.given import GivenModel
from fedray.metrics import measured
from fedray.run.evaluation import Evaluator, TestChunk, rows_at_once, take_from
from fedray.rundir.folder import RunFolder
from fedray.tasks import Classification
from tests.helpers import Problem, class_problem


class Narrow(nn.Module):
    """Has room for so many rows at once, and remembers how many it was asked for."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.layer, self.room = nn.Linear(6, 3), room
        SEEN.clear()

    def forward(self, x: Tensor) -> Tensor:
        SEEN.append(len(x))
        if len(x) > self.room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        output: Tensor = self.layer(x)
        return output


SEEN: list[int] = []
MEASURES = measured(cross_entropy, Classification())


def examples(count: int) -> Examples:
    problem = class_problem((4,), test=count)
    assert problem.data.test is not None
    return problem.data.test


def test_a_host_without_room_for_a_piece_takes_half_of_it() -> None:
    test, module = examples(50), Narrow(10)
    found = evaluate_model(module, test, MEASURES, rows=30).numbers
    assert [rows for rows in SEEN if rows <= 10] == [7, 8, 7, 8, 10, 10]
    module.room = 50
    assert evaluate_model(module, test, MEASURES).numbers == pytest.approx(found)
    module.room = 0
    with pytest.raises(MemoryError):
        evaluate_model(module, test, MEASURES)


def test_loading_rows_without_room_is_halved_too() -> None:
    test = examples(9)

    def take(start: int, stop: int) -> tuple[Tensor, Tensor]:
        if stop - start > 2:
            raise MemoryError
        return test.slice(start, stop)

    module = nn.Linear(6, 3)
    evaluator = Evaluator(module, cross_entropy, MEASURES)
    with evaluator.named(1, 0):
        parts, whole = evaluator.values(take, 9), evaluator.values(take_from(test, CPU), 9)
    np.testing.assert_allclose(parts["loss"], whole["loss"], rtol=1e-6)


def test_a_piece_is_as_large_as_its_largest_tensor_allows() -> None:
    wide = nn.Sequential(nn.Linear(4, 1 << 20), nn.ReLU(), nn.Linear(1 << 20, 2))
    assert rows_at_once("auto", wide, torch.zeros(2, 4)) == 64
    assert rows_at_once(7, wide, torch.zeros(2, 4)) == 7
    # A view of many numbers takes no memory, and neither does the table of an embedding.
    table = nn.Embedding(1 << 22, 4)
    assert rows_at_once("auto", table, torch.zeros(2, 3, dtype=torch.int64)) == 1024


def test_pieces_cover_the_test_set_once() -> None:
    chunks = TestChunk.cut(10, 4)
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [(0, 4), (4, 8), (8, 10)]


def config_of(problem: Problem, args: fedray.TrainArgs) -> Config:
    parts = {"data": problem.data, "model": GivenModel(problem.model_fn)}
    content = {**args.layer(), "cluster": {"name": "inline"}, **parts}
    return Config.bind("test", {}, content)


class Drawing(nn.Module):
    """Adds noise of torch, numpy and ``random`` in evaluation mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        SEEN.append(len(x))
        noise = np.random.rand(len(x), 2).astype("f4")  # noqa: NPY002
        output: Tensor = self.layer(x) + torch.randn(len(x), 2) + torch.from_numpy(noise)
        return output + torch.tensor([random.random(), 0.0])


def test_a_run_that_is_over_is_evaluated_as_the_run_did(tmp_path: Path) -> None:
    problem = class_problem(classes=2, test=40, model_fn=Drawing)
    args = fedray.TrainArgs(rounds=2, batch_size=4, evaluate_batch_size=16)
    config, folder = config_of(problem, args), RunFolder(tmp_path / "run")
    records = list(config.experiment(folder).records())
    SEEN.clear()
    found = evaluate_run(config, folder, None).numbers
    assert {name: found[name] for name in records[-1].test} == records[-1].test
    assert SEEN[-3:] == [16, 16, 8]
    assert evaluate_run(config, folder, None).numbers == found


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = config_of(class_problem(test=3), fedray.TrainArgs())
    with pytest.raises(ConfigError, match=r"--device: this machine has no 'tpu'; it has cpu"):
        evaluate_run(config, RunFolder(tmp_path), None, "tpu")
