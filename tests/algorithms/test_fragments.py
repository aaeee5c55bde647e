"""Fragments of a model in runs of any algorithm: what travels, what stands beside it, and what cannot."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedray.aggregators import CenteredClip, Mean, Median
from fedray.aggregators.base import Aggregator
from fedray.algorithms import FedAvg, HeteroFL
from fedray.algorithms.base import Algorithm
from fedray.algorithms.composition import compose
from fedray.algorithms.fragments import check_fragments
from fedray.algorithms.layers import shared_out
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.local.stacking import Stack
from fedray.privacy import Privacy
from fedray.privacy.central import Central
from fedray.sampling import Uniform
from fedray.server import Adam, Lamb, Momentum, Server, ServerOptimizer
from fedray.transforms import BF16, Clip, Int4, Int8, SecureSum, TopK, Transform
from tests.helpers import class_problem, federation, remembered

ARGS = LocalSection(2, 4)


@dataclass(frozen=True)
class InTurn(Algorithm):
    """FedAvg of one fragment in each round: clients begin with the global model."""

    count: int = 2

    def split(self, layout: Layout) -> Sequence[Collection[str]]:
        return shared_out(layout, self.count, "strided")


@dataclass(frozen=True)
class Whole(InTurn):
    """The same, of one fragment that is all of the model."""

    def split(self, layout: Layout) -> Sequence[Collection[str]]:
        return [[entry.name for entry in layout.parameters]]


def moved(run: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Run one round more and return what has moved of the model, and by how much."""
    before = run.vector.clone()
    run.plan = replace(run.plan, rounds=run.state.round + 1)
    run.run()
    return run.vector != before, run.vector - before


@pytest.mark.parametrize("stack", [3, "off"])
def test_one_fragment_of_all_is_the_algorithm_without_bitwise(stack: Stack, tmp_path: Path) -> None:
    options: dict[str, Any] = {"args": ARGS, "stack": stack}
    plain = federation(class_problem(), tmp_path / "plain", FedAvg(), server=Momentum(), **options)
    whole = federation(class_problem(), tmp_path / "whole", Whole(weight="examples"), server=Momentum(), **options)
    plain.run()
    whole.run()
    assert torch.equal(plain.vector, whole.vector)


