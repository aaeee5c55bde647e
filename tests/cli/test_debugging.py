"""``fedray debug`` as a user sees it, under the debugger, too."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tests.cli.command import Cli

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x):
        if self.training and x.abs().max() > 2.9:
            raise ValueError("a large one")
        return super().forward(x)
"""


@pytest.fixture
def failing(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of which some clients raise."""
    (small.parent / "net.py").write_text(NET)
    monkeypatch.syspath_prepend(small.parent)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    options = ("model=net:Net", "failures={on_failure: drop, min_share: 0}", "run.dir=out", "-q")
    assert cli("run", small, *options).status == 0
    return small.parent / "out"


def test_the_first_failure_is_shown(cli: Cli, failing: Path) -> None:
    outcome = cli("debug", "out")
    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("1 round to be done again, from the start on, about ")
    told = {line[:13].strip(): line[13:].strip() for line in lines if line[:1].isalpha()}
    assert told["round"].startswith("1: the same bits as recorded, ")
    assert told["in its block"] == told["recorded"]
    assert "ValueError: a large one" in told["goes wrong"]
    assert 'raise ValueError("a large one")' in outcome.out


def test_a_failure_that_does_not_recur_has_a_status_of_its_own(
    cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = "> 2.9 and not __import__('os').path.exists('mended')"
    (small.parent / "net.py").write_text(NET.replace("> 2.9", once))
    monkeypatch.syspath_prepend(small.parent)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    failed = cli("run", small, "model=net:Net", "failures.on_failure=abort", "run.dir=out", "-q")
    assert (failed.status, "look at it: fedray debug out" in failed.err) == (1, True)
    Path("mended").touch()
    outcome = cli("debug", "out")
    assert (outcome.status, outcome.err) == (1, "")
    told = {line[:13].strip(): line[13:].strip() for line in outcome.out.splitlines() if line[:1].isalpha()}
    assert told["recorded"] == "it gave no update (train): ValueError: a large one"
    assert told["in its block"].startswith("done again it gives one: does the data function give the same rows")
    unknown = cli("debug", "out", "--client", "nobody")
    unknown.refused("no client 'nobody'")
    assert unknown.out == ""
    outcome = cli("debug", "out", "--json")
    said = json.loads(outcome.out)
    assert (outcome.status, said["recurs"], said["recorded"][0]) == (1, False, "train")


def test_a_client_by_its_name_step_by_step(cli: Cli, failing: Path) -> None:
    records = [json.loads(line) for line in (failing / "metrics.jsonl").read_text().splitlines()]
    failed = {one["client"] for one in records[1]["failures"]}
    good = next(str(client) for client in range(8) if str(client) not in failed)
    outcome = cli("debug", "out", "--round", "2", "--client", good)
    assert "|gradient|" in outcome.out
    assert "2 rounds to be done again" in outcome.out
    said = json.loads(cli("debug", "out", "--round", "2", "--client", good, "--json").out)
    assert (said["verdict"], said["client"], len(said["steps"])) == ("equal", good, 3)


def test_the_debugger_takes_over_at_the_step_that_goes_wrong(
    cli: Cli, failing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["p 'rows', x.shape[1]", "p type(model).__name__", "c", "p 'largest', x.abs().max() > 2.9", "c"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*words, "p 'training', self.training", "q", ""])))
    outcome = cli("debug", "out", "--pdb")
    assert outcome.status == 0
    assert "the debugger has the client's training" in outcome.out
    assert "('rows', 6)" in outcome.out
    assert "'Net'" in outcome.out
    file = failing.parent / "net.py"
    assert f"c goes on to Net.forward, {file}:8" in outcome.out
    assert f"{file}(9)forward()" in outcome.out.split("'Net'")[1]  # its first line
    assert "('largest', tensor(True))" in outcome.out.split("'Net'")[1]
    assert "('training', True)" in outcome.out.split("'largest'")[1]  # after it has raised, where it did


def test_wrong_arguments_are_one_line(cli: Cli, failing: Path) -> None:
    cli("debug", "nowhere").refused("is no run folder")
    cli("debug", "out", "--round", "9").refused("recorded rounds 1 to 3")
    cli("debug", "out", "--round", "1", "--client", "x").refused("no client 'x'")
    assert cli("debug", "out", "--round", "1", "--client", "x").out == ""  # no round is said to be done
    assert cli("debug", "out", "--round", "first").status == 2
    assert "--pdb" in cli("debug", "--help").out
