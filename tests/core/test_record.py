"""Records of rounds as JSON."""

from __future__ import annotations

import json
import math

from fedray.core.record import RoundRecord


def full() -> RoundRecord:
    return RoundRecord(
        round=3,
        seconds=0.5,
        phases={"train": 0.25},
        clients={"sampled": 4, "ok": 3, "failed": 1},
        examples=12,
        train={"loss": 0.7},
        test={"loss": 0.6, "accuracy": 0.5},
        metrics={"krum": {"score": 0.5}},
        clients_test={"loss": {"mean": 0.5, "p10": 0.1, "p50": 0.5, "p90": 0.9}},
        evaluated={"clients": 3, "missing": 0},
        weight=9.0,
        bytes={"down": 8, "up": 6, "network": 0},
        model_sha256="ab",
        failures=[{"client": "7", "stage": "train", "error": "no"}],
        usage={"nodes": 1, "worker": ["inline/0"], "idle": [0.5], "failures": {"train": 1}},
    )


def test_round_trip() -> None:
    for record in (full(), RoundRecord(1)):
        assert RoundRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_empty_sections_are_left_out_and_zeros_are_not() -> None:
    assert set(RoundRecord(1).to_json()) == {"round", "seconds", "examples", "workers", "stack"}
    assert RoundRecord(1, clients={"failed": 0}).to_json()["clients"] == {"failed": 0}


def test_what_json_cannot_say_becomes_null() -> None:
    record = RoundRecord(1, train={"loss": math.nan}, test={"loss": math.inf, "accuracy": 0.5})
    text = json.dumps(record.to_json(), allow_nan=False)
    assert json.loads(text)["train"] == {"loss": None}
    assert json.loads(text)["test"] == {"loss": None, "accuracy": 0.5}
    again = RoundRecord.from_json(json.loads(text))
    assert not again.train["loss"] < math.inf, "whoever compares training losses goes on after a resume"
    assert again.test == {"loss": None, "accuracy": 0.5}
