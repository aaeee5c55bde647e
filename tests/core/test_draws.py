"""Draws from the process's own generators: named, put back as they were, and one thread's at a time."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.random import mtrand

from fedray.core.draws import NO_LOOK, RepeatedDraws, alone, drawn_since, name_draws, named, put_back, traces
from fedray.core.errors import RunFailed

DRAWS: dict[str, Callable[[], float]] = {
    "torch": lambda: float(torch.rand(())),
    "numpy.random": lambda: float(np.random.standard_normal()),  # noqa: NPY002
    "random": lambda: random.gauss(0.0, 1.0),
}


def draw() -> list[float]:
    return [one() for one in DRAWS.values()]


@pytest.mark.parametrize("drawn", DRAWS)
def test_draws_are_a_function_of_their_name(drawn: str) -> None:
    def of(*name: int) -> float:
        DRAWS[drawn]()  # whatever was drawn before
        with named(name[0], "local", name[1], name[2]):
            return DRAWS[drawn]()

    names = [(7, 1, 0), (8, 1, 0), (7, 2, 0), (7, 1, 1)]
    first = [of(*name) for name in names]
    assert [of(*name) for name in names] == first
    assert len(set(first)) == len(names)


def test_torch_is_seeded_as_ever() -> None:
    """The draws of a model that uses torch's generator are those of the runs before."""
    with named(7, "local", 1, 3):
        assert float(torch.rand(())) == 0.5199885964393616


def test_the_generators_do_not_say_the_same() -> None:
    with named(7, "local"):
        assert random.random() != np.random.random()  # noqa: NPY002


def test_generators_are_put_back_also_after_an_error() -> None:
    draw()  # an odd number of normal draws: the second of a pair is kept for later
    before = traces()

    def fails() -> None:
        with put_back():
            draw()
            assert drawn_since(before) == list(DRAWS)
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fails()
    assert drawn_since(before) == []
    following = draw()
    with named(7, "local"):
        assert draw() != following


def test_another_kind_of_numpy_generator_is_put_back() -> None:
    mine = np.random.PCG64(3)
    usual = mtrand.get_bit_generator()
    try:
        mtrand.set_bit_generator(mine)
        with named(7, "local"):
            first = draw()
        assert mtrand.get_bit_generator() is mine
    finally:
        mtrand.set_bit_generator(usual)
    with named(7, "local"):
        assert draw() == first


def test_inside_put_back_names_follow_one_another() -> None:
    def each(order: list[int]) -> dict[int, list[float]]:
        found = {}
        with put_back():
            for client in order:
                name_draws(0, "data", client=client)
                found[client] = draw()
        return found

    assert each([0, 1, 2]) == each([2, 0, 1])


def test_another_thread_is_refused_and_this_one_may_enter_again() -> None:
    said: list[str] = []

    def other() -> None:
        try:
            with named(7, "local"):
                said.append("drew")
        except RunFailed as error:
            said.append(str(error))

    with alone(), named(7, "local"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "another thread of this process trains" in said[0]
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert said[1] == "drew"


def looks(repeated: RepeatedDraws, steps: int) -> list[int]:
    """The steps of a fit that are looked at, of a model that draws nothing."""
    repeated.fit_begins()
    return [step for step in range(steps) if repeated.look(step) is not NO_LOOK]


def test_looks_become_rare_unless_the_model_draws() -> None:
    repeated = RepeatedDraws()
    assert [looks(repeated, 10) for _ in range(5)] == [[0, 1, 2, 4, 8], [0, 1, 2, 4, 8], [], [0, 1, 2, 4, 8], []]
    for _ in range(3):
        repeated.fit_begins()
    look = repeated.look(0)
    random.random()
    look.forward_ends()
    look.backward_ends()
    assert [looks(repeated, 10) for _ in range(2)] == [[0], [0]]


@pytest.mark.gpu
def test_the_generator_of_a_gpu_is_looked_at() -> None:
    device = torch.device("cuda", 0)
    look = RepeatedDraws([device]).look(0)
    torch.rand(2, device=device)
    look.forward_ends()
    torch.rand(2)
    look.backward_ends()  # another generator
    torch.rand(2, device=device)
    with pytest.raises(RuntimeError, match=r"^torch on cuda:0: the generator is drawn from in the forward pass and"):
        look.backward_ends()
