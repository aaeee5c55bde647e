"""The harness from the command line to the files, with measurements that cost nothing; one for real, marked slow."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cases, run
from benchmarks.cases import CASES, FIRST_ROUND, FULL, GPU_CASES, PLANNED, QUICK, Effort, Milestones, Say, Speed
from benchmarks.figures import Figure, Goal, Spread
from benchmarks.processes import CommandFailed
from benchmarks.workloads import WORKLOADS

FIGURE = Figure("tiny", "s/round", Goal(0.10, of="ratio"))


@dataclass(frozen=True)
class Fake:
    """A case whose outcome is given."""

    figure: Figure
    error: str | None = None

    def measure(self, effort: Effort, say: Say) -> tuple[list[Figure], list[dict[str, Any]]]:
        if self.error:
            raise CommandFailed(self.error)
        say(f"{effort.repeats} repeats")
        return [self.figure], [{"side": "bare"}]


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "busy", lambda: 0.0)


def use(monkeypatch: pytest.MonkeyPatch, **fakes: Fake) -> None:
    monkeypatch.setattr(run, "CASES", fakes)


def test_a_missed_target_is_said_and_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Fake(replace(FIGURE, fedray=[[0.01]], bare=[[1.0]]))
    bad = Fake(replace(FIGURE, name="cnn", fedray=[[2.0]], bare=[[1.0]]))
    use(monkeypatch, tiny=good, cnn=bad)
    assert run.main(["--output", str(tmp_path)]) == 0
    assert "1 of 2 targets met; missed: cnn" in capsys.readouterr().out
    (page,) = tmp_path.glob("*.md")
    report = json.loads(page.with_suffix(".json").read_text())
    assert [figure["verdict"] for figure in report["figures"]] == ["ok", "missed"]
    assert page.name.startswith(report["date"])
    assert {"python", "torch", "ray", "fedray"} <= report["versions"].keys()
    assert "1 of 2 targets met; missed: cnn" in page.read_text()
    assert report["warning"] is None


def test_a_failed_measurement_keeps_the_others_and_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good = Fake(replace(FIGURE, fedray=[[0.01]], bare=[[1.0]]))
    use(monkeypatch, tiny=Fake(FIGURE, error="python -m x: exit status 1"), cnn=good)
    assert run.main(["--output", str(tmp_path)]) == 1
    (page,) = tmp_path.glob("*.md")
    verdicts = [figure["verdict"] for figure in json.loads(page.with_suffix(".json").read_text())["figures"]]
    assert verdicts == ["failed", "ok"]
    assert "exit status 1" in page.read_text()


def test_no_result_is_written_over_and_a_part_says_so_in_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, tiny=Fake(replace(FIGURE, fedray=[[0.01]], bare=[[1.0]])), cnn=Fake(FIGURE))
    for arguments in ([], [], ["tiny", "--quick"]):
        run.main([*arguments, "--output", str(tmp_path)])
    names = sorted(path.stem for path in tmp_path.glob("*.md"))
    assert len(names) == 3
    whole = min(names, key=len)
    assert set(names) == {whole, f"{whole}-2", f"{whole}-tiny-quick"}


def test_a_busy_machine_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "busy", lambda: 0.5)
    use(monkeypatch, tiny=Fake(replace(FIGURE, fedray=[[0.01]], bare=[[1.0]])))
    run.main(["--output", str(tmp_path)])
    (page,) = tmp_path.glob("*.md")
    assert "not idle (50% before tiny" in page.read_text()


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        run.main(["tinny", "--output", str(tmp_path)])
    assert stopped.value.code == 2
    assert "unknown: tinny; known: tiny, ragged, cnn" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_runs_alternate_and_count_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def said(command: list[str]) -> dict[str, Any]:
        asked.append(command[2:])
        slow = command[2] == "benchmarks.bare"
        rest = {"cluster": "ray", "workers": 2, "stacking": "stacked", "phases": {"train": 0.1}, "warmup": [1.0, 1.0]}
        return {"median": 0.2, "seconds_per_round": [0.2, 0.4] if slow else [0.1, 0.1], **rest}

    monkeypatch.setattr(cases, "measurement", said)
    noop = CASES["noop"]
    assert isinstance(noop, Speed)
    (figure,), runs = noop.measure(Effort(repeats=2, share=0.1), lambda line: None)
    assert [command[0] for command in asked] == ["benchmarks.bare", "benchmarks.engine"] * 2
    assert asked[0] == ["benchmarks.bare", "noop", "--rounds", "4", "--processes", "1", "--threads", "1"]
    assert asked[1] == ["benchmarks.engine", "noop", "--rounds", "4"]
    assert figure.bare == [[5000.0, 2500.0]] * 2
    assert figure.fedray == [[10000.0, 10000.0]] * 2
    assert [line["repeat"] for line in runs] == [0, 0, 1, 1]


def test_pairs_are_more_and_shorter_runs_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    # A neighbour slows the third and the fourth run, which are of one pair.
    seconds = iter([1.0, 0.5, 3.0, 1.5, *[1.0, 0.5] * 4])

    def said(command: list[str]) -> dict[str, Any]:
        asked.append(command[2:])
        second = next(seconds)
        rest = {"cluster": "ray", "workers": 2, "stacking": "lanes", "phases": {"train": 0.1}, "warmup": [1.0]}
        return {"median": second, "seconds_per_round": [second] * int(command[command.index("--rounds") + 1]), **rest}

    monkeypatch.setattr(cases, "measurement", said)
    (figure,), runs = CASES["lora"].measure(FULL, lambda line: None)
    assert [command[0] for command in asked] == ["benchmarks.bare", "benchmarks.engine"] * 6
    assert {command[command.index("--rounds") + 1] for command in asked} == {"4"}
    assert [run["repeat"] for run in runs[::2]] == list(range(6))
    assert figure.ratio == Spread(0.5, 0.5, 0.5)
    assert figure.bounds == (0.5, 0.5)


def test_another_workload_may_be_the_other_side(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([1.0, 0.1, 0.15])

    def said(command: list[str]) -> dict[str, Any]:
        rest = {"cluster": "ray", "workers": 2, "stacking": "stacked", "phases": {"train": 0.1}, "warmup": [1.0]}
        return {"median": 0.1, "seconds_per_round": [next(seconds)], **rest}

    monkeypatch.setattr(cases, "measurement", said)
    (figure,), runs = CASES["stateful"].measure(Effort(repeats=1, share=1.0), lambda line: None)
    assert [(run["side"], run["workload"]) for run in runs] == [
        ("bare", "stateful"),
        ("engine", "tiny"),
        ("engine", "stateful"),
    ]
    assert (figure.name, figure.bare, figure.fedray, figure.verdict) == ("stateful by tiny", [[0.1]], [[0.15]], "ok")
    assert "the bare loop of stateful took 1.00 s a round, fedray 0.15 of it" in figure.note


@pytest.mark.parametrize("native", [True, False])
def test_bf16_is_judged_where_the_cpu_has_it_beside_the_fastest_loop(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([1.0, 0.5, 0.4])
    asked: list[list[str]] = []

    def said(command: list[str]) -> dict[str, Any]:
        asked.append(command[2:])
        second = next(seconds)
        rest = {"cluster": "ray", "workers": 2, "stacking": "one by one", "phases": {"train": 0.1}, "warmup": [1.0]}
        return {"median": second, "seconds_per_round": [second], **rest}

    monkeypatch.setattr(cases, "measurement", said)
    monkeypatch.setattr(cases, "native_bf16", lambda: native)
    (figure,), _ = CASES["cnn-bf16"].measure(Effort(repeats=1, share=1.0), lambda line: None)
    assert [command[0] for command in asked] == ["benchmarks.bare", "benchmarks.engine", "benchmarks.bare"]
    assert asked[1][-2:] == ["--precision", "bf16"]
    assert ("--fast" in asked[0], "--fast" in asked[2]) == (False, True)
    assert figure.verdict == ("ok" if native else "not judged")
    assert ("Not judged: " in figure.note) is not native
    assert "The bare loop with --fast took 0.400 s a round, fedray 1.25 of it." in figure.note
    assert figure.best == 0.4


def test_gpu_cases_run_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def said(command: list[str]) -> dict[str, Any]:
        asked.append(command[2:])
        rest = {"cluster": "inline", "workers": 1, "stacking": "stacked", "phases": {"train": 0.1}, "warmup": [1.0]}
        return {"median": 0.1, "seconds_per_round": [0.1], **rest}

    monkeypatch.setattr(cases, "measurement", said)
    for case in GPU_CASES.values():
        case.measure(Effort(repeats=1, share=1.0), lambda line: None)
    assert all(command[command.index("--device") + 1] == "cuda" for command in asked)
    sides = sum(2 + bool(case.against) for case in GPU_CASES.values() if isinstance(case, Speed))
    inline = sum(
        1 + bool(case.against) for name, case in GPU_CASES.items() if isinstance(case, Speed) and "inline" in name
    )
    assert (len(asked), sum("--inline" in command for command in asked)) == (sides, inline)
    assert {command[1] for command in asked} == {"tiny", "cnn", "wide", "blaze", "resnet", "lora", "stateful"}


def test_targets_are_those_of_the_issue() -> None:
    goals = {name: case.figure.goal for name, case in CASES.items() if isinstance(case, Speed)}
    assert {case.workload for case in CASES.values() if isinstance(case, Speed)} == set(WORKLOADS)
    assert {name: str(goal) for name, goal in goals.items()} == {
        "tiny": "<= 0.08 x bare",
        "ragged": "<= 0.15 x bare",
        "cnn": "<= 0.90 x bare",
        "cnn-bf16": "<= 0.60 x bare",
        "wide": "<= 1.05 x bare",
        "noop": ">= 150,000",
        "blaze": "<= 1.10 x bare",
        "resnet": "<= 1.10 x bare",
        "lora": "<= 0.75 x bare",
        "stateful": "<= 2.00 x bare",
    }
    assert CASES["noop"].clients == WORKLOADS["noop"].cohort  # type: ignore[union-attr]
    assert QUICK.share * QUICK.repeats < FULL.share * FULL.repeats


def test_milestones_keep_the_first_time_of_each(tmp_path: Path) -> None:
    watch = Milestones(tmp_path / "run", workers=1)
    watch([], 1.0)
    assert watch.reached == {}
    watch.run_dir.mkdir()
    (watch.run_dir / "config.yaml").touch()
    (watch.run_dir / "metrics.jsonl").touch()
    watch([], 2.0)
    watch([], 3.0)
    assert watch.reached == {PLANNED: 2.0}, "an empty file is no record"
    (watch.run_dir / "metrics.jsonl").write_text("{}\n")
    watch([], 4.0)
    watch([], 5.0)
    assert watch.reached == {PLANNED: 2.0, FIRST_ROUND: 4.0}


@pytest.mark.slow
def test_everything_for_real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    memory = CASES["memory"]
    assert isinstance(memory, cases.Memory)
    # Of the smallest model, and one cohort: each run starts Ray.
    monkeypatch.setitem(CASES, "memory", replace(memory, large="tiny", cohorts=(10,)))
    assert run.main(["memory", "startup", "--quick", "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*.json")
    report = json.loads(path.read_text())
    assert {figure["verdict"] for figure in report["figures"]} <= {"ok", "missed"}
    (startup,) = (figure for figure in report["figures"] if figure["unit"] == "s")
    assert "driver actor up" in startup["note"]
