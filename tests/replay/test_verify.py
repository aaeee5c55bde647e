"""A verification tells equal from close, and close from different."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.replay.recorded import Recorded
from fedray.replay.verify import Check, Verdict, chosen, verify
from tests.replay.conftest import Train, print_of


def edit(run: Path, change: Any) -> None:
    """Change the records of a run."""
    path = run / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def verdict(run: Path, count: int | None = 3) -> Verdict:
    recorded = Recorded.read(run)
    return verify(recorded, chosen(recorded, count))


def test_a_run_is_equal_to_itself(train: Train) -> None:
    run = train("algorithm=scaffold")
    before = print_of(run)
    told: list[int] = []
    recorded = Recorded.read(run)
    found = verify(recorded, chosen(recorded, 2), told.append)
    assert (found.word, found.checkpoints, found.doubts) == ("equal", {4: None, 6: None}, [])
    assert [(check.start, check.round) for check in found.checks] == [(0, 1), (4, 5)]
    assert told == [1, 5]
    assert [check.round for check in verdict(run, None).checks] == [1, 2, 3, 4, 5, 6]
    assert print_of(run) == before


def test_other_bits_without_a_reason_are_different(train: Train) -> None:
    run = train()
    edit(run, lambda record: record.update(model_sha256="0" * 64) if record["round"] == 5 else None)
    found = verdict(run)
    assert found.word == "different"
    assert [check.round for check in found.checks if not check.same] == [5]


def test_other_bits_on_other_hardware_are_close_where_the_losses_are(train: Train) -> None:
    run = train("checkpoint.every=0")
    (run / "summary.json").write_text(json.dumps({"machine": {"cpu": "SVE", "arch": "aarch64", "gpu": "none"}}))
    for path in (run / "checkpoints").glob("*/*"):
        path.unlink()
    for path in (run / "checkpoints").iterdir():
        path.rmdir()
    edit(run, lambda record: record.update(model_sha256="0" * 64))
    found = verdict(run)
    assert found.word == "close"
    assert any(doubt.words.startswith("processor: aarch64 then") for doubt in found.doubts)
    edit(run, lambda record: record.update(train={"loss": 9.0}))
    assert verdict(run).word == "different"


def test_a_rate_that_was_another_is_no_excuse(train: Train) -> None:
    run = train("local.lr_schedule=cosine")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("rounds: 6", "rounds: 9"))
    found = verdict(run)
    assert found.word == "different"
    assert "`rounds` was another number" in found.reasons


def test_a_checkpoint_with_another_model_is_found(train: Train) -> None:
    run = train()
    edit(run, lambda record: record.update(model_sha256="0" * 64) if record["round"] == 6 else None)
    found = verdict(run, 2)
    assert (found.word, found.checkpoints[4]) == ("different", None)
    assert found.checkpoints[6] == "it holds another model than the recorded one"


def test_a_run_that_failed_or_was_killed_is_verified_up_to_there(train: Train) -> None:
    run = train("rounds=3")
    (run / "summary.json").unlink()
    assert verdict(run).word == "equal"
    failed = train("local.optimizer.lr=1e30", "failures.on_nonfinite=abort", folder="failed")
    with pytest.raises(ConfigError, match="no round is recorded yet"):
        verdict(failed)


def test_gaps_of_losses() -> None:
    assert Check(1, 0, "a", "b", 2.0, 2.01).gap == pytest.approx(0.005)
    assert Check(1, 0, "a", "b", None, None).gap == 0.0
    assert Check(1, 0, "a", "b", None, 1.0).gap == float("inf")
