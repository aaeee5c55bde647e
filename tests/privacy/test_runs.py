"""Runs with privacy: what is written, what is not, and the same noise after a kill."""

from __future__ import annotations

import json
import re
import signal
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import fedray
from fedray.algorithms import MOON, Mime
from fedray.core.errors import ConfigError, RunFailed
from fedray.experiment.status import read_status
from fedray.predict.exported import export
from fedray.privacy.ledger import Correlated, Ledger
from fedray.rundir import checkpoint
from fedray.rundir.folder import RunFolder
from fedray.rundir.names import LEDGER

ROUNDS = 6


def data() -> Any:
    draws = np.random.default_rng(0)
    x, y = draws.standard_normal((200, 8)).astype("f4"), draws.integers(0, 3, 200)
    names = [f"hospital{one}" for one in np.repeat(range(20), 10)]
    test = draws.standard_normal((30, 8)).astype("f4"), draws.integers(0, 3, 30)
    return fedray.FederatedData.from_arrays(x, y, names, test=test).with_holdout(0.2, seed=1)


def train(folder: Path, noise: str = "seeded", **more: Any) -> fedray.Result:
    options = {
        "rounds": ROUNDS,
        "tracking": [],
        "checkpoint_every": 2,
        "evaluate_clients_every": 3,
        **more.pop("options", {}),
    }
    own = more.pop("privacy", {})
    usual = {"noise_multiplier": 0.5, "norm": 0.5, "noise": noise, "accountant": "rdp"}
    privacy = None if own is None else {**usual, **own}
    return fedray.train(
        fedray.FederatedModel(lambda: nn.Linear(8, 3), lambda p: torch.optim.SGD(p, lr=0.1)),
        data(),
        fedray.TrainArgs(**options),
        **{"sampler": fedray.Poisson(0.3), "cluster": "inline", "progress": False, "privacy": privacy, **more},
        run_dir=folder,
    )


