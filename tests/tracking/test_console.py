"""Progress as a terminal, a pipe and nobody see it."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.console

from fedray.core.record import RoundRecord
from fedray.core.stages import Stage
from fedray.rundir.client_table import ClientRows, ClientTable
from fedray.tracking import Console, RunInfo

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def info(folder: str = "runs/x", rounds: int = 4, resumed_from: int = 0) -> RunInfo:
    return RunInfo(Path(folder), "digits", rounds, resumed_from, clients=20, parameters=12_345)


def record(number: int, *, tested: bool = True) -> RoundRecord:
    return RoundRecord(
        number,
        seconds=0.5,
        clients={"sampled": 5, "ok": 4, "failed": 1},
        train={"loss": 1 / number},
        test={"loss": 0.25, "accuracy": 0.5 + number / 10} if tested else {},
        clients_test={"accuracy": {"mean": 0.75, "p10": 0.5, "p50": 0.7, "p90": 1.0}} if tested else {},
        evaluated={"clients": 14, "missing": 6} if tested else {},
    )


def plain() -> tuple[io.StringIO, rich.console.Console]:
    out = io.StringIO()
    return out, rich.console.Console(file=out, width=80, force_terminal=False, _environ={})


def terminal() -> tuple[io.StringIO, rich.console.Console]:
    out = io.StringIO()
    return out, rich.console.Console(file=out, width=80, force_terminal=True, _environ={"TERM": "xterm"})


@pytest.fixture
def ticks() -> Iterator[float]:
    """Readings of a clock that moves a second each time it is read."""
    return map(float, itertools.count())


def played(console: Console, run: RunInfo, evaluated: int | None = None) -> None:
    console.start(run)
    for number in range(run.resumed_from + 1, run.rounds + 1):
        told = record(number)
        console.round(told if evaluated is None else replace(told, evaluated={"clients": evaluated}))
    console.finish({"seconds": 61.0})
    console.close()


def test_a_pipe_gets_plain_lines() -> None:
    out, to = plain()
    played(Console(console=to, every=0), info())
    text = out.getvalue()
    assert all(letter == "\n" or letter.isprintable() for letter in text)
    lines = text.splitlines()
    assert lines[0] == "digits: 20 clients, 12,345 parameters, for 4 rounds"
    assert lines[2] == "round 2/4  2 rounds/s  0:01 left  train.loss 0.5  test.accuracy 0.7  failed 2"
    assert [line.split()[1] for line in lines if line.startswith("round ")] == ["1/4", "2/4", "3/4", "4/4"]


def test_what_is_done_before_the_first_round_is_told() -> None:
    out, to = plain()
    console = Console(console=to)
    console.start(info())
    console.stage(Stage("starting Ray"))
    assert out.getvalue().splitlines()[1:] == ["starting Ray"]
    out, to = terminal()
    console = Console(console=to)
    console.start(info())
    console.stage(Stage("starting Ray"))
    console.close()
    assert "starting Ray" in out.getvalue()
    Console(quiet=True, console=to).stage(Stage("nothing"))
    assert "nothing" not in out.getvalue()


@pytest.mark.parametrize(("failures", "said"), [({"train": 5, "memory": 2}, "7 times"), ({}, None)])
def test_the_table_of_a_run_that_went_on_counts_all_its_failures(failures: dict[str, int], said: str | None) -> None:
    out, to = plain()
    console = Console(console=to)
    console.start(info(resumed_from=2))
    console.finish({"seconds": 1.0, "totals": {"failures": failures}})
    told = [line for line in out.getvalue().splitlines() if "gave no update" in line]
    assert len(told) == (said is not None)
    assert said is None or f"{said} a client gave no update" in told[0]


def test_the_client_that_failed_first_is_named_with_what_looks_at_it() -> None:
    out, to = plain()
    console = Console(console=to, every=0)
    console.start(info("runs/a b"))
    for number, told in enumerate(([], [{"client": "west", "stage": "worker", "error": "killed"}], []), start=1):
        console.round(replace(record(number), failures=told))
    console.round(replace(record(4), failures=[{"client": "ost", "stage": "update", "error": "delta is not finite"}]))
    console.finish({"seconds": 1.0})
    text = " ".join(out.getvalue().split())
    assert "4 times a client gave no update; first ost in round 4 (update), look at it: fedray debug 'runs/a b'" in text


def test_the_model_before_training_has_a_line_and_no_pace() -> None:
    out, to = plain()
    console = Console(console=to, every=0)
    console.start(info())
    console.round(RoundRecord(0, seconds=9.0, test={"accuracy": 0.125}))
    console.round(record(1))
    console.close()
    told = out.getvalue().splitlines()
    assert told[1] == "before training  test.accuracy 0.125"
    assert told[2].startswith("round 1/4  2 rounds/s")


@pytest.mark.parametrize(("clients", "told"), [(9, "0.75"), (10, "0.75 (10 % of clients up to 0.5, 10 % from 1 on)")])
def test_tenths_of_clients_are_told_where_there_are_ten(clients: int, told: str) -> None:
    out, to = plain()
    played(Console(console=to), info(), evaluated=clients)
    lines = [re.sub(r" +", " ", line).strip() for line in out.getvalue().splitlines()]
    assert f"clients_test.accuracy {told}" in lines


def test_lines_keep_their_distance_but_the_last_round_has_one(ticks: Iterator[float]) -> None:
    out, to = plain()
    # Read once at the start, once for each round that asks, once more for each line: every third round is due.
    played(Console(console=to, every=3, clock=lambda: next(ticks)), info(rounds=9))
    numbers = [int(number) for number in re.findall(r"^round (\d+)/9", out.getvalue(), flags=re.MULTILINE)]
    assert numbers == [1, 4, 7, 9]


def test_the_table_says_how_it_ended() -> None:
    out, to = plain()
    played(Console(console=to, hints=["open it: see 'runs/a [b]/c'"]), info("runs/a [b]/c"))
    text = re.sub(r" +", " ", out.getvalue())
    for line in (
        "rounds 4 of 4",
        "time 1:01",
        "train.loss 0.25",
        "test.accuracy 0.9",
        "clients_test.accuracy 0.75 (10 % of clients up to 0.5, 10 % from 1 on)",
        "not evaluated 6 of 20 clients, whose data nobody could reach",
        "failed 4 times a client gave no update",
        "run folder: runs/a [b]/c",
        "open it: see 'runs/a [b]/c'",
    ):
        assert line in [found.strip() for found in text.splitlines()]


@pytest.mark.parametrize(("clients", "quiet"), [(20, False), (21, False), (20, True)])
def test_what_each_of_a_few_clients_got_is_shown_at_the_end(clients: int, quiet: bool, tmp_path: Path) -> None:
    """That of the newest evaluation, of their held-out rows."""
    table = ClientTable(tmp_path / "clients", lambda client: f"silo [b]{client}")
    for number, client in ((2, 7), (4, 3)):
        one, seen = np.array([client]), {"loss": np.array([0.123456]), "accuracy": np.array([np.nan])}
        trained = ClientRows("train", one, np.array([99]), {"loss": np.array([5.0])})
        table.write(number, [trained, ClientRows("global", one, np.array([12]), seen)])
    out, to = plain()
    played(Console(quiet, console=to), replace(info(str(tmp_path)), clients=30), evaluated=clients)
    shown = [" ".join(re.findall(r"[^\s│┃]+", line)) for line in out.getvalue().splitlines()]
    wanted = [
        "held-out rows of each client, after round 4:",
        "client examples loss accuracy",
        "silo [b]3 12 0.1235 nan",
    ]
    assert [line for line in shown if "silo" in line or "client examples" in line or "each client" in line] == (
        wanted if clients == 20 and not quiet else []
    )


def test_a_long_path_stays_in_one_piece() -> None:
    out, to = plain()
    folder = "/".join(["a-long-folder-name"] * 12)
    played(Console(console=to, hints=[f"open it: see {folder}"]), info(folder))
    assert f"run folder: {folder}\n" in out.getvalue()
    assert f"open it: see {folder}\n" in out.getvalue()


def test_what_was_not_measured_is_shown_as_last_measured() -> None:
    out, to = plain()
    console = Console(console=to, every=0)
    console.start(info())
    console.round(record(1))
    console.round(record(2, tested=False))
    assert "test.accuracy 0.6" in out.getvalue().splitlines()[-1]
    console.close()


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ({"loss": 0.5, "mse": 1.25}, "test.mse 1.25"),
        ({"loss": 0.5}, "test.loss 0.5"),
        ({"auc": 0.75, "accuracy": None}, "test.accuracy nan"),
    ],
)
def test_the_metric_shown(test: dict[str, float], words: str) -> None:
    out, to = plain()
    console = Console(console=to, every=0)
    console.start(info())
    console.round(RoundRecord(1, test=test))
    assert out.getvalue().splitlines()[-1] == f"round 1/4  {words}"
    console.close()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.001, "1,000 rounds/s  0:00 left"),
        (0.25, "4 rounds/s  0:01 left"),
        (2.5, "2.5 s/round  0:08 left"),
        (3600.0, "3,600 s/round  3:00:00 left"),
    ],
)
def test_the_pace(seconds: float, words: str) -> None:
    out, to = plain()
    console = Console(console=to, every=0)
    console.start(info())
    console.round(RoundRecord(1, seconds=seconds))
    assert out.getvalue().splitlines()[-1] == f"round 1/4  {words}"
    console.close()


def test_a_resumed_run_says_so() -> None:
    out, to = plain()
    played(Console(console=to, every=0), info(rounds=6, resumed_from=4))
    assert "from round 4 of 6 rounds" in out.getvalue()
    assert "round 5/6" in out.getvalue()


def test_a_round_that_was_done_before_is_not_told_again() -> None:
    """The driver hands out the last round's record once more, for those whose files may lack it."""
    out, to = plain()
    console = Console(console=to, every=0)
    console.start(info(rounds=6, resumed_from=4))
    console.round(record(4))
    assert "round 4/6" not in out.getvalue()
    console.round(record(5))
    assert "round 5/6" in out.getvalue()


