"""What differs between two runs, and from which round on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.replay.differences import differences
from fedray.replay.recorded import Recorded
from tests.replay.conftest import Train


def test_runs_of_one_config_do_not_differ(train: Train) -> None:
    one, other = train(), train("rounds=4", folder="other")
    found = differences(Recorded.read(one), Recorded.read(other))
    assert (found.compared, found.first, found.told) == (4, None, [])
    assert found.config == ["rounds: 6 -> 4"]
    assert (found.versions, found.hardware, found.data) == ([], [], [])
    assert found.unrecorded == {"code": [str(one), str(other)]}  # which it does not need


def test_what_a_run_has_not_recorded_is_not_said_to_be_the_same(train: Train) -> None:
    one, other = train(), train("rounds=4", folder="other")
    summary = json.loads((other / "summary.json").read_text())
    del summary["versions"]
    (other / "summary.json").write_text(json.dumps(summary))
    assert differences(Recorded.read(one), Recorded.read(other)).unrecorded["versions"] == [str(other)]
    for run in (one, other):
        (run / "summary.json").unlink()
        shutil.rmtree(run / "checkpoints")
    found = differences(Recorded.read(one), Recorded.read(other))
    assert found.unrecorded == {key: [str(one), str(other)] for key in ("versions", "hardware", "data", "code")}
    assert found.to_json()["unrecorded"] == found.unrecorded


def test_the_first_round_that_differs_and_the_key_that_did_it(train: Train) -> None:
    one = train()
    other = train("rounds=3", folder="other")
    train("rounds=6", "local.optimizer.lr=0.02", folder="other", resume=True)
    found = differences(Recorded.read(one), Recorded.read(other))
    assert found.first == 4
    assert "local.optimizer.lr: 0.1 -> 0.02" in found.config
    assert any(words.startswith("train.loss: ") for words in found.told)
    assert found.told[-1].startswith("model: ")


@pytest.mark.slow
def test_failures_versions_and_hardware(train: Train) -> None:
    one = train()
    other = train("failures.left_out={2: ['0', '1', '2', '3']}", folder="other")
    summary = json.loads((other / "summary.json").read_text())
    summary["versions"]["torch"], summary["machine"]["cpu"] = "1.0", "SSE2"
    (other / "summary.json").write_text(json.dumps(summary))
    found = differences(Recorded.read(one), Recorded.read(other))
    assert found.first == 2
    assert any(words.startswith("failures: none and ") for words in found.told)
    assert found.versions == [f"torch: {json.loads((one / 'summary.json').read_text())['versions']['torch']} -> 1.0"]
    assert [words.split(":")[0] for words in found.hardware] == ["cpu"]


def test_runs_without_hashes_are_compared_by_their_losses(train: Train) -> None:
    read = Recorded.read(train())

    def without(change: float) -> Recorded:
        records = {round: {"train": {"loss": 1.0 / round + (change if round > 2 else 0.0)}} for round in read.records}
        return Recorded(read.folder, records, {})

    assert differences(without(0.0), without(0.0)).first is None
    assert differences(without(0.0), without(0.1)).first == 3


def test_nothing_in_common_is_refused(train: Train, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.yaml").write_text("rounds: 1\n")
    with pytest.raises(ConfigError, match="no recorded round in common"):
        differences(Recorded.read(train()), Recorded.read(tmp_path / "new"))


def test_it_needs_no_torch() -> None:
    code = "import sys, fedray.replay.differences; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
