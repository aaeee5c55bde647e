"""What is bound is written out as it was meant, whoever said it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fedray.experiment.build import Config
from fedray.metrics import F1
from tests.cli.command import SMALL

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.one_in(4)
def test_a_config_that_is_written_out_says_the_same_again(path: Path, tmp_path: Path) -> None:
    text = Config.load(path).to_yaml()
    (tmp_path / "again.yaml").write_text(text)
    assert Config.load(tmp_path / "again.yaml").to_yaml() == text


def written(metrics: Any) -> dict[str, Any]:
    content = {**yaml.safe_load(SMALL), "metrics": metrics}
    found: dict[str, Any] = yaml.safe_load(Config.bind("small", {}, content).to_yaml())
    return found


def test_metrics_are_written_with_their_options_in_their_order() -> None:
    found = written(["auroc", {"name": "f1", "average": "macro"}])["metrics"]
    assert [one["name"] for one in found] == ["auroc", "f1"]
    assert (found[1]["average"], found[1]["label"]) == ("macro", None)
    assert written(found) == written([found[0], F1(average="macro")])
    assert "metrics" not in written(None)


def test_a_metric_that_python_alone_has_is_described() -> None:
    found = written(["auroc", max])
    assert found["python"] == {"metrics[1]": "builtins.max"}
    assert [one["name"] for one in found["metrics"]] == ["auroc"]
