"""FedAMP against the paper's loop, its limit, and clients that have not sent anything yet."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fedray.algorithms import FedAMP, LocalOnly
from fedray.config.sections import LocalSection
from fedray.local.stacking import Stack
from fedray.sampling import Uniform
from tests.algorithms.classes import ROUNDS, Classes, assert_is_the_loop
from tests.helpers import class_problem, federation, personal, relative

ALPHA, SIGMA, LAM = 0.6, 2.0, 0.3


def mixture(models: list[Tensor], i: int) -> Tensor:
    """``u_i = (1 - sum_j xi_ij) w_i + sum_j xi_ij w_j`` with ``xi_ij = alpha A'``, ``A(x) = 1 - exp(-x / sigma)``."""
    xi = [ALPHA * float(torch.exp(-(models[i] - w).square().sum() / SIGMA)) / SIGMA for w in models]
    xi[i] = 1.0 - sum(share for j, share in enumerate(xi) if j != i)
    return sum((share * w for share, w in zip(xi, models, strict=True)), torch.zeros_like(models[0]))


def test_fedamp_is_the_papers_loop(tmp_path: Path) -> None:
    classes = Classes()
    models = [classes.initial()] * 4

    def loss(client: int, u: Tensor, w: Tensor) -> Tensor:
        logits = classes.outputs(w, classes.x[client])[0]
        near = LAM / (2 * ALPHA) * (w - u).square().sum()
        return torch.nn.functional.cross_entropy(logits, classes.y[client]) + near

    for _ in range(ROUNDS):
        clouds = [mixture(models, client) for client in range(4)]
        models = [classes.descend(c, models[c], partial(loss, c, clouds[c])) for c in range(4)]
    assert max(relative(mixture(models, c), models[c]) for c in range(4)) > 0.02  # the others count
    algorithm = FedAMP(alpha=ALPHA, sigma=SIGMA, lam=LAM)
    assert_is_the_loop(classes, algorithm, classes.initial(), tmp_path, models)


@pytest.mark.parametrize("stack", [3, "off"])
def test_without_the_distance_clients_train_alone_bitwise(stack: Stack, tmp_path: Path) -> None:
    alone, other = (
        federation(class_problem(), tmp_path / one.name, one, args=LocalSection(2, 4), sampler=Uniform(3), stack=stack)
        for one in (LocalOnly(), FedAMP(lam=0.0))
    )
    alone.run(), other.run()
    assert torch.equal(personal(other), personal(alone))


def test_who_has_not_taken_part_has_the_first_model(tmp_path: Path) -> None:
    algorithm = FedAMP(alpha=ALPHA, sigma=SIGMA)
    run = federation(class_problem(), tmp_path, algorithm, args=LocalSection(2, 4), sampler=Uniform(2), rounds=1)
    run.run()
    server, first = run.state.server, run.vector.double()
    sent = server.rows.clients
    assert sent.tolist() == sorted(run.plan.cohort(1).tolist())
    newcomer = next(client for client in range(6) if client not in sent)
    others = server.rows.read("own", sent).double()
    assert torch.equal(others, personal(run)[torch.from_numpy(sent)].double())
    expected = mixture([first, *others], 0)
    assert relative(algorithm.mixture(server, newcomer).double(), expected) <= 1e-6
    assert relative(algorithm.mixture(server, int(sent[1])).double(), mixture([*others], 1)) <= 1e-6


def test_equal_models_stay_what_they_are(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, FedAMP(alpha=100.0), rounds=1)
    assert all(torch.equal(FedAMP().mixture(run.state.server, client), run.vector) for client in np.arange(6).tolist())


@pytest.mark.parametrize("wrong", ["alpha", "sigma"])
def test_its_numbers_are_above_0(wrong: str) -> None:
    with pytest.raises(ValueError, match=rf"^{wrong}=0: it must be above 0$"):
        FedAMP(**{wrong: 0})  # type: ignore[arg-type]
