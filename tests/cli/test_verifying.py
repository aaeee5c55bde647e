"""``fedray verify`` and ``fedray diff`` as a user sees them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from fedray.rundir.lock import Owner
from fedray.rundir.names import LOCK
from tests.cli.command import Cli


def test_a_run_is_verified(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=out", "checkpoint.every=2", "-q").status == 0
    outcome = cli("verify", "out")
    assert (outcome.status, outcome.err) == (0, "")
    first, *_, whole, last = outcome.out.splitlines()
    assert first == "3 rounds to be done again (1 to 2, 3), about 1 s"
    assert outcome.out.count("same bits") == 3
    assert (whole, last) == ("checkpoints of rounds 2, 3: whole, each with the model of its round", "equal")
    said = json.loads(cli("verify", "out", "--rounds", "all", "--json").out)
    assert (said["verdict"], [one["round"] for one in said["rounds"]]) == ("equal", [1, 2, 3])


def test_other_bits_are_a_status_of_their_own(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=out", "-q").status == 0
    path = small.parent / "out" / "metrics.jsonl"
    path.write_text(path.read_text().replace('"model_sha256": "', '"model_sha256": "0'))
    outcome = cli("verify", "out", "--rounds", "1")
    assert outcome.status == 1
    assert outcome.out.splitlines()[-1].startswith("different, from round 1 on: the code that the config names")
    assert "checkpoint of round 3: it holds another model" in outcome.out


def test_a_run_that_goes_on_is_verified_too(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=out", "-q").status == 0
    (small.parent / "out" / "summary.json").unlink()
    (small.parent / "out" / LOCK).write_text(json.dumps(asdict(Owner.me())))
    assert cli("verify", "out").status == 0


def test_two_runs_are_compared(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=one", "-q").status == 0
    assert cli("run", small, "run.dir=other", "local.epochs=2", "-q").status == 0
    outcome = cli("diff", "one", "other")
    assert outcome.status == 1
    lines = outcome.out.splitlines()
    assert lines[0].split(None, 1) == ["rounds", "round 1 is the first that differs"]
    assert any("local.epochs: 1 -> 2" in line for line in lines)
    assert json.loads(cli("diff", "one", "other", "--json").out)["first"] == 1
    same = cli("diff", "one", "one")
    assert same.status == 0
    assert "the same in all 3 rounds that both have" in same.out
    said = dict(line.split(None, 1) for line in same.out.splitlines())
    assert said["versions"] == said["hardware"] == said["data"] == "the same"
    assert said["code"] == "not recorded in either, as of runs that need none of your own"
    (small.parent / "other" / "summary.json").unlink()
    said = dict(line.split(None, 1) for line in cli("diff", "one", "other").out.splitlines() if line[:1].strip())
    assert said["versions"] == "not recorded in other"


def test_wrong_arguments_are_one_line(cli: Cli, small: Path) -> None:
    cli("verify", "nowhere").refused("is no run folder")
    cli("diff", "nowhere", "nowhere").refused("is no run folder")
    assert cli("verify", "nowhere", "--rounds", "0").status == 2
    (small.parent / "config.yaml").write_text("python: {rounds: 3}\n")
    cli("verify", ".").refused("was started from Python")
    for command in ("verify", "diff"):
        assert "Exit status: 0 the same bits" in cli(command, "--help").out
