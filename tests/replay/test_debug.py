"""A client looked at: found by its failure, equal to its block, and named where it goes wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.replay.debug import chosen, debug
from fedray.replay.looked import Looked
from fedray.replay.recorded import Recorded
from fedray.replay.rounds import Replay
from tests.replay.conftest import Train, print_of

# Client 6 has one row, the fifth, of which no logarithm can be taken; it is told of as such a row would be.
OWN = """
from dataclasses import dataclass
import numpy as np
import torch
from torch import nn
from fedray import FederatedData
from fedray.parts import Source


@dataclass(frozen=True, kw_only=True)
class Rows(Source):
    def read(self, seed):
        x = np.random.default_rng(5).uniform(1.0, 2.0, size=(80, 4)).astype(np.float32)
        x[64, 2] = {value}
        return FederatedData.from_arrays(x, np.arange(80) % 2, np.arange(80) // 10)


class Log(nn.Module):
    def forward(self, x):
        return torch.log(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.log, self.head = Log(), nn.Linear(4, 2)

    def forward(self, x):
        {line}
        return self.head(self.log(x))


def root(output, target):
    return torch.sqrt(1e3 - output).sum(dim=1).mean()


def shared(output, target):
    if len(output) == 1:
        raise ValueError("one example is no batch")
    return output.mean()
"""
# Raises until there is a file: as code does that does not give the same each time.
ONCE = (
    "if self.training and len(x) > 1 and (x[:, 2] == 1.5).any() and not __import__('os').path.exists('mended'): "
    "raise ValueError('my row')"
)
CONFIG = [
    "data=mine:Rows",
    "model=mine:Net",
    "sampler={name: uniform, clients: 2}",
    "rounds=14",
    "evaluate.every=0",
    "failures={min_share: 0, on_failure: drop}",
]


@pytest.fixture
def own(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train a model and data of one's own, of which a row is bad."""
    monkeypatch.syspath_prepend(tmp_path)

    def run(*changes: str, value: str = "-1.0", line: str = "pass", **more: bool) -> Path:
        (tmp_path / "mine.py").write_text(OWN.format(value=value, line=line))
        monkeypatch.delitem(sys.modules, "mine", raising=False)
        return train(*CONFIG, *changes, **more)

    return run


def looked(run: Path, round: int | None = None, client: str | None = None) -> Looked:
    recorded = Recorded.read(run)
    return debug(recorded, *chosen(recorded, round, client))


def first_round(run: Path, client: int) -> int:
    replay = Replay(Recorded.read(run))
    return next(round for round in range(1, 15) if client in replay.plan(round).cohort(round))


@pytest.mark.parametrize("stack", ["auto", "off"])
def test_a_client_that_gives_nan_is_found_with_its_layer(stack: str, own: Train) -> None:
    run = own(f"local.stack={stack}")
    before = print_of(run)
    found = looked(run)
    assert found.round == first_round(run, 6) > 1
    assert (found.client, found.word) == ("6", "equal")
    assert found.failure is not None
    assert found.failure == found.recorded
    assert found.trouble is not None
    words = "the loss is nan, and log (Log) is the first layer whose output is not finite: training example 4, whose in"
    assert found.trouble.words.startswith(words)
    (step,) = [one for one in found.steps if (one.fit, one.step) == (found.trouble.fit, found.trouble.step)]
    assert 4 in step.examples
    assert print_of(run) == before
    json.dumps(found.to_json(), allow_nan=False)


def test_an_example_is_named_by_its_row_among_all_rows_as_well(own: Train) -> None:
    found = looked(own("data={name: 'mine:Rows', holdout: 0.3}"))
    assert (found.client, found.rows, found.training) == ("6", 10, 7)
    assert found.trouble is not None
    assert (found.trouble.row, found.trouble.example) != (4, 4)
    assert f": training example {found.trouble.example} (row 4 of the client's 10), whose" in found.trouble.words
    rows = {pair for step in found.steps for pair in zip(step.examples, step.rows, strict=True)}
    assert (found.trouble.example, found.trouble.row) in rows
    assert found.trouble.row == 4
    told = found.to_json()
    assert (told["trouble"]["row"], len(told["steps"][0]["rows"])) == (4, len(told["steps"][0]["examples"]))


def test_an_example_whose_loss_alone_is_no_number_is_named(own: Train) -> None:
    # What the model gives is finite; only the loss takes a root of less than 0.
    found = looked(own("model=logistic", "local.loss=mine:root", value="1e6"))
    assert found.client == "6"
    assert found.trouble is not None
    assert found.trouble.words.startswith(
        "the loss is nan, as it is of one example by itself: training example 4, whose inputs go from 1."
    ), found.trouble.words
    assert "to 1e+06; the model gives " in found.trouble.words


@pytest.mark.parametrize("privacy", [False, True])
def test_a_failure_that_does_not_recur_is_told_as_it_was_recorded(privacy: bool, own: Train) -> None:
    noised = ("privacy={noise_multiplier: 0.5, noise: seeded}", "sampler=full") if privacy else ()
    run = own("failures.on_failure=abort", *noised, value="1.5", line=ONCE)
    Path("mended").touch()
    recorded = Recorded.read(run)
    assert ("failures" in recorded.summary) != privacy
    for round in (None, recorded.last + 1):
        found = looked(run, round)
        assert (found.round, found.client, found.recorded) == (recorded.last + 1, "6", ("train", "ValueError: my row"))
        assert (found.recurs, found.failure, found.trouble, found.ended) == (False, None, None, None)
        assert found.error == recorded.summary["error"]
    words = " ".join(str(found).split())
    assert f"round {found.round}: the run failed in it; done again it does not" in words
    assert "it gave no update (train): ValueError: my row" in words
    assert "done again it gives one: does the data function give the same rows at each call" in words
    assert found.to_json()["recurs"] is False


def test_a_client_that_was_left_out_and_now_is_not_is_told(own: Train) -> None:
    run = own(value="1.5", line=ONCE)
    assert looked(run).recurs is True
    Path("mended").touch()
    found = looked(run)
    assert (found.client, found.word, found.recurs) == ("6", "different", False)
    assert found.recorded is not None
    plan = Replay(Recorded.read(run)).plan(found.round)
    other = next(plan.task.data.client_id(one) for one in plan.cohort(found.round).tolist() if one != 6)
    assert looked(run, found.round, other).recurs is None


def test_a_client_whose_code_raises_is_found_with_its_line(own: Train) -> None:
    run = own(
        value="1.5", line="if self.training and len(x) > 1 and (x[:, 2] == 1.5).any(): raise ValueError('my row')"
    )
    found = looked(run)
    assert (found.client, found.gap) == ("6", None)
    assert found.trouble is not None
    assert found.trouble.words == "ValueError: my row"
    assert "mine.py" in found.trace


def test_parameters_that_go_too_far_are_named(own: Train) -> None:
    found = looked(own("model=logistic", value="-1e30"))
    assert (found.client, found.failure[0] if found.failure else None) == ("6", "update")
    assert found.trouble is not None
    assert "has gone to" in found.trouble.words
    (step,) = [one for one in found.steps if one.step == found.trouble.step]
    assert 4 in step.examples
    assert len(step.examples) > 1
    assert "; the loss of one example alone is " in found.trouble.words
    assert ", more than 10 times any other: training example 4, whose inputs go from -1e+30 to " in found.trouble.words
    assert (found.trouble.example, found.trouble.row) == (4, 4)


def test_an_example_whose_inputs_are_by_far_the_largest_is_named_where_no_loss_stands_out(own: Train) -> None:
    # The loss is one number for the batch, whoever is in it.
    found = looked(own("model=logistic", "local.loss=mine:shared", value="-1e30"))
    assert found.trouble is not None
    assert "; inputs of one example are up to 1e+30, more than 10 times any other: " in found.trouble.words, (
        found.trouble.words
    )
    assert ": training example 4, whose inputs go from -1e+30 to " in found.trouble.words


def test_nobody_is_named_where_all_examples_of_a_batch_are_alike(own: Train) -> None:
    found = looked(own("model=logistic", "local.optimizer.lr=1e30", value="1.5"))
    assert found.trouble is not None
    assert "has gone to" in found.trouble.words
    assert "training example" not in found.trouble.words
    assert found.trouble.example is None


def test_the_only_example_of_a_batch_is_named(own: Train) -> None:
    found = looked(own("model=logistic", "local.batch_size=1", value="-1e30"))
    assert found.trouble is not None
    assert "more than an update may hold, in a batch of one example: training example 4, whose" in found.trouble.words


def test_a_run_that_failed_is_looked_at_in_the_round_that_it_has_not_recorded(own: Train) -> None:
    run = own("failures.on_nonfinite=abort")
    recorded = Recorded.read(run)
    assert recorded.summary["status"] == "failed"
    found = looked(run)
    assert (found.round, found.client) == (recorded.last + 1, "6")
    assert (found.word, found.now) == ("unrecorded", None)
    assert found.ended is not None
    assert "client '6' failed" in found.ended


@pytest.mark.parametrize(
    "algorithm",
    [
        "fedavg",
        "scaffold",
        "ditto",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("mime", "moon", "fedsam")),
    ],
)
@pytest.mark.one_in(3)
def test_a_client_alone_is_near_its_block(algorithm: str, train: Train) -> None:
    run = train(f"algorithm={algorithm}", "model.activation=relu", "local.epochs=2")
    plan = Replay(Recorded.read(run)).plan(5)
    client = plan.task.data.client_id(int(plan.cohort(5)[1]))
    found = looked(run, 5, client)
    assert (found.word, found.trouble, found.trace) == ("equal", None, "")
    assert found.gap is not None
    assert found.share is not None
    assert found.gap > 0 or found.share == 0
    assert found.share < 1e-5
    assert len(found.block) > 1
    assert [one.step for one in found.steps if one.fit == 1] == list(range(1, 7))  # 12 rows by 5, twice
    assert all(one.gradient > 0 and one.change > 0 for one in found.steps if one.fit == 1)
    for epoch in (found.steps[:3], found.steps[3:6]):
        assert sorted(example for one in epoch for example in one.examples) == list(range(12))


def test_a_client_that_steps_alone_has_the_bits_of_its_block(train: Train) -> None:
    run = train("local.stack=off")
    plan = Replay(Recorded.read(run)).plan(3)
    found = looked(run, 3, plan.task.data.client_id(int(plan.cohort(3)[0])))
    assert (found.gap, found.share, found.word) == (0.0, 0.0, "equal")


def test_what_cannot_be_looked_at_is_said(train: Train) -> None:
    run = train()
    recorded = Recorded.read(run)
    plan = Replay(recorded).plan(2)
    absent = next(one for one in range(8) if one not in plan.cohort(2))
    for round, client, words in [
        (None, None, "no client has failed in it; say which round to look at, such as round 6$"),
        (None, "3", "client '3' has not failed"),
        (9, None, "recorded rounds 1 to 6"),
        (2, "x", "no client 'x'"),
        (2, str(absent), "is not in the cohort of round 2; it is in those of"),
        (2, None, "nobody fails in round 2; name one of its clients: "),
    ]:
        with pytest.raises(ConfigError, match=words):
            debug(recorded, *chosen(recorded, round, client), progress=lambda: pytest.fail("a round is done"))
