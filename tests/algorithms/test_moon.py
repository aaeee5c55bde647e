"""MOON against the paper's loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fedray.algorithms import MOON
from fedray.core.errors import ConfigError
from fedray.local.clients import Clients
from tests.algorithms.classes import ROUNDS, Classes, assert_is_the_loop
from tests.helpers import class_problem, federation, local_task


def cosine(one: Tensor, other: Tensor) -> Tensor:
    found: Tensor = (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
    return found


def test_moon_is_the_papers_loop(tmp_path: Path) -> None:
    classes, mu, tau = Classes(), 2.0, 0.5
    w = classes.initial()
    previous = [w] * 4
    for _ in range(ROUNDS):

        def loss(v: Tensor, client: int, x: Tensor = w, last: list[Tensor] = previous) -> Tensor:
            rows, y = classes.x[client], classes.y[client]
            logits, z = classes.outputs(v, rows)
            near, far = (torch.exp(cosine(z, classes.outputs(model, rows)[1]) / tau) for model in (x, last[client]))
            return nn.functional.cross_entropy(logits, y) - mu * torch.log(near / (near + far)).mean()

        ends = [classes.descend(c, w, lambda v, c=c: loss(v, c)) for c in range(4)]  # type: ignore[misc]
        previous, w = ends, classes.mean(ends)
    assert_is_the_loop(classes, MOON(mu=mu, tau=tau), w, tmp_path)


def test_a_model_without_features_is_told_so() -> None:
    """The head is used as a function, twice."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(x) + self.head(-x)
            return out

    with pytest.raises(ConfigError, match=r"^algorithm: moon does not run .*ValueError: moon needs feat"):
        local_task(class_problem((5,), (6,), 3, Twice), stack="off", program=MOON())


def test_a_newcomers_last_model_is_the_global_one(tmp_path: Path) -> None:
    seen: list[bool] = []

    class Looks(MOON):
        def client(self, c: Clients) -> None:
            seen.append(torch.equal(c.state["previous"], c.anchor.expand(len(c), -1)))
            super().client(c)

    run = federation(class_problem((5, 4), (6,), 3), tmp_path, Looks(), stack="off", rounds=2)
    seen.clear()
    run.run()
    assert seen == [True, True, False, False]
