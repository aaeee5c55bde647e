"""How clients weigh: by examples, alike, or by the target positions that the loss counts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn
from torch.nn import functional

import fedray
from fedray.algorithms import FedAvg, Scaffold
from fedray.config.sections import LocalSection
from fedray.data import FederatedData
from fedray.local.stacking import Stack
from fedray.run.weights import check_weights, weights
from fedray.tasks import CausalLM, TokenClassification
from tests.helpers import Problem, class_problem, federation, linear_problem, local_task, seeded, train

PADDING, CLASSES, LENGTH = 0, 4, 5
SIZES = (4, 1, 3, 2)


class Tagger(nn.Module):
    """Logits ``[B, k, T]`` for each of T tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(9, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(self.embed(x)).transpose(1, 2)
        return logits


class Logits(Tagger):
    """Logits ``[B, T, k]``, of as many classes as there are tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(6, 9)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).transpose(1, 2)


ignoring: Any = partial(functional.cross_entropy, ignore_index=PADDING)


def columns() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Sequences of unequal length, those of the first client long, filled up with padding."""
    draw = np.random.default_rng(3)
    owner = np.repeat(np.arange(len(SIZES)), SIZES)
    x = draw.integers(1, 9, (len(owner), LENGTH))
    length = np.where(owner == 0, LENGTH, draw.integers(1, 3, len(owner)))
    y = np.where(np.arange(LENGTH) < length[:, None], x % (CLASSES - 1) + 1, PADDING)
    return x, y, owner


def tagging() -> Problem:
    x, y, owner = columns()
    return Problem(seeded(Tagger), ignoring, FederatedData.from_arrays(x, y, owner))


def lazily() -> Any:
    x, y, owner = columns()
    return FederatedData.from_function(lambda client: (x[owner == client], y[owner == client]), range(len(SIZES)))


def positions() -> list[int]:
    _, y, owner = columns()
    return [int((y[owner == client] != PADDING).sum()) for client in range(len(SIZES))]


@pytest.mark.parametrize("data", [tagging().data, lazily(), tagging().data.with_holdout(0.4, 3)])
def test_positions_are_counted_in_all_kinds_of_data(data: Any, tmp_path: Path) -> None:
    clients = np.array([2, 0])
    rows = [data.rows(np.array([c])).take(np.arange(data.sizes[c])[None])[1] for c in clients]
    assert data.positions(clients, PADDING).tolist() == [int((y != PADDING).sum()) for y in rows]
    if not data.holdout_sizes.any():
        assert data.positions(np.arange(4), PADDING).tolist() == positions()
    assert data.positions(clients, -100).tolist() == (data.sizes[clients] * LENGTH).tolist()
    assert data.positions(clients, PADDING, 1).tolist() == [int((y[:, :, 1:] != PADDING).sum()) for y in rows]
    assert data.share(tmp_path).positions(clients, PADDING).tolist() == data.positions(clients, PADDING).tolist()


@pytest.mark.parametrize("stack", [2, "off"])
def test_a_round_is_the_mean_by_positions(stack: Stack, tmp_path: Path) -> None:
    args = LocalSection(1, None)
    run = federation(tagging(), tmp_path / "all", FedAvg(weight="tokens"), args=args, rounds=1, stack=stack)
    start = run.vector.clone()
    assert run.run()[0].weight == sum(positions())
    alone = []
    for client in range(len(SIZES)):
        x, y, owner = columns()
        only = FederatedData.from_arrays(x[owner == client], y[owner == client], 0 * owner[owner == client])
        one = federation(Problem(seeded(Tagger), ignoring, only), tmp_path / str(client), args=args, rounds=1)
        one.run()
        alone.append((one.vector - start).double().numpy())
    mean = np.average(alone, axis=0, weights=positions())
    np.testing.assert_allclose((run.vector - start).numpy(), mean, rtol=1e-4, atol=1e-6)
    assert not np.allclose(np.average(alone, axis=0, weights=SIZES), mean, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("stack", [2, "off"])
@pytest.mark.parametrize("kind", [CausalLM, TokenClassification])
def test_weights_are_the_positions_that_the_loss_has_counted(kind: Any, stack: Stack) -> None:
    """Padding, and in the second half of the examples a prompt whose targets are masked."""
    x, y, owner = columns()
    y[len(y) // 2 :, :2] = PADDING
    data, about = FederatedData.from_arrays(x, y, owner), kind(ignore_index=PADDING)
    problem = Problem(seeded(Logits), about.loss_fn, data)
    task = local_task(problem, stack=stack, args=LocalSection(1, 2, accumulate=2), task=about)
    first = 1 if kind is CausalLM else 0
    wanted = [int((y[owner == client, first:] != PADDING).sum()) for client in range(len(SIZES))]
    found = train(task, [0, 2, 3, 1])
    assert found.seen.tolist() == [wanted[client] for client in (0, 2, 3, 1)]
    assert weights("tokens", task, np.arange(len(SIZES))).tolist() == wanted


def test_tokens_that_nothing_is_to_say_do_not_count(tmp_path: Path) -> None:
    words = fedray.Ragged.of([[1, 2, 3], [4], [1, 2], [3, 4, 1, 2]])
    data = FederatedData.from_arrays(words, None, [0, 0, 1, 1])
    counts = {True: [2.0, 4.0], False: [4.0, 6.0]}
    for shift, wanted in counts.items():
        about = CausalLM(shift=shift).of(data.spec)
        task = federation(class_problem((7, 3)), tmp_path / str(shift)).plan.task
        told = replace(task, data=data, loss_fn=about.loss_fn, task=about)
        assert weights("tokens", told, np.arange(2)).tolist() == wanted


def test_examples_and_clients(tmp_path: Path) -> None:
    run, cohort = federation(class_problem((7, 3, 12)), tmp_path), np.array([0, 2])
    assert weights("examples", run.plan.task, cohort).tolist() == [7.0, 12.0]
    assert weights("uniform", run.plan.task, cohort).tolist() == [1.0, 1.0]
    assert weights("own", run.plan.task, cohort).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("problem", "words"), [(class_problem(), "one target"), (linear_problem(), "numbers for")])
def test_targets_without_positions_are_refused(problem: Problem, words: str, tmp_path: Path) -> None:
    task = federation(problem, tmp_path).plan.task
    with pytest.raises(
        fedray.ConfigError, match=rf"^algorithm\.weight: tokens counts the positions.*has {words}.*exam"
    ):
        check_weights("tokens", task)
    check_weights("examples", task)


def trained(tmp_path: Path, y: Any, algorithm: Any) -> fedray.Result:
    x, _, owner = columns()
    model = fedray.FederatedModel(Tagger, fedray.optim.SGD(lr=0.1), loss_fn=ignoring)
    args = fedray.TrainArgs(rounds=1, tracking=[], evaluate_every=0)
    data = FederatedData.from_arrays(x, y, owner)
    return fedray.train(model, data, args, algorithm=algorithm, cluster="inline", run_dir=tmp_path / "run")


def test_it_is_one_key_for_all_algorithms(tmp_path: Path) -> None:
    _, y, _ = columns()
    assert trained(tmp_path, y, fedray.FedProx(weight="tokens")).history[0].weight == sum(positions())


def test_a_client_without_a_position_is_named_before_the_run(tmp_path: Path) -> None:
    _, y, owner = columns()
    y[owner == 1] = PADDING
    with pytest.raises(
        fedray.ConfigError, match=r"^algorithm\.weight: tokens: no target position of client '1' counts"
    ):
        trained(tmp_path, y, FedAvg(weight="tokens"))


def test_who_needs_clients_alike_says_so() -> None:
    with pytest.raises(fedray.ConfigError, match=r"^algorithm\.weight: scaffold needs every client to weigh the same"):
        fedray.train(
            fedray.FederatedModel(Tagger, fedray.optim.SGD(lr=0.1), loss_fn=ignoring),
            tagging().data,
            fedray.TrainArgs(rounds=1, tracking=[]),
            algorithm=Scaffold(weight="tokens"),
            cluster="inline",
        )
