"""What a short run's process is told, and what it tells."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from fedray.config.layers import load_layers
from fedray.experiment.build import Config
from fedray.tune.process import ALONE, Processes, enough, records_in, told
from tests.cli.command import SMALL


def record(train: float, ok: int = 4, **usage: Any) -> dict[str, Any]:
    clients, phases = {"sampled": 4, "ok": ok}, {"train": train}
    return {"seconds": train, "clients": clients, "phases": phases, "stack": 8, "workers": 2, "usage": usage}


def test_rounds_after_the_first_two_are_told_by_client() -> None:
    records = [
        record(90.0, rss=[9, 1]),
        record(80.0),
        record(4.0, gpu_memory=[3, 5]),
        record(8.0, ok=2),
        record(1.0, 0),
    ]
    probe = told(records, 3, 0, "")
    assert (probe.seconds, probe.stack, probe.workers) == ((1.0, 4.0), 8, 2)
    assert (probe.rss, probe.gpu_memory) == (9, 5), "the peak is that of all rounds"


def test_a_run_that_ends_otherwise_tells_why() -> None:
    records = [record(1.0)] * 9
    assert told(records, 9, 1, "x\nfedray: the run failed: no memory\nlog: a\n").error == "the run failed: no memory"
    assert told(records, 9, 2, "fedray: local.stack=0: wrong").refused
    assert told(records, 9, -signal.SIGKILL, "").error.endswith("where memory runs out")
    assert told(records, 9, 3, "").error == "its process ended with status 3"
    assert told(records[:2], 9, 0, "").error == "no round was measured"


@pytest.mark.parametrize("status", [0, 75, -signal.SIGTERM])
def test_a_run_that_was_asked_to_end_has_told_enough_wherever_the_signal_met_it(status: int) -> None:
    assert len(told([record(1.0)] * 11, 9, status, "").seconds) == 9


def test_fast_rounds_are_measured_for_a_while_and_slow_ones_as_often_as_asked() -> None:
    assert not enough([record(100.0)] * 10, least=9)
    assert enough([record(100.0)] * 11, least=9)
    assert not enough([record(0.01)] * 30, least=9)
    assert enough([record(0.01)] * 42, least=9)


def test_half_a_line_is_no_record_yet(tmp_path: Path) -> None:
    assert records_in(tmp_path) == []
    (tmp_path / "metrics.jsonl").write_text('{"round": 1}\n{"rou')
    assert records_in(tmp_path) == [{"round": 1}]


def test_a_short_run_evaluates_keeps_and_tells_nothing(tmp_path: Path) -> None:
    said = (
        "tracking: [tensorboard]\nevaluate: {clients_every: 1, finetune: {epochs: 1}, before: true}\n"
        "stop: {metric: test.loss, patience: 3, mode: min}\nprivacy: {noise_multiplier: 3, noise: seeded}\n"
        "checkpoint: {every: 1, seconds: 5, best: test.accuracy, history: 2}\nrun: {profile: 1-2}\n"
        "budget: {wall_hours: 1, cpu_hours: 1, epsilon: 1}\nsampler: {name: poisson, rate: 1.0}\n"
    )
    path = tmp_path / "c.yaml"
    path.write_text(SMALL.replace("tracking: []\n", "").replace("test: 30", "test: 30, holdout: 0.2") + said)
    config = Config.bind("c", *load_layers(path, ALONE))
    assert (config.evaluate.every, config.evaluate.clients_every, config.evaluate.before) == (0, 0, False)
    assert (config.stop.metric, config.checkpoint.monitor, config.tracking, config.run.profiled) == (
        None,
        None,
        (),
        None,
    )
    assert (config.checkpoint.every, config.checkpoint.seconds, config.budget.wall_hours) == (0, 0.0, None)
    assert config.plan().task.stacking.size > 0


@pytest.mark.slow
def test_of_a_real_run_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(SMALL)
    (tmp_path / "there").mkdir()
    runs = Processes(path, ["local.epochs=2"], 3, 6, tmp_path / "there")
    probe = runs(("local.stack=4",))
    assert len(probe.seconds) >= 6
    assert (probe.stack, probe.workers, probe.error) == (4, 1, "")
    assert probe.rss > 10**8
    assert runs(("local.stack=0",)).refused
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["output.txt"]
