"""Dropout by name: in every form torch has, computed again in a backward, and torch's functions put back."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fedray.config.sections import LocalSection
from fedray.core.errors import RunFailed
from fedray.local.clients import Clients
from fedray.local.dropout import NamedDropout, recomputing
from fedray.local.program import ClientProgram
from fedray.local.task import LocalTask, Stacking
from tests.helpers import class_problem, local_task, relative, train

SIZES = (9, 5, 4)
FUNCTIONS = (functional.dropout, functional.scaled_dot_product_attention, torch.get_rng_state, torch.set_rng_state)


def native() -> bool:
    return (
        functional.dropout,
        functional.scaled_dot_product_attention,
        torch.get_rng_state,
        torch.set_rng_state,
    ) == FUNCTIONS


class Layers(nn.Module):
    """A layer and the same again: what a model would keep, or compute twice."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3)
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(torch.tanh(self.inner(x)))
        return out


class Functional(Layers):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(super().forward(x), 0.2, self.training)


class Attention(Layers):
    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return functional.scaled_dot_product_attention(x, x, x, dropout_p=0.3 if self.training else 0.0)


class MultiHead(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        out: Tensor = self.heads(x, x, x, need_weights=False)[0]
        return out


class Noise(Layers):
    """Draws from numpy's generator, of which torch does not know."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float(np.random.uniform(0.5, 1.5))  # noqa: NPY002


class Own(nn.Module):
    """A layer with a mask of the user's own."""

    def __init__(self, mask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.mask = nn.Linear(8, 8), mask

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.inner(x)) * self.mask(x) if self.training else x


UNNAMED: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "AlphaDropout": ("torch", lambda: nn.Sequential(nn.Linear(8, 8), nn.AlphaDropout(0.3), nn.Tanh())),
    "Dropout1d": ("torch", lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout1d(0.3), nn.Tanh())),
    "torch.rand": ("torch", lambda: Own(lambda x: torch.rand(x.shape).round())),
    "numpy": ("numpy.random", lambda: Own(lambda x: torch.full((), np.random.uniform(0.5, 1.5)))),  # noqa: NPY002
    "random": ("random", lambda: Own(lambda x: torch.full((), random.random()))),
}
"""Layers of which :class:`NamedDropout` does not know, with the generator that each draws from."""


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "module": Layers,
    "function": Functional,
    "attention": Attention,
    "MultiheadAttention": MultiHead,
    "TransformerEncoderLayer": partial(nn.TransformerEncoderLayer, 8, 2, 8, dropout=0.3, batch_first=True),
    "numpy's generator": Noise,
}


