"""Every file in configs/ loads, binds, and plans; those that a newcomer starts with also run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.data.tables.hospitals import write_hospitals
from fedray.experiment.build import Config
from tests.cli.command import Cli

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted((ROOT / "configs").glob("*.yaml"))
# Without training in earnest: the first block of each round, on as few data as the file allows.
QUICK = ("cluster.name=inline", "local.epochs=1", "tracking=[]")


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory after `fedray quickstart`."""
    monkeypatch.chdir(tmp_path)
    write_hospitals(tmp_path / "runs" / "quickstart" / "data")
    monkeypatch.setenv("SITE_DATA", "runs/quickstart/data")


def test_there_are_experiments() -> None:
    assert len(EXPERIMENTS) >= 10


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_says_what_it_is_and_plans(cli: Cli, tables: None, path: Path) -> None:
    assert path.read_text().startswith("# ")
    outcome = cli("plan", path, *QUICK)
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith(f"{path.stem}: ")
    config = Config.load(path)
    assert f"  {config.algorithm.name}(" in outcome.out
    assert list(Path.cwd().iterdir()) == [Path.cwd() / "runs"], "a plan leaves nothing behind"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_runs(cli: Cli, tables: None, path: Path) -> None:
    outcome = cli("run", path, *QUICK, "rounds=1", "run.dir=out", "-q")
    assert outcome.status == 0, outcome.err
    assert Path("out/model.safetensors").stat().st_size > 0
