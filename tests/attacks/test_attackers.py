"""Who the Byzantine clients are, and that they alone send something else, wherever they act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from fedray.aggregators import CenteredClip, GeometricMedian, Krum, TrimmedMean
from fedray.algorithms import FedAvg, Scaffold
from fedray.attacks import Attack, GaussianAttack, SignFlip
from fedray.attacks.attackers import Attacked, Attackers
from fedray.config.registry import name_of
from fedray.core.errors import ConfigError
from fedray.core.now import Now
from fedray.data import FederatedData
from fedray.transforms import Clip
from tests.aggregators.test_mean import update
from tests.helpers import class_problem, federation


def data(names: Sequence[str]) -> FederatedData:
    return FederatedData.from_arrays(np.zeros((len(names), 1), "f4"), np.zeros(len(names), "f4"), np.array(names))


def named(clients: Any, count: int = 20, seed: int = 1) -> list[str]:
    whole = data([f"c{number:02d}" for number in range(count)])
    return [whole.client_id(i) for i in Attackers.of(SignFlip(clients), whole, seed).clients.tolist()]


def test_a_share_is_drawn_once_by_the_seed() -> None:
    assert len(named(0.2)) == 4
    assert named(0.2) == named(0.2)
    assert named(0.2) != named(0.2, seed=2)
    assert len(named(0.29, 100)) == 29
    assert len(named(1.0)) == 20
    assert named(0.0) == []
    assert set(named(0.2)) < set(named(0.4)), "a larger share adds to a smaller"


def test_ids_are_looked_up_and_a_wrong_one_is_told() -> None:
    assert named(["c07", "c03", "c07"]) == ["c03", "c07"]
    words = r"^attack\.clients: no client 'c3' \(did you mean 'c\d\d'\?\); there are 20, the first is 'c00'$"
    with pytest.raises(ConfigError, match=words):
        named(["c3"])


def test_a_share_of_nobody_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^attack\.clients: 0.1 of 3 clients is nobody; take a larger share$"):
        named(0.1, 3)


@dataclass(frozen=True)
class Known(Attack):
    """Sends the sum of what it knows, and a draw."""

    def forge(self, delta: Tensor, lying: Tensor, draws: Sequence[np.random.Generator]) -> Tensor:
        assert len(lying) == len(draws)
        sums = delta.sum(dim=0).expand(len(lying), -1).clone()
        sums[:, 0] = torch.tensor([generator.random() for generator in draws])
        return sums


@dataclass(frozen=True)
class KnownByAll(Known):
    """The same, of all updates."""

    gathers: ClassVar[bool] = True


def test_attackers_of_a_block_know_their_own_and_draw_by_their_names() -> None:
    whole = data(["a", "b", "c", "d"])
    attackers = Attackers.of(Known(["b", "d"]), whole, 3)
    block = update(torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 40.0]]), [1.0] * 3, [3, 0, 1])
    attackers.on_clients(block)
    rows = block.parts["delta"]
    assert rows[:, 1].tolist() == [50.0, 20.0, 50.0]
    assert rows[1, 0] == 2.0
    alone = update(torch.tensor([[3.0, 40.0]]), [1.0], [1])
    attackers.on_clients(alone)
    assert alone.parts["delta"][0, 0] == rows[2, 0] != rows[0, 0]
    honest = update(torch.ones(1, 2), [1.0], [2])
    attackers.on_clients(honest)
    assert torch.equal(honest.parts["delta"], torch.ones(1, 2))


def test_attackers_who_gather_wait_until_all_are_there() -> None:
    attackers = Attackers.of(KnownByAll(["b", "d"]), data(["a", "b", "c", "d"]), 3)
    rule = Attacked(TrimmedMean(0.0), attackers)
    total = rule.zero({"delta": 2}, "cpu")
    for client in (3, 1, 0):
        block = update(torch.tensor([[0.0, 10.0 * client]]), [1.0], [client])
        attackers.on_clients(block)
        assert block.parts["delta"][0, 1] == 10.0 * client
        rule.add(total, block, 3.0)
    parts = rule.finish(total, 3.0, 3.0, 3, Now(3, 1)).parts
    assert float(parts["delta"][1]) == pytest.approx((40 + 40 + 0) / 3)


def test_an_aggregator_that_is_attacked_is_still_itself() -> None:
    attackers = Attackers.of(KnownByAll(0.5), data(["a", "b"]), 1)
    for rule in (Krum(2), TrimmedMean(0.25), GeometricMedian(), CenteredClip(1.0)):
        beside = Attacked(rule, attackers)
        assert (name_of(beside), repr(beside)) == (name_of(rule), repr(rule))
        assert (beside.least, beside.weighted, beside.linear) == (rule.least, rule.weighted, rule.linear)
        assert beside.left_out(9) == rule.left_out(9)
        assert beside.initial_state({"delta": 3}, "cpu").keys() == rule.initial_state({"delta": 3}, "cpu").keys()


def test_an_attacker_clips_nothing_and_keeps_its_other_parts(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, FedAvg(), transforms=[Clip(0.01)], attack=SignFlip(1.0, scale=300.0))
    before = run.vector.clone()
    run.run(1)
    assert 1.0 < float((run.vector - before).norm()) <= 3.0001
    honest = federation(class_problem(), tmp_path / "a", Scaffold(), rounds=1)
    lying = federation(class_problem(), tmp_path / "b", Scaffold(), rounds=1, attack=GaussianAttack(1.0, std=1.0))
    honest.run()
    lying.run()
    controls = [one.state.server.state["control"] for one in (honest, lying)]
    assert torch.equal(*controls)
    assert not torch.equal(honest.vector, lying.vector)
