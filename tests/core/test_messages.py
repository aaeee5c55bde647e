"""What crosses between server and workers survives pickling, and cannot be changed on the way."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from fedray.core.messages import Aggregate, Block, BlockReport, Broadcast, Failure
from fedray.core.places import Places

PLACES = Places(np.array([4]), ("w0-17",), np.array([0]), np.array([3]))

MESSAGES = [
    Broadcast(3, {"model": torch.arange(4.0)}, 12.5),
    PLACES,
    Block(2, 1, np.array([4, 7]), PLACES, "hospital", (7,)),
    Failure(4, "a", 2, "train", "ValueError: x"),
    BlockReport(0, np.array([1]), np.ones(1), np.zeros(1), np.array([5]), PLACES, (), 0.5),
    Aggregate({"delta": torch.ones(2)}, 3.0, 2),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_pickled_and_back_it_says_the_same(message: object) -> None:
    assert repr(pickle.loads(pickle.dumps(message))) == repr(message)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_nobody_writes_to_it(message: object) -> None:
    name = (type(message).__slots__ or type(message)._fields)[0]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        setattr(message, name, None)
