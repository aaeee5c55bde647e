"""Private gradients: the sensitivity of a sum, its noise, its denominator; in stacks and alone; and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedray.algorithms import MOON, Ditto, FedAvg, FedLC, FedNTD, FedPer, FedProx, FedSAM, QFedAvg, Scaffold
from fedray.algorithms.base import Algorithm
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.messages import PERSONAL, Broadcast
from fedray.local.clients import Clients
from fedray.local.private import ExamplePrivacy, FitNoise, check_model
from fedray.local.program import ClientProgram
from fedray.local.schedule import Schedule, poisson_rates
from fedray.local.task import LocalTask
from tests.helpers import class_problem, local_task, relative, train

PLAIN = ExamplePrivacy(math.inf, 0.0, "seeded")
PROBLEM = class_problem((7, 3, 12, 9))
ARGS = LocalSection(2, 4)


def norms() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Dropout(0.4), nn.Linear(8, 3))


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.GroupNorm(2, 4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def tokens() -> nn.Module:
    return nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3))


PROBLEMS = {
    "mlp": PROBLEM,
    "norms": class_problem((7, 3, 12, 9), model_fn=norms),
    "cnn": class_problem((7, 3, 12, 9), (1, 6, 6), model_fn=small_cnn),
    "tokens": class_problem((7, 3, 12, 9), (5,), model_fn=tokens, vocabulary=9),
}


def private(task: LocalTask, privacy: ExamplePrivacy) -> LocalTask:
    return replace(task, private=privacy)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("privacy", [PLAIN, ExamplePrivacy(0.3, 0.0, "seeded"), ExamplePrivacy(0.3, 0.7, "seeded")])
@pytest.mark.one_in(4)
def test_stacked_is_one_by_one(name: str, privacy: ExamplePrivacy) -> None:
    order = [2, 3, 0, 1]
    # One that adds a loss of its own, by a model at rest, in the place of FedAvg where there is dropout as well.
    program = FedNTD(tau=2.0) if name in ("mlp", "norms") and privacy.noise_multiplier else FedAvg()
    stacked, alone = (
        train(local_task(PROBLEMS[name], args=ARGS, stack=stack, program=program, private=privacy), order)
        for stack in (4, "off")
    )
    assert relative(stacked.parts["delta"], alone.parts["delta"]) <= 5e-6
    assert float(stacked.parts["delta"].abs().max()) > 1e-3


def test_without_clip_and_noise_it_is_descent_on_the_same_batches() -> None:
    task = local_task(PROBLEM, args=ARGS, stack=4, private=PLAIN)
    update = train(task, [2, 3, 0, 1])
    for row, client in enumerate([2, 3, 0, 1]):
        sizes, keys = PROBLEM.data.sizes[[client]], PROBLEM.data.keys(np.array([client]))
        drawn = Schedule.poisson(ARGS, sizes, keys, task.seed, 1)
        expected = float((poisson_rates(ARGS, sizes) * sizes)[0])
        module = PROBLEM.model_fn()
        start = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
        for step in range(int(drawn.steps[0])):
            x, y = PROBLEM.data.rows(np.array([client])).take(drawn.index[:, step, : drawn.count[0, step]])
            module.zero_grad()
            loss = nn.functional.cross_entropy(module(x[0]), y[0], reduction="sum") / expected
            if drawn.count[0, step]:
                loss.backward()
                with torch.no_grad():
                    for parameter in module.parameters():
                        parameter.sub_(torch.as_tensor(parameter.grad), alpha=0.1)
        moved = nn.utils.parameters_to_vector(module.parameters()).detach() - start
        assert relative(update.parts["delta"][row], moved) <= 1e-5


def test_batches_are_drawn_by_coins_and_are_the_same_alone() -> None:
    sizes, keys = np.array([40, 5, 17]), np.array([11, 3, 2**40])
    args = LocalSection(steps=400, batch_size=8)
    drawn = Schedule.poisson(args, sizes, keys, 5, 2)
    assert drawn.steps.tolist() == [400] * 3
    for row, size in enumerate(sizes):
        rate = min(1.0, 8 / size)
        counts = np.zeros(size)
        for step in range(400):
            chosen = drawn.index[row, step, : drawn.count[row, step]]
            assert len(set(chosen.tolist())) == len(chosen)
            counts[chosen] += 1
        assert np.abs(counts / 400 - rate).max() <= 4.5 * math.sqrt(rate * (1 - rate) / 400)
        # Counts of a batch vary as those of coins do.
        assert drawn.count[row].var() == pytest.approx(size * rate * (1 - rate), rel=0.35, abs=1e-12)
        alone = Schedule.poisson(args, sizes[[row]], keys[[row]], 5, 2)
        assert (alone.count[0] == drawn.count[row]).all()
        width = alone.index.shape[2]
        assert (alone.index[0] == drawn.index[row, :, :width]).all()


@pytest.mark.parametrize("stack", [4, "off"])
def test_an_empty_batch_is_a_step_of_noise(stack: Any) -> None:
    # One row in 12 on average a step: many batches are empty, some steps of all four clients.
    task = local_task(PROBLEM, args=LocalSection(steps=40, batch_size=1), stack=stack)
    task = replace(task, private=ExamplePrivacy(1e-6, 1e6, "seeded"))
    update = train(task, [2, 3, 0, 1])
    drawn = Schedule.poisson(task.args, PROBLEM.data.sizes, PROBLEM.data.keys(np.arange(4)), task.seed, 1)
    assert (drawn.count == 0).any(axis=1).tolist() == [True] * 4
    # 40 steps of noise of the deviation 1 at the rate 0.1, divided by the one row that is expected.
    moved = update.parts["delta"]
    assert float(moved.std()) == pytest.approx(0.1 * math.sqrt(40), rel=4 / math.sqrt(2 * moved.numel()))
    assert float(update.examples.sum()) == drawn.count.sum()


@pytest.mark.parametrize("source", ["seeded", "secure"])
def test_noise_has_its_deviation_and_no_two_draws_of_it_are_alike(source: Any) -> None:
    width = 100_000
    noise = FitNoise(ExamplePrivacy(0.5, 1.5, source), 3, 1, np.array([5, 6]), np.array([8.0, 2.0]))
    drawn = [noise.draw([torch.zeros(2, width)]) for _ in range(2)]
    whole = torch.stack([one for one in drawn if one is not None]).double().reshape(4, width).numpy()
    assert whole.std() == pytest.approx(0.75, rel=4 / math.sqrt(2 * 4 * width))
    correlation = np.corrcoef(whole) - np.eye(4)
    assert np.abs(correlation).max() < 4.5 / math.sqrt(width)
    again = FitNoise(ExamplePrivacy(0.5, 1.5, source), 3, 1, np.array([6]), np.array([2.0]))
    one = again.draw([torch.zeros(1, width)])
    assert one is not None
    assert torch.equal(one[0].double(), torch.from_numpy(whole[1])) == (source == "seeded")


def test_noise_by_a_key_is_repeated_for_the_same_sums_alone_and_depends_on_all_before() -> None:
    def drawn(*steps: float, number: int = 0, clients: tuple[int, ...] = (5,)) -> list[torch.Tensor]:
        privacy, count = ExamplePrivacy(0.5, 1.5), len(clients)
        secrets = privacy.keys(bytes(32), number)
        noise = FitNoise(privacy, 3, 1, np.array(clients), np.full(count, 8.0), secrets)
        return [found for step in steps if (found := noise.draw([torch.full((count, 2, 2), step)])) is not None]

    first, second = drawn(0.1, 0.2)
    assert torch.equal(torch.stack(drawn(0.1, 0.2)), torch.stack([first, second]))
    assert torch.equal(drawn(0.1, 0.3)[0], first)
    # Whoever is beside it.
    assert torch.equal(torch.cat(drawn(0.1, 0.2, clients=(6, 5)))[[1, 3]], torch.cat([first, second]))
    others = [
        drawn(0.1, 0.3)[1],
        drawn(0.2, 0.2)[1],
        drawn(0.2)[0],
        drawn(0.1, number=1)[0],
        drawn(0.1, clients=(6,))[0],
    ]
    values = torch.cat([first, second, *others]).flatten().tolist()
    assert len(set(values)) == len(values)


def test_secure_runs_draw_other_batches_and_other_noise_each_time() -> None:
    task = local_task(PROBLEM, args=ARGS, stack=4)
    for privacy in (ExamplePrivacy(math.inf, 0.0), ExamplePrivacy(1.0, 0.5)):
        first, second = (train(replace(task, private=privacy), [2, 3, 0, 1]).parts["delta"].clone() for _ in range(2))
        assert relative(first, second) > 1e-2


@pytest.mark.parametrize(
    "program", [FedProx(mu=0.1), Scaffold(), FedPer(), Ditto(), FedNTD(beta=3.0)], ids=lambda p: type(p).__name__
)
def test_programs_that_take_the_plain_gradient_have_it(program: Algorithm) -> None:
    """Without clip and noise, and with batches of all rows, private steps are the plain ones."""
    args = LocalSection(2, "full")
    plain = local_task(PROBLEM, args=args, stack=4, program=program)
    private = local_task(PROBLEM, args=args, stack=4, program=program, private=PLAIN)
    order = [2, 3, 0, 1]
    draw = torch.Generator().manual_seed(2)
    kept = {name: field.width for name, field in plain.profile.keeps.items()}
    widths = {**kept, **({PERSONAL: plain.layout.size - plain.layout.shared} if at_home(plain) else {})}
    state = {name: 0.1 * torch.randn(4, width, generator=draw) for name, width in widths.items()}
    model = plain.layout.pack(dict(plain.model_fn().state_dict()))
    heard = {name: 0.1 * torch.randn(width, generator=draw) for name, width in plain.receives.items()}
    down = Broadcast(1, {"model": model, **heard}, 1.0)
    wanted = train(plain, order, down, state)
    found = train(private, order, down, state)
    for name, part in wanted.parts.items():
        assert relative(found.parts[name], part) <= 1e-5, name
    noised = train(replace(plain, private=ExamplePrivacy(0.1, 1.0, "seeded")), order, down, state)
    assert relative(noised.parts["delta"], wanted.parts["delta"]) > 1e-2


def at_home(task: LocalTask) -> bool:
    return task.layout.shared < task.layout.trained


class Peeks(ClientProgram):
    def client(self, c: Clients) -> None:
        c.fit(gradient=lambda step, grad: grad.mul_(step.batch.y.sum()))


class Counts(ClientProgram):
    def client(self, c: Clients) -> None:
        c.fit()
        c.send("labels", c.labels)


@pytest.mark.parametrize(
    ("program", "what"),
    [
        (MOON(), "an objective"),
        (FedSAM(), "a hook of the step"),
        (FedLC(), "c.labels"),
        (QFedAvg(), "c.losses"),
        (Peeks(), "a hook of the step"),
        (Counts(), "c.labels"),
    ],
    ids=lambda p: type(p).__name__,
)
def test_who_looks_at_rows_past_the_private_gradient_is_refused(program: Any, what: str) -> None:
    with pytest.raises(ConfigError, match=rf"privacy.unit=example.*{what}"):
        local_task(PROBLEM, program=program, private=PLAIN)


@pytest.mark.parametrize(
    ("module", "what"),
    [
        (nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), "GroupNorm or LayerNorm"),
        (nn.Sequential(nn.InstanceNorm2d(4, track_running_stats=True)), "track_running_stats=False"),
    ],
)
def test_a_model_that_joins_rows_is_refused(module: nn.Module, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        check_model(module)
    check_model(module.eval())


class Twice(ClientProgram):
    def client(self, c: Clients) -> None:
        other = c.params.clone()
        c.fit(steps=1)
        c.fit(other, steps=1)
        c.send("between", c.params - other)


def test_two_fits_of_a_round_share_neither_batches_nor_noise() -> None:
    task = local_task(PROBLEM, args=LocalSection(1, 4), stack=4, program=Twice())
    quiet = train(replace(task, private=PLAIN), [2, 3, 0, 1])
    assert float(quiet.parts["between"].abs().max(dim=1).values.median()) > 1e-4
    noised = train(replace(task, private=ExamplePrivacy(1e-6, 1e6, "seeded")), [2, 3, 0, 1])
    # The difference of two independent draws of the deviation 1, at the rate 0.1, over the rows expected.
    expected = torch.tensor(np.minimum(4.0, PROBLEM.data.sizes[[2, 3, 0, 1]]))
    found = noised.parts["between"].double() * expected[:, None] / 0.1
    assert float(found.std()) == pytest.approx(math.sqrt(2.0), rel=4 / math.sqrt(2 * found.numel()))
