"""The words that stand beside curves."""

from __future__ import annotations

import pytest

from fedray.core.record import SPREAD, RoundRecord
from fedray.tracking.described import description, description_of_client
from fedray.tracking.tensorboard import scalars

RECORD = RoundRecord(
    1,
    phases=dict.fromkeys(("broadcast", "train", "aggregate", "evaluate", "checkpoint"), 0.5),
    clients=dict.fromkeys(("sampled", "ok", "failed", "dropped"), 1),
    train={"loss": 0.5, "lr": 0.1},
    test={"loss": 0.5, "f1": 0.5},
    evaluated=dict.fromkeys(("clients", "missing", "without", "taken_part", "fitted"), 1),
    weight=3.0,
    bytes={"down": 1, "up": 1, "network": 1},
    usage={
        **dict.fromkeys(("nodes", "retries", "cpu_seconds", "gpu_seconds", "joules"), 1),
        "idle": [1.0],
        "rss": [1.0],
        "gpu_memory": [1.0],
        "gpu_use": [None, 0.5],
        "failures": {"train": 1},
    },
    clients_test={"auroc": dict.fromkeys(SPREAD, 0.5)},
    clients_personal={"auroc": dict.fromkeys(SPREAD, 0.5)},
    clients_finetuned={"auroc": dict.fromkeys(SPREAD, 0.5)},
)


def test_all_that_a_record_has_is_described_and_no_two_numbers_alike() -> None:
    words = {name: description(name) for name in scalars(RECORD)}
    assert not [name for name, said in words.items() if "a part of the run" in said]
    assert len(set(words.values())) == len(words)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("clients_personal/auroc/worst", ["own model", "`auroc`: ", "the tenth of the clients that fare worst"]),
        ("test/my_own", ["central test set", "The metric `my_own`."]),
        ("usage/rss/max", ["memory that a worker", "The worker with the most."]),
        ("time/survey", ["the phase `survey`"]),
        ("multi_krum/score", ["`multi_krum`, a part of the run"]),
    ],
)
def test_a_description_says_what_of_whom_and_how(name: str, said: list[str]) -> None:
    assert all(words in description(name) for words in said)


def test_a_client_is_named() -> None:
    found = description_of_client("finetuned", "loss", "ann")
    assert "after more training" in found
    assert found.endswith("The client `ann` alone.")
