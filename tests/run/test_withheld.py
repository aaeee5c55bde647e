"""What a record has that noise does not protect."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.run.withheld import NOTE, NotPrivate, read_withheld, taken

PUBLIC = {"round", "seconds", "phases", "test", "model_sha256", "workers", "stack", "metrics", "usage"}
"""What comes from the noised model, from a test set, or from the machines."""


def full() -> RoundRecord:
    spread = {"loss": {"mean": 0.5}}
    return RoundRecord(
        3,
        seconds=1.0,
        phases={"train": 1.0},
        clients={"sampled": 4, "ok": 3, "failed": 1},
        examples=30,
        train={"loss": float("nan"), "lr": 0.1},
        test={"loss": 1.0},
        clients_test=spread,
        clients_personal=spread,
        clients_finetuned=spread,
        evaluated={"clients": 4},
        weight=3.0,
        bytes={"up": 1, "down": 2, "network": 3},
        model_sha256="ab",
        failures=[{"client": "a", "stage": "train", "error": "e"}],
        samples=[{"row": 0, "prompt": "A", "completion": "B", "reference": "C"}],
        workers=2,
        stack=1,
        metrics={"privacy": {"clip": 1.0}},
        tables={"test": {"t": {"a": 1}}, "clients_test": {"t": {"a": 1}}},
        usage={"retries": 0, "failures": {"train": 1}},
    )


def test_every_field_of_a_record_is_public_or_taken() -> None:
    record = full()
    found = taken(record)
    assert found.keys() == {
        "clients",
        "examples",
        "weight",
        "train",
        "bytes",
        "failures",
        "evaluated",
        "samples",
        "usage",
        "clients_test",
        "clients_personal",
        "clients_finetuned",
        "tables.clients_test",
    }
    left = record.to_json()
    assert left.keys() == {*PUBLIC, "train", "bytes", "tables", "examples"}
    assert (left["train"], left["bytes"], left["examples"]) == ({"lr": 0.1}, {"network": 3}, 0)
    assert left["tables"] == {"test": {"t": {"a": 1}}}
    assert left["usage"] == {"retries": 0}
    known = {*PUBLIC, "attackers", *(name.split(".")[0] for name in found)}
    assert {field.name for field in fields(RoundRecord)} == known, "a new field: is it protected?"
    assert taken(record) == {}


def test_it_goes_to_a_file_whose_first_line_says_what_it_is(tmp_path: Path) -> None:
    withhold = NotPrivate(tmp_path / "not_private.jsonl")
    withhold(RoundRecord(1))
    assert not (tmp_path / "not_private.jsonl").exists(), "nothing to withhold"
    withhold(full())
    withhold(full())
    first, *rows = map(json.loads, (tmp_path / "not_private.jsonl").read_text().splitlines())
    assert first == {"note": NOTE}
    assert [row["round"] for row in rows] == [3, 3]
    assert rows[0]["train"] == {"loss": None}, "no number is null, as in metrics.jsonl"


def test_it_is_read_again_by_round_and_a_round_that_was_done_again_has_what_its_last_time_had(tmp_path: Path) -> None:
    path = tmp_path / "not_private.jsonl"
    assert read_withheld(path) == {}
    withhold = NotPrivate(path)
    withhold(full())
    withhold(RoundRecord(3, clients={"sampled": 4}, bytes={"up": 5}))  # once more, and nobody failed
    withhold(RoundRecord(3, evaluated={"clients": 2}))
    withhold(RoundRecord(4, clients={"sampled": 1}))
    again = {"clients": {"sampled": 4}, "bytes": {"up": 5}, "evaluated": {"clients": 2}}
    assert read_withheld(path) == {3: again, 4: {"clients": {"sampled": 1}}}
    path.write_bytes(path.read_bytes()[:-9])  # as a crash leaves it
    assert read_withheld(path) == {3: again}
    path.write_bytes(path.read_bytes().replace(b'{"round": 3', b'{"mound": 3', 1))
    with pytest.raises(ConfigError, match=r"not_private.jsonl:2: not a line of this file"):
        read_withheld(path)
