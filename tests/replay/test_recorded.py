"""What a run folder tells of rounds that can be done again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.replay.recorded import Recorded, sampled, stretches
from fedray.rundir.folder import RunFolder
from tests.replay.conftest import Train


def test_anchors_are_the_start_and_whole_checkpoints(train: Train) -> None:
    run = train("checkpoint.keep=3")
    assert Recorded.read(run).anchors == {0: None, 2: None, 4: None, 6: None}
    with (run / "checkpoints" / "round-00000004" / "tensors.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    recorded = Recorded.read(run)
    assert recorded.anchors[4] is not None
    assert "checksum" in recorded.anchors[4]
    assert (recorded.before(6), recorded.before(2), recorded.before(3)) == (2, 0, 2)


def test_a_format_that_is_not_read_is_said(train: Train) -> None:
    run = train()
    path = run / "checkpoints" / "round-00000006" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(ConfigError, match="has format 99, this fedray reads 1 and 2"):
        _ = Recorded.read(run).anchors


def test_each_round_has_the_config_it_was_run_with(train: Train) -> None:
    run = train("rounds=3")
    train("rounds=6", "local.optimizer.lr=0.02", resume=True)
    recorded = Recorded.read(run)
    assert [recorded.config_of(round).name for round in (1, 3, 4, 6)] == ["config.yaml"] * 2 + [
        "config-from-4.yaml"
    ] * 2


def test_failures_are_those_of_the_record_and_of_the_round_in_which_the_run_failed() -> None:
    one, other = ({"client": name, "stage": "train", "error": "its code raised"} for name in "ab")
    summary = {"status": "failed", "error": "client 'b' failed", "rounds": 2, "failures": [other]}
    recorded = Recorded(RunFolder(Path("none")), {1: {}, 2: {"failures": [one]}}, summary)
    assert [list(recorded.failures(round)) for round in (1, 2, 3, 4)] == [[], [one], [other], []]
    assert [recorded.error(round) for round in (2, 3, 4)] == [None, "client 'b' failed", None]
    gone_on = Recorded(RunFolder(Path("none")), {1: {}, 2: {}, 3: {}}, summary)  # the summary is of the driver before
    assert (list(gone_on.failures(3)), gone_on.error(3)) == ([], None)


def test_a_run_of_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("python: {rounds: 3}\n")
    with pytest.raises(ConfigError, match="was started from Python"):
        Recorded.read(tmp_path).check_config()


def test_what_is_no_run_is_refused(tmp_path: Path, train: Train) -> None:
    with pytest.raises(ConfigError, match="is no run folder"):
        Recorded.read(tmp_path / "nowhere")
    run = train()
    shutil.rmtree(run / "checkpoints")
    (run / "summary.json").unlink()
    assert Recorded.read(run).anchors == {0: None}  # as where a process was killed at once


@given(
    last=st.integers(1, 60),
    saved=st.sets(st.integers(1, 60), max_size=6),
    count=st.none() | st.integers(1, 70),
)
def test_the_rounds_that_are_sampled_cost_least(last: int, saved: set[int], count: int | None) -> None:
    recorded = Recorded(RunFolder(Path("none")), {n: {"model_sha256": "x"} for n in range(1, last + 1)}, {})
    recorded.__dict__["anchors"] = {0: None, **dict.fromkeys(sorted(n for n in saved if n <= last))}
    chosen = sampled(recorded, count)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(last, count or last)
    costs = sorted(n - recorded.before(n) for n in range(1, last + 1))
    assert sorted(n - recorded.before(n) for n in chosen) == costs[: len(chosen)]
    assert sum(end - start for start, end in stretches(recorded, chosen).items()) <= last
