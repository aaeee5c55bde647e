"""What trackers of services share: a package that is missing is said at once, ids outlive a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedray.core.errors import ConfigError
from fedray.experiment.build import Config
from fedray.rundir.folder import RunFolder
from fedray.tracking.base import RunInfo
from fedray.tracking.services import KeptIds, facts, flat, options, require

PARTS = {"data": {"name": "digits"}, "model": "logistic", "rounds": 1, "cluster": {"name": "inline"}}


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_package_that_is_missing_is_said_before_the_run_with_the_line_that_installs_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedray.tracking.services.find_spec", lambda package: None)
    config = Config.bind("x", {}, {**PARTS, "tracking": [name]})
    with pytest.raises(ConfigError, match=rf"^tracking: {name} needs .*: pip install 'fedray\[{name}\]'"):
        config.experiment(RunFolder(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_packages_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "fedray_no_package").mkdir()
    with pytest.raises(ConfigError, match="needs the package `fedray_no_package`"):
        require("fedray_no_package", "wandb")
    require("pytest", "wandb")


def test_every_value_of_a_config_is_there_once_and_reads_as_it_was() -> None:
    config = Config.bind("x", {}, {**PARTS, "transforms": [{"name": "clip", "norm": 0.5}]})
    text = config.to_yaml()
    found = flat(yaml.safe_load(text))
    assert (found["transforms.0.norm"], found["rounds"], found["tracking.0.log_dir"]) == ("0.5", "1", "null")
    for key, value in found.items():
        at: Any = yaml.safe_load(text)
        for name in key.split("."):
            at = at[int(name)] if isinstance(at, list) else at[name]
        assert at in (value, yaml.safe_load(value))
    assert options(RunInfo(Path("x"), "x", 1, config_yaml=text)) == yaml.safe_load(text)
    assert options(RunInfo(Path("x"), "x", 1)) == {}


def test_facts_tell_one_config_from_another_and_where_the_run_lies(tmp_path: Path) -> None:
    first, second = (facts(RunInfo(tmp_path, "x", 1, config_yaml=text)) for text in ("seed: 1", "seed: 2"))
    assert first["config_sha256"] != second["config_sha256"]
    assert first["run_dir"] == str(tmp_path)


def test_ids_of_several_places_lie_in_one_file(tmp_path: Path) -> None:
    KeptIds(tmp_path / "ids.json").keep("here", "1")
    KeptIds(tmp_path / "ids.json").keep("there", "2")
    kept = KeptIds(tmp_path / "ids.json")
    assert (kept.get("here"), kept.get("there"), kept.get("nowhere")) == ("1", "2", None)
    assert [path.name for path in tmp_path.iterdir()] == ["ids.json"]
