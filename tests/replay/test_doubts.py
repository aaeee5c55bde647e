"""Each thing that bits depend on is named where it is another one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedray.config.layers import load_layers
from fedray.core.hardware import machine, versions
from fedray.experiment.build import Config
from fedray.experiment.evaluate import evaluate_run
from fedray.experiment.evaluate_clients import evaluate_clients
from fedray.predict import load
from fedray.replay.debug import debug
from fedray.replay.differences import differences
from fedray.replay.doubts import doubts
from fedray.replay.recorded import Recorded
from fedray.replay.rounds import Replay
from fedray.replay.verify import verify
from fedray.rundir.code import keep_code
from fedray.rundir.folder import RunFolder
from tests.replay.conftest import Train

NET = """\
from torch import nn
from own_width_of_net import WIDTH

def net():
    return nn.Sequential(nn.Linear(6, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3))
"""
WORDS = "(changed: own_width_of_net.py)"


def test_nothing_is_doubted_here(train: Train) -> None:
    recorded = Recorded.read(train())
    plan = Replay(recorded).plan(1)
    assert list(doubts(recorded, {"machine": machine()}, plan, 1, 0.0, {})) == []


def test_each_cause_is_named(train: Train) -> None:
    recorded = Recorded.read(train())
    plan = Replay(recorded).plan(1)
    records = {1: {"train": {"lr": 0.5}, "usage": {"hardware": ["NVIDIA H100"]}}}
    other = Recorded(recorded.folder, records, {"versions": {**versions(), "numpy": "1.0", "ray": "1.0"}})
    state = {"machine": {**machine(), "torch": "2.0"}, "fingerprint": {"a.csv": "x"}}
    keep_code(recorded.folder.path, {"net.py": "1", "old.py": "2"}, 1)
    found = list(doubts(other, state, plan, 1, 0.0, {"net.py": "3"}))
    assert [doubt.place for doubt in found] == [True, True, True, False, False, False]
    assert [doubt.words.split(":")[0].split(" (")[0] for doubt in found] == [
        "torch",
        "workers had GPUs, and here they have none",
        "numpy",
        "the training data are others",
        "your own code is not that of round 1",
        "the learning rate was 0.5 and is now 0.1, as `rounds` was another number",
    ]
    assert "(changed: net.py; gone: old.py)" in found[4].words


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "own_net_of_test.py").write_text(NET)
    helper = tmp_path / "own_width_of_net.py"
    helper.write_text("WIDTH = 4\n")
    path = [*sys.path]
    yield helper
    sys.path[:] = path
    for name in ("own_net_of_test", "own_width_of_net"):
        sys.modules.pop(name, None)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if "your own code" in record.getMessage()]
    caplog.clear()
    return found


@pytest.mark.slow
def test_other_code_is_named_wherever_a_run_is_taken_up(
    train: Train, own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = ["model={name: 'own_net_of_test:net'}", "local.loss=cross_entropy", "sampler={name: full}"]
    submitted = RunFolder(tmp_path / "run")
    submitted.claim(
        Config.bind("small", *load_layers(tmp_path / "small.yaml", [*mine, "rounds=2"])).to_yaml(),
        {"own_width_of_net.py": "0"},
    )
    run = train("rounds=2", resume=True)
    waited = "your own code is not that which the run was submitted with (changed: own_width_of_net.py; "
    assert [words.startswith(waited) for words in said(caplog)] == [True, True]
    train(*mine, "rounds=3", resume=True)
    first = train(*mine, "rounds=3", folder="first")
    config = Config.bind("run", *load_layers(run / "config.yaml", ["cluster.name=inline"]))
    evaluate_run(config, RunFolder(run), None)
    assert verify(Recorded.read(run), [3]).doubts == []
    assert said(caplog) == []
    own.write_text("WIDTH = 4  # the same, in other words\n")
    evaluate_run(config, RunFolder(run), None)
    evaluate_clients(config, RunFolder(run), None)
    load(run)
    expected = f"your own code is not that of round 3 {WORDS}, which made the model: results may be others"
    assert said(caplog) == [expected] * 3
    words = f"your own code is not that of round 3 {WORDS}"
    assert [doubt.words for doubt in verify(Recorded.read(run), [3]).doubts] == [words]
    assert [doubt.words for doubt in debug(Recorded.read(run), 3, "0").doubts] == [words]
    train(*mine, "rounds=4", resume=True)
    on = [f"{words}: the rounds from here on are trained with it as it is now"]
    assert said(caplog) == on * 2  # before it begins, and in its log
    assert on[0] in (run / "log.txt").read_text()
    train(*mine, "rounds=5", resume=True)
    load(run)
    assert said(caplog) == []
    assert differences(Recorded.read(first), Recorded.read(run)).code == []
    assert differences(Recorded.read(train(*mine, "rounds=5", folder="other")), Recorded.read(run)).code == []
