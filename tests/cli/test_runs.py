"""``fedray runs`` as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedray.experiment.runs import Listed
from tests.cli.command import Cli


def test_runs_in_the_usual_folders_are_listed(cli: Cli, small: Path) -> None:
    cli("runs").refused("neither a folder runs nor a folder sweeps")
    assert cli("run", small, "run.dir=runs/one", "-q").status == 0
    assert cli("run", small, "run.dir=sweeps/two/x", "rounds=2", "-q").status == 0
    outcome = cli("runs")
    assert (outcome.status, outcome.err) == (0, "")
    head, _, *lines = outcome.out.splitlines()
    assert head.split() == ["run", "state", "rounds", "best", "test.accuracy", "last", "time", "changed"]
    assert [line.split()[:3] for line in lines] == [
        ["sweeps/two/x", "finished", "2/2"],
        ["runs/one", "finished", "3/3"],
    ]
    assert all(", round " in line for line in lines)


def test_json_is_a_list_of_all_fields(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=out", "-q").status == 0
    (one,) = json.loads(cli("runs", "out", "--json", "--by", "test.loss").out)
    assert set(one) == set(Listed.__dataclass_fields__)
    assert (one["metric"], one["round"], one["state"]) == ("test.loss", 3, "finished")


def test_a_failed_run_says_why_below_the_table(cli: Cli, small: Path) -> None:
    changes = ("local.optimizer.lr=1e30", "failures.on_nonfinite=abort", "run.dir=runs/bad", "-q")
    assert cli("run", small, *changes).status == 1
    lines = cli("runs").out.splitlines()
    assert lines[2].split()[:2] == ["runs/bad", "failed"]
    assert lines[-1].startswith("runs/bad: client '")


def test_an_empty_folder_and_wrong_arguments(cli: Cli, small: Path) -> None:
    (small.parent / "runs").mkdir()
    assert cli("runs").out == "no runs in runs\n"
    assert json.loads(cli("runs", "--json").out) == []
    cli("runs", "nowhere").refused("nowhere: no such folder")
    cli("runs", "--by", "accuracy").refused("--by", "test.NAME")
    assert "--watch" in cli("runs", "--help").out


def test_watching_ends_once_no_run_is_under_way(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([[Listed("runs/a", "a", "running", 1, 2)], [Listed("runs/a", "a", "finished", 2, 2)]])
    monkeypatch.setattr("fedray.experiment.runs.list_runs", lambda *_: next(seen))
    monkeypatch.setattr("fedray.cli.watching.time.sleep", lambda seconds: None)
    (small.parent / "runs").mkdir()
    outcome = cli("runs", "--watch")
    states = [line.split()[1:3] for line in outcome.out.splitlines() if line.strip().startswith("runs/a")]
    assert states == [["running", "1/2"], ["finished", "2/2"]]
    assert next(seen, None) is None


def test_status_of_a_folder_of_runs_is_their_table(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=runs/one", "-q").status == 0
    shown = cli("status", "runs")
    assert (shown.status, shown.out) == (0, cli("runs", "runs").out)
    assert "runs/one" in shown.out
    (listed,) = json.loads(cli("status", "runs", "--json", "--watch").out)
    assert (listed["folder"], listed["state"]) == ("runs/one", "finished")
    assert cli("status", "runs/one", "--watch").out.startswith("finished  3 of 3")
