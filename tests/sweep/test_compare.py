"""A config and its baselines: what each line is of."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fedray.config.layers import load_layers
from fedray.core.errors import ConfigError
from fedray.experiment.build import Config
from fedray.metrics.intervals import wilson
from fedray.sweep.compare import Contender, Line, check, contenders, lines

SMALL = """\
seed: 3
data: {name: synthetic, clients: 4, examples: 12, features: 6, classes: 3, heterogeneity: 0.5, test: 30}
model: {name: mlp, hidden: [5]}
local: {batch_size: 5, optimizer: {name: sgd, lr: 0.1}}
rounds: 3
cluster: {name: inline}
tracking: []
"""


def made(folder: Path, *changes: str, algorithms: Sequence[str] = ()) -> list[Contender]:
    path = folder / "small.yaml"
    path.write_text(SMALL)
    return contenders("small", load_layers(path, changes), algorithms, folder / "out")


def compared(folder: Path, *changes: str, algorithms: Sequence[str] = ()) -> list[Line]:
    wanted = made(folder, *changes, algorithms=algorithms)
    for one in wanted:
        for _ in one.experiment().records():
            pass
        assert one.done
    return [line for one in wanted for line in lines(one)]


def test_every_line_of_a_comparison(tmp_path: Path) -> None:
    found = compared(tmp_path, "data.holdout=0.25", algorithms=["fedprox", "fedavg"])
    alone = [f"{client} alone" for client in range(4)]
    rest = ["each client alone, mean", "all rows in one place", "federated, fedavg", "federated, fedprox"]
    assert [line.words for line in found] == [*alone, *rest]
    assert [line.rows for line in found] == [9] * 4 + [None] + [36] * 3
    assert all({"loss", "accuracy"} <= set(line.test) for line in found)
    mean = sum(line.test["accuracy"] for line in found[:4]) / 4
    assert found[4].test["accuracy"] == pytest.approx(mean)
    assert all("worst" in line.own["accuracy"] for line in found[4:])


def test_all_rows_together_have_intervals_and_a_most_frequent_class(tmp_path: Path) -> None:
    changes = [
        "data.holdout=0.25",
        "data.classes=2",
        "evaluate.clients_every=3",
        "metrics=[accuracy, sensitivity, auroc]",
    ]
    found = compared(tmp_path, *changes)
    assert [line.seed for line in found] == [3] * 7
    mean, pooled, federated = found[4:]
    assert "test" not in mean.intervals, "they are of one model, and not of a mean of models"
    for line in (mean, pooled, federated):
        rows = line.intervals["own"]["accuracy"].of
        counts = [sum(one["support"][k]["count"] for one in line.clients.values()) for k in range(2)]
        assert rows == sum(counts) == 12
        share = line.own["accuracy"]["mean"]
        assert line.intervals["own"]["accuracy"] == wilson(round(share * rows), rows)
        assert line.frequent["own"] == (str(counts.index(max(counts))), max(counts) / rows)
    assert pooled.intervals["test"]["accuracy"] == wilson(round(pooled.test["accuracy"] * 30), 30)
    told = json.loads(json.dumps(federated.to_json()))
    assert told["seed"] == 3
    assert set(told["intervals"]["own"]["accuracy"]) == {"low", "high", "of"}
    assert told["frequent"]["own"] == {"class": federated.frequent["own"][0], "share": federated.frequent["own"][1]}
    assert all(0.5 <= one["frequent"]["share"] <= 1 for one in told["clients"].values())


def test_one_client_alone_is_what_is_federated(tmp_path: Path) -> None:
    alone, mean, pooled, federated = compared(tmp_path, "data.clients=1", "data.examples=40", "data.holdout=0.25")
    assert alone.test == mean.test == pytest.approx(federated.test, rel=1e-5)
    assert mean.own["loss"]["mean"] == pytest.approx(federated.own["loss"]["mean"], rel=1e-5)
    assert pooled.test["loss"] == pytest.approx(federated.test["loss"], rel=0.1)  # its examples come in another order


def test_baselines_do_without_what_speaks_of_updates(tmp_path: Path) -> None:
    parts = ["aggregator=median", "attack={name: sign_flip, clients: 0.25}"]
    wanted = made(tmp_path, *parts, "failures.dropout=0.1", "server={name: adam, lr: 0.1}")
    alone, pooled, own = (one.config for one in wanted)
    for config in (alone, pooled):
        assert (config.transforms, config.attack, config.server, config.failures.dropout) == ((), None, None, 0.0)
    assert own.attack is not None


@pytest.mark.parametrize(
    ("changes", "algorithms", "words"),
    [
        (["data.test=0"], [], "nothing to compare by"),
        (["algorithm=local_only"], [], "local_only is a baseline"),
        ([], ["centralized"], "centralized is a baseline"),
        ([], ["fedprx"], "did you mean 'fedprox'"),
    ],
)
def test_what_is_refused(changes: list[str], algorithms: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        made(tmp_path, *changes, algorithms=algorithms)


def test_options_of_the_own_algorithm_are_not_those_of_others(tmp_path: Path) -> None:
    wanted: dict[str, Any] = {
        one.algorithm: one.config.algorithm
        for one in made(tmp_path, "algorithm={name: fedprox, mu: 0.5}", algorithms=["ditto"])
    }
    assert wanted["fedprox"].mu == 0.5
    assert set(wanted) == {"local_only", "centralized", "fedprox", "ditto"}


def test_a_folder_with_a_run_of_another_config_is_refused(tmp_path: Path) -> None:
    compared(tmp_path)
    check(made(tmp_path))
    with pytest.raises(ConfigError, match=r"local.optimizer.lr: .* the comparison wants 0.2"):
        check(made(tmp_path, "local.optimizer.lr=0.2"))


def test_such_a_folder_is_refused_before_the_data_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared(tmp_path)

    def plan(*_: object) -> None:
        raise AssertionError("the data are read")

    monkeypatch.setattr(Config, "plan", plan)
    with pytest.raises(ConfigError, match=r"local.optimizer.lr: .* the comparison wants 0.2"):
        made(tmp_path, "local.optimizer.lr=0.2")
    with pytest.raises(AssertionError):
        made(tmp_path, "evaluate.every=2")  # whether that differs is known by what the data have


def test_without_a_test_set_nobody_is_said_to_lack_a_model(tmp_path: Path) -> None:
    found = compared(tmp_path, "data.test=0", "data.holdout=0.25")
    assert [line.note for line in found] == [""] * len(found)
    assert all("accuracy" in line.own for line in found)


def test_an_algorithm_without_a_model_of_all_has_its_clients_alone(tmp_path: Path) -> None:
    found = compared(tmp_path, "algorithm=fedper", "data.holdout=0.25")
    line = found[-1]
    assert (line.words, line.test, line.note) == ("federated, fedper", {}, "no model of all")
    assert "accuracy" in line.own


@pytest.mark.parametrize("test", [pytest.param("test: null", marks=pytest.mark.slow), "test: a.csv"])
def test_figures_of_other_data_and_other_code_are_said_to_be_in_one_place_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, test: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "compared_net", raising=False)
    net, table = tmp_path / "compared_net.py", tmp_path / "a.csv"
    net.write_text("from torch import nn\ndef net():\n    return nn.Linear(1, 2)\n")
    rows = "".join(f"{n},{'no' if n % 3 else 'yes'}\n" for n in range(12))
    table.write_text(f"dose,ill\n{rows}")
    changes = (
        f"data={{name: csv, train: [a.csv, a.csv], ids: [a, b], target: ill, holdout: 0.25, {test}}}",
        "model={name: 'compared_net:net'}",
        "rounds=1",
    )
    before = [line.own for line in compared(tmp_path, *changes)]
    caplog.clear()
    caplog.set_level("WARNING")
    check(made(tmp_path, *changes))
    assert caplog.messages == []
    net.write_text(net.read_text() + "# the same, in other words\n")
    table.write_text(f"dose,ill\n{rows[:-6]}")
    wanted = made(tmp_path, *changes)
    check(wanted)
    assert [line.own for one in wanted for line in lines(one)] == before
    (words,) = caplog.messages
    assert words.startswith(f"{tmp_path / 'out'}: finished runs keep their figures, but your own code is not that of")
    assert "(changed: compared_net.py); the training data are not those that they were trained on (changed: " in words
    assert ": local_only, centralized, fedavg; delete them" in words
