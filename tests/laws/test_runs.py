"""Laws of a run, over every algorithm with every kind of part: it repeats, it resumes, it learns."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedray.aggregators import Aggregator, Mean, MultiKrum
from fedray.algorithms import MIFA, Ditto, FedAvg, FedCM, FedNova, Scaffold
from fedray.algorithms.base import Algorithm
from fedray.algorithms.composition import compose
from fedray.algorithms.profiles import check_profile
from fedray.algorithms.variants import check_variants
from fedray.attacks import Attack
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError, RunFailed
from fedray.local.views import serves
from fedray.sampling import Sampler, Uniform
from fedray.server import ServerOptimizer
from fedray.transforms import TopK, Transform
from tests.helpers import Federation, class_problem, federation, local_task, personal, relative, remembered
from tests.laws.parts import AGGREGATORS, ALGORITHMS, ATTACKS, SAMPLERS, SERVERS, TRANSFORMS, every

PROBLEM = class_problem((7, 3, 12, 9, 1, 5, 8), test=20)


def made(folder: Path, *args: Any, **options: Any) -> Federation:
    return federation(PROBLEM, folder, *args, **{"sampler": Uniform(4), "rounds": 4, **options})


def resumes(folder: Path, *args: Any, **options: Any) -> None:
    """A run that is taken up again after its second round ends with the bits of one that was never stopped."""
    whole = made(folder / "whole", *args, **options)
    records = whole.run()
    first = made(folder / "parts", *args, **options)
    early = first.run(2)
    second = made(folder / "parts", *args, **options)
    second.restore(first.save())
    late = second.run()
    assert torch.equal(second.vector, whole.vector)
    hashes = [record.model_sha256 for record in records]
    assert [record.model_sha256 for record in [*early, *late]] == hashes
    # Where nothing leaves the clients, the server's model stays.
    assert len(set(hashes)) == (len(hashes) if whole.plan.layout.shared else 1)
    assert [record.test for record in late] == [record.test for record in records[2:]]
    assert [record.clients for record in late] == [record.clients for record in records[2:]]
    assert second.state.store.rows.keys() == whole.state.store.rows.keys()


@every("algorithm", ALGORITHMS)
def test_resuming_gives_the_same_bits(algorithm: Algorithm, tmp_path: Path) -> None:
    task = local_task(class_problem(), program=algorithm)
    profile, layout = task.profile, task.layout
    for number, transforms in enumerate(TRANSFORMS):
        try:
            check_profile(algorithm.name, profile, algorithm.weight, transforms, Mean())
            check_variants(compose(algorithm, transforms, Mean(), LocalSection()), layout)
        except ConfigError:
            continue  # a transform beside which it cannot be
        resumes(tmp_path / str(number), algorithm, transforms=transforms)


@every("aggregator", AGGREGATORS)
@every("sampler", SAMPLERS)
def test_resuming_gives_the_same_bits_with_other_parts(
    aggregator: Aggregator, sampler: Sampler, tmp_path: Path
) -> None:
    first = made(tmp_path, Scaffold(), aggregator=aggregator, sampler=sampler)
    if any(0 < len(first.plan.cohort(round)) < aggregator.least for round in range(1, 5)):
        with pytest.raises(RunFailed, match=f"needs {aggregator.least} updates at least, and round . has"):
            first.run()
    else:
        resumes(tmp_path, Scaffold(), aggregator=aggregator, sampler=sampler)


@every("server", SERVERS)
@every("algorithm", [FedAvg(), Scaffold(), FedNova(), FedCM(alpha=0.3), MIFA(), Ditto()])
def test_resuming_gives_the_same_bits_with_each_server_optimizer(
    algorithm: Algorithm, server: ServerOptimizer, tmp_path: Path
) -> None:
    """And it is another run than one without: the optimizer has the last word."""
    resumes(tmp_path, algorithm, server=server)
    without = made(tmp_path / "without", algorithm)
    without.run()
    with_it = made(tmp_path / "with", algorithm, server=server)
    with_it.run()
    assert relative(with_it.vector, without.vector) > 1e-3


@every("server", SERVERS)
def test_it_learns_with_each_server_optimizer(server: ServerOptimizer, tmp_path: Path) -> None:
    run = made(tmp_path, server=server, rounds=30, args=LocalSection(2, 4))
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
def test_the_size_of_a_stack_does_not_show(algorithm: Algorithm, tmp_path: Path) -> None:
    """Neither in the model, nor in what clients remember, nor in the models that they are evaluated with."""
    runs = [made(tmp_path / str(stack), algorithm, stack=stack) for stack in ("off", 2, 3, 7)]
    for run in runs:
        run.run()
    assert [run.plan.task.stacking.stacked for run in runs] == [False, True, True, True]
    alone = {"model": runs[0].vector, **remembered(runs[0]), "personal": personal(runs[0])}
    for run in runs[1:]:
        stacked = {"model": run.vector, **remembered(run), "personal": personal(run)}
        assert {name: part for name in alone if (part := relative(stacked[name], alone[name])) > 1e-5} == {}


@every("algorithm", ALGORITHMS)
def test_it_learns(algorithm: Algorithm, tmp_path: Path) -> None:
    run = made(tmp_path, algorithm, rounds=30, args=LocalSection(2, 4))
    # Where the server has no model that anybody uses, there is none to be tested.
    losses = [(record.test if serves(run.plan.task) else record.train)["loss"] for record in run.run()]
    assert losses[-1] < 0.75 * losses[0]


@every("transforms", TRANSFORMS)
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
