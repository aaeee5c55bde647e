"""Rounds that are done again have the bits that they had."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fedray.core.errors import ConfigError
from fedray.replay.recorded import Recorded
from fedray.replay.rounds import Replay
from fedray.replay.verify import verify
from tests.replay.conftest import Train, print_of


def repeated(run: Path, start: int, last: int) -> dict[int, str | None]:
    return {one.record.round: one.record.model_sha256 for one in Replay(Recorded.read(run)).rounds(start, last)}


def recorded(run: Path, start: int, last: int) -> dict[int, str]:
    records = Recorded.read(run).records
    return {round: records[round]["model_sha256"] for round in range(start + 1, last + 1)}


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["algorithm=scaffold"],
        ["algorithm=fedavgm", "local.keep_optimizer=true"],
        pytest.param(["algorithm=mime"], marks=pytest.mark.slow),
        pytest.param(["algorithm=ifca", "algorithm.clusters=2"], marks=pytest.mark.slow),
        ["transforms=[{name: clip, norm: 0.5}, {name: gaussian, multiplier: 0.1, noise: seeded}]"],
        [
            "privacy={noise_multiplier: 0.5, clip: adaptive, bit_noise: 9, noise: seeded, accountant: rdp}",
            "sampler=full",
        ],
        pytest.param(["aggregator={name: krum, byzantine: 1}"], marks=pytest.mark.slow),
        ["evaluate.clients_every=1", "data.holdout=0.3", "algorithm=ditto"],
        ["local.stack=off", "failures.dropout=0.3"],
        [
            "local.lr_schedule=cosine",
            "stop={metric: test.loss, patience: 50}",
            "checkpoint={every: 2, keep: 9, best: test.loss}",
        ],
    ],
    ids=lambda changes: " ".join(changes) or "fedavg",
)
@pytest.mark.one_in(4)
def test_from_the_start_and_from_a_checkpoint(changes: list[str], train: Train) -> None:
    run = train(*changes)
    before = print_of(run)
    assert repeated(run, 0, 3) == recorded(run, 0, 3)
    assert repeated(run, 4, 6) == recorded(run, 4, 6)
    assert print_of(run) == before


def test_across_a_change_of_the_config(train: Train) -> None:
    run = train("rounds=3", "algorithm=scaffold")
    train("rounds=6", "local.optimizer.lr=0.02", resume=True)
    assert repeated(run, 0, 6) == recorded(run, 0, 6)


def test_clients_that_a_machine_lost_are_left_out_again(train: Train) -> None:
    plain = train(folder="plain")
    cohort = Replay(Recorded.read(plain)).plan(2).cohort(2)
    run = train(f"failures.left_out={{2: ['{cohort[0]}']}}", folder="lost")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("left_out:", "left_out: {}\nignored:").split("\nignored:")[0])
    records = Recorded.read(run).records
    assert [one["stage"] for one in records[2]["failures"]] == ["left_out"]
    found = Replay(Recorded.read(run)).plan(2).left_out
    assert found == {2: frozenset([int(cohort[0])])}


@pytest.mark.parametrize("section", ["accountant: rdp", "model: local"])
def test_under_privacy_clients_that_a_machine_lost_are_known_from_what_is_withheld(section: str, train: Train) -> None:
    privacy = f"privacy={{noise_multiplier: 0.5, noise: seeded, {section}}}"
    run = train(privacy, "sampler=full", "rounds=2", "failures.min_share=0", "failures.left_out={1: ['1', '4']}")
    config = run / "config.yaml"
    said = yaml.safe_load(config.read_text())
    assert said["failures"].pop("left_out")
    config.write_text(yaml.safe_dump(said))  # as if machines had lost them
    assert "failures" not in Recorded.read(run).records[1]
    for check in verify(Recorded.read(run), [2]).checks:
        assert check.same
        assert check.loss_then == check.loss_now is not None
    (run / "not_private.jsonl").unlink()
    assert repeated(run, 0, 1) != recorded(run, 0, 1)


def test_blocks_are_as_small_as_memory_made_them(train: Train) -> None:
    run = train()
    read = Recorded.read(run)
    halved = {round: {**record, "stack": 2} for round, record in read.records.items()}
    shown = [one.record.stack for one in Replay(Recorded(read.folder, halved, read.summary)).rounds(0, 2)]
    assert shown == [2, 2]


def test_a_model_that_is_another_is_said(train: Train) -> None:
    run = train()
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("- 5", "- 7"))
    with pytest.raises(ConfigError, match="resume with the model"):
        repeated(run, 4, 5)


def test_rounds_whose_noise_is_secret_cannot_be_done_again(train: Train) -> None:
    run = train("privacy={noise_multiplier: 0.5}", "sampler=full", "rounds=1")
    with pytest.raises(ConfigError, match=r"keys of its noise are forgotten \(noise: secure\)"):
        repeated(run, 0, 1)
