"""The commands by their names."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import Cli

COMMANDS = [
    "run",
    "resume",
    "evaluate",
    "export",
    "plan",
    "tune",
    "list",
    "config",
    "quickstart",
    "report",
    "status",
    "sweep",
    "submit",
    "doctor",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(cli: Cli, command: str) -> None:
    outcome = cli(command, "--help")
    assert outcome.status == 0
    assert "Usage: " in outcome.out
    assert command in cli("--help").out


def test_the_version_and_a_bad_command(cli: Cli) -> None:
    assert re.fullmatch(r"fedray \d+\.\d+\.\d+\S*\n", cli("--version").out)
    outcome = cli("trian")
    assert outcome.status == 2
    assert "No such command 'trian' (did you mean 'run'?)" in outcome.err
    assert "No such command 'statu' (did you mean 'status'?)" in cli("statu").err
    assert "No such option: --trian" in cli("--trian").err
    assert cli("zzz").err.rstrip().endswith("No such command 'zzz'.")


LATE = """
import os, signal, sys
class Late:
    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGINT):
        kill(process, number)
late = Late()
sys.argv = ["fedray", "--version"]
from fedray.cli import main
main()
"""


def test_a_ctrl_c_after_the_end_does_not_change_the_exit_status() -> None:
    assert subprocess.run([sys.executable, "-c", LATE], stdout=subprocess.DEVNULL).returncode == 0


def test_a_key_of_the_config_with_dashes_is_told_from_an_option(cli: Cli) -> None:
    outcome = cli("run", "x.yaml", "--rounds", "5")
    assert outcome.status == 2
    assert "No such option: --rounds; a key of the config is written without dashes: rounds=VALUE" in outcome.err
    assert "written without dashes" not in cli("status", "x", "--rounds", "5").err
    known = cli("run", "x.yaml", "--quiet=3")
    assert known.status == 2
    assert "does not take a value" in known.err
    assert "written without dashes" not in known.err


FROM_PYTHON = """
import fedray
data = {"name": "synthetic", "clients": 4, "examples": 12, "features": 6, "classes": 3}
args = fedray.TrainArgs(rounds=2)
result = fedray.train(fedray.FederatedModel("logistic"), data, args, cluster="inline", run_dir="python")
print(len(result.history))
"""


def unread(*command: object) -> int:
    """Return the exit status of a process of Python of whose output nobody reads a word."""
    reads, writes = os.pipe()
    os.close(reads)
    try:
        return subprocess.run([sys.executable, *map(str, command)], stdout=writes, stderr=writes).returncode
    finally:
        os.close(writes)


def test_a_run_goes_on_where_nobody_reads_and_what_only_prints_ends(small: Path) -> None:
    assert unread("-m", "fedray", "run", small, "run.dir=out") == 0
    assert unread("-c", FROM_PYTHON) == 0
    for run in ("out", "python"):
        assert json.loads(Path(run, "summary.json").read_text())["status"] == "finished"
    for command in (["runs", "."], ["logs", "out"]):
        assert unread("-m", "fedray", *command) == 141
    assert unread("-m", "fedray", "status", "nowhere") == 2, "an error is one all the same"


LOST = """
import os, signal, sys
from fedray.cli import main

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.meta_path.remove(self)
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:  # as in the middle of an import of a library in C, which drops it
                pass
        return None

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets jobs in the background ignore it
sys.meta_path.insert(0, Interrupts())
main()
"""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["doctor"], id="doctor", marks=pytest.mark.slow),
        pytest.param(["list"], id="list", marks=pytest.mark.slow),
        pytest.param(["plan", "small.yaml"], id="plan"),
    ],
)
def test_ctrl_c_while_a_command_imports_torch_is_not_lost(small: Path, command: list[str]) -> None:
    ended = subprocess.run([sys.executable, "-c", LOST, *command], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert "Traceback" not in ended.stderr
