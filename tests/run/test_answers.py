"""A run whose model has one answer for everybody says so at its end, whatever the share of the classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fedray

SHARE = 0.16


class Always(nn.Module):
    """A model whose bias outweighs all that a few steps can learn, but for the clients whose inputs say otherwise."""

    def __init__(self, bias: float, slope: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[0.0, 0.0], [slope, 0.0]]))
            self.linear.bias.copy_(torch.tensor([bias, 0.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.linear(x)
        return found


def sites(first: float = 0.0) -> fedray.FederatedData:
    """Four sites, where every sixth patient is ill; at the first the inputs are larger."""
    owner = np.repeat(["nord", "ost", "sued", "west"], 100)
    x = np.random.default_rng(3).standard_normal((400, 2)).astype("f4")
    x[:100, 0] += first
    y = (np.arange(400) % 25 < 25 * SHARE).astype(int)
    return fedray.FederatedData.from_arrays(x, y, clients=owner, test=(x, y)).with_holdout(0.5, seed=1)


def trained(folder: Path, model: Any, data: fedray.FederatedData, **options: Any) -> str:
    args = fedray.TrainArgs(rounds=2, evaluate_clients_every=1, optimizer={"name": "sgd", "lr": 1e-4}, **options)
    fedray.train(fedray.FederatedModel(model), data, args, cluster="inline", run_dir=folder, progress=False)
    return (folder / "log.txt").read_text()


def lines(log: str) -> list[str]:
    return [line for line in log.splitlines() if "one class is the only answer" in line]


def test_one_line_says_so_of_the_test_set_and_of_all_clients(tmp_path: Path) -> None:
    (said,) = lines(trained(tmp_path / "run", lambda: Always(9.0), sites()))
    assert "'0' for all 400 of test, of which 64 are of another class; '0' for all" in said
    assert "of clients_test" in said
    assert "local.class_weights: balanced" in said
    assert "--threshold" in said
    assert "WARNING" in said.upper()
    table = fedray.read_clients(tmp_path / "run").to_pylist()
    assert {row["sensitivity"] for row in table if row["view"] == "global"} == {0.0}


def test_a_single_site_is_named(tmp_path: Path) -> None:
    (said,) = lines(trained(tmp_path / "run", lambda: Always(0.0, slope=1.0), sites(first=50.0)))
    assert "for each of the clients nord ('1', " in said
    assert not {"ost", "sued", "west", "test,"} & set(said.split())


def test_where_both_are_said_there_is_no_line(tmp_path: Path) -> None:
    assert not lines(trained(tmp_path / "run", lambda: Always(0.0, slope=1.0), sites()))


def test_weights_that_are_there_are_not_advised(tmp_path: Path) -> None:
    (said,) = lines(trained(tmp_path / "run", lambda: Always(9.0), sites(), class_weights="balanced"))
    assert "class_weights" not in said


def test_a_resumed_run_says_it_of_its_newest_evaluation(tmp_path: Path) -> None:
    log = trained(tmp_path / "run", lambda: Always(9.0), sites())
    model, data = fedray.FederatedModel(lambda: Always(9.0)), sites()
    args = fedray.TrainArgs(rounds=3, evaluate_clients_every=1, optimizer={"name": "sgd", "lr": 1e-4})
    fedray.train(model, data, args, cluster="inline", run_dir=tmp_path / "run", resume=True, progress=False)
    assert len(lines((tmp_path / "run" / "log.txt").read_text())) == len(lines(log)) + 1


def test_without_the_examples_of_each_class_nothing_is_known(tmp_path: Path) -> None:
    fedray.train(
        fedray.FederatedModel(lambda: Always(9.0)),
        sites(),
        fedray.TrainArgs(rounds=1),
        metrics=["accuracy"],
        cluster="inline",
        run_dir=tmp_path / "run",
        progress=False,
    )
    assert not lines((tmp_path / "run" / "log.txt").read_text())
