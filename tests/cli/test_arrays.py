"""The stages of a search on Slurm, each submitted by a small job that waits for the one before; Slurm is pretended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedray.slurm.stages import Waiting
from fedray.sweep import Sweep
from fedray.sweep.stages import next_stage
from tests.cli.command import SMALL, Cli
from tests.slurm.pretended import Slurm
from tests.sweep.pretended import pretend

EPOCHS = "local.epochs=1,2,3,4"
SEARCH = ["--rungs", "2", "--factor", "2", "--by", "test.loss"]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    found = Slurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{found.folder}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL.replace("rounds: 3", "rounds: 9"))
    return found


def loss_of(setting: dict[str, str], _: int) -> float | None:
    """Less with few epochs, and with one the run fails."""
    epochs = float(setting["local.epochs"])
    return epochs if epochs > 1 else None


def run() -> None:
    """Pretend that the runs of the stage are done."""
    sweep = Sweep.at(Path("sweeps/small"))
    assert sweep is not None
    stage = next_stage(sweep)
    assert stage is not None
    for cell in stage.cells:
        kept = (sweep.run_folder(cell).path / "config.yaml").read_text()
        pretend(stage, cell, loss_of)
        (sweep.run_folder(cell).path / "config.yaml").write_text(kept)


def test_each_stage_is_submitted_when_the_one_before_has_ended(
    cli: Cli, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = cli("sweep", "small.yaml", EPOCHS, *SEARCH, "--slurm", "--partition", "gpu", "--sbatch", "comment=c")
    assert outcome.status == 0, outcome.err
    assert "next    job 12 submits those that go on" in outcome.out
    lines = slurm.script(12).splitlines()
    assert {"#SBATCH --dependency=afterany:11", "#SBATCH --partition=gpu", "#SBATCH --comment=c"} <= set(lines)
    assert lines[-1].endswith(f"-m fedray sweep {Path('sweeps/small').resolve()} --slurm")
    cli("sweep", "sweeps/small", "--slurm").refused("job 12 submits what comes next", "fedray stop sweeps/small")
    run()
    slurm.end(11)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "500")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    outcome = cli("sweep", "sweeps/small", "--slurm")
    assert outcome.status == 0, outcome.err
    assert slurm.jobs() == [11, 12, 13], "after the last stage nothing is left to be submitted"
    script = slurm.script(13)
    assert ("local.epochs=2" in script, "local.epochs=3" in script, "local.epochs=1" in script) == (True, True, False)
    assert {"#SBATCH --partition=gpu", "#SBATCH --comment=c"} <= set(script.splitlines()), "as it was submitted first"
    env = (slurm.folder / "13.env").read_text().splitlines()
    assert [line for line in env if line.startswith("SLURM_")] == ["SLURM_CONF=/etc/slurm.conf"]


@pytest.mark.slow
def test_a_run_that_was_cancelled_ends_it_all(cli: Cli, slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("sweep", "small.yaml", EPOCHS, *SEARCH, "--slurm").status == 0
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    # It comes too early, as where a run is put back into the queue: another one waits.
    outcome = cli("sweep", "sweeps/small", "--slurm")
    assert (outcome.status, "4 runs of this stage go on: job 13 waits" in outcome.out) == (0, True), outcome.err
    assert "--dependency=afterany:11_0:11_1:11_2:11_3" in slurm.script(13)
    waiting = Waiting.read(Path("sweeps/small"))
    assert waiting is not None
    assert (waiting.job, len(waiting.cells), waiting.until) == (13, 4, 2)
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    slurm.end(11)
    outcome = cli("sweep", "sweeps/small", "--slurm")
    assert (outcome.status, slurm.jobs()) == (1, [11, 12, 13])
    assert "4 runs did not come to the end of this stage" in outcome.err
    assert "go on with: fedray sweep" in outcome.err
    slurm.end(13)
    monkeypatch.delenv("SLURM_JOB_ID")
    assert cli("sweep", "sweeps/small", "--slurm").status == 0, "by hand it goes on"
    assert slurm.jobs() == [11, 12, 13, 14, 15]


def test_a_folder_says_itself_what_is_run(cli: Cli, slurm: Slurm) -> None:
    assert cli("sweep", "small.yaml", EPOCHS, "--slurm").status == 0
    assert slurm.jobs() == [11], "nothing waits for a grid"
    assert not Path("sweeps/small/stages.json").exists()
    for more in (["seed=1"], ["--by", "test.loss"], ["--dir", "other"]):
        cli("sweep", "sweeps/small", *more).refused("a sweep's folder says itself what is run")
    cli("sweep", "bin").refused("bin: this folder holds no sweep")
    assert cli("sweep", "sweeps/small", "--table").out.count("missing") == 4
