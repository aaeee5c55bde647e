"""Laws of a run, over every algorithm with every kind of part: it repeats, it resumes, it learns."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedray import optim
from fedray.aggregators import Aggregator, Mean, MultiKrum
from fedray.algorithms import MIFA, Ditto, FedAvg, FedCM, FedNova, Scaffold
from fedray.algorithms.base import Algorithm
from fedray.algorithms.composition import compose
from fedray.algorithms.profiles import check_profile
from fedray.algorithms.variants import check_variants
from fedray.attacks import Attack
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.fields import as_bytes
from fedray.core.record import VIEWS
from fedray.local.stacking import Stack
from fedray.local.views import serves
from fedray.sampling import Sampler, Uniform
from fedray.server import ServerOptimizer
from fedray.transforms import TopK, Transform
from tests.cluster.work.within import Deaths, workers_within
from tests.helpers import Federation, class_problem, federation, local_task, relative, remembered
from tests.laws.parts import AGGREGATORS, ALGORITHMS, ATTACKS, SAMPLERS, SERVERS, TRANSFORMS, every
from tests.laws.typed import NAMES, Typed, after, first
from tests.laws.usual import PIECES, ROUNDS, Runs, told, usual

PROBLEM = class_problem((7, 3, 12, 9, 1, 5, 8), test=20)


def made(folder: Path, *args: Any, **options: Any) -> Federation:
    return federation(PROBLEM, folder, *args, **{"sampler": Uniform(4), "rounds": 4, **options})


def resumes(folder: Path, *args: Any, **options: Any) -> Federation:
    """A run that is taken up again after its second round ends with the bits of one that was never stopped: this."""
    whole = made(folder, *args, checkpoint_every=2, **options)
    records = whole.run()
    rows, kept = whole.state.store.rows.keys(), remembered(whole)
    # What the first one wrote after its checkpoint is still there, as it is after a crash.
    second = made(folder, *args, **options)
    second.restore(whole.saves[0])
    late = second.run()
    assert torch.equal(second.vector, whole.vector)
    hashes = [record.model_sha256 for record in records]
    assert [record.model_sha256 for record in late] == hashes[1:]
    # Where nothing leaves the clients, the server's model stays.
    assert len(set(hashes)) == (len(hashes) if whole.plan.layout.shared else 1)
    assert [record.test for record in late] == [record.test for record in records[1:]]
    assert [record.clients for record in late] == [record.clients for record in records[1:]]
    assert second.state.store.rows.keys() == rows
    assert all(torch.equal(part, kept[name]) for name, part in remembered(second).items())
    return whole


@every("algorithm", [*ALGORITHMS, Typed()])
def test_workers_deaths_and_a_resume_do_not_show(
    algorithm: Algorithm, ran: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the model, what clients remember, nor what anybody is told."""
    whole = ran(algorithm, 2)
    assert [record.round for record in whole.records] == list(range(ROUNDS + 1))
    assert whole.records[-1].clients_finetuned
    hashes = [record.model_sha256 for record in whole.records]
    # Where nothing leaves the clients, the server's model stays.
    assert len(set(hashes)) == (len(hashes) if whole.run.plan.layout.shared else 1)
    monkeypatch.setattr(*PIECES)

    def on(count: int, dies: Deaths) -> Federation:
        run = usual(tmp_path / "run", algorithm)
        run.executor = workers_within(monkeypatch, count, dies)
        return run

    # One worker, then two, then three, each from a checkpoint of those before.  The first dies of a piece of the
    # evaluation before the first round, and of a block; of the others somebody dies of the first item.
    one, two, three = on(1, {0: [False, True, False, False, True]}), on(2, {1: [True]}), on(3, {0: [True], 2: [True]})
    first = one.run(2)
    two.restore(one.saves[0])
    second = two.run(2)
    # The last round's record is told with its evaluation, which who goes on from the checkpoint does again.
    three.restore(two.saves[-1])
    third = three.run()
    for records, rounds, died in ((first, slice(0, 3), 2), (second, slice(1, 3), 1), (third, slice(2, 4), 1)):
        assert told(records) == told(whole.records[rounds])
        assert sum(record.usage.get("retries", 0) for record in records) >= died
    found = {"model": three.vector, **remembered(three)}
    assert {name for name, part in found.items() if not torch.equal(part, whole.kept[name])} == set()


