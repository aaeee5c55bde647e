"""FedPer and LG-FedAvg against the papers' loops."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedray.algorithms import FedPer, LGFedAvg
from fedray.core.errors import ConfigError
from tests.algorithms.classes import LR, ROUNDS, STEPS, Classes, assert_is_the_loop

HEAD = slice(56, 92)
BODY = slice(0, 56)


@pytest.mark.parametrize(
    ("algorithm", "home"),
    [(FedPer(), HEAD), (LGFedAvg(), BODY), (FedPer(layers=["1"]), BODY), (LGFedAvg(layers=["3.*"]), HEAD)],
)
def test_a_part_stays_at_home_and_the_rest_is_averaged(algorithm: FedPer, home: slice, tmp_path: Path) -> None:
    classes = Classes()
    first = classes.initial()
    w, own = first.clone(), [first] * 4
    for _ in range(ROUNDS):
        for c in range(4):
            start = w.clone()
            start[home] = own[c][home]
            for _ in range(STEPS):
                start = start - LR * classes.gradient(c, start)
            own[c] = start
        w = classes.mean(own)
    w[home] = first[home]
    models = []
    for c in range(4):
        model = w.clone()
        model[home] = own[c][home]
        models.append(model)
    assert_is_the_loop(classes, algorithm, w, tmp_path, models)


def test_layers_that_the_model_lacks_are_refused() -> None:
    import fedray

    x = torch.zeros(4, 3)
    data = fedray.FederatedData.from_arrays(x, [0, 1, 0, 1], clients=[0, 0, 1, 1])
    with pytest.raises(ConfigError, match=r"^algorithm: fedper keeps nothing with the clients.*0\.weight, 0\.bias"):
        fedray.train(
            fedray.FederatedModel(lambda: torch.nn.Sequential(torch.nn.Linear(3, 2))),
            data,
            algorithm=fedray.FedPer(layers=["fc.*"]),
            cluster="inline",
        )
