"""Runs that go wrong: what is said, what is kept, what can be resumed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fedray.cli import quickstart
from fedray.core import inject
from fedray.core.record import RoundRecord
from fedray.experiment import build, launchers, preflight
from fedray.run import driver
from fedray.run import models as run_models
from fedray.tracking.jsonl import JsonLines
from tests.cli.command import SMALL, Cli, hashes

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60.0

SILOS = """\
data: {name: csv, train: [a.csv, b.csv, c.csv, d.csv], test: test.csv, target: y, standardize: false}
model: MODULE:build
local: {batch_size: 2, optimizer: {name: sgd, lr: 0.1}}
rounds: 2
cluster: {name: inline}
tracking: []
"""

RAISES = """\
from torch import nn

class Picky(nn.Linear):
    def forward(self, x):
        if (x > 90).any():
            raise RuntimeError("a value above 90\\nis impossible")
        return super().forward(x)

def build(spec):
    return Picky(spec.shape[0], spec.outputs)
"""

NOT_A_NUMBER = """\
import torch
from torch import nn

class Undefined(nn.Linear):
    def forward(self, x):
        return super().forward(torch.where(x > 90, float("nan"), x))

def build(spec):
    return Undefined(spec.shape[0], spec.outputs)
"""


@pytest.fixture
def silos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four hospitals, of which c holds a value that the models above do not like."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a", "b", "c", "d", "test")):
        odd = 99 if name == "c" else 3
        (tmp_path / f"{name}.csv").write_text(f"u,v,y\n{number},2,no\n{odd},4,yes\n1,{number},no\n")
    return tmp_path


def with_model(folder: Path, code: str) -> str:
    module = f"model_{folder.name}"
    (folder / f"{module}.py").write_text(code)
    (folder / "silos.yaml").write_text(SILOS.replace("MODULE", module))
    return "silos.yaml"


def test_a_client_that_raises_ends_the_run_and_is_named(cli: Cli, silos: Path) -> None:
    config = with_model(silos, RAISES)
    outcome = cli("run", config, "run.dir=out", "--quiet")
    outcome.refused("the run failed", "client 'c'", "round 1", "RuntimeError: a value above 90 is impossible", status=1)
    log = Path("out/log.txt").read_text()
    assert "Traceback (most recent call last)" in log
    assert "client 'c'" in log
    assert json.loads(Path("out/summary.json").read_text())["status"] == "failed"


def test_a_client_that_raises_can_be_dropped(cli: Cli, silos: Path) -> None:
    config = with_model(silos, RAISES)
    assert cli("run", config, "run.dir=out", "failures.on_failure=drop").status == 0
    for line in Path("out/metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["clients"] == {"sampled": 4, "ok": 3, "failed": 1}
        assert record["failures"] == [
            {"client": "c", "stage": "train", "error": "RuntimeError: a value above 90 is impossible"}
        ]


def test_too_few_survivors_end_the_run(cli: Cli, silos: Path) -> None:
    config = with_model(silos, RAISES)
    outcome = cli("run", config, "run.dir=out", "failures.on_failure=drop", "failures.min_share=0.8", "-q")
    outcome.refused("round 1: only 3 of 4 clients survived", "failures.min_share is 0.8", "client 'c'", status=1)


@pytest.mark.parametrize("stack", [2, "off"])
def test_a_client_with_nan_is_dropped_and_counted(cli: Cli, silos: Path, stack: object) -> None:
    config = with_model(silos, NOT_A_NUMBER)
    outcome = cli("run", config, "run.dir=out", f"local.stack={stack}")
    assert outcome.status == 0
    assert "failed 2" in outcome.out
    for line in Path("out/metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["clients"] == {"sampled": 4, "ok": 3, "failed": 1}
        assert [(failure["client"], failure["stage"]) for failure in record["failures"]] == [("c", "update")]
        assert record["train"]["loss"] < 100


def test_a_client_with_nan_can_end_the_run(cli: Cli, silos: Path) -> None:
    config = with_model(silos, NOT_A_NUMBER)
    outcome = cli("run", config, "run.dir=out", "failures.on_nonfinite=abort", "-q")
    outcome.refused("client 'c' failed in round 1", "not finite", status=1)


def test_a_run_that_failed_goes_on_once_its_cause_is_gone(cli: Cli, silos: Path) -> None:
    config = with_model(silos, RAISES)
    assert cli("run", config, "run.dir=out", "-q").status == 1
    assert cli("resume", "out", "failures.on_failure=drop", "-q").status == 0
    assert len(hashes(Path("out"))) == 2


def test_a_full_disk_leaves_the_checkpoint_before_whole(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("run", small, "run.dir=whole", "rounds=6").status == 0
    # Full when the checkpoint is due, and still full when the failed run tries once more to save its state.
    full = {"point": "checkpoint.open", "round": 4, "action": "disk"}
    Path("faults.json").write_text(json.dumps([full, full]))
    with monkeypatch.context() as patch:
        patch.setenv(inject.PLAN, str(Path("faults.json").absolute()))
        outcome = cli("run", small, "run.dir=out", "rounds=6", "checkpoint.every=2", "-q")
    words = ("round 4", "fault injected", "the checkpoint of round 2 is whole", "fedray resume out")
    outcome.refused(*words, status=1)
    assert [path.name for path in Path("out/checkpoints").iterdir()] == ["round-00000002"]
    assert json.loads(Path("out/summary.json").read_text())["status"] == "failed"
    assert cli("resume", "out", "-q").status == 0
    assert hashes(Path("out")) == hashes(Path("whole"))


def test_a_disk_that_is_full_for_everything(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("run", small, "run.dir=whole").status == 0
    write = JsonLines.round

    def full(self: JsonLines, record: RoundRecord) -> None:
        if record.round == 2:
            raise OSError(errno.ENOSPC, "No space left on device", "out/metrics.jsonl")
        write(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "round", full)
        outcome = cli("run", small, "run.dir=out", "checkpoint.every=1", "-q")
    outcome.refused("No space left on device: out/metrics.jsonl", "fedray resume out", status=1)
    assert "No space left" in Path("out/log.txt").read_text()
    assert cli("resume", "out", "-q").status == 0
    assert hashes(Path("out")) == hashes(Path("whole"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.one_in(3)
def test_a_run_stopped_by_a_signal_goes_on_as_if_never_stopped(
    number: signal.Signals, cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here; ``fedray stop`` sends one to a process of its own in ``test_ending.py``."""
    small.write_text(SMALL.replace("rounds: 3", "rounds: 1000000"))
    write = JsonLines.round

    def signalled(self: JsonLines, record: RoundRecord) -> None:
        write(self, record)
        if record.round == 2:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "round", signalled)
        outcome = cli("run", small, "run.dir=out", "checkpoint.every=0")
    assert (outcome.status, outcome.err) == (75, "stopped; go on with: fedray resume out\n")
    summary = json.loads(Path("out/summary.json").read_text())
    done = summary["rounds"]
    assert summary["status"] == "stopped"
    assert [path.name for path in Path("out/checkpoints").iterdir()] == [f"round-{done:08d}"]
    assert not Path("out/model.safetensors").exists()
    assert cli("resume", "out", f"rounds={done + 3}", "-q").status == 0
    assert cli("run", small, "run.dir=whole", f"rounds={done + 3}", "-q").status == 0
    assert hashes(Path("out")) == hashes(Path("whole"))