def test_a_terminal_gets_a_bar_and_then_the_table() -> None:
    out, to = terminal()
    played(Console(console=to, hints=["open it"]), info())
    text = out.getvalue()
    assert "━" in text
    bar, _, table = text.rpartition("round 4/4")
    assert "round 0/4" in bar
    assert "2 rounds/s  0:00 left  train.loss 0.25  test.accuracy 0.9  failed 4\n" in table
    assert "open it\n" in table


def test_the_cursor_is_not_left_hidden_even_by_a_kill() -> None:
    out, to = terminal()
    console = Console(console=to)
    console.start(info())
    console.round(record(1))
    assert HIDE in out.getvalue()
    assert out.getvalue().rindex(SHOW) > out.getvalue().rindex(HIDE)
    console.close()
    assert out.getvalue().rindex(SHOW) > out.getvalue().rindex(HIDE)
    assert "open TensorBoard" not in out.getvalue()
    console.close()


def test_a_note_leaves_the_bar_in_place() -> None:
    out, to = terminal()
    console = Console(console=to)
    console.start(info())
    console.note("stopping [soon]")
    console.close()
    before, _, after = out.getvalue().partition("stopping [soon]\n")
    assert "round 0/4" in before
    assert "round 0/4" in after
    console.note("too late")
    assert "too late" not in out.getvalue()


