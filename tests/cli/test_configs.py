"""Every file in configs/ loads, binds, plans and runs, and every algorithm has one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedray.algorithms.base import algorithms
from fedray.data.tables.hospitals import write_hospitals
from fedray.experiment.build import Config
from tests.cli.command import Cli

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted((ROOT / "configs").glob("*.yaml"))
# What is digits with another algorithm, and is called like it, plans as digits does.
OWN = [path for path in EXPERIMENTS if path.stem not in algorithms]
# Of images, tables and silos; the plans of the others are slow, and so are runs of what is digits.
PLANNED = {"digits", "hospitals", "silos"}
# Whose noise is looked for takes seconds.
RUN = {path.stem for path in OWN} - {"dp", "dp-ftrl"}
# Of a language model in a folder.
HOSTED = {path.stem for path in EXPERIMENTS if "base/lora.yaml" in path.read_text()}
# Without training in earnest: the first block of each round, on as few data as the file allows.
QUICK = ("cluster.name=inline", "local.epochs=1", "tracking=[]")


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory after `fedray quickstart`."""
    monkeypatch.chdir(tmp_path)
    write_hospitals(tmp_path / "runs" / "quickstart" / "data")
    monkeypatch.setenv("SITE_DATA", "runs/quickstart/data")
    monkeypatch.setenv("TEXT_DATA", str(ROOT / "tests" / "data" / "text" / "questions.jsonl"))


def test_there_are_experiments() -> None:
    assert len(EXPERIMENTS) >= 10


def test_every_algorithm_has_one_that_is_called_like_it() -> None:
    text = {path.stem: path.read_text() for path in EXPERIMENTS} | {
        "fedavg": (ROOT / "configs/digits.yaml").read_text()
    }
    line = "(?m)^algorithm: {{name: {}[,}}]"
    assert [name for name in algorithms if not re.search(line.format(name), text.get(name, ""))] == []


def test_an_experiment_says_what_it_is() -> None:
    assert [path.stem for path in EXPERIMENTS if not path.read_text().startswith("# ")] == []


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=[] if path.stem in PLANNED else pytest.mark.slow) for path in OWN],
)
def test_an_experiment_plans(cli: Cli, tables: None, path: Path) -> None:
    outcome = cli("plan", path, *QUICK)
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith(f"{path.stem}: ")
    config = Config.load(path)
    assert f"  {config.algorithm.name}(" in outcome.out
    assert list(Path.cwd().iterdir()) == [Path.cwd() / "runs"], "a plan leaves nothing behind"


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=[] if path.stem in RUN else pytest.mark.slow) for path in EXPERIMENTS],
)
def test_an_experiment_runs(
    cli: Cli, tables: None, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path.stem in HOSTED:
        from tests.models.hosted import saved  # takes seconds

        monkeypatch.setenv("MODEL_DIR", str(saved(tmp_path / "llama", "llama", vocabulary=300, positions=128)))
    outcome = cli("run", path, *QUICK, "rounds=1", "run.dir=out", "-q")
    assert outcome.status == 0, outcome.err
    assert Path("out/model.safetensors").stat().st_size > 0
