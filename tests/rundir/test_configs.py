"""Each config of a run is kept with the round that it holds from."""

from __future__ import annotations

from pathlib import Path

from fedray.rundir.configs import config_changes, keep_config
from fedray.rundir.names import config_of, config_path


def names(run_dir: Path) -> list[str]:
    """The files, in order."""
    return sorted(path.name for path in run_dir.iterdir())


def test_each_config_is_kept_with_its_first_round(tmp_path: Path) -> None:
    keep_config(tmp_path, "rounds: 5\nlr: 0.05\n", 1)
    assert config_changes(tmp_path, "rounds: 8\nlr: 0.01\n", 6) == ["lr: 0.05 -> 0.01"]
    keep_config(tmp_path, "rounds: 8\nlr: 0.01\n", 6)
    assert names(tmp_path) == ["config-from-6.yaml", "config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == "rounds: 5\nlr: 0.05\n"
    keep_config(tmp_path, "rounds: 12\nlr: 0.002\n", 10)
    assert config_path(tmp_path).name == "config-from-10.yaml"
    assert config_of(tmp_path) == "rounds: 12\nlr: 0.002\n"


def test_more_rounds_are_no_other_config(tmp_path: Path) -> None:
    keep_config(tmp_path, "rounds: 5\nlr: 0.05\n", 1)
    assert config_changes(tmp_path, "rounds: 9\nlr: 0.05\n", 6) == []
    keep_config(tmp_path, "rounds: 9\nlr: 0.05\n", 6)
    assert names(tmp_path) == ["config.yaml"]
    assert config_of(tmp_path) == "rounds: 9\nlr: 0.05\n"


def test_rounds_that_are_done_again_take_their_config_along(tmp_path: Path) -> None:
    keep_config(tmp_path, "lr: 1\n", 1)
    keep_config(tmp_path, "lr: 2\n", 6)
    keep_config(tmp_path, "lr: 3\n", 6)
    assert config_of(tmp_path) == "lr: 3\n"
    keep_config(tmp_path, "lr: 3\n", 4)
    assert names(tmp_path) == ["config-from-4.yaml", "config.yaml"]
    keep_config(tmp_path, "lr: 1\n", 4)
    assert names(tmp_path) == ["config.yaml"]
    keep_config(tmp_path, "lr: 9\n", 1)
    assert config_of(tmp_path) == "lr: 9\n"


def test_trackers_in_the_form_of_an_earlier_version_are_no_other_trackers(tmp_path: Path) -> None:
    keep_config(tmp_path, "lr: 1\ntracking: {tensorboard: true, trackers: [csv]}\n", 1)
    assert config_changes(tmp_path, "lr: 1\ntracking: [tensorboard, {name: csv}]\n", 6) == []
    written = "lr: 1\ntracking: [{name: tensorboard, log_dir: null}, {name: csv}]\n"
    assert config_changes(tmp_path, written, 6, ["tracking[0].log_dir"]) == []
    assert config_changes(tmp_path, "lr: 1\ntracking: [csv]\n", 6) == [
        "tracking[0].name: tensorboard -> csv",
        "tracking[1].name: csv -> nothing",
    ]
