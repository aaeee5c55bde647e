"""The server's step is tried before a run, with all that clients send."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from fedray.aggregators import Mean
from fedray.algorithms import FedAvg
from fedray.algorithms.composition import Composition, compose
from fedray.algorithms.rehearsal import check_step
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.core.messages import Aggregate, Parts
from fedray.local.program import Profile
from fedray.server import Server
from tests.helpers import class_problem, local_task

TASK = local_task(class_problem())
SIZE = TASK.layout.size


class Stepping(FedAvg):
    """A server's half that is wrong in the way of ``kind``, or right."""

    kind = ""
    heard: Any = None

    def start(self, s: Server) -> Parts:
        return {"mean": torch.zeros_like(s.params)}

    def step(self, s: Server, total: Aggregate) -> Any:
        s.move(total["deltas" if self.kind == "unheard" else "delta"])
        type(self).heard = {name: list(part.shape) for name, part in total.parts.items()}, total.shares
        if self.kind == "kept":
            s.state["more"] = total["delta"]
        if self.kind == "wider":
            s.state["mean"] = torch.zeros(7)
        return {"length": total["delta"]} if self.kind == "told" else None


def made(kind: str = "") -> Composition:
    wrong = type("Wrong", (Stepping,), {"kind": kind})
    return compose(wrong(), [], Mean(), LocalSection(2, 8))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("unheard", r"^algorithm: the server's step of Wrong fails: KeyError: 'deltas'$"),
        ("told", r"^algorithm: the server's step of Wrong fails: "),
        ("kept", r"leaves mean, more in s\.state, of other names or shapes than its start, mean: start returns all$"),
        ("wider", r"leaves mean in s\.state, of other names or shapes than its start, mean: start returns all$"),
    ],
)
def test_a_step_that_is_wrong_is_refused_before_the_run(kind: str, words: str) -> None:
    vector = torch.zeros(SIZE)
    check_step(made(), TASK, vector)
    with pytest.raises(ConfigError, match=words):
        check_step(made(kind), TASK, vector)
    assert not vector.any()


@dataclass(frozen=True)
class Halves(FedAvg):
    """One half of the model travels in each round; the step may move the other one as well."""

    beside: float = 0.0

    def split(self, layout: Layout) -> Sequence[Collection[str]]:
        names = [entry.name for entry in layout.parameters]
        return names[:2], names[2:]

    def step(self, s: Server, total: Aggregate) -> None:
        s.move(total["delta"])
        s.params[-1] += self.beside


def test_a_step_moves_the_fragment_of_the_round_alone() -> None:
    task = local_task(class_problem(), program=Halves())
    check_step(compose(Halves(), [], Mean(), LocalSection(2, 8)), task, torch.zeros(SIZE))
    with pytest.raises(ConfigError, match=r"Halves moves more than the fragment of the round: s\.move\(delta\)"):
        check_step(compose(Halves(beside=1.0), [], Mean(), LocalSection(2, 8)), task, torch.zeros(SIZE))


def test_the_step_hears_what_a_round_gives_it() -> None:
    tried = replace(made(), profile=Profile(sends={"pair": 2, "one": 1}, slots={"pair": 3}))
    check_step(tried, TASK, torch.zeros(SIZE))
    heard, shares = type(tried.program).heard  # type: ignore[attr-defined]
    assert heard == {"delta": [SIZE], "pair": [3, 2], "one": [1]}
    assert list(shares) == ["pair"]
    torch.testing.assert_close(shares["pair"], torch.full((3,), 1 / 3))
