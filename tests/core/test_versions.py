"""Changes of tensors, told without a copy."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedray.core.versions import changed, versions


def replaced(kept: dict[str, Tensor]) -> None:
    kept["a"] = kept["a"].clone()


def came(kept: dict[str, Tensor]) -> None:
    kept["more"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda kept: kept["a"].add_(1.0), ["a"]),
        (lambda kept: kept["a"][1:].zero_(), ["a"]),
        (lambda kept: kept["b"].copy_(kept["a"]), ["b"]),
        (replaced, ["a"]),
        (came, ["more"]),
        (lambda kept: kept.pop("b"), ["b"]),
        (lambda kept: kept["a"] + kept["b"].sum(), []),
        (lambda kept: kept["a"].clone().mul_(2.0), []),
    ],
)
def test_what_was_changed_is_told(change: Callable[[dict[str, Tensor]], object], names: list[str]) -> None:
    kept = {"a": torch.full((3,), math.nan), "b": torch.ones(3)}
    before = versions(kept)
    change(kept)
    assert changed(before, kept) == names
