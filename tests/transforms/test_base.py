"""What is measured on an update is its trained part: frozen parameters, statistics and counters are left alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedray.aggregators import Aggregator, Mean, Median, TrimmedMean
from fedray.algorithms import FedAdam, FedAvg, FedAvgM
from fedray.algorithms.base import Algorithm
from fedray.config.sections import FailuresSection, LocalSection
from fedray.core.fields import Field
from fedray.core.messages import BUFFERS, Aggregate
from fedray.core.now import Now
from fedray.sampling import Poisson
from fedray.transforms import Clip, Gaussian, Setting, TopK, Transform
from tests.helpers import class_problem, federation, train

SIZES = (8, 6, 10, 4)
FULL = LocalSection(1, None)


class Mixed(nn.Module):
    """A frozen layer, batch statistics, a counter of its own, and what is trained."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fixed, self.norm, self.head = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.fixed.requires_grad_(False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += 1000 * len(x)
        out: Tensor = self.head(self.norm(self.fixed(x)))
        return out


class Nosy(Transform):
    """Changes all that it is shown."""

    def on_clients(self, update: object) -> None:
        update.parts["delta"].mul_(3.0)  # type: ignore[attr-defined]

    def on_aggregate(self, total: Aggregate, now: Now) -> None:
        total.parts["delta"].add_(1.0)


def moved(
    folder: Path, transforms: list[Transform], aggregator: Aggregator | None = None, sizes: tuple[int, ...] = SIZES
) -> tuple[Tensor, Tensor, int]:
    """The change of the trained part and of the rest after two rounds."""
    problem = class_problem(sizes, model_fn=Mixed)
    # Noise asks for equal weights, and the statistics are compared with and without.
    config = FedAvg(weight="uniform")
    run = federation(problem, folder, config, transforms=transforms, aggregator=aggregator, args=FULL, rounds=2)
    start, trained = run.vector.clone(), run.plan.layout.trained
    run.run()
    change = run.vector - start
    return change[:trained], change[trained:], trained


@pytest.mark.parametrize("aggregator", [Mean(), Median(), TrimmedMean(0.25)])
def test_no_transform_reaches_what_does_not_train(aggregator: Aggregator, tmp_path: Path) -> None:
    plain, rest, _ = moved(tmp_path / "plain", [], aggregator)
    changed, same, _ = moved(tmp_path / "nosy", [Nosy()], aggregator)
    assert not torch.equal(changed, plain)
    # The counter counts batches of the first layer, whatever is done to weights: statistics of a frozen layer as well.
    assert torch.equal(same, rest)
    assert rest.any()


@pytest.mark.parametrize("transforms", [[Clip(0.01), Gaussian(5.0, noise="seeded")], [Clip(0.01)], [TopK(0.2)]])
def test_frozen_parameters_and_counters_stand_what_is_done_to_updates(
    transforms: list[Transform], tmp_path: Path
) -> None:
    _, rest, _ = moved(tmp_path / "plain", [])
    _, same, _ = moved(tmp_path / "some", transforms)
    assert torch.equal(same, rest)


def test_the_norm_that_is_clipped_is_that_of_the_trained_part(tmp_path: Path) -> None:
    """A counter of thousands left nothing of the update."""
    free, _, _ = moved(tmp_path / "free", [], sizes=(40,))
    loose, _, _ = moved(tmp_path / "loose", [Clip(10.0)], sizes=(40,))
    assert torch.equal(loose, free)
    problem = class_problem((40,), model_fn=Mixed)
    run = federation(problem, tmp_path / "tight", transforms=[Clip(0.02)], args=FULL, rounds=1)
    start = run.vector.clone()
    run.run()
    norm = float((run.vector - start)[: run.plan.layout.trained].norm())
    assert norm == pytest.approx(0.02, rel=1e-5)