@pytest.mark.parametrize("stack", [2, "off"], ids=["stacked", "alone"])
def test_what_clients_keep_has_the_bits_of_its_type(stack: Stack, ran: Runs) -> None:
    """Those of a loop over rounds and clients, and zeros of who has never taken part."""
    whole = ran(Typed(), stack)
    plan, kept = whole.run.plan, dict[tuple[str, int], Tensor]()
    for number in range(1, ROUNDS + 1):
        for client in plan.cohort(number).tolist():
            for name, dtype in NAMES.items():
                had = kept.get((name, client), first(dtype)[None])
                kept[name, client] = after(had, torch.tensor([plan.task.data.sizes[client]]), number)
    for name, dtype in NAMES.items():
        rows = [kept.get((name, client), torch.zeros(1, 3, dtype=dtype)) for client in range(len(plan.task.data))]
        assert whole.kept[name].dtype == dtype
        assert (as_bytes(whole.kept[name]) == as_bytes(torch.cat(rows))).all(), name
    assert torch.equal(whole.kept["sent.count"], whole.kept["int64"])
    assert torch.equal(whole.kept["sent.mask"], whole.kept["bool"])


def beside(algorithm: Algorithm) -> list[list[Transform]]:
    """Return the transforms that there can be beside an algorithm."""
    task, found = local_task(class_problem(), program=algorithm), []
    for transforms in TRANSFORMS[1:]:
        with contextlib.suppress(ConfigError):
            check_profile(algorithm.name, task.profile, algorithm.weight, transforms, Mean())
            check_variants(compose(algorithm, transforms, Mean(), LocalSection()), task.layout)
            found.append(transforms)
    return found


@every("algorithm", ALGORITHMS)
@pytest.mark.slow
def test_resuming_gives_the_same_bits_with_transforms(algorithm: Algorithm, tmp_path: Path) -> None:
    """Each algorithm meets all transforms that it can be beside."""
    for place, transforms in enumerate(beside(algorithm)):
        resumes(tmp_path / str(place), algorithm, transforms=transforms)


@pytest.mark.parametrize(
    ("aggregator", "sampler"),
    [
        # Each aggregator meets two samplers, and each sampler two aggregators at least; the others are slow.
        pytest.param(
            aggregator,
            sampler,
            id=f"{type(sampler).__name__}-{type(aggregator).__name__}",
            marks=[] if (row - place) % 5 in (0, 2) else pytest.mark.slow,
        )
        for row, aggregator in enumerate(AGGREGATORS)
        for place, sampler in enumerate(SAMPLERS)
    ],
)
def test_resuming_gives_the_same_bits_with_other_parts(
    aggregator: Aggregator, sampler: Sampler, tmp_path: Path
) -> None:
    first = made(tmp_path, Scaffold(), aggregator=aggregator, sampler=sampler)
    if any(0 < len(first.plan.cohort(round)) < aggregator.least for round in range(1, 5)):
        with pytest.raises(RunFailed, match=f"needs {aggregator.least} updates at least, and round . has"):
            first.run()
    else:
        resumes(tmp_path, Scaffold(), aggregator=aggregator, sampler=sampler)


BESIDE_SERVERS: list[Algorithm] = [FedAvg(), Scaffold(), FedNova(), FedCM(alpha=0.3), MIFA(), Ditto()]


@every("server", SERVERS)
@pytest.mark.slow
@pytest.mark.parametrize("some", ["some", "all"])
def test_resuming_gives_the_same_bits_with_each_server_optimizer(
    server: ServerOptimizer, some: str, tmp_path: Path
) -> None:
    """And it is another run than one without: the optimizer has the last word.

    Each optimizer is met by two algorithms that differ in what their servers keep, and each algorithm by several.
    """
    number, count = SERVERS.index(server), len(BESIDE_SERVERS)
    beside = [BESIDE_SERVERS[number % count], BESIDE_SERVERS[(number + 2) % count]]
    for algorithm in beside if some == "some" else BESIDE_SERVERS:
        folder = tmp_path / algorithm.name
        with_it = resumes(folder / "with", algorithm, server=server)
        without = made(folder / "without", algorithm)
        without.run()
        assert relative(with_it.vector, without.vector) > 1e-3


@every("server", SERVERS)
@pytest.mark.slow
def test_it_learns_with_each_server_optimizer(server: ServerOptimizer, tmp_path: Path) -> None:
    run = made(tmp_path, server=server, **{**LEARNS, "rounds": 12})
    losses = [record.test["loss"] for record in run.run()]
    assert losses[-1] < 0.75 * losses[0]


