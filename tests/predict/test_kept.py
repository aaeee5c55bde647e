"""Of a config only what makes the model is read: data and trackers may name what is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fedray
from fedray.core.errors import ConfigError
from fedray.predict.kept import Rest
from fedray.rundir.folder import RunFolder
from tests.predict.conftest import Trained

EARLIER = Path(__file__).resolve().parents[1] / "rundir" / "earlier"


def test_references_of_other_sections_need_no_value(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "seed: 4\nwidth: 3\ndata: {name: csv, train: ['${oc.env:NO_SUCH_PLACE}/a.csv']}\n"
        "model: {name: mlp, hidden: ['${width}']}\nlocal: {precision: bf16, epochs: 3}\n"
    )
    rest = Rest.of(RunFolder(tmp_path))
    assert rest.section("model") == {"name": "mlp", "hidden": [3]}
    assert (rest.seed, rest.local.precision, rest.batch_size, dict(rest.python)) == (4, "bf16", "auto", {})
    with pytest.raises(ConfigError, match="NO_SUCH_PLACE"):
        rest.section("data")
    assert set(rest.sections(without=("data",))) == {"seed", "width", "model", "local"}


def test_a_checkpoint_of_an_earlier_fedray_says_how_to_get_a_newer_one(tmp_path: Path) -> None:
    shutil.copytree(EARLIER / "run", tmp_path / "run")
    with pytest.raises(ConfigError, match=r"earlier fedray.*fedray resume"):
        fedray.load(tmp_path / "run")


def test_another_model_is_not_that_of_the_run(hospitals: Trained) -> None:
    with pytest.raises(ConfigError, match="model: it is not the one that the run has trained"):
        fedray.load(hospitals.folder, model={"name": "mlp", "hidden": [5]})
