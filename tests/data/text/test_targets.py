"""Targets of texts: what a column is taken for, and what is made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedray.core.errors import ConfigError
from fedray.data.text.options import TextOptions
from fedray.data.text.targets import Targets


def learnt(*words: Any, **options: Any) -> Targets:
    return Targets.learnt(TextOptions("bytes", target="it", **options), {"it": np.array(list(map(str, words)))})


@pytest.mark.parametrize(
    ("words", "options", "classes"),
    [
        (("sad", "glad", "sad"), {}, ("glad", "sad")),
        ((10, 9, 10), {}, ("9", "10")),
        ((1, "x"), {}, ("1", "x")),
        ((True, False), {}, ("False", "True")),
        (range(21), {}, None),
        (range(21), {"task": "classification"}, tuple(map(str, range(21)))),
        ((0.5, 1), {}, None),
        ((0.5, 1), {"task": "classification"}, ("0.5", "1")),
        ((0, 1), {"task": "regression"}, None),
        (("b",), {"classes": ["b", "a"]}, ("b", "a")),
        ((1,), {"classes": [1, 0]}, ("1", "0")),
    ],
)
def test_a_column_is_classes_or_numbers(words: Any, options: dict[str, Any], classes: Any) -> None:
    assert learnt(*words, **options).classes == classes


def test_targets_are_numbers_of_classes_or_numbers() -> None:
    classes = learnt("b", "a", "c").of({"it": np.array(["c", "a", "c"])}, "test")
    assert (str(classes.dtype), classes.tolist()) == ("int64", [2, 0, 2])
    options = TextOptions("bytes", target=["rude", "loud"])
    said = {"rude": np.array(["True", "0"]), "loud": np.array(["0.25", "1"])}
    several = Targets.learnt(options, said)
    numbers = several.of(said, "training")
    assert (str(numbers.dtype), numbers.tolist()) == ("float32", [[1.0, 0.25], [0.0, 1.0]])
    assert (several.spec(()).classes, several.spec(()).outputs) == (("rude", "loud"), 2)


@pytest.mark.parametrize(
    ("targets", "word", "message"),
    [
        (
            learnt("sad", "glad"),
            "glat",
            r"test: 'glat' of column 'it' is no class \(did you mean 'glad'\?\); those are",
        ),
        (learnt(0.5), "much", "test: 'much' of column 'it' is no number"),
        (learnt(0.5), "nan", "test: 'nan' of column 'it' is no number"),
    ],
)
def test_what_is_no_target(targets: Targets, word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        targets.of({"it": np.array([word])}, "test")
