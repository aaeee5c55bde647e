"""Numbers, an output for each target."""

from __future__ import annotations

import pytest

from fedray.core.errors import ConfigError
from fedray.core.losses import mse
from fedray.tasks import Regression


def test_its_loss_is_the_mean_squared_error() -> None:
    assert Regression().loss_fn is mse


def test_a_flat_output_for_a_column_of_targets_is_refused_with_both_shapes() -> None:
    with pytest.raises(ConfigError, match=r"it gives \(2,\) for targets \(2, 1\); they must have as many dimensions"):
        Regression().check((2,), (2, 1))
