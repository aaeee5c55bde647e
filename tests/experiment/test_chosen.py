"""Parts that are named or made in Python: what fits is taken as it is, what does not is refused by its key."""

from __future__ import annotations

import pytest
from torch import nn

from fedray.core.errors import ConfigError
from fedray.experiment.chosen import chosen_data, chosen_function, chosen_trackers
from fedray.local.losses import losses
from fedray.optim import SGD, optimizers
from fedray.tracking import Tracker
from tests.helpers import class_problem


def test_data_are_named_or_made() -> None:
    data = class_problem().data
    assert chosen_data(data).data is data
    assert chosen_data("digits").name == "digits"
    with pytest.raises(ConfigError, match=r"^data: a fedray\.FederatedData is needed"):
        chosen_data(object())


def test_any_function_will_do_where_a_function_is_needed() -> None:
    def loss(output: object, target: object) -> None: ...

    assert chosen_function(losses, loss, "local.loss") is loss
    assert chosen_function(losses, "mse", "local.loss") is losses["mse"]
    assert chosen_function(optimizers, {"lr": 0.5}, "local.optimizer", "sgd") == SGD(0.5)
    with pytest.raises(ConfigError, match=r"^local\.loss: a function is needed, this is a class: give MSELoss\(\)"):
        chosen_function(losses, nn.MSELoss, "local.loss")
    with pytest.raises(ConfigError, match=r"^local\.optimizer: "):
        chosen_function(optimizers, object(), "local.optimizer")


def test_a_tracker_that_is_there_twice_is_refused() -> None:
    elsewhere = {"name": "tensorboard", "log_dir": "board"}
    assert len(chosen_trackers(["tensorboard", elsewhere, Tracker()])) == 3
    with pytest.raises(ConfigError, match=r"^tracking\[2\]: the same tracker as tracking\[0\]"):
        chosen_trackers(["tensorboard", Tracker(), {"name": "tensorboard"}])
