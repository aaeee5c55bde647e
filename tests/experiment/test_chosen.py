"""Parts that are named or made in Python: what fits is taken as it is, what does not is refused by its key."""

from __future__ import annotations

import pytest
from torch import nn

from fedray.core.errors import ConfigError
from fedray.experiment.chosen import chosen_data, chosen_function, chosen_server, chosen_trackers
from fedray.local.losses import losses
from fedray.optim import SGD, Constant, Cosine, optimizers
from fedray.server import SGD as ServerSGD
from fedray.server import Adam
from fedray.tracking import Tracker
from tests.helpers import class_problem


def test_data_are_named_or_made() -> None:
    data = class_problem().data
    assert chosen_data(data)[0].data is data
    assert chosen_data("digits")[0].name == "digits"
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


def test_a_server_optimizer_is_named_or_made_and_plain_where_it_has_options_alone() -> None:
    assert chosen_server(None) == (None, None)
    assert chosen_server("adam") == (Adam(), Constant())
    assert chosen_server({"lr": 0.5}) == (ServerSGD(0.5), Constant())
    made = Adam(lr=0.5, lr_schedule=Cosine(T_max=3))
    assert chosen_server(made) == (made, Cosine(T_max=3))
    named, schedule = chosen_server({"name": "adam", "lr": 0.5, "lr_schedule": {"name": "cosine", "T_max": 3}})
    assert (named.lr, schedule) == (0.5, Cosine(T_max=3))  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"^server: expected a server optimizer, such as fedray\.server\.Adam"):
        chosen_server(SGD(0.5))


def test_a_tracker_that_is_there_twice_is_refused() -> None:
    elsewhere = {"name": "tensorboard", "log_dir": "board"}
    assert len(chosen_trackers(["tensorboard", elsewhere, Tracker()])) == 3
    with pytest.raises(ConfigError, match=r"^tracking\[2\]: the same tracker as tracking\[0\]"):
        chosen_trackers(["tensorboard", Tracker(), {"name": "tensorboard"}])
