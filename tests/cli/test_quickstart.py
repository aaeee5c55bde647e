"""The quickstart: it works, and what it did not write is safe from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.errors import ConfigError
from fedray.experiment import Experiment
from fedray.quickstart import hospitals


class Reached(Exception):
    """Everything is written, and training would begin."""


def no_training(experiment: Experiment) -> None:
    raise Reached


@pytest.mark.parametrize("file", ["data/hospital_a.csv", "run/model.safetensors", "hospitals.yaml", "notes.txt"])
def test_what_no_quickstart_wrote_is_left_alone(tmp_path: Path, file: str) -> None:
    mine = tmp_path / "mine" / file
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work\n")
    with pytest.raises(ConfigError, match=r"^--dir: .*mine holds something that no quickstart wrote; choose a new"):
        hospitals(tmp_path / "mine", no_training)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "years of work\n"


def test_a_file_is_no_folder_for_it(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("years of work\n")
    with pytest.raises(ConfigError, match="choose a new or an empty folder"):
        hospitals(tmp_path / "mine", no_training)


def test_an_earlier_quickstart_is_replaced(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(Reached):
            hospitals(tmp_path, no_training)
        assert not (tmp_path / "run" / "earlier.txt").exists()
        (tmp_path / "run" / "earlier.txt").touch()