@every("attack", ATTACKS)
def test_an_attack_resumes_and_blocks_do_not_show(attack: Attack, tmp_path: Path) -> None:
    """Who attacks, and with what, depends neither on the blocks nor on where the run was taken up."""
    parts = {"aggregator": MultiKrum(0, keep=3), "attack": attack}
    resumes(tmp_path / "resumed", Scaffold(), transforms=[TopK(0.3)], **parts)
    stacked, alone = (made(tmp_path / str(stack), stack=stack, **parts) for stack in (3, "off"))
    told = [[(record.attackers, record.metrics["attack"]) for record in run.run()] for run in (stacked, alone)]
    assert told[0] == told[1]
    assert any(attackers for attackers, _ in told[0])
    assert relative(stacked.vector, alone.vector) <= 1e-5


@every("algorithm", ALGORITHMS)
@pytest.mark.slow
def test_the_size_of_a_stack_does_not_show(algorithm: Algorithm, ran: Runs) -> None:
    """Neither in the model, nor in what clients remember, nor in the models that they are evaluated with, and how."""
    runs = [ran(algorithm, stack) for stack in ("off", 2, 9)]
    assert [one.run.plan.task.stacking.stacked for one in runs] == [False, True, True]
    alone = runs[0]
    for one in runs[1:]:
        assert {name: d for name, part in alone.kept.items() if (d := relative(one.kept[name], part)) > 1e-5} == {}
        for record, expected in zip(one.records, alone.records, strict=True):
            for section in VIEWS.values():
                losses = [getattr(record, section).get("loss", {}) for record in (record, expected)]
                assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-5)


IN_LANES = [FedAvg(), Scaffold(), Ditto()]
"""Algorithms that fit, change gradients, and fit other models: in lanes the laws of the others are slow ones."""


@pytest.mark.parametrize(
    "algorithm",
    [pytest.param(one, id=repr(one), marks=[] if one in IN_LANES else pytest.mark.slow) for one in ALGORITHMS],
)
def test_lanes_do_not_show(algorithm: Algorithm, ran: Runs) -> None:
    """One forward of the rows of all clients of a block leaves each where it is alone."""
    alone, lanes = ran(algorithm, "off"), ran(algorithm, "lanes:2")  # type: ignore[arg-type]
    assert lanes.run.plan.task.stacking.lanes is not None, lanes.run.plan.task.stacking.reason
    assert {name: d for name, part in alone.kept.items() if (d := relative(lanes.kept[name], part)) > 1e-5} == {}
    for record, expected in zip(lanes.records, alone.records, strict=True):
        for section in VIEWS.values():
            losses = [getattr(record, section).get("loss", {}) for record in (record, expected)]
            assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-5)


LEARNS: dict[str, Any] = {"rounds": 9, "args": LocalSection(2, 4), "optimizer": optim.SGD(0.3)}


@every("algorithm", ALGORITHMS)
@pytest.mark.slow
def test_it_learns(algorithm: Algorithm, tmp_path: Path) -> None:
    run = made(tmp_path, algorithm, **LEARNS)
    # Where the server has no model that anybody uses, there is none to be tested.
    losses = [(record.test if serves(run.plan.task) else record.train)["loss"] for record in run.run()]
    assert losses[-1] < 0.75 * losses[0]


@every("transforms", TRANSFORMS)
@pytest.mark.one_in(3)
def test_it_repeats_and_another_seed_is_another_run(transforms: list[Transform], tmp_path: Path) -> None:
    def vector(name: str, seed: int) -> torch.Tensor:
        run = made(tmp_path / name, transforms=transforms, seed=seed)
        run.run()
        return run.vector

    first = vector("a", 1)
    torch.default_generator.manual_seed(99)
    assert torch.equal(vector("b", 1), first)
    assert relative(vector("c", 2), first) > 1e-4


@pytest.mark.parametrize("stack", [3, "off"])
def test_no_round_touches_the_global_generators(stack: int | str, tmp_path: Path) -> None:
    def dropout() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 3))

    run = federation(class_problem(model_fn=dropout), tmp_path, FedAvg(), stack=stack)  # type: ignore[arg-type]
    before = (random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state())  # noqa: NPY002
    run.run()
    after = (random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state())  # noqa: NPY002
    assert before[0] == after[0]
    np.testing.assert_equal(after[1], before[1])
    assert torch.equal(before[2], after[2])