def test_a_fragment_moves_as_it_does_in_a_round_of_all_and_nothing_else_does(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path / "run", InTurn(), args=ARGS, rounds=0)
    for round in (1, 2, 3):
        whole = federation(class_problem(), tmp_path / str(round), FedAvg(weight="examples"), args=ARGS, rounds=0)
        whole.vector.copy_(run.vector)
        whole.state.round = run.state.round
        where, change = moved(run)
        _, expected = moved(whole)
        assert run.plan.task.fragments is not None
        inside = torch.zeros_like(where)
        for place in run.plan.task.fragments.at(round).columns.places:
            inside[place] = True
        assert not where[~inside].any()
        assert where[inside].any()
        # The sum of another number of columns is rounded otherwise.
        assert torch.allclose(change[inside], expected[inside], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", [Momentum(nesterov=True), Adam(lr=0.1), Lamb(lr=0.1)])
def test_each_fragment_has_a_server_optimizer_of_its_own(optimizer: ServerOptimizer, tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, InTurn(), args=ARGS)
    fragments, layout = run.plan.task.fragments, run.plan.layout
    assert fragments is not None
    together = Server(run.vector.clone(), layout, 4, optimizer=optimizer, fragments=fragments)
    alone = [
        Server(part.columns.of(run.vector).clone(), part.layout, 4, optimizer=optimizer) for part in fragments.members
    ]
    for round in range(1, 6):
        delta, one = torch.sin(round + torch.arange(float(fragments.width))), alone[fragments.choose(round)]
        for server in (together, one):
            server.enter(round)
            server.move(delta[: len(server.vector) if server is one else None])
    for part, one in zip(fragments.members, alone, strict=True):
        assert torch.equal(part.columns.of(together.params), one.params)
    again = Server(run.vector.clone(), layout, 4, optimizer=optimizer, fragments=fragments)
    again.load_state_dict(together.state_dict())
    assert again.moments.keys() == together.moments.keys()
    for name, tensor in together.moments.items():
        assert torch.equal(again.moments[name], tensor)


@pytest.mark.parametrize("codec", [None, Int8(), TopK(0.25, error_feedback=False)])
def test_bytes_are_those_of_what_travels(codec: Transform | None, tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, InTurn(), transforms=[codec] if codec else [], args=ARGS, rounds=4)
    records, fragments, algorithm = run.run(), run.plan.task.fragments, run.plan.algorithm
    assert fragments is not None
    sizes = [fragment.columns.size for fragment in fragments.members]
    assert len(set(sizes)) == 2
    clients = len(run.plan.task.data)
    for record in records:
        size = sizes[(record.round - 1) % 2]
        assert record.bytes["up"] == clients * algorithm.transforms.encoded(size, up=True)
        heard = sum(sizes) if record.round == 1 else sizes[record.round % 2]
        assert record.bytes["down"] == clients * 4 * heard


def test_who_was_away_receives_all_that_has_moved(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, InTurn(count=4), args=ARGS, rounds=9, sampler=Uniform(2))
    fragments, last = run.plan.task.fragments, dict[int, int]()
    assert fragments is not None
    for record in run.run():
        cohort = run.plan.cohort(record.round).tolist()
        expected = sum(4 * fragments.behind(last.get(client, 0), record.round) for client in cohort)
        assert record.bytes["down"] == expected
        last |= dict.fromkeys(cohort, record.round)
    assert run.state.sent.last.tolist() == [last.get(client, 0) for client in range(len(run.plan.task.data))]


@pytest.mark.parametrize("aggregator", [Mean(), Median()])
@pytest.mark.parametrize("transforms", [[], [Clip(0.1)], [TopK(0.5)], [Int4(rounding="nearest", error_feedback=True)]])
def test_a_resumed_run_has_the_same_bits(aggregator: Aggregator, transforms: list[Transform], tmp_path: Path) -> None:
    def made(name: str, rounds: int) -> Any:
        options: dict[str, Any] = {
            "args": ARGS,
            "server": Momentum(),
        }
        return federation(
            class_problem(),
            tmp_path / name,
            InTurn(),
            transforms=transforms,
            aggregator=aggregator,
            rounds=rounds,
            **options,
        )

    whole, first = made("whole", 5), made("parts", 5)
    whole.run()
    first.run(3)
    second = made("parts", 5)
    second.restore(first.save())
    second.run()
    assert torch.equal(second.vector, whole.vector)
    for name, counts in whole.state.sent.tensors().items():
        assert torch.equal(second.state.sent.tensors()[name], counts), name


def test_what_is_rounded_off_waits_until_its_fragment_travels_again(tmp_path: Path) -> None:
    """Error feedback: in a round a client's rest of the other fragments stays as it is."""
    run = federation(class_problem(), tmp_path, InTurn(), transforms=[TopK(0.2)], args=ARGS, rounds=0)
    fragments = run.plan.task.fragments
    assert fragments is not None
    (name,) = run.plan.algorithm.state(run.plan.layout)
    before = torch.zeros(len(run.plan.task.data), run.plan.layout.shared)
    for round in (1, 2, 3):
        moved(run)
        rest = remembered(run)[name]
        others = [one.columns for one in fragments.members if one is not fragments.at(round)]
        assert all(torch.equal(columns.of(rest), columns.of(before)) for columns in others)
        assert not torch.equal(rest, before)
        before = rest


def test_a_secure_sum_is_the_mean(tmp_path: Path) -> None:
    sums = [
        federation(class_problem(), tmp_path / str(i), InTurn(weight="uniform"), transforms=chain, args=ARGS, rounds=3)
        for i, chain in enumerate(([], [SecureSum(bits=32)]))
    ]
    for run in sums:
        run.run()
    assert torch.allclose(sums[0].vector, sums[1].vector, atol=1e-5)


@dataclass(frozen=True)
class OfItsOwn(InTurn):
    """It moves the model itself."""

    uses_server = False


@dataclass(frozen=True)
class Narrow(HeteroFL):
    """Models of different size as well."""

    def split(self, layout: Layout) -> Sequence[Collection[str]]:
        return shared_out(layout, 2, "strided")


@pytest.mark.parametrize(
    ("algorithm", "transforms", "aggregator", "message"),
    [
        (OfItsOwn(), [], Mean(), r"^algorithm: OfItsOwn has one fragment .*uses_server = False: leave that out$"),
        (Narrow(), [], Mean(), r"^algorithm: Narrow .* models of different size: it can have one of the two$"),
        (
            InTurn(),
            [BF16(direction="both")],
            Mean(),
            r"^transforms: InTurn .* bf16 rounds all .*set its direction to up",
        ),
        (InTurn(), [], CenteredClip(1.0), r"^aggregator: InTurn .* centered_clip remembers the round before"),
        (
            InTurn(weight="uniform"),
            [Central(Privacy(clip="adaptive", noise_multiplier=1.0))],
            Mean(),
            r"^transforms: InTurn .* privacy remembers the round before",
        ),
    ],
)
def test_what_needs_the_same_columns_in_every_round_is_refused(
    algorithm: Algorithm, transforms: list[Transform], aggregator: Aggregator, message: str
) -> None:
    layout = Layout.of(class_problem().model_fn())
    with pytest.raises(ConfigError, match=message):
        check_fragments(compose(algorithm, transforms, aggregator, LocalSection()), layout)
    check_fragments(compose(InTurn(), [BF16()], Median(), LocalSection()), layout)
