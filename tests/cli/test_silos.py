"""Silos from the command line, all of them on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedray.config.sections import ClusterSection
from fedray.data.silos.survey import SiloData
from fedray.experiment.build import Config
from tests.cli.command import Cli, hashes

CONFIG = """\
seed: 3
data:
  name: silos
  target: y
  test: test.csv
  silos:
    north: {node_label: site=n, path: $SITE_DATA/n.csv}
    south: {node_resource: s, path: $SITE_DATA/s.csv, cpus: 2, gpus: 0.5}
model: {name: logistic}
local: {optimizer: {name: sgd, lr: 0.1}}
rounds: 2
cluster: {name: inline}
tracking: []
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config, its tables in another folder, and the test set beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SITE_DATA", str(tmp_path / "private"))
    (tmp_path / "private").mkdir()
    for name, shift in (("private/n", 0.0), ("private/s", 1.5), ("test", 0.5)):
        rows = "".join(f"{i + shift},{i * shift},{'no' if i % 3 else 'yes'}\n" for i in range(9))
        (tmp_path / f"{name}.csv").write_text("u,v,y\n" + rows)
    (tmp_path / "silos.yaml").write_text(CONFIG)
    return tmp_path


def test_a_run_of_silos_resumes_and_is_evaluated(cli: Cli, here: Path) -> None:
    assert cli("run", "silos.yaml", "run.dir=out", "-q").status == 0
    assert cli("resume", "out", "rounds=4", "-q").status == 0
    assert cli("run", "silos.yaml", "run.dir=whole", "rounds=4", "-q").status == 0
    assert hashes(Path("out")) == hashes(Path("whole"))
    assert "accuracy" in cli("evaluate", "out").out


def test_a_plan_opens_no_client(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(self: SiloData, client: int) -> Any:
        raise AssertionError("a client was opened")

    monkeypatch.setattr(SiloData, "_load", opened)
    text = cli("plan", "silos.yaml").out
    assert "north (site=n), south (s, 2 CPUs, 0.5 GPUs)" in text
    assert "18 examples; a client has 9" in text
    assert "each client is in a silo of its own" in text
    assert "2 in round 1 (clients: 2 of 1)" in text
    assert "  devices " not in text
    assert "failed" not in text


def test_a_silo_may_have_several_gpus(here: Path) -> None:
    """Where it has a worker of its own; in this process it has what all have."""
    config = Config.load(here / "silos.yaml", ["data.silos.south.gpus=4"])
    data = config.plan().task.data
    assert config.place.most_devices(data) == 1
    assert replace(config.place, cluster=ClusterSection("ray")).most_devices(data) == 4


def test_a_silo_may_have_ranks_of_its_own(here: Path) -> None:
    """In one process no silo has them, whatever its size."""
    config = Config.load(here / "silos.yaml", ["data.silos.south.ranks=2", "data.silos.south.gpus=0"])
    data = config.plan().task.data
    on_ray = replace(config, place=replace(config.place, cluster=ClusterSection("ray")))
    assert config.place.ranks(data) == {}
    assert on_ray.place.ranks(data) == {"silo 'south': ranks": 2}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.silos.north.node_label=site", ["data: silos.north", "expected label=value, as in site=a"]),
        ("data.silos.north.pth=x", ["silos.north.pth: unknown key", "did you mean 'path'?"]),
        ("data.silos.south.gpus=-1", ["data: silos.south", "gpus=-1: it must be from 0 to 10000"]),
        ("data.silos.south.gpus=1.5", ["data: silos.south", "gpus=1.5: above 1 it must be a whole number"]),
        ("data.silos.north.path=$SITE_DATA/x.csv", ["silo 'north', on ", "private/x.csv does not exist"]),
        ("data.silos.north.path=$SITE/n.csv", ["silo 'north', on ", "the environment has no SITE here"]),
    ],
)
def test_a_mistake_is_refused(cli: Cli, here: Path, override: str, words: list[str]) -> None:
    for command in ("run", "plan"):
        cli(command, "silos.yaml", override).refused(*words)
    assert not (here / "runs").exists()
