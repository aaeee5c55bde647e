"""The rarer of two classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.tasks.rare import rarely


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_class_below_a_tenth_is_rare_and_the_words_are_of_the_other(one: int, other: int) -> None:
    said = rarely(np.array([one, other]), ["well", "ill"])
    rarer, total = min(one, other), one + other
    assert bool(said) == (0 < 10 * rarer < total)
    if said:
        name, always = ("well", "ill") if one < other else ("ill", "well")
        assert said.startswith(f"class {name} has {rarer} of {total} training examples: to answer {always} always is")
        assert f"right in {100 * (total - rarer) / total:.1f}%; " in said


@pytest.mark.parametrize(
    ("done", "words"),
    [
        ({}, ["metrics: [auroc, sensitivity, specificity]", "local.class_weights: balanced"]),
        ({"metrics": True}, ["local.class_weights: balanced"]),
        ({"weights": True}, ["metrics: [auroc, sensitivity, specificity]"]),
        ({"metrics": True, "weights": True}, []),
    ],
)
def test_what_is_done_is_not_advised(done: dict[str, bool], words: list[str]) -> None:
    said = rarely(np.array([5, 195]), ["ill", "well"], **done)
    assert bool(said) == bool(words)
    assert [
        word for word in ("metrics: [auroc, sensitivity, specificity]", "local.class_weights: balanced") if word in said
    ] == words


def test_of_three_classes_none_is_said_to_be_rare() -> None:
    assert rarely(np.array([5, 195, 300]), ["a", "b", "c"]) == ""
