"""Streaming DiLoCo against a loop of the paper's in float64, its limit, and clients that are away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedray.algorithms import DiLoCo, StreamingDiLoCo
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.local.stacking import Stack
from fedray.optim import AdamW
from fedray.sampling import Sampler, Uniform
from tests.algorithms.loops import LeastSquares, Vector, assert_equal_models
from tests.algorithms.test_diloco import Moments
from tests.helpers import Federation, class_problem, federation, relative, remembered

Columns = NDArray[np.int64]

LR, DECAY, STEPS = 0.05, 0.1, 3


class Sites:
    """Those of Algorithm 2 of arXiv:2501.18512, with the outer steps of fragments that travel in turn."""

    def __init__(self, squares: LeastSquares, fragments: list[Columns]) -> None:
        self.squares, self.fragments = squares, fragments
        self.x = squares.initial()
        self.velocity = np.zeros_like(self.x)
        self.own = [self.x.copy() for _ in squares.x]
        self.moments = [Moments(len(self.x)) for _ in squares.x]

    def inner(self, site: int) -> None:
        """Take one step of AdamW."""
        gradient = self.squares.gradient(site, self.own[site])
        self.own[site] = self.moments[site].step(self.own[site], gradient, LR, DECAY)

    def outer(self, columns: Columns, sites: list[int]) -> None:
        """Take one step of Nesterov momentum, of some columns."""
        outer = self.x[columns] - np.mean([self.own[site][columns] for site in sites], axis=0)
        self.velocity[columns] = 0.8 * self.velocity[columns] + outer
        self.x[columns] -= 0.5 * (outer + 0.8 * self.velocity[columns])


def papers_loop(sites: Sites, steps: int, alpha: float, tau: int) -> None:
    """Go step by step: fragment p is sent after steps t_p, t_p + H, ..., and arrives tau steps later."""
    period, waiting = STEPS * len(sites.fragments), dict[int, tuple[Columns, Vector]]()
    for t in range(1, steps + 1):
        for site in range(len(sites.own)):
            sites.inner(site)
        for p, columns in enumerate(sites.fragments):
            offset = (p + 1) * STEPS
            if t >= offset and (t - offset) % period == 0:
                sites.outer(columns, list(range(len(sites.own))))
                waiting[t + tau] = columns, sites.x[columns].copy()
        if t in waiting:
            columns, received = waiting.pop(t)
            for own in sites.own:
                own[columns] = alpha * own[columns] + (1 - alpha) * received


def of_squares(
    squares: LeastSquares, folder: Path, rounds: int, sampler: Sampler | None = None, **options: Any
) -> Federation:
    return federation(
        squares.problem,
        folder,
        StreamingDiLoCo(server_lr=0.5, momentum=0.8, **options),
        optimizer=AdamW(LR, weight_decay=DECAY),
        args=LocalSection(1, None, STEPS),
        rounds=rounds,
        sampler=sampler,
    )


def weights_and_bias(squares: LeastSquares) -> list[Columns]:
    """A linear model has one layer, so that its two tensors are shared out."""
    size = len(squares.initial())
    return [np.arange(size - 1), np.array([size - 1])]


@pytest.mark.parametrize("rounds", [1, 2, 7])
@pytest.mark.parametrize(("alpha", "delay"), [(0.0, 0), (0.5, 0), (0.5, 2), (0.0, 1)])
def test_streaming_diloco_is_the_papers_loop(alpha: float, delay: int, rounds: int, tmp_path: Path) -> None:
    squares = LeastSquares()
    sites = Sites(squares, weights_and_bias(squares))
    papers_loop(sites, rounds * STEPS, alpha, delay)
    run = of_squares(squares, tmp_path, rounds, fragments=2, alpha=alpha, delay=delay)
    run.run()
    assert_equal_models(run.vector.double().numpy(), sites.x)


@pytest.mark.parametrize("delay", [0, 2])
def test_one_fragment_waits_and_is_mixed_as_well(delay: int, tmp_path: Path) -> None:
    squares = LeastSquares()
    sites = Sites(squares, [np.arange(len(squares.initial()))])
    papers_loop(sites, 4 * STEPS, 0.3, delay)
    run = of_squares(squares, tmp_path, 4, fragments=1, alpha=0.3, delay=delay)
    run.run()
    assert_equal_models(run.vector.double().numpy(), sites.x)


@pytest.mark.parametrize("delay", [0, 1])
def test_who_was_away_mixes_in_what_has_moved_meanwhile(delay: int, tmp_path: Path) -> None:
    """Round by round: of the loop above only those train and send who are in the cohort."""
    squares, alpha, rounds = LeastSquares(), 0.4, 9
    sites = Sites(squares, weights_and_bias(squares))
    run = of_squares(squares, tmp_path, rounds, Uniform(2), fragments=2, alpha=alpha, delay=delay)
    last = dict[int, int]()
    for round in range(1, rounds + 1):
        cohort = run.plan.cohort(round).tolist()
        for site in cohort:
            if site not in last:
                sites.own[site] = sites.x.copy()
            for step in range(STEPS):
                if step == delay:
                    own = sites.own[site]
                    for p in {(k - 1) % 2 for k in range(last.get(site, round), round)}:
                        columns = sites.fragments[p]
                        own[columns] = alpha * own[columns] + (1 - alpha) * sites.x[columns]
                sites.inner(site)
            last[site] = round
        sites.outer(sites.fragments[(round - 1) % 2], cohort)
    run.run()
    assert_equal_models(run.vector.double().numpy(), sites.x)
    kept = remembered(run)
    for site, when in last.items():
        assert_equal_models(kept["own"][site].double().numpy(), sites.own[site])
        assert kept["last"][site].tolist() == [when]


@pytest.mark.parametrize("stack", [3, "off"])
def test_one_fragment_at_its_defaults_is_diloco_bitwise(stack: Stack, tmp_path: Path) -> None:
    models = []
    for algorithm in (DiLoCo(), StreamingDiLoCo(fragments=1)):
        run = federation(
            class_problem(),
            tmp_path / algorithm.name,
            algorithm,
            optimizer=AdamW(0.01),
            args=LocalSection(1, 4, 5),
            stack=stack,
            sampler=Uniform(4),
        )
        run.run()
        models.append(run.vector)
    assert torch.equal(*models)


def test_stacked_clients_receive_after_as_many_steps_as_those_that_go_one_by_one(tmp_path: Path) -> None:
    models = []
    for stack in (3, "off"):
        algorithm, args = StreamingDiLoCo(fragments=3, alpha=0.5, delay=2, keep=False), LocalSection(1, 4, 5)
        run = federation(class_problem(), tmp_path / str(stack), algorithm, args=args, stack=stack, rounds=7)
        run.run()
        models.append(run.vector)
    assert relative(*models) <= 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fragments": 0}, r"^fragments=0: it must be at least 1$"),
        ({"pattern": "random"}, r"^pattern='random': it must be strided or sequential$"),
        ({"alpha": 1.0}, r"^alpha=1\.0: it must be at least 0 and below 1$"),
        ({"delay": -1}, r"^delay=-1: it must be at least 0$"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamingDiLoCo(**options)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (LocalSection(steps=3), r"local\.steps=3"),
        (LocalSection(2), r"local\.steps=None"),
        (LocalSection(steps=8, by_client={"a": {"steps": 2}}), r"local\.by_client=\{'a': \{'steps': 2\}\}"),
    ],
)
def test_a_fragment_arrives_within_a_round(args: LocalSection, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^algorithm\.delay=3: {said}; .* above 3, the same for all clients$"):
        StreamingDiLoCo(delay=3).local(args)
    assert StreamingDiLoCo().local(args).keep_optimizer
    assert StreamingDiLoCo(delay=3).local(LocalSection(steps=4)).steps == 4
