"""What cannot be sent to a worker is named by what its user calls it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from fedray.cluster.unpicklable import refusal
from fedray.models.prototype import Prototype
from tests.helpers import class_problem, local_task

LOCK = threading.Lock()


class Tool:
    """Holds a lock."""

    def __init__(self) -> None:
        self.lock = LOCK

    def make(self) -> nn.Module:
        return nn.Linear(6, 3)


def by_closure() -> Callable[[], nn.Module]:
    lock = LOCK
    return lambda: (lock, nn.Linear(6, 3))[1]


def by_function_inside() -> Callable[[], nn.Module]:
    inner = by_closure()
    return lambda: inner()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model_fn": by_closure()}, ["model_fn, the function by_closure", "test_unpicklable.py:", "'lock'"]),
        ({"model_fn": Prototype(by_closure())}, ["model_fn, the function by_closure", "'lock'"]),
        ({"model_fn": partial(max, by_function_inside())}, ["model_fn, the function by_closure", "'lock'"]),
        ({"optimizer_fn": lambda p, lock=LOCK: torch.optim.SGD(p, 0.1)}, ["optimizer_fn, the function", "'default 0'"]),
        ({"loss_fn": Tool().make}, ["loss_fn: it holds on to 'lock'"]),
    ],
)
def test_the_innermost_is_named_with_the_function_that_holds_it(changed: dict[str, Any], words: list[str]) -> None:
    task = replace(local_task(class_problem(), stack="off"), **changed)
    text = str(refusal(task, TypeError("cannot pickle '_thread.lock' object")))
    for word in (*words, "an object of type lock cannot be sent to another process", "cluster.name=inline"):
        assert word in text


def test_what_no_function_of_the_users_holds_is_told_in_the_words_of_pickle() -> None:
    text = str(refusal(local_task(class_problem(), stack="off"), TypeError("cannot pickle\nthis")))
    assert text == "the run cannot be sent to its workers: TypeError: cannot pickle this"
