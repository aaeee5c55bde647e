"""``fedray sweep``: what runs, what does not run again, what is said at the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedray.config.sections import SlurmSection
from fedray.core.record import RoundRecord
from fedray.experiment.build import Config
from fedray.experiment.experiment import Experiment
from fedray.report.told import read_runs
from fedray.slurm.requeue import HISTORY, owner
from fedray.sweep import Row, Sweep, write_table
from tests.cli.command import SMALL, Cli, hashes


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The run folders of the runs that began, in order."""
    folders: list[str] = []
    original = Experiment.records

    def records(self: Experiment, *args: Any) -> Iterator[RoundRecord]:
        folders.append(self.run.folder.path.name)
        yield from original(self, *args)

    monkeypatch.setattr(Experiment, "records", records)
    return folders


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of sbatch that keeps the script it is given and answers with a job id."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "sbatch"
    program.write_text(f'#!/bin/sh\nfor script; do :; done\ncp "$script" {folder}/script\necho 42\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "script"


def test_every_cell_is_a_run_of_its_own(cli: Cli, small: Path, begun: list[str]) -> None:
    outcome = cli("sweep", small, "seed=1,2", "model.hidden=[5],[4, 3]")
    assert (outcome.status, outcome.err) == (0, "")
    assert len(begun) == 4
    for name in ("run 1 of 4", "run 4 of 4", "2/2", "±", "sweep folder: sweeps/small"):
        assert name in outcome.out
    assert cli("run", small, "seed=2", "model.hidden=[4, 3]", "run.dir=alone", "-q").status == 0
    assert hashes(Path("sweeps/small") / begun[3]) == hashes(Path("alone"))
    table = json.loads(Path("sweeps/small/table.json").read_text())
    assert [row["setting"] for row in table] == [{"model.hidden": "[5]"}, {"model.hidden": "[4, 3]"}]
    final = json.loads(Path("alone/summary.json").read_text())["final"]["test"]["accuracy"]
    assert table[1]["metrics"]["test.accuracy"]["values"]["2"] == final


def test_finished_cells_are_not_run_again(cli: Cli, small: Path, begun: list[str]) -> None:
    assert cli("sweep", small, "seed=1,2", "-q").status == 0
    assert cli("sweep", small, "seed=1,2,3", "-q").status == 0
    assert begun == ["seed=1", "seed=2", "seed=3"]
    shown = cli("sweep", small, "seed=1,2,3,4", "--table")
    assert "3/4" in shown.out
    assert len(begun) == 3


@pytest.mark.parametrize("at_once", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_a_callback_ends_is_done_and_the_next_one_begins(at_once: int, cli: Cli, small: Path) -> None:
    Path("early.py").write_text("def late(record, after):\n    return record.round == after\n")
    words = ["callbacks=[{name: 'early:late', after: 2}]", "seed=1,2", "--at-once", str(at_once)]
    outcome = cli("sweep", small, *words)
    assert (outcome.status, outcome.err) == (0, "")
    assert "2/2" in outcome.out
    for name in ("seed=1", "seed=2"):
        summary = json.loads(Path("sweeps/small", name, "summary.json").read_text())
        assert (summary["status"], summary["rounds"]) == ("early_stopped", 2)
        assert "early.py" in Path("sweeps/small", name, "code.json").read_text()
    assert cli("resume", "sweeps/small/seed=1", "callbacks=[]", "-q").status == 0
    assert json.loads(Path("sweeps/small/seed=1/summary.json").read_text())["status"] == "finished"


def test_a_sweep_of_other_settings_adds_to_the_table_of_those_before(cli: Cli, small: Path, begun: list[str]) -> None:
    assert cli("sweep", small, "local.epochs=1,2", "-q").status == 0
    whole = json.loads(Path("sweeps/small/table.json").read_text())
    shown = cli("sweep", small, "local.epochs=2,3")
    assert shown.out.splitlines()[-1] == "  its table has 1 further setting of sweeps before: table.md there"
    assert begun == ["local.epochs=1", "local.epochs=2", "local.epochs=3"]
    two, three, one = json.loads(Path("sweeps/small/table.json").read_text())
    assert [one | {"earlier": 0}, two] == whole
    assert (one["earlier"], three["runs"]) == (1, 1)
    reported = [told.folder.name for told in read_runs([Path("sweeps/small")], 0.0)]
    assert reported == ["local.epochs=2", "local.epochs=3", "local.epochs=1"]
    small.write_text(SMALL.replace("lr: 0.1", "lr: 0.2"))
    shown = cli("sweep", small, "local.epochs=4")
    words = "of another config, and in no table: local.epochs=1, local.epochs=2, local.epochs=3"
    assert words in shown.out
    assert len(json.loads(Path("sweeps/small/table.json").read_text())) == 1


@pytest.mark.slow
def test_a_stopped_cell_goes_on_where_it_was(
    cli: Cli, small: Path, begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of the second cell."""
    rounds = 0

    def interrupt(self: object, record: RoundRecord) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 31:
            signal.raise_signal(signal.SIGINT)

    small.write_text(SMALL.replace("rounds: 3", "rounds: 30").replace("tracking", "checkpoint: {every: 5}\ntracking"))
    with monkeypatch.context() as patch:
        patch.setattr("fedray.tracking.console.Console.round", interrupt)
        outcome = cli("sweep", small, "seed=1,2,3")
    assert outcome.status == 75
    assert "the same command goes on" in outcome.err
    assert begun == ["seed=1", "seed=2"]
    assert json.loads(Path("sweeps/small/seed=2/summary.json").read_text())["status"] == "stopped"
    assert cli("sweep", small, "seed=1,2,3", "-q").status == 0
    assert begun == ["seed=1", "seed=2", "seed=2", "seed=3"]
    assert cli("run", small, "seed=2", "run.dir=whole", "-q").status == 0
    assert hashes(Path("sweeps/small/seed=2")) == hashes(Path("whole"))


def test_a_failed_cell_does_not_keep_the_others_from_running(cli: Cli, small: Path, begun: list[str]) -> None:
    outcome = cli("sweep", small, "sampler={name: uniform, clients: 99},full", "seed=1,2", "-q")
    assert outcome.status == 1
    assert begun == ["sampler=full,seed=1", "sampler=full,seed=2"]
    lines = outcome.err.splitlines()
    assert "2 of 4 runs failed" in lines[-1]
    assert all("sampler" in line for line in lines[:2])
    assert counts() == [(0, 0, 2), (2, 0, 0)], "what was refused before it began is missing"


def counts() -> list[tuple[int, int, int]]:
    """Runs, failed and missing of each setting, as the table in the folder has them."""
    rows = json.loads(Path("sweeps/small/table.json").read_text())
    return [(row["runs"], row["failed"], row["missing"]) for row in rows]


def test_the_table_counts_what_failed_and_what_is_missing(cli: Cli, small: Path) -> None:
    """A step that diverges fails in its first round."""
    axes = ["seed=1,2", "local.optimizer.lr=0.1,1e30", "failures.on_nonfinite=abort"]
    assert cli("sweep", small, *axes, "-q").status == 1
    assert counts() == [(2, 0, 0), (0, 2, 0)]
    text = Path("sweeps/small/table.md").read_text()
    assert "| 2/2 " in text
    assert "| 0/2, 2 failed " in text
    assert "0/2, 2 failed" in cli("sweep", small, *axes, "--table").out


@pytest.mark.slow
def test_each_run_that_ends_brings_the_table_up_to_date(cli: Cli, small: Path, sbatch: Path) -> None:
    """As the tasks of an array do, each of which is a ``fedray resume`` that knows its run folder alone."""
    outcome = cli("sweep", small, "seed=1,2", "local.optimizer.lr=0.1,0.2", "--slurm")
    assert "sweeps/small/table.md " in outcome.out
    assert counts() == [(0, 0, 2), (0, 0, 2)]
    for seed, lr, standing in (
        ("2", "0.1", [(1, 0, 1), (0, 0, 2)]),
        ("1", "0.2", [(1, 0, 1), (1, 0, 1)]),
        ("1", "0.1", [(2, 0, 0), (1, 0, 1)]),
        ("2", "0.2", [(2, 0, 0), (2, 0, 0)]),
    ):
        folder = Path(f"sweeps/small/seed={seed},local.optimizer.lr={lr}").resolve()
        assert cli("resume", folder, "cluster={name: inline}", "-q").status == 0
        assert counts() == standing
    left = {kind: Path(f"sweeps/small/table.{kind}").read_bytes() for kind in ("md", "csv", "json")}
    assert "±" in left["md"].decode()
    cli("sweep", small, "seed=1,2", "local.optimizer.lr=0.1,0.2", "--table")
    assert {kind: Path(f"sweeps/small/table.{kind}").read_bytes() for kind in left} == left
    assert not [path for path in Path("sweeps/small").iterdir() if path.name.startswith(".tmp")]


def test_of_two_runs_that_end_at_once_both_are_in_the_table(
    cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one ends, and writes its table, after this one has looked at it and before this one writes."""
    assert cli("sweep", small, "seed=1,2", "-q").status == 0
    summary = Path("sweeps/small/seed=2/summary.json")
    late = summary.read_text()
    summary.unlink()
    whole = Path("sweeps/small/table.json").read_bytes()
    seen: list[int] = []

    def slow(folder: Path, rows: list[Row]) -> None:
        seen.append(rows[0].runs)
        if len(seen) == 1:
            summary.write_text(late)
            other = Sweep.at(folder)
            assert other is not None
            other.write_table()
        write_table(folder, rows)

    monkeypatch.setattr("fedray.sweep.folder.write_table", slow)
    assert cli("sweep", small, "seed=1,2", "--table", "-q").status == 0
    assert seen == [1, 2, 2], "this one too early, the other one, this one again"
    assert Path("sweeps/small/table.json").read_bytes() == whole


def test_a_table_that_cannot_be_written_does_not_make_a_run_fail(cli: Cli, small: Path) -> None:
    assert cli("sweep", small, "seed=1", "-q").status == 0
    Path("sweeps/small/sweep.json").write_text("{}")
    outcome = cli("resume", "sweeps/small/seed=1", "rounds=4", "-q")
    assert outcome.status == 0
    assert "fedray: the table of the sweep: " in outcome.err
    assert "sweep.json: cannot be read" in outcome.err
    assert json.loads(Path("sweeps/small/seed=1/summary.json").read_text())["rounds"] == 4


def test_a_mistake_in_any_cell_is_found_before_anything_starts(cli: Cli, small: Path, begun: list[str]) -> None:
    cli("sweep", small, "algorithm=fedavg,fedpox").refused("algorithm.name", "did you mean 'fedprox'?")
    cli("sweep", small, "seed=1,x").refused("seed")
    cli("sweep", small).refused("at least one key=value")
    cli("sweep", small, "seed=1,2", "--cell", 2).refused("--cell 2", "0 to 1")
    assert begun == []
    assert not Path("sweeps").exists()


def test_one_cell_as_a_job_of_an_array(cli: Cli, small: Path, begun: list[str]) -> None:
    for number in (1, 0, 1):
        assert cli("sweep", small, "seed=1,2", "--dir", "s", "--cell", number, "-q").status == 0
    assert begun == ["seed=2", "seed=1"]
    assert "2/2" in cli("sweep", small, "seed=1,2", "--dir", "s", "--table").out


def test_runs_of_another_config_are_not_taken_for_its_own(cli: Cli, small: Path, begun: list[str]) -> None:
    assert cli("sweep", small, "seed=1", "-q").status == 0
    small.write_text(SMALL.replace("lr: 0.1", "lr: 0.2"))
    cli("sweep", small, "seed=1,2").refused("local.optimizer.lr", "0.1", "0.2", "--dir")
    small.write_text(SMALL + "checkpoint: {every: 1}\n")
    assert cli("sweep", small, "seed=1,2", "-q").status == 0, "what is kept of a run is no part of its result"
    assert cli("sweep", small, "seed=1,2", "tracking=[]", "-q").status == 0, "nor is what all runs share in its name"
    assert begun == ["seed=1", "seed=2"]


def test_a_sweep_as_one_job_array(cli: Cli, small: Path, begun: list[str], sbatch: Path) -> None:
    assert cli("sweep", small, "seed=1", "-q").status == 0
    outcome = cli("sweep", small, "seed=1,2,3", "--slurm", "--nodes", 2, "--time", "01:00:00")
    assert outcome.status == 0, outcome.err
    assert "submitted job 42: 2 of 3 runs, 2 nodes each" in outcome.out
    script = sbatch.read_text()
    for words in ("--array=0-1", "--nodes=2", "--time=01:00:00", "seed=2", "seed=3"):
        assert words in script
    assert "seed=1 " not in script, "it is finished"
    assert "name: slurm" in Path("sweeps/small/seed=2/config.yaml").read_text()
    assert [owner(Path("sweeps/small", cell) / HISTORY) for cell in ("seed=2", "seed=3")] == ["42_0", "42_1"]
    assert begun == ["seed=1"]
    # What the array leaves undone is run here, and what is finished then is not submitted again.
    assert cli("sweep", small, "seed=1,2,3", "-q").status == 0
    assert begun == ["seed=1", "seed=2", "seed=3"]
    sbatch.unlink()
    assert "3/3" in cli("sweep", small, "seed=1,2,3", "--slurm").out
    assert not sbatch.exists()


def test_the_options_are_those_of_a_single_job(cli: Cli, small: Path) -> None:
    """Every one of them, and what the config says of workers: the same lines for sbatch but for log and array."""
    options: list[object] = [
        "--nodes",
        2,
        "--gpus-per-node",
        4,
        "--cpus-per-task",
        3,
        "--mem",
        "16G",
        "--time",
        "02:00:00",
    ]
    options += ["--partition", "a100", "--account", "mine", "--qos", "high", "--sbatch", "mail-type=END"]
    options += ["--sbatch", "exclusive", "--print"]

    def lines(*words: object) -> set[str]:
        outcome = cli(*words, *options)
        assert outcome.status == 0, outcome.err
        chosen = {line for line in outcome.out.splitlines() if line.startswith("#SBATCH ")}
        return {line for line in chosen if not line.startswith(("#SBATCH --output=", "#SBATCH --array="))}

    single = lines("slurm", small, "run.dir=out", "worker={cpus: 0.75, gpus: 1}")
    assert lines("sweep", small, "seed=1,2", "worker={cpus: 0.75, gpus: 1}", "--slurm") == single
    asked = {"--account=mine", "--qos=high", "--mail-type=END", "--exclusive", "--gpus-per-node=4", "--mem=16G"}
    assert {f"#SBATCH {option}" for option in asked} <= single
    cli("sweep", small, "seed=1", "--sbatch", "x=1").refused("--sbatch: only with --slurm")
    cli("sweep", small, "seed=1", "--print").refused("--print: only with --slurm")


def test_what_the_section_says_of_workers_stays_on_slurm(cli: Cli, small: Path, sbatch: Path) -> None:
    small.write_text(SMALL.replace("cluster: {name: inline}", "cluster: {name: ray, workers: 2, reduce: collective}"))
    assert cli("sweep", small, "seed=1,2", "--slurm", "--nodes", 3).status == 0
    section = Config.load(Path("sweeps/small/seed=1/config.yaml")).place.cluster
    assert isinstance(section, SlurmSection)
    assert (section.nodes, section.workers, section.reduce) == (3, 2, "collective")
    for command in (["slurm", small], ["sweep", small, "seed=1", "--slurm"]):
        small.write_text(SMALL.replace("cluster: {name: inline}", "cluster: ray"))
        cli(*command, "--print").refused("cluster: expected a section with keys, got 'ray'")


def test_a_refused_array_leaves_nothing(cli: Cli, small: Path, sbatch: Path) -> None:
    (sbatch.parent / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified' >&2; exit 1\n")
    cli("sweep", small, "seed=1,2", "--slurm", "--partition", "x").refused("invalid partition")
    assert not list(Path("sweeps/small").glob("seed*"))
    cli("sweep", small, "seed=1,2", "--nodes", 2).refused("--nodes: only with --slurm")
    cli("sweep", small, "cluster.workers=1,2", "--slurm").refused("one job array has one cluster section")
    assert "--array=0-1" in cli("sweep", small, "seed=1,2", "--slurm", "--print").out


@pytest.mark.slow
def test_drawn_settings_pause_at_rungs_and_the_better_go_on(cli: Cli, small: Path, begun: list[str]) -> None:
    """What a run that went on from rung to rung ends with is what one that never paused has."""
    words = ["local.optimizer.lr={log_uniform: [1e-3, 1]}", "--trials", 3, "--by", "test.loss", "--rungs", "1,2"]
    outcome = cli("sweep", small, *words, "-q")
    assert (outcome.status, outcome.err) == (0, "")
    assert len(begun) == 5  # three to round 1, one of them to round 2, and to the end
    table = json.loads(Path("sweeps/small/table.json").read_text())
    (best,) = [row for row in table if row["paused"] is None]
    assert [row["paused"] for row in table if row is not best] == [1, 1]
    rate = best["setting"]["local.optimizer.lr"]
    assert cli("run", small, f"local.optimizer.lr={rate}", "run.dir=alone", "-q").status == 0
    assert hashes(Path("sweeps/small") / begun[4]) == hashes(Path("alone"))
    assert cli("sweep", small, *words, "-q").status == 0
    assert len(begun) == 6  # nothing of the sweep is run again
    cli("sweep", small, *words[:1]).refused("say how many with --trials")


@pytest.mark.slow
def test_several_at_once_give_the_same_table(cli: Cli, small: Path) -> None:
    """In processes of their own, on one Ray."""
    words = ["local.epochs=1,2", "--by", "test.loss", "--rungs", "1", "--factor", "2"]
    assert cli("sweep", small, *words, "--dir", "one", "-q").status == 0
    small.write_text(SMALL.replace("inline", "ray"))
    command = [sys.executable, "-m", "fedray", "sweep", str(small), *words, "--dir", "two", "--at-once", "2"]
    ended = subprocess.run(command, capture_output=True, text=True)  # other tests may have imported Ray here
    assert ended.returncode == 0, ended.stderr
    assert Path("two/table.md").read_text() == Path("one/table.md").read_text()
