"""A run on tables, for all tests here."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedray.data.tables.hospitals import write_hospitals
from fedray.experiment.build import Config
from fedray.experiment.evaluate import evaluate_run
from fedray.rundir.folder import RunFolder


@dataclass(frozen=True)
class Trained:
    """A run on the tables of hospitals, and what evaluations say of it."""

    folder: Path
    test: Path
    metrics: dict[str, float]


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run whose training tables are gone, evaluated before."""
    place = tmp_path_factory.mktemp("hospitals")
    paths, test = write_hospitals(place / "tables")
    content = {
        "data": {"name": "csv", "train": [str(p) for p in paths], "test": str(test), "target": "diagnosis"},
        "model": {"name": "mlp", "hidden": [4]},
        "rounds": 2,
        "cluster": {"name": "inline"},
        "tracking": [],
    }
    config, folder = Config.bind("hospitals", content, content), RunFolder(place / "run")
    list(config.experiment(folder).records())
    metrics = evaluate_run(config, folder, None).numbers
    kept = Path(shutil.move(test, place / "test.csv"))
    shutil.rmtree(place / "tables")
    return Trained(Path(shutil.move(folder.path, place / "moved")), kept, metrics)