def test_quiet_is_silent() -> None:
    for out, to in (plain(), terminal()):
        played(Console(quiet=True, console=to), info())
        assert out.getvalue() == ""


def test_forced_colours_make_no_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    played(Console(every=0), info())
    text = capsys.readouterr().out
    assert "round 4/4" in text
    assert not re.search(r"\r|\x1b\[(?!\d*(;\d+)*m)", text)


class ClosedMeanwhile(Console):
    """One that another thread closes right after it was seen to be open."""

    closing = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name == "_out" and self.closing:
            self.close()
        return found


def test_a_note_may_come_while_the_run_ends() -> None:
    out, to = plain()
    console = ClosedMeanwhile(console=to)
    console.start(info())
    console.closing = True
    console.note("stopping after this round")
    console.note("too late")
    assert out.getvalue().splitlines()[1:] == ["stopping after this round"]


def test_a_used_up_budget_of_a_run_from_python_is_raised_there(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("python:\n  rounds: 4\n")
    out, to = plain()
    console = Console(console=to)
    console.start(info(str(tmp_path)))
    console.round(record(1))
    console.finish({"seconds": 1.0, "budget": "budget.gpu_hours is used up: 2 of 2"})
    console.close()
    assert (
        f"fedray.train(..., TrainArgs(..., gpu_hours=MORE), run_dir={str(tmp_path)!r}, resume=True)" in out.getvalue()
    )


def test_a_used_up_budget_is_said_with_the_way_to_go_on() -> None:
    out, to = plain()
    console = Console(console=to)
    console.start(info("runs/my run"))
    console.round(record(1))
    console.finish({"seconds": 1.0, "budget": "budget.gpu_hours is used up: 2 of 2"})
    console.close()
    said = "budget.gpu_hours is used up: 2 of 2; to go on: fedray resume 'runs/my run' budget.gpu_hours=MORE"
    assert said in out.getvalue().splitlines()


def test_an_early_stop_and_the_best_model_are_in_the_table_at_the_end() -> None:
    out, to = plain()
    console = Console(console=to)
    console.start(info("runs/x"))
    console.round(record(1))
    best = {"metric": "test.accuracy", "value": 0.91234, "round": 1234, "file": "best.safetensors"}
    console.finish({"seconds": 1.0, "early_stopped": "stop.patience is used up: 3 rounds", "best": best})
    console.close()
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert "best test.accuracy 0.9123 in round 1,234, in best.safetensors" in lines
    assert "stop.patience is used up: 3 rounds; to go on: fedray resume runs/x stop.patience=MORE" in lines