def test_what_is_sent_of_the_largest_is_of_the_trained_part(tmp_path: Path) -> None:
    problem = class_problem(SIZES, model_fn=Mixed)
    run = federation(problem, tmp_path, transforms=[TopK(0.1)], args=FULL, rounds=1)
    layout, algorithm = run.plan.layout, run.plan.algorithm
    assert run.job.state_fields() == {"transforms[0].residual": Field(layout.trained)}
    update = train(run.plan.task, [0], state={"transforms[0].residual": torch.zeros(1, layout.trained)})
    statistics = update.parts[BUFFERS].clone()
    algorithm.transforms.on_clients(update, {})
    kept = math.ceil(0.1 * layout.trained)
    assert int((update.parts["delta"] != 0).sum()) == kept
    assert torch.equal(update.parts[BUFFERS], statistics)
    rest = layout.size - layout.trained
    assert run.run()[0].bytes["up"] == len(SIZES) * (8 * kept + 4 * rest)


# A cohort that nobody came from


@pytest.mark.parametrize("config", [None, FedAvgM(), FedAdam()])
def test_an_empty_cohort_is_released_with_noise(config: Algorithm | None, tmp_path: Path) -> None:
    private: list[Transform] = [Clip(0.5), Gaussian(2.0, noise="seeded")]
    run = federation(class_problem(SIZES), tmp_path, config, transforms=private, sampler=Poisson(0.2), rounds=12)
    empty, before = [], run.vector.clone()
    for number in range(1, 13):
        run.run(number)
        if not len(run.plan.cohort(number)):
            empty.append((run.vector - before).clone())
        before = run.vector.clone()
    assert len(empty) >= 2
    assert all(bool((change != 0).any()) for change in empty)
    if config is None:
        # multiplier * S over the expected number of clients, and nothing else.
        std = float(torch.cat(empty).std())
        assert std == pytest.approx(2.0 * 0.5 / (0.2 * len(SIZES)), rel=0.15)


@pytest.mark.parametrize("transforms", [[], [Clip(0.5)]])
def test_without_noise_an_empty_cohort_leaves_the_model_as_it_is(transforms: list[Transform], tmp_path: Path) -> None:
    problem = class_problem(SIZES)
    run = federation(problem, tmp_path, FedAvgM(), transforms=transforms, sampler=Poisson(0.2), rounds=12)
    still = 0
    for number in range(1, 13):
        before = run.vector.clone()
        run.run(number)
        if not len(run.plan.cohort(number)):
            assert torch.equal(run.vector, before)
            still += 1
    assert still >= 2


@pytest.mark.parametrize("multiplier", [0.0, 3.0])
def test_mean_and_noise_are_over_the_expected_number_of_clients(multiplier: float) -> None:
    width, count, expected = 20_000, 3, 12.0
    total = Aggregate({"delta": torch.full((width,), 0.25)}, 3.0, count, expected)
    Gaussian(multiplier, noise="seeded").prepare(Setting(before=(Clip(2.0),))).on_aggregate(total, Now(1, 1))
    delta = total.parts["delta"]
    assert float(delta.mean()) == pytest.approx(0.25 * count / expected, abs=4 * multiplier * 2.0 / expected / 141)
    assert float(delta.std()) == pytest.approx(multiplier * 2.0 / expected, rel=0.03)


def test_whoever_fails_does_not_change_what_the_sum_is_divided_by(tmp_path: Path) -> None:
    problem, private = class_problem(SIZES), [Clip(0.01), Gaussian(0.0, noise="seeded")]
    runs = [
        federation(problem, tmp_path / name, transforms=transforms, failures=FailuresSection(min_share=0.0), rounds=1)
        for name, transforms in (("private", private), ("plain", [Clip(0.01)]))
    ]
    changes = []
    for run in runs:
        object.__setattr__(run.plan, "left_out", {1: frozenset({0, 1})})
        object.__setattr__(run.plan.algorithm, "weight", "uniform")
        start = run.vector.clone()
        assert run.run()[0].clients["ok"] == 2
        changes.append(run.vector - start)
    np.testing.assert_allclose(changes[0].numpy(), changes[1].numpy() / 2, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Clip(0.0),
        lambda: Clip(-1.0),
        lambda: Clip(math.nan),
        lambda: Gaussian(-0.1, noise="seeded"),
        lambda: Gaussian(math.nan, noise="seeded"),
        lambda: TopK(0.0),
        lambda: TopK(1.1),
        lambda: TopK(math.nan),
    ],
)
def test_values_out_of_range_are_refused(make: type[Transform]) -> None:
    with pytest.raises(ValueError, match="="):
        make()
