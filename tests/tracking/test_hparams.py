"""Settings of the runs of a sweep, as TensorBoard's own plugin reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from fedray.core.record import RoundRecord
from fedray.tracking import RunInfo, TensorBoard
from fedray.tracking.hparams import Settings


def swept(folder: Path, axes: Sequence[str], config: Any) -> Settings | None:
    (folder / "sweep.json").write_text(json.dumps({"config": "x.yaml", "axes": axes}))
    return Settings.of(folder / "cell", yaml.safe_dump(config))


def values(folder: Path, axes: Sequence[str], config: Any) -> dict[str, Any]:
    found = swept(folder, axes, config)
    assert found is not None
    return dict(found.values)


@pytest.mark.parametrize(
    ("axis", "config", "expected"),
    [
        ("local.optimizer.lr=1e-3,0.1", {"local": {"optimizer": {"lr": 0.001}}}, 0.001),
        ("local.optimizer.lr={log_uniform: [1e-4, 1]}", {"local": {"optimizer": {"lr": 0.02}}}, 0.02),
        ("local.batch_size=8,full", {"local": {"batch_size": 8}}, "8"),
        ("algorithm=fedavg,fedprox", {"algorithm": {"name": "fedavg"}}, "fedavg"),
        ("data.partition=iid,dirichlet", {"data": {"partition": {"name": "dirichlet", "alpha": 1}}}, "dirichlet"),
        ("server=null,adam", {"server": None}, "null"),
        ("model.hidden=[64],[64, 32]", {"model": {"hidden": [64, 32]}}, "[64, 32]"),
        ("evaluate.before=true,false", {"evaluate": {"before": False}}, False),
        ("transforms.0.norm=1,2", {"transforms": [{"norm": 2}]}, 2.0),
        ("local.clip=null,1.0", {"local": {"clip": None}}, "null"),
    ],
)
def test_a_value_is_what_the_config_has(tmp_path: Path, axis: str, config: Any, expected: Any) -> None:
    (found,) = values(tmp_path, [axis], config).values()
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("axis", "config", "expected"),
    [
        (
            "algorithm=fedavg,fedprox",
            {"algorithm": {"name": "fedprox", "mu": 0.1, "weight": "auto"}},
            {"algorithm": "fedprox", "algorithm.mu": 0.1},
        ),
        (
            "algorithm={name: fedprox, mu: 1},{name: fedprox, mu: 2}",
            {"algorithm": {"name": "fedprox", "mu": 2, "weight": "auto"}},
            {"algorithm": "fedprox", "algorithm.mu": 2.0},
        ),
        (
            "model=mlp,{name: mlp, hidden: [8]}",
            {"model": {"name": "mlp", "hidden": [8]}},
            {"model": "mlp", "model.hidden": "[8]"},
        ),
        (
            "algorithm=fedavg,{name: 'study:Mine', strength: 3}",
            {"algorithm": {"name": "study:Mine", "strength": 3}},
            {"algorithm": "study:Mine", "algorithm.strength": 3.0},
        ),
        ("algorithm=fedavg,nonesuch", {"algorithm": {"name": "fedavg"}}, {"algorithm": "fedavg"}),
    ],
)
def test_a_part_is_its_name_and_the_options_in_which_parts_differ(
    tmp_path: Path, axis: str, config: Any, expected: Any
) -> None:
    found = {key: value for key, value in values(tmp_path, [axis], config).items() if not key.endswith(".weight")}
    assert found == expected


def test_every_run_names_the_options_of_all_parts_as_the_page_takes_those_of_one(tmp_path: Path) -> None:
    for algorithm in ({"name": "fedavg", "weight": "auto"}, {"name": "fedprox", "mu": 0.1, "weight": "auto"}):
        found = swept(tmp_path, ["algorithm=fedavg,fedprox"], {"algorithm": algorithm})
        assert found is not None
        assert found.kinds == {"algorithm": str, "algorithm.mu": float}


def test_what_all_runs_share_is_no_setting(tmp_path: Path) -> None:
    assert values(tmp_path, ["seed=1,2", "rounds=5"], {"seed": 2, "rounds": 5}) == {"seed": 2.0}


def test_a_run_on_its_own_has_none(tmp_path: Path) -> None:
    assert Settings.of(tmp_path / "run", "seed: 1") is None


def plugin_data(folder: Path) -> dict[str, Any]:
    events = EventAccumulator(str(folder))
    events.Reload()
    found = events.PluginTagToContent(metadata.PLUGIN_NAME)
    parse = {
        metadata.EXPERIMENT_TAG: metadata.parse_experiment_plugin_data,
        metadata.SESSION_START_INFO_TAG: metadata.parse_session_start_info_plugin_data,
        metadata.SESSION_END_INFO_TAG: metadata.parse_session_end_info_plugin_data,
    }
    return {tag: parse[tag](content) for tag, content in found.items()}


@pytest.mark.parametrize("clients", [0, 2])
def test_the_event_file_has_settings_metrics_and_the_end(tmp_path: Path, clients: int) -> None:
    config = {"seed": 2, "local": {"lr": 0.1}, "evaluate": {"clients_every": clients}}
    assert swept(tmp_path, ["seed=1,2", "local.lr=0.1,0.2"], config) is not None
    cell = tmp_path / "cell"
    board = TensorBoard()
    board.start(RunInfo(cell, "cell", 2, config_yaml=yaml.safe_dump(config)))
    for number in (1, 2):
        views = {"accuracy": {"mean": 0.5, "p10": 0.4}} if clients and number == 2 else {}
        board.round(RoundRecord(number, train={"loss": 1.0}, test={"loss": 0.5}, clients_test=views))
    board.finish({})
    board.close()
    found = plugin_data(cell)
    start = found[metadata.SESSION_START_INFO_TAG].hparams
    assert {key: value.number_value for key, value in start.items()} == {"seed": 2.0, "local.lr": 0.1}
    named = [info.name.tag for info in found[metadata.EXPERIMENT_TAG].metric_infos]
    beside = ["test_clients/own/accuracy/client_mean", "test_clients/accuracy/mean"]
    assert named == ["test/loss", *(beside if clients else [])]
    assert [info.name for info in found[metadata.EXPERIMENT_TAG].hparam_infos] == ["seed", "local.lr"]
    assert metadata.SESSION_END_INFO_TAG in found


def test_a_run_that_did_not_end_is_not_marked(tmp_path: Path) -> None:
    swept(tmp_path, ["seed=1,2"], {"seed": 1})
    board = TensorBoard()
    board.start(RunInfo(tmp_path / "cell", "cell", 2, config_yaml="seed: 1"))
    board.round(RoundRecord(1, test={"loss": 0.5}))
    board.close()
    assert set(plugin_data(tmp_path / "cell")) == {metadata.EXPERIMENT_TAG, metadata.SESSION_START_INFO_TAG}


SPREAD = {"mean": 0.5, "client_mean": 0.25}


@pytest.mark.parametrize(
    ("algorithm", "views"),
    [
        ("fedavg", {"test": {"accuracy": 0.75}, "clients_test": {"accuracy": SPREAD}}),
        ("fedbn", {"clients_personal": {"accuracy": SPREAD}}),
        ("ditto", {"clients_test": {"accuracy": SPREAD}, "clients_personal": {"accuracy": SPREAD}}),
    ],
)
def test_runs_with_and_without_personal_models_stand_in_the_same_columns(
    tmp_path: Path, algorithm: str, views: Any
) -> None:
    """The page takes the columns of whichever run it reads first."""
    config = {"algorithm": {"name": algorithm}, "evaluate": {"clients_every": 1}}
    assert swept(tmp_path, ["algorithm=fedavg,fedbn,ditto"], config) is not None
    cell = tmp_path / "cell"
    board = TensorBoard()
    board.start(RunInfo(cell, "cell", 1, config_yaml=yaml.safe_dump(config)))
    board.round(RoundRecord(1, train={"loss": 1.0}, **views))
    board.close()
    named = [info.name.tag for info in plugin_data(cell)[metadata.EXPERIMENT_TAG].metric_infos]
    own = "test_clients/own/accuracy/client_mean"
    assert named == ["test/accuracy", own, "test_clients/accuracy/mean", "test_clients/personal/accuracy/mean"]
    events = EventAccumulator(str(cell))
    events.Reload()
    assert [point.value for point in events.Scalars(own)] == [0.25]
    assert "The model that each client would use" in events.SummaryMetadata(own).summary_description


def test_fine_tuned_models_have_columns_where_there_are_some() -> None:
    record = RoundRecord(1, clients_test={"loss": SPREAD}, clients_finetuned={"loss": SPREAD})
    names = ["own/loss/client_mean", "clients_test/loss/mean", "clients_finetuned/loss/mean"]
    assert Settings({}, {}, clients=True).metrics(record) == names
