"""Models that do not fit the data, and options that make no sense, are one clear error."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedray.core.errors import ConfigError
from fedray.models.fit import check_choice, check_counts, check_dropout, feature_count, image_shape, token_length
from tests.models.cases import FEATURES, IMAGES, TOKENS


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_counts(layers=1, width=0), "width must be at least 1, got 0"),
        (lambda: check_dropout(1.0), r"dropout must be in \[0, 1\), got 1.0"),
        (
            lambda: check_choice("activation", "rely", ["relu", "tanh"]),
            "one of relu, tanh, got 'rely'.*did you mean 'relu'",
        ),
        (lambda: feature_count(TOKENS, "mlp"), r"mlp needs numeric inputs; the data has tokens of shape \(5,\)"),
        (lambda: image_shape(FEATURES, "cnn"), r"cnn needs images of shape .*; the data has \(6,\)"),
        (lambda: image_shape(IMAGES, "cnn", 9), r"images of at least 9 x 9 pixels; the data has \(2, 8, 8\)"),
        (lambda: token_length(FEATURES, "lstm"), r"lstm needs token sequences of shape \(length,\)"),
    ],
)
def test_what_does_not_fit_says_what_is_needed(check: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check()


def test_what_fits_gives_its_sizes() -> None:
    check_counts(layers=1, width=8)
    check_dropout(0.0)
    check_choice("activation", "relu", ["relu", "tanh"])
    assert feature_count(IMAGES, "mlp") == 2 * 8 * 8
    assert image_shape(IMAGES, "cnn", 8) == (2, 8, 8)
    assert token_length(TOKENS, "lstm") == 5
