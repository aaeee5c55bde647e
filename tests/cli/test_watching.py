"""``fedray status`` as a user sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from fedray.cli.common import duration
from fedray.cli.watching import one_line, pace, rows
from fedray.experiment.status import Driver, Status, WorkerUse
from fedray.run.budget import Totals
from fedray.rundir.lock import Owner
from fedray.rundir.names import LOCK
from fedray.slurm.commands import SlurmJob
from tests.cli.command import Cli


def test_plain_lines_of_a_finished_run(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=out", "-q").status == 0
    outcome = cli("status", "out")
    assert (outcome.status, outcome.err) == (0, "")
    told = {line[:11].strip(): line[12:] for line in outcome.out.splitlines()}
    assert told["run"] == "small (out)"
    assert told["state"] == "finished"
    assert told["rounds"] == "3 of 3"
    assert "accuracy" in told["test"]
    assert told["checkpoint"].startswith("round 3, ")
    assert "go on with" not in told


def test_json_holds_every_field(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=out", "-q").status == 0
    said = json.loads(cli("status", "out", "--json").out)
    assert set(said) == set(Status.__dataclass_fields__)
    assert (said["round"], said["rounds"], said["state"]) == (3, 3, "finished")


def test_it_refuses_a_folder_without_a_run(cli: Cli, small: Path) -> None:
    cli("status", small.parent).refused("is no run folder")
    (small.parent / "config.yaml").write_text("rounds: 3\n")
    (small.parent / "metrics.jsonl").write_text("nonsense\n{}\n")
    cli("status", small.parent).refused("metrics.jsonl:1")


def test_follow_tells_each_change_and_ends_with_the_run(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = small.parent / "out"
    out.mkdir()
    (out / "config.yaml").write_text("rounds: 2\n")
    lines = "".join(json.dumps({"round": n, "seconds": 1.0, "test": {"accuracy": n / 4}}) + "\n" for n in (1, 2))

    def begin() -> None:
        (out / "metrics.jsonl").write_text(lines.splitlines(keepends=True)[0])
        write_lock()

    def write_lock() -> None:
        (out / LOCK).write_text(json.dumps(asdict(Owner.me())))

    def finish() -> None:
        (out / "metrics.jsonl").write_text(lines)
        (out / "summary.json").write_text('{"status": "finished"}')
        (out / LOCK).unlink()

    # What happens to the run between two looks.
    happens = iter([begin, lambda: None, finish])
    monkeypatch.setattr("fedray.cli.watching.time.sleep", lambda seconds: next(happens)())
    outcome = cli("status", "-f", "out")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        "waiting  0 of 2",
        "running  1 of 2  60 rounds/min  accuracy 0.25  1 s left",
        "finished  2 of 2  60 rounds/min  accuracy 0.5",
    ]
    assert next(happens, None) is None


def test_what_is_said_of_a_run_that_needs_help() -> None:
    seen = Status(
        name="digits",
        folder="runs/a b",
        state="interrupted",
        round=1200,
        rounds=3000,
        pace=0.5,
        left=900.0,
        failures={"train": 2, "worker": 1},
        driver=Driver("process 7 on node1", False),
        slurm=SlurmJob("12", "CANCELLED", "by you"),
        test={"auc": None},
        workers=10,
        nodes=2,
        by_worker=[
            WorkerUse("node1/0", idle=0.25, rss=5 * 10**8, gpu_memory=10**9, gpu_use=0.831),
            *(WorkerUse(f"node2/{rank}", idle=90.0, rss=3 * 10**8) for rank in range(9)),
        ],
        totals=Totals(
            wall_seconds=600.0, gpu_seconds=1800.0, joules=7.2e6, network=3_400_000, rss=5 * 10**8, gpu_memory=10**9
        ),
    )
    told = dict(rows(seen))
    assert told["driver"] == "process 7 on node1: dead"
    assert told["rounds"] == "1,200 of 3,000"
    assert told["failures"] == "3 times a client gave no update: 2 train, 1 worker"
    assert told["slurm"] == "job 12 CANCELLED (by you)"
    assert told["workers"] == "10 on 2 nodes"
    assert told["node1/0"] == "up to 500.0 MB, 1.0 GB of GPU memory, GPU 83% busy, 0.25 s idle"
    assert told["node2/6"] == "up to 300.0 MB, 1 min 30 s idle"
    assert "node2/7" not in told
    assert told[""] == "and 2 more workers, in --json"
    assert told["test"] == "auc nan"
    assert told["go on with"] == "fedray slurm 'runs/a b'"
    assert told["used"] == (
        "10 min 0 s of time, 0.5 GPU hours, 2 kWh on GPUs, 3.4 MB between nodes, "
        "workers of up to 500.0 MB, 1.0 GB of GPU memory"
    )
    assert "left" not in told
    assert one_line(seen).startswith("interrupted  1,200 of 3,000  120 rounds/min  auc nan")


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "0 s"), (59.4, "59 s"), (3600, "1 h 0 min"), (90061, "1 d 1 h")])
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_paces_keep_their_unit_readable() -> None:
    assert pace(0.001) == "60,000 rounds/min"
    assert pace(7200) == "0.5 rounds/h"


def test_a_run_that_failed_says_why(cli: Cli, small: Path) -> None:
    changes = ("local.optimizer.lr=1e30", "failures.on_nonfinite=abort", "run.dir=out", "-q")
    assert cli("run", small, *changes).status == 1
    outcome = cli("status", "out")
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("error")]
    assert "client '" in line
    assert "failed in round 1" in line


def test_status_needs_no_torch(cli: Cli, small: Path) -> None:
    """It is asked often, and an import of torch takes seconds."""
    assert cli("run", small, "run.dir=out", "-q").status == 0
    told = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules))"
    code = f"{told}; from fedray.cli import main; main()"
    for options in ([], ["--json"]):
        ended = subprocess.run([sys.executable, "-c", code, "status", "out", *options], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[-1] == "False"