def hashes(folder: Path) -> list[str]:
    return [json.loads(line)["model_sha256"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeded") / "run"
    train(folder)
    return folder


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secure") / "run"
    train(folder, "secure")
    return folder


def stops_at(round: int) -> Any:
    """A callback that stops a run as a signal does; one that returns True would end it, and its keys with it."""
    return lambda record: signal.raise_signal(signal.SIGTERM) if record.round == round else None


def test_models_that_stay_with_their_clients_have_no_signal_and_no_noise(tmp_path: Path) -> None:
    kept = train(tmp_path / "run", algorithm="local_only", options={"rounds": 2, "evaluate_every": 0})
    assert all("signal_to_noise" not in record.metrics["privacy"] for record in kept.history)
    assert len({record.model_sha256 for record in kept.history}) == 1


def test_seeded_noise_has_the_same_bits_and_says_that_it_is_not_private(seeded: Path, tmp_path: Path) -> None:
    train(tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(seeded)
    summary = json.loads((seeded / "summary.json").read_text())
    assert summary["not_private"].startswith("NOT PRIVATE")
    assert "NOT PRIVATE" in (seeded / "log.txt").read_text()
    assert summary["final"]["metrics"]["privacy"]["not_private"] == 1.0


def test_secure_noise_is_other_noise_in_each_run_and_its_keys_are_gone(secure: Path, tmp_path: Path) -> None:
    train(tmp_path / "again", "secure")
    assert not set(hashes(tmp_path / "again")) & set(hashes(secure))
    assert not [*secure.rglob(checkpoint.NOISE_KEY)]
    assert "not_private" not in json.loads((secure / "summary.json").read_text())


@pytest.mark.parametrize("noise", ["seeded", "secure"])
@pytest.mark.parametrize("clip", ["fixed", "adaptive"])
@pytest.mark.one_in(2)
def test_a_run_that_is_stopped_and_goes_on_repeats_its_noise(tmp_path: Path, noise: str, clip: str) -> None:
    privacy = {"clip": clip, **({"bit_noise": 9.0} if clip == "adaptive" else {})}
    folder = tmp_path / "run"
    train(folder, noise, callbacks=[stops_at(3)], privacy=privacy)
    keys = [*(folder / "checkpoints").rglob(checkpoint.NOISE_KEY)]
    assert bool(keys) == (noise == "secure")
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)
    train(folder, noise, resume=True, callbacks=[stops_at(4)], privacy=privacy)
    first = hashes(folder)
    # As if it had been killed after round 4, with the checkpoint of round 3 as its last one.
    checkpoint.drop_after(folder / "checkpoints", 3)
    assert checkpoint.rounds_in(folder / "checkpoints")[0] == 3
    train(folder, noise, resume=True, privacy=privacy)
    assert hashes(folder)[:4] == first
    assert len(hashes(folder)) == ROUNDS


TURNS = fedray.Separated(3, 5)
CORRELATED = pytest.mark.parametrize("mechanism", ["tree", "banded"])


def correlated(folder: Path, mechanism: str, noise: str = "secure", **more: Any) -> fedray.Result:
    return train(folder, noise, privacy={"mechanism": mechanism}, sampler=TURNS, **more)


@CORRELATED
@pytest.mark.parametrize("noise", ["seeded", "secure"])
@pytest.mark.slow
def test_correlated_noise_is_repeated_from_what_a_checkpoint_keeps_of_it(
    tmp_path: Path, noise: str, mechanism: str
) -> None:
    folder = tmp_path / "run"
    correlated(folder, mechanism, noise, callbacks=[stops_at(3)])
    kept = [*(folder / "checkpoints").rglob(checkpoint.NOISE_MEMORY)]
    assert kept
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in kept)
    assert all(not name.startswith("delta@") for name in checkpoint.read(folder / "checkpoints", 3).tensors)
    correlated(folder, mechanism, noise, resume=True, callbacks=[stops_at(4)])
    first = hashes(folder)
    checkpoint.drop_after(folder / "checkpoints", 3)
    correlated(folder, mechanism, noise, resume=True)
    assert hashes(folder)[:4] == first
    assert len(hashes(folder)) == ROUNDS
    entries = Ledger.read(folder / LEDGER).entries
    assert len(entries) == ROUNDS
    assert {(entry.release.mechanism, entry.release.planned) for entry in entries} == {(mechanism, ROUNDS)}
    assert {entry.circumstances.correlated for entry in entries if entry.circumstances} == {Correlated(5, 0.75, 5)}
    # Of secret noise nothing is left; what is seeded is no secret, and repeats a round for who looks into it.
    assert bool([*folder.rglob(checkpoint.NOISE_MEMORY)]) == (noise == "seeded")


@CORRELATED
@pytest.mark.one_in(2)
def test_correlated_noise_of_a_run_that_has_ended_cannot_go_on(tmp_path: Path, mechanism: str) -> None:
    folder = tmp_path / "run"
    correlated(folder, mechanism, options={"rounds": 3})
    with pytest.raises(ConfigError, match=r"mechanism: noise that is correlated between rounds \(.* over 3 rounds\)"):
        correlated(folder, mechanism, options={"rounds": 5}, resume=True)
    early = tmp_path / "early"
    correlated(early, mechanism, options={"rounds": 5, "wall_hours": 1e-12})
    assert json.loads((early / "summary.json").read_text())["rounds"] < 5
    with pytest.raises(ConfigError, match="has ended after round 1, and forgotten its noise"):
        correlated(early, mechanism, options={"rounds": 5}, resume=True)


def test_a_kill_before_the_first_checkpoint_repeats_the_noise_too(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, "secure", callbacks=[stops_at(2)], options={"checkpoint_every": 0})
    told = hashes(folder)
    checkpoint.drop_after(folder / "checkpoints", 0)
    assert checkpoint.rounds_in(folder / "checkpoints") == [0]
    train(folder, "secure", resume=True, options={"checkpoint_every": 0})
    assert hashes(folder)[:2] == told


def test_a_kill_in_the_middle_of_a_line_before_the_first_checkpoint_leaves_a_ledger_that_goes_on(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    train(folder, callbacks=[stops_at(1)])
    begun = Ledger.read(folder / LEDGER)
    checkpoint.drop_after(folder / "checkpoints", -1)
    (folder / LEDGER).write_bytes((folder / LEDGER).read_bytes()[:-20])
    train(folder, resume=True, options={"rounds": 2})
    ledger = Ledger.read(folder / LEDGER)
    assert (ledger.id, [entry.round for entry in ledger]) == (begun.id, [1, 2])


def test_a_run_that_had_ended_goes_on_with_a_new_key(secure: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, "secure", options={"rounds": 2})
    train(folder, "secure", resume=True, options={"rounds": 4})
    assert len(hashes(folder)) == 4
    assert not [*folder.rglob(checkpoint.NOISE_KEY)]


def test_what_the_noise_does_not_protect_is_in_a_file_of_its_own(seeded: Path) -> None:
    for name in ("metrics.jsonl", "summary.json", "log.txt", "config.yaml"):
        assert "hospital" not in (seeded / name).read_text(), name
    for line in (seeded / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert {"test", "metrics"} <= record.keys()
        assert not record.keys() & {"clients", "weight", "failures", "clients_test", "evaluated"}
        assert record["train"] == {"lr": 0.1}
        assert not record["examples"]
        assert record["bytes"] == {"network": 0}
    assert json.loads((seeded / "summary.json").read_text())["examples"] == 0
    first, *rows = map(json.loads, (seeded / "not_private.jsonl").read_text().splitlines())
    assert first["note"].startswith("NOT PRIVATE")
    assert stat.S_IMODE((seeded / "not_private.jsonl").stat().st_mode) == 0o600
    assert {row["round"] for row in rows} == set(range(1, ROUNDS + 1))
    assert any("loss" in row.get("train", {}) for row in rows)
    assert [row["round"] for row in rows if "clients_test" in row] == [3, 6]
    assert not (seeded / "clients").exists()
    assert not (seeded / "labels.json").exists()
    sent = json.loads((seeded / "sent.json").read_text())
    assert not sent.keys() & {"by_client", "rounds", "bytes"}
    assert json.loads((seeded / "not_private.sent.json").read_text()).keys() > sent.keys()
    assert read_status(seeded, 0.0).sent == {"clients": 20}


def test_no_tracker_and_no_export_has_it_or_a_key(tmp_path: Path) -> None:
    folder, out = tmp_path / "run", tmp_path / "out"
    out.mkdir()
    train(folder, "secure", callbacks=[stops_at(3)], options={"tracking": ["tensorboard", "csv"]})
    keys = [path.read_text() for path in folder.rglob(checkpoint.NOISE_KEY)]
    assert keys
    export(RunFolder(folder), out / "model.safetensors")
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = {tag for names in events.Tags().values() if isinstance(names, list) for tag in names}
    (head, *_) = (folder / "metrics.csv").read_text().splitlines()
    assert {"train/lr", "train/privacy/noise_std"} <= tags
    for name in [*tags, *head.split(",")]:
        assert not re.search(r"train[/.]loss|clients|examples|weight|bytes[/.](up|down)|labels|failures", name), name
    handed_on = [*out.iterdir(), folder / "metrics.csv", *folder.glob("events*")]
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "model.safetensors.json"}
    for path in handed_on:
        content = path.read_bytes()
        assert b"hospital" not in content, path
        assert all(key.encode() not in content and bytes.fromhex(key) not in content for key in keys), path


class Sick(nn.Module):
    """A loss that raises for one client."""

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        # All five rows of one hospital: the trials before a run take fewer.
        if len(target) == 5 and bool((target == 2).all()):
            raise ValueError("the rows of this hospital are secret")
        return nn.functional.cross_entropy(output, target)


def sick(folder: Path, **options: Any) -> fedray.Result:
    y = np.repeat([0, 1, 2, 0], 5)
    given = fedray.FederatedData.from_arrays(np.ones((20, 2), "f4"), y, np.repeat(["a", "b", "hospital_c", "d"], 5))
    return fedray.train(
        fedray.FederatedModel(lambda: nn.Linear(2, 3), lambda p: torch.optim.SGD(p, lr=0.1), Sick()),
        given,
        fedray.TrainArgs(rounds=2, tracking=[], stack="off", **options),
        privacy={"noise_multiplier": 0.5, "noise": "seeded"},
        cluster="inline",
        progress=False,
        run_dir=folder,
    )


def test_the_name_of_a_client_that_fails_is_told_in_that_file_alone(tmp_path: Path) -> None:
    sick(tmp_path / "drop", on_failure="drop")
    for name in ("log.txt", "metrics.jsonl", "summary.json"):
        found = (tmp_path / "drop" / name).read_text()
        assert "hospital_c" not in found
        assert "secret" not in found
    assert "hospital_c" in (tmp_path / "drop" / "not_private.jsonl").read_text()
    with pytest.raises(RunFailed, match=r"clients gave no update.* stands in not_private.jsonl") as caught:
        sick(tmp_path / "abort")
    assert "hospital" not in str(caught.value)
    assert "hospital_c" in (tmp_path / "abort" / "not_private.jsonl").read_text()
    for name in ("log.txt", "summary.json"):
        assert "hospital_c" not in (tmp_path / "abort" / name).read_text()


def rows(folder: Path, **more: Any) -> fedray.Result:
    """A run that protects rows, not clients: any sampler will do."""
    return train(folder, sampler=fedray.Uniform(4), privacy={"unit": "example"}, options={"rounds": 3}, **more)


def test_a_run_that_protects_rows_has_the_same_bits_again_and_says_what_it_is(
    tmp_path: Path,
) -> None:
    rows(tmp_path / "one")
    rows(tmp_path / "two")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert len(set(hashes(tmp_path / "one"))) == 3
    log, summary = ((tmp_path / "one" / name).read_text() for name in ("log.txt", "summary.json"))
    assert "single rows: their gradients are clipped to 0.5; noise multiplier 0.5" in log
    assert "NOT PRIVATE" in log
    assert "NOT PRIVATE" in summary
    assert "loss" not in json.loads((tmp_path / "one" / "metrics.jsonl").read_text().splitlines()[-1]).get("train", {})
    rows(tmp_path / "secure", noise="secure")
    assert "NOT PRIVATE" not in (tmp_path / "secure" / "log.txt").read_text()
    assert hashes(tmp_path / "secure")[-1] != hashes(tmp_path / "one")[-1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"algorithm": MOON()}, "privacy.unit=example: .* an objective"),
        ({"algorithm": Mime()}, "privacy.unit=example: clients answer a survey"),
        ({"options": {"class_weights": "balanced"}}, "local.class_weights"),
    ],
)
def test_what_looks_at_rows_elsewhere_is_refused_before_the_run(more: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        train(tmp_path / "run", privacy={"unit": "example"}, **more)