@pytest.mark.slow
def test_a_second_interrupt_ends_at_once(silos: Path) -> None:
    """The first waits for a client that takes its time."""
    waits = (
        "if self.training and pathlib.Path('out/metrics.jsonl').exists():\n            pathlib.Path('begun').touch()\n"
    )
    # In short sleeps: one that begins just as a signal comes is not ended by it.
    waits += "            [time.sleep(0.05) for _ in range(12_000)]\n            raise"
    slow = RAISES.replace("from torch", "import pathlib, time\nfrom torch")
    slow = slow.replace("if (x > 90).any():\n            raise", waits)
    config = with_model(silos, slow)
    # Neither a trial of stacking nor of a last batch of one row: no step before the run.
    calm = ["local.stack=off", "local.last_batch=merge"]
    command = [sys.executable, "-m", "fedray", "run", config, "run.dir=out", *calm]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{silos}"}
    pipe, out = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=out, text=True) as process:
        try:
            limit = time.monotonic() + DEADLINE
            while not Path("begun").exists():
                assert process.poll() is None
                assert time.monotonic() < limit
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            assert process.stdout is not None
            assert any("once more to exit at once" in line for line in process.stdout)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in rest


def test_a_signal_that_comes_late_finds_a_finished_run(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = run_models.write_model

    def interrupted(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        write(*arguments)

    monkeypatch.setattr(driver, "write_model", interrupted)
    outcome = cli("run", small, "run.dir=out")
    assert (outcome.status, outcome.err) == (0, "")
    assert json.loads(Path("out/summary.json").read_text())["status"] == "finished"
    assert Path("out/model.safetensors").exists()


def test_a_stop_asked_for_before_the_run_is_not_lost(cli: Cli, silos: Path) -> None:
    warned = "import os, signal\n" + RAISES.replace("def build(spec):", "def build(spec):\n    WARN")
    config = with_model(silos, warned.replace("WARN", "os.kill(os.getpid(), signal.SIGUSR1)"))
    outcome = cli("run", config, "run.dir=out")
    assert outcome.status == 75
    assert outcome.err == "fedray: stopped before the run began\n"
    assert not Path("out/metrics.jsonl").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)])
