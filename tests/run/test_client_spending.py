"""What clients spend that add noise themselves: written down before anything is made of it, told, within the budget."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedray
from fedray.core.errors import ConfigError
from fedray.privacy.accounting import spent
from fedray.privacy.client_ledger import ClientLedger
from fedray.privacy.local import Randomizer
from fedray.privacy.releases import Release
from fedray.rundir import checkpoint
from fedray.rundir.names import LEDGER
from tests.privacy.test_runs import ROUNDS, data, hashes, stops_at, train
from tests.run.test_spending import told

HALF = Randomizer("gaussian", 0.5, 0.5)


def local(folder: Path, noise: str = "seeded", **more: Any) -> fedray.Result:
    privacy = {"model": "local", "accountant": "pld", **more.pop("privacy", {})}
    return train(folder, noise, privacy=privacy, **{"sampler": fedray.Uniform(5), **more})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    local(folder)
    return folder


def drawn(rounds: int) -> np.ndarray[Any, Any]:
    counts, sizes = np.zeros(20, dtype=int), data().sizes
    for round in range(1, rounds + 1):
        counts[fedray.Uniform(5).cohort(sizes, fedray.TrainArgs().seed, round)] += 1
    return counts


def test_each_client_pays_for_the_rounds_in_which_it_was_drawn(whole: Path) -> None:
    clients = ClientLedger.read(whole / LEDGER).clients
    assert sorted(releases[0].count for releases in clients.values()) == sorted(k for k in drawn(ROUNDS) if k)
    assert told(whole) == [HALF.spent(int(drawn(round).max())) for round in range(1, ROUNDS + 1)]
    said = json.loads((whole / "summary.json").read_text())["privacy"]
    assert said["epsilon"] == told(whole)[-1]
    assert "hospital" not in (whole / "summary.json").read_text()


@pytest.mark.parametrize("noise", ["seeded", "secure"])
@pytest.mark.one_in(2)
def test_a_run_that_is_killed_and_goes_on_repeats_the_noise_of_its_clients(tmp_path: Path, noise: str) -> None:
    folder = tmp_path / "run"
    local(folder, noise, callbacks=[stops_at(3)])
    assert bool([*folder.rglob(checkpoint.NOISE_KEY)]) == (noise == "secure")
    local(folder, noise, resume=True, callbacks=[stops_at(4)])
    first = hashes(folder)
    checkpoint.drop_after(folder / "checkpoints", 3)
    local(folder, noise, resume=True)
    assert hashes(folder)[:4] == first
    assert len(ClientLedger.read(folder / LEDGER)) == 5 * ROUNDS
    assert not [*folder.rglob(checkpoint.NOISE_KEY)]


def test_a_round_that_comes_out_otherwise_is_a_second_release_of_its_clients(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(folder / "checkpoints" / f"round-{ROUNDS:08d}")
    local(folder, resume=True)
    assert len(ClientLedger.read(folder / LEDGER)) == 5 * ROUNDS
    shutil.rmtree(folder / "checkpoints" / f"round-{ROUNDS:08d}")
    local(folder, resume=True, options={"epochs": 2})
    # From the checkpoint of round 4, whose next two rounds are done again with other work.
    assert len(ClientLedger.read(folder / LEDGER)) == 5 * ROUNDS + 10


def test_a_budget_ends_the_run_before_the_round_in_which_a_client_would_exceed_it(tmp_path: Path) -> None:
    rounds = [int(drawn(round).max()) for round in range(1, ROUNDS + 1)]
    limit = HALF.spent(rounds[-1]) - 0.1
    local(tmp_path / "run", options={"epsilon": limit})
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["rounds"] == rounds.index(rounds[-1])
    assert summary["budget"].startswith("budget.epsilon: in one more round a client would exceed")
    assert summary["privacy"]["epsilon"] <= limit


def test_a_run_goes_on_with_the_ledger_of_its_own_kind(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a ledger of what clients release themselves"):
        train(shutil.copytree(whole, tmp_path / "local"), resume=True, options={"rounds": ROUNDS + 1})
    train(tmp_path / "central", privacy={"accountant": "rdp"}, options={"rounds": 2})
    with pytest.raises(ConfigError, match="the ledger of a server's releases"):
        local(tmp_path / "central", resume=True, options={"rounds": 3})
    train(tmp_path / "none", privacy=None, options={"rounds": 2})
    with pytest.raises(ConfigError, match="has done 2 rounds without a ledger"):
        local(tmp_path / "none", resume=True, options={"rounds": 3})


def of_rows(folder: Path, noise: str = "seeded", **more: Any) -> fedray.Result:
    return train(folder, noise, privacy={"unit": "example"}, **{"sampler": fedray.Uniform(5), **more})


def test_each_client_pays_for_the_steps_of_its_rows_and_the_run_says_what_most_is(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    of_rows(folder, options={"batch_size": 4})
    # Eight training rows of each in batches of four.
    rounds = [int(drawn(round).max()) for round in range(1, ROUNDS + 1)]
    assert told(folder) == [spent([Release(0.5, 0.5, 2 * k)], 1e-5, "rdp") for k in rounds]
    clients = ClientLedger.read(folder / LEDGER).clients
    assert clients == {data().client_id(i): (Release(0.5, 0.5, 2 * int(k)),) for i, k in enumerate(drawn(ROUNDS)) if k}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["privacy"]["epsilon"] == told(folder)[-1]
    assert "of each row of the client that pays most" in summary["privacy"]["claim"]
    limit = spent([Release(0.5, 0.5, 2 * rounds[-1])], 1e-5, "rdp") - 0.01
    of_rows(tmp_path / "limited", options={"batch_size": 4, "epsilon": limit})
    ended = json.loads((tmp_path / "limited" / "summary.json").read_text())
    assert (ended["rounds"], ended["status"]) == (rounds.index(rounds[-1]), "budget")
    assert ended["privacy"]["epsilon"] <= limit


def test_noise_of_rows_by_forgotten_keys_is_repeated_after_a_kill_and_never_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    of_rows(folder, "secure", callbacks=[stops_at(3)])
    assert [*folder.rglob(checkpoint.NOISE_KEY)]
    of_rows(folder, "secure", resume=True, callbacks=[stops_at(4)])
    first = hashes(folder)
    checkpoint.drop_after(folder / "checkpoints", 3)
    of_rows(folder, "secure", resume=True)
    assert hashes(folder)[:4] == first
    assert len(ClientLedger.read(folder / LEDGER)) == 5 * ROUNDS
    assert not [*folder.rglob(checkpoint.NOISE_KEY)]
    of_rows(tmp_path / "again", "secure", options={"rounds": 1})
    assert hashes(tmp_path / "again")[0] != first[0]