class Net(nn.Module):
    """Two equal blocks, which ``saving`` runs."""

    def __init__(self, layer: Callable[[], nn.Module], saving: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.head = layer(), layer(), nn.Linear(8, 3)
        self.saving = saving

    def forward(self, x: Tensor) -> Tensor:
        for block in (self.first, self.second):
            x = self.saving(block, x) if self.training else block(x)
        out: Tensor = self.head(x.mean(dim=1))
        return out


def whole(block: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = block(x)
    return out


def recomputed(block: nn.Module, x: Tensor, reentrant: bool = False, preserve: bool = True) -> Tensor:
    if reentrant:
        x.requires_grad_()
    out: Tensor = checkpoint(block, x, use_reentrant=reentrant, preserve_rng_state=preserve)
    return out


def nested(block: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = checkpoint(lambda h: recomputed(block, block(h)), x, use_reentrant=False)
    return out


def twice(block: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = block(block(x))
    return out


class Objective(ClientProgram):
    """The task's loss, as a program gives one of its own."""

    def client(self, c: Clients) -> None:
        c.fit(objective=lambda step: step.loss())


class Elsewhere(ClientProgram):
    """Follows the gradient of the task's loss at twice the parameters."""

    def client(self, c: Clients) -> None:
        c.fit(gradient=lambda step, grad: grad.copy_(step.gradient(2.0 * step.params)))


def task_with(layer: Callable[[], nn.Module], saving: Callable[[nn.Module, Tensor], Tensor]) -> LocalTask:
    problem = class_problem(SIZES, (4, 8), 3, lambda: Net(layer, saving))
    return local_task(problem, args=LocalSection(2, 4), stack="off")


def task_of(layer: str, saving: Callable[[nn.Module, Tensor], Tensor]) -> LocalTask:
    return task_with(LAYERS[layer], saving)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.one_in(4)
def test_activation_checkpointing_changes_nothing(layer: str, reentrant: bool) -> None:
    plain = train(task_of(layer, whole), range(3))
    saving = train(task_of(layer, partial(recomputed, reentrant=reentrant)), range(3))
    assert torch.equal(saving.parts["delta"], plain.parts["delta"])
    assert native()


@pytest.mark.parametrize("layer", ["MultiheadAttention", "numpy's generator"])
def test_checkpoints_inside_checkpoints_change_nothing(layer: str) -> None:
    plain, saving = (train(task_of(layer, how), range(3)) for how in (twice, nested))
    assert torch.equal(saving.parts["delta"], plain.parts["delta"])


@pytest.mark.parametrize("layer", [name for name in LAYERS if name != "numpy's generator"])
@pytest.mark.one_in(2)
def test_a_stack_draws_what_each_draws_alone(layer: str) -> None:
    problem = class_problem(SIZES, (4, 8), 3, lambda: Net(LAYERS[layer], whole))
    task = local_task(problem, args=LocalSection(2, 4), stack=3)
    assert task.stacking.stacked, task.stacking.reason
    stacked, alone = train(task, range(3)), train(replace(task, stacking=Stacking(1, False, "")), range(3))
    assert relative(stacked.parts["delta"], alone.parts["delta"]) <= 1e-5
    assert native()


def test_a_model_that_recomputes_does_not_stack() -> None:
    problem = class_problem(SIZES, (4, 8), 3, lambda: Net(Layers, recomputed))
    assert "vmap" in local_task(problem, stack=3).stacking.reason


@pytest.mark.parametrize("reentrant", [False, True])
def test_other_masks_in_the_backward_are_an_error_that_says_so(reentrant: bool) -> None:
    task = task_of("module", partial(recomputed, reentrant=reentrant, preserve=False))
    with pytest.raises(RuntimeError, match="activation checkpointing needs preserve_rng_state=True"):
        train(task, [0])
    assert native()


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("layer", UNNAMED)
@pytest.mark.one_in(2)
def test_other_draws_in_the_backward_are_an_error_that_names_the_generator(layer: str, reentrant: bool) -> None:
    generator, make = UNNAMED[layer]
    task = task_with(make, partial(recomputed, reentrant=reentrant, preserve=False))
    said = rf"^{generator}: the generator is drawn .* activation checkpointing needs preserve_rng_state=True"
    for program in (task.program,) if reentrant else (task.program, Objective(), Elsewhere()):
        with pytest.raises(RuntimeError, match=said):
            train(replace(task, program=program), [0])
    plain, saving = (train(task_with(make, how), range(3)) for how in (whole, partial(recomputed, reentrant=reentrant)))
    assert torch.equal(saving.parts["delta"], plain.parts["delta"])
    assert native()


@pytest.mark.parametrize("program", [Objective(), Elsewhere()])
def test_gradients_that_go_around_an_algorithm_are_an_error(program: ClientProgram) -> None:
    """torch.autograd.grad gives zeros to what lies in a reentrant checkpoint whose input has no other parameters."""
    task = task_with(Layers, partial(recomputed, reentrant=True))
    with pytest.raises(RuntimeError, match="say use_reentrant=False"):
        train(replace(task, program=program), [0])
    assert native()
    plain, saving = (replace(task_with(Layers, how), program=program) for how in (whole, recomputed))
    assert torch.equal(train(saving, range(3)).parts["delta"], train(plain, range(3)).parts["delta"])


@pytest.mark.parametrize("program", [ClientProgram(), Objective(), Elsewhere()])
@pytest.mark.parametrize("begins", [2, 4])
def test_draws_that_begin_late_are_looked_at(begins: int, program: ClientProgram) -> None:
    class Late(Own):
        def __init__(self) -> None:
            super().__init__(lambda x: torch.rand(x.shape).round())
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1  # in a step twice at least: it is computed again
            return super().forward(x) if self.calls > 2 * begins else torch.tanh(self.inner(x))

    task = replace(task_with(Late, partial(recomputed, preserve=False)), program=program)
    with pytest.raises(RuntimeError, match=r"^torch: the generator is drawn from in the forward pass and again"):
        train(task, [0])


def test_noise_in_a_hook_of_the_backward_is_no_error() -> None:
    class Noisy(Layers):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            if self.training:
                out.register_hook(lambda grad: grad + 0.01 * torch.randn_like(grad))
            return out * random.random()

    first, again = (train(task_with(Noisy, whole), range(3)).parts["delta"] for _ in range(2))
    assert torch.equal(first, again)


def test_a_draw_in_a_hook_of_the_backward_is_an_error() -> None:
    class Hooked(Layers):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            out.register_hook(lambda grad: functional.dropout(grad, 0.5))
            return out

    problem = class_problem(SIZES, (4, 8), 3, lambda: Net(Hooked, whole))
    with pytest.raises(RuntimeError, match="dropout draws a mask while gradients are computed"):
        train(local_task(problem, stack="off"), [0])
    assert native()


def test_functions_are_put_back_when_a_model_raises() -> None:
    class Raises(Layers):
        def forward(self, x: Tensor) -> Tensor:
            assert not native()
            raise ValueError("boom")

    for stack in ("off", 3):
        problem = class_problem(SIZES, (4, 8), 3, lambda: Net(Raises, whole))
        task = replace(local_task(problem, stack="off"), stacking=Stacking(3 if stack == 3 else 1, stack == 3, ""))
        with pytest.raises(ValueError, match="boom"):
            train(task, [0, 1])
        assert native()


def test_functions_are_as_they_were_between_the_steps() -> None:
    seen: list[bool] = []

    class Watched(torch.optim.SGD):
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            seen.append(native())
            super().step()

    problem = class_problem(SIZES, (4, 8), 3, lambda: Net(Layers, whole))
    train(local_task(problem, optimizer=partial(Watched, lr=0.1), stack="off"), [0])
    assert seen == [True] * 3


def test_a_second_entry_leaves_the_first_as_it_was() -> None:
    one, other = NamedDropout(1), NamedDropout(2)
    x = torch.ones(1, 2, 4, 8)
    with one:
        mine = functional.dropout
        with one, recomputing(other):
            assert functional.dropout != mine
            assert functional.scaled_dot_product_attention(x, x, x).shape == x.shape
        assert functional.dropout == mine
        assert functional.scaled_dot_product_attention(x, x, x).shape == x.shape
    assert native()


def test_two_threads_cannot_both_be_inside() -> None:
    said: list[str] = []

    def other() -> None:
        try:
            with NamedDropout(1):
                said.append("entered")
        except RunFailed as error:
            said.append(str(error))

    with NamedDropout(1):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert said[0].startswith("another thread of this process trains")
    assert native()


def test_masks_of_an_earlier_version_stay() -> None:
    """Masks of 16 elements, two a step, of client 5 in round 2: drawn before dropout was scoped to a step."""
    drop = NamedDropout(7)
    drop.client = torch.tensor(5)
    drop.at(2, 1)
    with drop:
        masks = [(functional.dropout(torch.ones(16), 0.5) > 0).int().tolist() for _ in range(2)]
    assert masks == [
        [1, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1],
        [1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1],
    ]


def test_no_two_masks_of_a_round_are_one_however_many_a_step_draws() -> None:
    """A recurrent model in plain Python drops thousands of times in a step."""
    drop = NamedDropout(7)
    seen: set[tuple[bool, ...]] = set()
    with drop:
        for step in range(2):
            drop.at(1, step)
            seen |= {tuple((functional.dropout(torch.ones(64), 0.5) > 0).tolist()) for _ in range(1100)}
    assert len(seen) == 2 * 1100


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_dropout_in_place_changes_what_it_was_given(p: float) -> None:
    """As a model may call it for that effect alone."""
    x, y = torch.ones(16), torch.ones(16)
    drop = NamedDropout(7)
    with drop:
        assert functional.dropout(x, p, inplace=True) is x
        drop.at(0, 0)
        assert torch.equal(functional.dropout(y, p), x)
    assert (x == 0).any()
    assert torch.equal(y, torch.ones(16))


@pytest.mark.parametrize(
    "options",
    [
        {"is_causal": True},
        {"attn_mask": torch.tensor([[True, False, True]] * 3)},
        {"attn_mask": torch.tensor([[0.0, -1.0, 2.0]] * 3), "scale": 0.7},
    ],
    ids=["causal", "mask", "bias"],
)
def test_attention_that_drops_next_to_nothing_is_torchs_own(options: dict[str, Any]) -> None:
    query, key, value = torch.randn(3, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = functional.scaled_dot_product_attention(query, key, value, **options)
    with NamedDropout(0):
        found = functional.scaled_dot_product_attention(query, key, value, dropout_p=1e-12, **options)
    torch.testing.assert_close(found, expected)
