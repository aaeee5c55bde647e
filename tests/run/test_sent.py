"""The ledger of what clients have sent: it agrees with the records, for any algorithm, and outlives a resume."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedray.config.layers import load_layers
from fedray.core.errors import RunFailed
from fedray.data.sites import Noted
from fedray.experiment.build import Config
from fedray.experiment.shell import run_in_sight
from fedray.run import sent
from fedray.run.sent import Ledger
from fedray.rundir import durable
from fedray.rundir.client_table import ClientRows
from fedray.rundir.folder import RunFolder
from fedray.rundir.names import SENT

CONFIG = """
seed: 1
rounds: 4
data: {name: synthetic, clients: 6, examples: 12, features: 4, classes: 3, holdout: 0.25}
model: {name: mlp, hidden: [4]}
local: {epochs: 1, batch_size: 4, optimizer: {name: sgd, lr: 0.1}}
sampler: {name: uniform, clients: 3}
evaluate: {clients_every: 2}
cluster: {name: inline}
tracking: []
"""


def ran(folder: Path, *overrides: str, resume: bool = False) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a config; return its ledger and its records."""
    config = folder.parent / f"{folder.name}.yaml"
    config.write_text(CONFIG)
    bound = Config.bind("sent", *load_layers(config, list(overrides)))
    run_in_sight(bound.experiment(RunFolder(folder), resume=resume), quiet=True)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return json.loads((folder / "sent.json").read_text()), [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    "overrides",
    [
        ["algorithm=fedavg"],
        ["algorithm=scaffold"],
        ["algorithm={name: ifca, clusters: 2}"],
        ["algorithm=fedavg", "transforms=[{name: int8}]"],
        ["algorithm=fedavg", "failures.dropout=0.4", "failures.left_out={2: ['1', '2', '3']}", "failures.min_share=0"],
        ["algorithm={name: heterofl, rates: [1.0, 0.5]}"],
    ],
    ids=lambda one: one[-1],
)
@pytest.mark.one_in(3)
def test_what_it_adds_up_to_is_what_the_records_say(tmp_path: Path, overrides: list[str]) -> None:
    told, records = ran(tmp_path / "run", *overrides)
    assert told["bytes"] == sum(record["bytes"]["up"] for record in records)
    assert told["rounds"] == sum(record["clients"]["ok"] for record in records)
    assert told["evaluations"] == 12
    assert (told["round"], told["since"]) == (4, 1)
    table = told["by_client"]
    sizes = [variant["bytes"] for variant in told["variants"]]
    assert table["bytes"] == [n * sizes[v] for n, v in zip(table["rounds"], table["variant"], strict=True)]
    for variant in told["variants"]:
        assert sum(part["bytes"] for part in variant["parts"]) == variant["bytes"]
    views = {name.partition(".")[0] for name in told["told"]["evaluation"]}
    assert {f"{view}.{name}" for view in views for name in ("loss", "accuracy")} == set(told["told"]["evaluation"])
    assert views <= {"global", "personal"}


def test_parts_are_named_with_their_sizes(tmp_path: Path) -> None:
    told, _ = ran(tmp_path / "run", "algorithm=scaffold", "rounds=1")
    parts = {part["name"]: part for part in told["variants"][0]["parts"]}
    delta = parts["delta"]
    assert (delta["numbers"], delta["dtype"], delta["bytes"], delta["in"]) == (35, "float32", 140, "training")
    assert len(parts) == 2  # and SCAFFOLD's control variate


def test_a_resumed_run_has_the_ledger_of_one_that_was_not_stopped(tmp_path: Path) -> None:
    whole, _ = ran(tmp_path / "whole")
    ran(tmp_path / "parts", "rounds=2")
    resumed, _ = ran(tmp_path / "parts", resume=True)
    assert resumed == whole


def test_a_run_of_an_earlier_fedray_is_counted_from_there_on() -> None:
    ledger = Ledger.of(3)
    ledger.restore({}, None, 7)
    assert (ledger.since, ledger.rounds.tolist()) == (8, [0, 0, 0])


def test_of_very_many_clients_sums_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sent, "MOST_CLIENTS", 5)
    told, records = ran(tmp_path / "run")
    assert "by_client" not in told
    assert told["rounds"] == 12
    assert told["bytes"] == sum(record["bytes"]["up"] for record in records)


def test_a_ledger_survives_a_checkpoint() -> None:
    ledger = Ledger.of(4)
    ledger.count(np.array([0, 3]), np.array([3]))
    ledger.evaluated([ClientRows("global", np.array([1]), np.array([5]), {"loss": np.array([0.5])})])
    ledger.ask(1, [{"question": "outline"}])
    other = Ledger.of(4)
    other.restore(ledger.tensors(), json.loads(json.dumps(ledger.to_json())), 1)
    assert other.to_json() == ledger.to_json()
    for name, counts in ledger.tensors().items():
        assert torch.equal(other.tensors()[name], counts)
    other.count(np.array([0]), np.array([], np.int64))
    assert ledger.rounds[0] == 1  # its own still


def test_silos_are_told_what_they_were_asked(tmp_path: Path) -> None:
    for name in "ab":
        rows = "".join(f"{n / 10},{'uv'[n % 2]},{'yn'[n % 2]}\n" for n in range(20))
        (tmp_path / f"{name}.csv").write_text(f"age,ward,ill\n{rows}")
    silos = ", ".join(f"{name}: {{node_label: site={name}, path: {tmp_path / name}.csv}}" for name in "ab")
    data = f"data={{name: silos, silos: {{{silos}}}, target: ill, categorical: [ward]}}"
    told, _ = ran(tmp_path / "run", data, "sampler=full", "evaluate.clients_every=0")
    asked = {one["question"]: one for one in told["before"]["1"]}
    assert {"outline", "labels", "sums", "categories", "class_counts", "fingerprint"} <= asked.keys()
    assert asked["categories"]["columns"] == ["ward"]
    assert asked["labels"]["columns"] == ["ill"]
    assert asked["outline"]["answer"] == "the table's number of rows, the names of its columns, and its dialect"
    for one in asked.values():
        assert len(one["bytes"]) == 2
        assert max(one["bytes"]) < 2000  # an answer is no table
    assert told["by_client"]["client"] == ["a", "b"]


def test_a_question_that_fails_is_not_noted() -> None:
    class Broken:
        def ask(self, questions: object) -> list[int]:
            raise OSError("gone")

    noted = Noted[str](Broken())  # type: ignore[arg-type]
    with pytest.raises(OSError, match="gone"):
        noted.ask([len])
    assert noted.asked == []


def test_without_room_for_it_the_run_ends_with_its_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = durable.replace

    def full(path: Path, *rest: Any) -> None:
        if path.name == SENT:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        replace(path, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(durable, "replace", full)
        with pytest.raises(RunFailed, match=r"No space left.*round \d+ is whole\. Free"):
            ran(tmp_path / "run", "checkpoint.every=1")
    told, records = ran(tmp_path / "run", "checkpoint.every=1", resume=True)
    assert told["rounds"] == sum(record["clients"]["ok"] for record in records)
    assert [record["round"] for record in records] == [1, 2, 3, 4]