@pytest.mark.parametrize("where", ["model", "workers"])
@pytest.mark.parametrize("command", ["run", "sweep", "quickstart"])
@pytest.mark.slow
def test_a_run_stopped_before_its_first_round_leaves_nothing(
    command: str,
    where: str,
    number: signal.Signals,
    status: int,
    cli: Cli,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it is built, or while its workers start."""
    part = (build, "made_module") if where == "model" else (launchers, "InlineExecutor")
    original = getattr(*part)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    words: list[object] = {
        "run": ["run", small, "run.dir=out"],
        "sweep": ["sweep", small, "seed=1,2", "--dir", "out"],
        "quickstart": ["quickstart", "--dir", "out"],
    }[command]  # type: ignore[assignment]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr(*part, interrupted)
        if command == "quickstart":
            patch.setitem(quickstart.EXPERIMENT, "cluster", {"name": "inline"})
        outcome = cli(*words)
    signal.signal(signal.SIGINT, before)
    assert outcome.status == status
    assert outcome.err == "fedray: stopped before the run began\n"
    assert list(Path().rglob("config.yaml")) == []
    if command == "run":
        assert not Path("out").exists()
        assert cli("run", small, "run.dir=out", "-q").status == 0


def test_a_sweep_stopped_between_two_runs_goes_on(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    original = preflight.made_module

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        made.append(1)
        if len(made) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(build, "made_module", interrupted)
        outcome = cli("sweep", small, "seed=1,2,3", "-q")
    assert outcome.status == 75
    assert outcome.err == "stopped after 1 of 3 runs; the same command goes on\n"
    assert cli("sweep", small, "seed=1,2,3", "-q").status == 0


def test_a_run_ends_with_its_budget_and_goes_on_with_more(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=whole", "-q").status == 0
    outcome = cli("run", small, "run.dir=out", "budget.wall_hours=1e-9")
    assert outcome.status == 0
    (line,) = [line for line in outcome.out.splitlines() if "budget" in line]
    assert line.startswith("budget.wall_hours is used up: ")
    assert line.endswith("; to go on: fedray resume out budget.wall_hours=MORE")
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("budget", 1)
    assert cli("resume", "out", "budget.wall_hours=1", "-q").status == 0
    assert json.loads(Path("out/summary.json").read_text())["status"] == "finished"
    assert hashes(Path("out")) == hashes(Path("whole"))


def test_a_run_that_a_callback_ends_goes_on_without_more_of_anything(cli: Cli, small: Path) -> None:
    Path("listens.py").write_text("def end(record):\n    return record.round == 1\n")
    outcome = cli("run", small, "run.dir=out", "callbacks=['listens:end']")
    assert "callbacks[0]: listens:end ends the run; to go on: fedray resume out\n" in outcome.out
    assert " ".join(cli("status", "out").out.split()).endswith("go on with fedray resume out")
    assert cli("resume", "out", "-q").status == 0
    assert json.loads(Path("out/summary.json").read_text())["status"] == "finished"


def test_a_run_ends_early_and_goes_on_with_more_patience(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=whole", "-q").status == 0
    outcome = cli("run", small, "run.dir=out", "stop={metric: test.loss, patience: 1, min_delta: 100}")
    assert outcome.status == 0
    (line,) = [line for line in outcome.out.splitlines() if "patience" in line]
    assert line.startswith("stop.patience is used up: 1 round with no test.loss better than ")
    assert line.endswith(", of round 1; to go on: fedray resume out stop.patience=MORE")
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("early_stopped", 2)
    assert Path("out/model.safetensors").exists()
    status = " ".join(cli("status", "out").out.split())
    assert "state early_stopped limit stop.patience is used up: 1 round" in status
    assert "go on with fedray resume out stop.patience=MORE" in status
    assert cli("resume", "out", "stop.patience=5", "-q").status == 0
    assert json.loads(Path("out/summary.json").read_text())["status"] == "finished"
    assert hashes(Path("out")) == hashes(Path("whole"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("stop.metric=loss", "metric=loss: it must be one of train.NAME, test.NAME, clients_test.NAME"),
        ("stop.patience=5", "stop: metric: a value is needed, such as test.loss"),
        ("stop.metric=clients_test.loss", "no record will have it, as evaluate.clients_every is 0"),
        ("checkpoint.best=3", "best=3: it must be a metric, such as test.accuracy"),
        (
            "checkpoint.best=train.loss",
            "best=train.loss: it must be a metric of an evaluation, or one that a part tells",
        ),
        ("checkpoint.best={metric: test.loss, mode: least}", "best: mode=least: it must be auto, min or max"),
        ("checkpoint.best={metric: test.loss, mod: min}", "such as test.accuracy, or {metric: test.score, mode: min}"),
        ("budget.gpu_hours=0", "gpu_hours=0.0: it must be above 0"),
        ("checkpoint.seconds=-1", "every and seconds must be at least 0"),
        ("failures.block_timeout=0", "block_timeout=0.0: it must be above 0 seconds"),
        ("failures.block_timeout=5", "with cluster.name=inline there is no worker process to replace"),
    ],
)
def test_limits_that_make_no_sense_are_refused(change: str, words: str, cli: Cli, small: Path) -> None:
    cli("run", small, change).refused(change.partition(".")[0], words)
    assert not Path("runs").exists()
