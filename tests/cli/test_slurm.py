"""``fedray slurm`` without Slurm: what it would submit, what it leaves behind, and what it says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fedray.config.sections import SlurmSection
from fedray.experiment.build import Config
from fedray.slurm.requeue import HISTORY, owner
from tests.cli.command import Cli

ROOT = Path(__file__).resolve().parents[2]
PRESETS = sorted((ROOT / "configs" / "cluster").glob("*.yaml"))


def sbatch_that(monkeypatch: pytest.MonkeyPatch, folder: Path, *lines: str) -> None:
    """Put a program of this name first on the path, which notes its arguments."""
    folder.mkdir()
    program = folder / "sbatch"
    program.write_text("\n".join(["#!/bin/sh", f'echo "$@" >> {folder}/called', *lines]) + "\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def section(run_dir: Path) -> SlurmSection:
    """The cluster section of a run folder."""
    found = Config.load(run_dir / "config.yaml").place.cluster
    assert isinstance(found, SlurmSection)
    return found


def test_print_shows_the_script_and_leaves_nothing(cli: Cli, small: Path) -> None:
    outcome = cli("slurm", small, "run.dir=out", "--nodes", 3, "--time", "12:00:00", "--sbatch", "exclusive", "--print")
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert {"#SBATCH --nodes=3", "#SBATCH --time=12:00:00", "#SBATCH --exclusive"} <= set(lines)
    assert f"#SBATCH --output={Path.cwd()}/out/slurm-%j.log" in lines
    assert lines[-1].endswith(f" -m fedray.slurm.job {Path.cwd()}/out")
    assert not Path("out").exists()


def test_the_command_line_wins_over_the_section(cli: Cli, small: Path) -> None:
    given = ["cluster.name=slurm", "cluster.nodes=2", "cluster.partition=cpu", "cluster.sbatch.constraint=ib"]
    lines = cli("slurm", small, *given, "--print").out.splitlines()
    assert {"#SBATCH --nodes=2", "#SBATCH --partition=cpu", "#SBATCH --constraint=ib"} <= set(lines)
    options = ["--nodes", 5, "--partition", "gpu", "--sbatch", "constraint=eth", "--sbatch", "mail-type=END"]
    lines = cli("slurm", small, *given, *options, "--print").out.splitlines()
    assert {"#SBATCH --nodes=5", "#SBATCH --partition=gpu", "#SBATCH --constraint=eth"} <= set(lines)
    assert "#SBATCH --mail-type=END" in lines


def test_a_submitted_run_waits_in_its_folder(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch_that(monkeypatch, small.parent / "bin", "echo '42;cluster'")
    outcome = cli("slurm", small, "run.dir=out", "rounds=7", "cluster.workers=2", "--nodes", 3)
    assert outcome.status == 0, outcome.err
    assert "submitted job 42 (3 nodes)" in outcome.out
    for told in ("out/slurm-42.log", "fedray status out", "scancel 42", "fedray stop out", "fedray slurm out"):
        assert told in outcome.out
    script = Path("out/job.sbatch").resolve()
    assert (small.parent / "bin" / "called").read_text() == f"--parsable {script}\n"
    assert "#SBATCH --nodes=3" in script.read_text()
    assert owner(Path("out") / HISTORY) == 42, "what `fedray status` asks Slurm for"
    waiting = section(Path("out"))
    assert (waiting.nodes, waiting.workers) == (3, 2), "what says how many workers there are means the same on Slurm"
    assert Config.load(Path("out/config.yaml")).schema.rounds == 7
    cli("slurm", small, "run.dir=out").refused("already holds a run", "fedray resume out")


def test_a_run_goes_on_with_the_options_it_had(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch_that(monkeypatch, small.parent / "bin", "echo 42")
    cli("slurm", small, "run.dir=out", "--nodes", 3, "--time", "12:00:00")
    assert cli("slurm", "out", "rounds=9", "--nodes", 2).status == 0
    again = section(Path("out"))
    assert (again.nodes, again.time) == (2, "12:00:00")
    assert Config.load(Path("out/config.yaml")).schema.rounds == 9
    cli("slurm", "bin").refused("bin is no run folder")


def test_a_run_whose_job_goes_on_is_not_sent_again(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch_that(monkeypatch, small.parent / "bin", "echo 42")
    cli("slurm", small, "run.dir=out")
    scontrol = small.parent / "bin" / "scontrol"
    scontrol.write_text("#!/bin/sh\necho JobId=42 JobState=PENDING Reason=Priority\n")
    scontrol.chmod(0o755)
    before = Path("out/config.yaml").read_text()
    cli("slurm", "out", "rounds=9").refused("its job 42 is PENDING", "fedray stop out")
    cli("slurm", small, "run.dir=out").refused("its job 42 is PENDING")
    assert Path("out/config.yaml").read_text() == before


def test_a_refusal_is_told_in_slurms_words_and_leaves_nothing(
    cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = "Batch job submission failed: Invalid account"
    sbatch_that(monkeypatch, small.parent / "bin", f"echo 'sbatch: error: {refusal}' >&2; exit 1")
    cli("slurm", small, "run.dir=out").refused(f"sbatch: {refusal}")
    assert not Path("out").exists()
    Path("out").mkdir()
    Path("out/mine.txt").touch()
    cli("slurm", small, "run.dir=out").refused(refusal)
    assert [path.name for path in Path("out").iterdir()] == ["mine.txt"]


def test_without_slurm_it_says_where_to_go(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    cli("slurm", small, "run.dir=out").refused("sbatch: not on this machine", "login node", "--print")
    assert not Path("out").exists()


def test_mistakes_start_nothing(cli: Cli, small: Path) -> None:
    cli("slurm", small, "cluster.name=slurm", "cluster.node=3").refused("cluster.node: unknown key", "'nodes'")
    for command in (["slurm", small], ["sweep", small, "seed=1,2", "--slurm"]):
        cli(*command, "cluster.name=abc", "--print").refused("cluster.name", "abc", "slurm")
    cli("slurm", small, "--nodes", 0).refused("cluster: nodes and cpus_per_task must be at least 1")
    cli("slurm", small, "cluster.name=slurm", "cluster.time=12:00:00").refused("cluster: time=43200", "quotes")
    cli("slurm", small, "--sbatch", "No Option=1").refused("'No Option' is no long option of sbatch")
    cli("slurm", "nowhere.yaml").refused("nowhere.yaml: no such config file")
    assert list(Path.cwd().iterdir()) == [small]


def test_a_config_for_slurm_does_not_run_by_itself(cli: Cli, small: Path) -> None:
    cli("run", small, "cluster.name=slurm", "run.dir=out").refused("fedray slurm", "cluster.name=ray")
    assert not Path("out").exists()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_fits_below_an_experiment(cli: Cli, small: Path, preset: Path) -> None:
    assert preset.read_text().startswith("# ")
    mine = small.parent / "mine.yaml"
    mine.write_text(OmegaConf.to_yaml({"base": [small.name, str(preset)]}))
    outcome = cli("slurm", mine, "--print")
    assert outcome.status == 0, outcome.err
    assert isinstance(Config.load(mine).place.cluster, SlurmSection)
    assert cli("config", mine).status == 0


def test_there_are_presets() -> None:
    assert {"generic-cpu", "generic-gpu", "preemptible"} <= {preset.stem for preset in PRESETS}


def test_gpus_that_no_worker_uses_are_not_reserved(cli: Cli, small: Path) -> None:
    for command in (("slurm", small, "--print"), ("slurm", small), ("sweep", small, "seed=1,2", "--slurm", "--print")):
        cli(*command, "--nodes", 4, "--gpus-per-node", 4).refused("gpus_per_node=4", "worker.gpus=1")
    cli("plan", small, "cluster={name: slurm, gpus_per_node: 4}").refused("gpus_per_node=4", "worker.gpus=1")
    assert cli("slurm", small, "--gpus-per-node", 4, "worker.gpus=1", "--print").status == 0
    assert list(Path.cwd().iterdir()) == [small]


def test_an_array_that_does_not_match_is_refused(cli: Cli, small: Path) -> None:
    cli("slurm", small, "--sbatch", "array=0-9", "--print").refused("array=0-9", "one run")
    cli("sweep", small, "seed=1,2", "--slurm", "--sbatch", "array=0-9", "--print").refused("2 runs", "0-1", "array=%4")
    assert "--array=0-1%1" in cli("sweep", small, "seed=1,2", "--slurm", "--sbatch", "array=%1", "--print").out
