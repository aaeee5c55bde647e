"""A fit begins with what the one before has computed, unless somebody wrote into the models: the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedray.config.sections import LocalSection
from fedray.local.batched import ClientLinear
from fedray.local.clients import Clients
from fedray.local.known_outputs import KnownOutputs
from tests.helpers import class_problem, train
from tests.local.test_orders import task


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def in_place() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.ELU(inplace=True), nn.Linear(6, 3))


def after(name: str, between: Callable[[Clients], object] = lambda c: None) -> Callable[[Clients], None]:
    """The last layer, and then those before it."""

    def program(c: Clients) -> None:
        c.fit(only=lambda entry: entry.name.startswith(name), steps=1)
        between(c)
        c.fit(only=lambda entry: not entry.name.startswith(name), steps=1)

    return program


PROGRAMS: dict[str, tuple[Callable[[Clients], None], Callable[[], nn.Module], int, int]] = {
    "known": (after("4."), model, 11, 2),
    "written into": (after("4.", lambda c: c.params.mul_(1.5)), model, 11, 0),
    "other models between": (after("4.", lambda c: c.fit(c.down["model"].repeat(len(c), 1))), model, 11, 0),
    "other batches": (after("4."), model, 4, 0),
    "in place": (after("2."), in_place, 11, 0),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_known_outputs_are_taken_where_nothing_changed_and_have_the_bits_of_new_ones(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, model_fn, batch, layers = PROGRAMS[name]
    tried = task(program, 4, LocalSection(1, batch), class_problem((11, 11, 9, 7), model_fn=model_fn))
    given: list[Tensor] = []
    forward = ClientLinear.forward

    def counted(ctx: Any, *args: Any) -> Tensor:
        given.extend(args[3:4] if len(args) > 3 and args[3] is not None else ())
        return forward(ctx, *args)

    monkeypatch.setattr(ClientLinear, "forward", staticmethod(counted))
    found = train(tried, [0, 1, 2, 3])
    assert len(given) == layers
    monkeypatch.setattr(KnownOutputs, "of", lambda *_: {})
    again = train(tried, [0, 1, 2, 3])
    assert len(given) == layers
    assert torch.equal(found.parts["delta"], again.parts["delta"])
    assert found.loss.tolist() == again.loss.tolist()
