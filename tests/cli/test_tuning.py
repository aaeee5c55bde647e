"""``fedray tune`` and ``fedray run --tuned`` as a user sees them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from fedray.tune import kept
from fedray.tune.search import Probe
from tests.cli.command import Cli, hashes


class Quick:
    """A machine on which blocks of eight, and bfloat16, take half the time, and lanes have no room."""

    asked = 0

    def __init__(self, *_: object) -> None: ...

    def __call__(self, changes: Sequence[str]) -> Probe:
        type(self).asked += 1
        if any(change.startswith("local.stack=lanes") for change in changes):
            return Probe(error="the run failed: out of memory")
        half = len({"local.stack=8", "local.precision=bf16"} & set(changes))
        return Probe((0.001 / 2**half,) * 9, stack=8, workers=1, rss=3 * 10**8)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Quick]:
    monkeypatch.setattr(kept, "Processes", Quick)
    monkeypatch.setattr("fedray.tune.candidates.native_bf16", lambda: True)
    monkeypatch.setenv("FEDRAY_CACHE", str(tmp_path / "kept"))
    Quick.asked = 0
    return Quick


def test_a_choice_is_a_table_and_a_command_to_paste(cli: Cli, small: Path, quick: type[Quick]) -> None:
    outcome = cli("tune", small, "local.epochs=2", "worker.threads=1")
    assert (outcome.status, outcome.err) == (0, "")
    assert "measuring local.stack=8 (run 2 of 6)" in outcome.out
    told = outcome.out[outcome.out.index("candidate") :]
    starred = [line for line in told.splitlines() if "│ * │" in line]
    assert len(starred) == 2, "measured twice"
    assert "local.stack=8 local.precision=bf16" in starred[0]
    assert "4,000" in starred[0]
    assert "4.00" in starred[0]
    assert "0.30 GB" in starred[0]
    assert "local.stack=lanes:4: the run failed: out of memory" in told
    assert "left as given: worker.threads=1" in told
    assert "local.precision changes results" in told
    command = f"fedray run {small} local.epochs=2 worker.threads=1 local.stack=8 local.precision=bf16"
    assert told.splitlines()[-1] == command


def test_the_second_time_nothing_is_measured(cli: Cli, small: Path, quick: type[Quick]) -> None:
    first = json.loads(cli("tune", small, "--json").out)
    assert (first["kept"], first["changes"]) == (False, ["local.stack=8", "local.precision=bf16"])
    assert first["command"].endswith("local.stack=8 local.precision=bf16")
    asked = quick.asked
    outcome = cli("tune", small)
    assert quick.asked == asked
    assert f"measured before, {first['when']}; --again measures anew" in outcome.out
    assert json.loads(cli("tune", small, "--json").out)["kept"]
    assert not json.loads(cli("tune", small, "--json", "--again").out)["kept"]
    assert quick.asked == 2 * asked


def test_a_run_takes_the_choice_as_overrides_and_says_so(cli: Cli, small: Path, quick: type[Quick]) -> None:
    assert cli("run", small, "run.dir=tuned", "--tuned", "local.precision=fp32").status == 0
    assert cli("run", small, "run.dir=by_hand", "local.precision=fp32", "local.stack=8", "-q").status == 0
    assert hashes(Path("tuned")) == hashes(Path("by_hand"))
    said = [line for line in Path("tuned/log.txt").read_text().splitlines() if "tuned: " in line]
    assert len(said) == 1
    assert "tuned: local.stack=8 (measured 20" in said[0]
    config = Path("tuned/config.yaml").read_text()
    assert config.replace("tuned", "by_hand") == Path("by_hand/config.yaml").read_text()
    asked = quick.asked
    outcome = cli("run", small, "run.dir=again", "--tuned", "local.precision=fp32", "-q")
    assert (outcome.status, outcome.out, quick.asked) == (0, "", asked)


def test_what_is_wrong_is_told_before_anything_is_measured(cli: Cli, small: Path, quick: type[Quick]) -> None:
    cli("tune", "nowhere.yaml").refused("nowhere.yaml: no such config file")
    cli("tune", small, "local.stak=3").refused("local.stak: unknown key (did you mean 'stack'?)")
    cli("tune", small, "cluster.name=slurm").refused("cluster.name: slurm runs in a Slurm job")
    cli("run", small, "--tuned", "local.stack=0").refused("local: stack=0: it must be")
    assert "6<=x<=1000" in cli("tune", small, "--rounds", "5").err
    Path("there").mkdir()
    Path("there/config.yaml").write_text("")
    cli("run", small, "--tuned", "run.dir=there").refused("there")
    assert quick.asked == 0


def test_a_config_whose_runs_fail_is_told_why(
    cli: Cli, small: Path, quick: type[Quick], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: Any = lambda self, changes: Probe(error="client 3 raised")  # noqa: E731
    monkeypatch.setattr(Quick, "__call__", broken)
    cli("tune", small).refused("no short run came to its end", "client 3 raised", status=1)
    assert list(Path("kept").rglob("*.json")) == []


@pytest.mark.slow
def test_a_real_choice_is_run_and_resumed_with_the_same_bits(
    cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEDRAY_CACHE", str(tmp_path / "kept"))
    asked = small, "worker.threads=1", "local.precision=fp32", "local.stack=auto"
    found = json.loads(cli("tune", *asked, "--json", "--rounds", "6").out)
    rows = found["candidates"]
    assert rows[0]["changes"] == []
    assert {"local.stack=8", "local.stack=2", "local.stack=off"} <= {c for row in rows for c in row["changes"]}
    assert all(row["rounds"] >= 6 and 0.0 < row["low"] <= row["seconds"] <= row["high"] for row in rows)
    assert all(row["note"] == "" and row["rss"] > 10**8 for row in rows)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["kept"], "nothing else is left"
    assert cli("run", *asked, "--tuned", "rounds=6", "run.dir=whole", "-q").status == 0
    assert cli("run", *asked, "--tuned", "rounds=3", "run.dir=part", "-q").status == 0
    assert cli("resume", "part", "rounds=6", "-q").status == 0
    assert cli("run", *asked, *found["changes"], "rounds=6", "run.dir=plain", "-q").status == 0
    assert hashes(Path("whole")) == hashes(Path("part")) == hashes(Path("plain"))


@pytest.mark.slow
def test_a_ctrl_c_leaves_nothing_behind(small: Path, tmp_path: Path) -> None:
    """Neither a process nor a folder: the run that is measured ends with the command."""
    (tmp_path / "temporary").mkdir()
    own = {"TMPDIR": str(tmp_path / "temporary"), "FEDRAY_CACHE": str(tmp_path / "kept"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "fedray", "tune", str(small)]
    with subprocess.Popen(command, env={**os.environ, **own}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "(run 2 of" not in (line := process.stdout.readline()):
            assert line, "it has ended"
        while not (below := psutil.Process(process.pid).children(recursive=True)):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
    assert psutil.wait_procs(below, timeout=20)[1] == []
    assert list((tmp_path / "temporary").glob("fedray-*")) == []
    assert not (tmp_path / "kept").exists()
