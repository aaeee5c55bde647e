"""IFCA against the paper's loop, and its limit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from fedray import optim
from fedray.algorithms import IFCA, FedAvg
from fedray.config.sections import LocalSection
from fedray.core.rng import torch_generator
from fedray.local.stacking import Stack
from fedray.run.models import model_sha256
from fedray.run.snapshot import hash_of
from fedray.transforms import BF16
from tests.algorithms.classes import LR, ROUNDS, STEPS, Classes, assert_is_the_loop
from tests.helpers import Federation, class_problem, federation, personal, relative


def run_of(classes: Classes, algorithm: IFCA, folder: Path, stack: Stack) -> Federation:
    args = LocalSection(1, None, STEPS)
    run = federation(classes.problem, folder, algorithm, args=args, optimizer=optim.SGD(LR), rounds=ROUNDS, stack=stack)
    run.run()
    return run


def test_ifca_is_the_papers_loop(tmp_path: Path) -> None:
    classes = Classes()
    first = classes.initial()
    noise = torch.randn(3, len(first), generator=torch_generator(7, "init", round=1)).double()
    models = [first, *(first + noise * 0.5)]

    def loss(client: int, w: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(classes.outputs(w, classes.x[client])[0], classes.y[client])

    def best(client: int) -> int:
        return int(torch.stack([loss(client, w) for w in models]).argmin())

    met = []
    for _ in range(ROUNDS):
        chosen = [best(client) for client in range(4)]
        met.append(set(chosen))
        ends = [classes.descend(c, models[chosen[c]], partial(loss, c)) for c in range(4)]
        for cluster in met[-1]:
            those = [end for end, one in zip(ends, chosen, strict=True) if one == cluster]
            models[cluster] = torch.stack(those).mean(dim=0)
    assert any(len(those) > 1 for those in met)
    assert any(len(those) < 4 for those in met)  # a model that nobody takes stays
    own = [models[best(client)] for client in range(4)]
    algorithm = IFCA(clusters=4, spread=0.5)
    assert_is_the_loop(classes, algorithm, models[0], tmp_path, own)
    for stack in (4, "off"):
        run = run_of(classes, algorithm, tmp_path / f"again {stack}", stack)
        found = run.state.server.state["others"].view(3, -1).double()
        assert relative(found, torch.stack(models[1:])) <= 1e-5


@pytest.mark.parametrize("stack", [3, "off"])
def test_one_cluster_is_fedavg_with_a_plain_mean_bitwise(stack: Stack, tmp_path: Path) -> None:
    one, plain = (
        federation(class_problem(), tmp_path / algorithm.name, algorithm, args=LocalSection(2, 4), stack=stack)
        for algorithm in (IFCA(clusters=1), FedAvg(weight="uniform"))
    )
    one.run(), plain.run()
    assert torch.equal(one.vector, plain.vector)
    assert one.state.server.state == {}
    assert torch.equal(personal(one)[0], one.vector)


def test_clients_receive_each_model_once_and_a_hash_is_of_all_of_them(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, IFCA(clusters=3), checkpoint_every=1, rounds=1)
    (record,) = run.run()
    size = run.plan.layout.size
    assert record.bytes["down"] == 6 * 4 * 3 * size
    assert record.bytes["up"] == 6 * 4 * (size + 1)  # the update, and its cluster
    beside = run.plan.beside(run.state.server)
    assert record.model_sha256 == model_sha256(run.vector, beside)
    assert record.model_sha256 == hash_of(run.saves[-1])
    assert record.model_sha256 != model_sha256(run.vector)
    run.state.server.state["others"][-1] += 1.0
    assert record.model_sha256 != model_sha256(run.vector, run.plan.beside(run.state.server))


def test_the_first_model_goes_down_encoded_and_no_model_may_be_infinite(tmp_path: Path) -> None:
    halved = federation(class_problem(), tmp_path / "bf16", IFCA(clusters=2), transforms=[BF16("down")], rounds=1)
    size = halved.plan.layout.size
    assert halved.run()[0].bytes["down"] == 6 * (2 * size + 4 * size)
    server, state = halved.state.server, halved.state
    assert state.is_finite(halved.plan.layout, halved.plan.beside(server))
    server.state["others"][0] = float("inf")
    assert not state.is_finite(halved.plan.layout, halved.plan.beside(server))


def test_there_is_a_cluster() -> None:
    with pytest.raises(ValueError, match=r"^clusters=0: it must be above 0$"):
        IFCA(clusters=0)
