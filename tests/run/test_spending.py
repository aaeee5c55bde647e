"""What a run with privacy spends: written down before it is released, told, and never beyond its budget."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import fedray
from fedray.core.errors import ConfigError
from fedray.privacy import Privacy
from fedray.privacy import ledger as ledgers
from fedray.privacy.accounting import spent
from fedray.privacy.central import Central
from fedray.privacy.ledger import LOST, Cost, Ledger
from fedray.privacy.participation import Participation
from fedray.privacy.releases import Release
from fedray.run.snapshot import model_of
from fedray.run.spending import MOST_AHEAD, SHARE_AHEAD, Spending
from fedray.rundir import checkpoint
from fedray.rundir.names import LEDGER, PRIVACY
from tests.privacy.test_runs import ROUNDS, stops_at, train

QUICK = {"accountant": "rdp"}


def told(folder: Path) -> list[float | None]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["metrics"]["privacy"].get("epsilon") for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(folder, privacy=QUICK)
    return folder


def test_each_round_is_a_release_and_what_is_told_is_their_sum(whole: Path) -> None:
    ledger = Ledger.read(whole / LEDGER)
    assert [entry.round for entry in ledger] == list(range(1, ROUNDS + 1))
    assert ledger.releases == (Release(0.5, 0.3, ROUNDS),)
    assert told(whole) == [spent([Release(0.5, 0.3, n)], 1e-5, "rdp") for n in range(1, ROUNDS + 1)]
    said = json.loads((whole / PRIVACY).read_text())
    assert said == json.loads((whole / "summary.json").read_text())["privacy"]
    assert (said["epsilon"], said["releases"]) == (told(whole)[-1], f"{ROUNDS} releases in {ROUNDS} rounds")


def test_a_tight_accountant_speaks_now_and_then_and_a_quick_one_in_each_round(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, privacy={"noise_multiplier": 2.0, "accountant": "pld"}, options={"rounds": 9})
    records = [json.loads(line)["metrics"]["privacy"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kinds = [[Release(2.0, 0.3, n)] for n in range(1, 10)]
    assert [each["epsilon_rdp"] for each in records] == [spent(kind, 1e-5, "rdp") for kind in kinds]
    closely = {n: spent(kinds[n - 1], 1e-5, "pld") for n in (1, 2, 4, 6, 8, 9)}
    assert {n: each["epsilon"] for n, each in enumerate(records, 1) if "epsilon" in each} == closely
    assert all(each["epsilon"] <= each["epsilon_rdp"] for each in records if "epsilon" in each)
    assert {each["delta"] for each in records} == {1e-5}


def test_a_run_that_goes_on_has_the_ledger_of_one_that_never_stopped(whole: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", privacy=QUICK, callbacks=[stops_at(3)])
    train(tmp_path / "run", privacy=QUICK, resume=True)
    assert Ledger.read(tmp_path / "run" / LEDGER).entries == Ledger.read(whole / LEDGER).entries


def test_a_run_that_goes_on_with_other_noise_and_cohorts_pays_for_both(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, privacy=QUICK, callbacks=[stops_at(2)])
    train(folder, privacy={**QUICK, "noise_multiplier": 0.8}, sampler=fedray.Poisson(0.5), resume=True)
    both = (Release(0.5, 0.3, 2), Release(0.8, 0.5, ROUNDS - 2))
    assert Ledger.read(folder / LEDGER).releases == both
    assert told(folder)[-1] == spent(both, 1e-5, "rdp")
    said = json.loads((folder / PRIVACY).read_text())
    assert "multiplier 0.5 to 0.8" in said["mechanism"]
    assert "divided by 6 to 10 clients" in said["mechanism"]
    assert all(f"probability {rate}" in said["sampling"] for rate in (0.3, 0.5))


def test_a_round_done_again_as_it_was_is_one_release_and_one_that_came_out_otherwise_a_second(
    whole: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    for round in (6,):
        shutil.rmtree(folder / "checkpoints" / f"round-{round:08d}")
    train(folder, privacy=QUICK, resume=True)
    assert Ledger.read(folder / LEDGER).entries == Ledger.read(whole / LEDGER).entries
    shutil.rmtree(folder / "checkpoints" / "round-00000006")
    lines = (folder / LEDGER).read_text().splitlines(keepends=True)
    lines[-1] = lines[-1].replace('"release": "', '"release": "0')
    (folder / LEDGER).write_text("".join(lines))
    train(folder, privacy=QUICK, resume=True)
    # Both have the cohort of round 6, and so together they are one release with less noise.
    both = Release(8.0**-0.5, 0.3)
    assert Ledger.read(folder / LEDGER).releases == (Release(0.5, 0.3, ROUNDS - 1), both)
    assert told(folder)[-1] == spent([Release(0.5, 0.3, ROUNDS - 1), both], 1e-5, "rdp")
    assert told(folder)[-1] > spent([Release(0.5, 0.3, ROUNDS + 1)], 1e-5, "rdp")  # type: ignore[operator]


@pytest.mark.parametrize("limit", ["budget", "target"])
def test_a_run_ends_before_the_round_that_would_exceed_its_budget(tmp_path: Path, limit: str) -> None:
    budget = spent([Release(0.5, 0.3, 3)], 1e-5, "rdp") + 0.01
    section: dict[str, Any] = {**QUICK}
    options: dict[str, Any] = {"epsilon": budget}
    if limit == "target":
        section |= {"noise_multiplier": None, "epsilon": budget}
        options = {}
    result = train(tmp_path / "run", privacy=section, options=options)
    done = ROUNDS if limit == "target" else 3
    assert result.history[-1].round == done
    assert told(tmp_path / "run")[-1] <= budget  # type: ignore[operator]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("finished" if limit == "target" else "budget", done)
    if limit == "budget":
        assert summary["budget"].startswith("budget.epsilon: one more round would exceed")
        assert (tmp_path / "run" / "model.safetensors").exists()


def test_who_take_turns_pay_for_their_own_rounds_and_the_ledger_says_whose_they_were(tmp_path: Path) -> None:
    turns = fedray.RoundRobin(7)  # three groups of twenty clients
    budget = spent([Release(0.5, count=1)], 1e-5, "rdp")
    folder = tmp_path / "run"
    result = train(folder, privacy=QUICK, options={"epsilon": budget}, sampler=turns)
    assert result.history[-1].round == 3, "the fourth would be the second of the first group"
    assert [entry.release.turn for entry in Ledger.read(folder / LEDGER)] == [0, 1, 2]
    assert told(folder)[-1] == budget
    said = json.loads((folder / PRIVACY).read_text())
    assert "another one, with other rows" in said["neighbouring"]
    assert "clients take turns in 3 groups" in said["sampling"]
    with pytest.raises(ConfigError, match=r"privacy.relation: .* other neighbours, replace_one, .* add_or_remove"):
        train(folder, privacy=QUICK, resume=True)


def test_correlated_noise_is_one_release_which_is_paid_for_at_once(tmp_path: Path) -> None:
    folder, said = tmp_path / "run", {"mechanism": "banded", "bands": 3, "noise_multiplier": 2.0, **QUICK}
    whole = spent([Release(2.0)], 1e-5, "rdp")
    turns, options = fedray.Separated(3, 5), {"epsilon": whole}
    train(folder, privacy=said, sampler=turns, options=options)
    assert [each for each in told(folder) if each is not None] == [whole] * ROUNDS
    assert json.loads((folder / PRIVACY).read_text())["releases"] == f"1 release in {ROUNDS} rounds"
    # A round that comes out otherwise is a row more, which the budget has not.
    for round in (6, 5, 4):
        shutil.rmtree(folder / "checkpoints" / f"round-{round:08d}", ignore_errors=True)
    lines = (folder / LEDGER).read_text()
    (folder / LEDGER).write_text(lines.replace('"round": 6, "release": "', '"round": 6, "release": "0'))
    train(folder, privacy=said, sampler=turns, options=options, resume=True)
    ended = json.loads((folder / "summary.json").read_text())
    assert ended["budget"].startswith("budget.epsilon: round 6 was released before and came out otherwise")
    assert (ended["status"], ended["rounds"]) == ("budget", 5)
    train(folder, privacy=said, sampler=turns, options={"epsilon": 2 * whole}, resume=True)
    (one, again) = Ledger.read(folder / LEDGER).releases
    assert (one.noise_multiplier, one.count, again.count) == (2.0, 1, 1)
    assert whole < told(folder)[-1] < spent([Release(2.0, count=2)], 1e-5, "rdp")  # type: ignore[operator]
    with pytest.raises(ConfigError, match=r"budget.epsilon=1.95121: .* one release, which costs 2.168: give"):
        train(tmp_path / "none", privacy=said, sampler=turns, options={"epsilon": 0.9 * whole})


def test_an_older_checkpoint_may_repeat_what_was_released_though_nothing_is_left(tmp_path: Path) -> None:
    budget = spent([Release(0.5, 0.3, ROUNDS)], 1e-5, "rdp")
    folder, options = tmp_path / "run", {"epsilon": budget}
    train(folder, privacy=QUICK, options=options)
    before = Ledger.read(folder / LEDGER).entries
    shutil.rmtree(folder / "checkpoints" / "round-00000006")
    train(folder, privacy=QUICK, options=options, resume=True)
    assert (told(folder)[-1], Ledger.read(folder / LEDGER).entries) == (budget, before)
    shutil.rmtree(folder / "checkpoints" / "round-00000006")
    (folder / LEDGER).write_text((folder / LEDGER).read_text().replace('"release": "', '"release": "0'))
    result = train(folder, privacy=QUICK, options=options, resume=True)
    # The round came out otherwise, and there is nothing left: the run ends, as by any budget, with the round before.
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["rounds"], len(told(folder))) == ("budget", 4, 4)
    assert summary["budget"].startswith("budget.epsilon: round 5 was released before and came out otherwise")
    assert len(Ledger.read(folder / LEDGER)) == ROUNDS
    assert json.loads((folder / PRIVACY).read_text())["releases"] == f"{ROUNDS} releases in {ROUNDS} rounds"
    saved = checkpoint.newest(folder / "checkpoints", folder / "state")
    assert saved is not None
    assert saved.round == 4
    assert torch.equal(torch.cat([one.detach().reshape(-1) for one in result.model.parameters()]), model_of(saved))


def test_the_claim_is_written_at_the_end_and_one_of_before_is_gone_where_a_run_goes_on(
    tmp_path: Path,
) -> None:
    folder, seen = tmp_path / "run", list[bool]()
    train(folder, privacy=QUICK, callbacks=[stops_at(2)])
    assert json.loads((folder / PRIVACY).read_text())["releases"] == "2 releases in 2 rounds"
    train(folder, privacy=QUICK, resume=True, callbacks=[lambda record: seen.append((folder / PRIVACY).exists())])
    assert (set(seen), len(seen)) == ({False}, ROUNDS - 1)
    assert json.loads((folder / PRIVACY).read_text())["releases"] == f"{ROUNDS} releases in {ROUNDS} rounds"


def test_who_goes_on_without_the_privacy_that_there_was_is_refused(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    with pytest.raises(ConfigError, match="has done 6 rounds with it, and would go on without it"):
        train(folder, privacy=None, options={"rounds": 8}, resume=True)


@pytest.mark.parametrize("cut", [0, 3])
def test_a_run_does_not_go_on_with_a_ledger_that_has_lost_something(whole: Path, tmp_path: Path, cut: int) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    lines = (folder / LEDGER).read_text().splitlines(keepends=True)
    (folder / LEDGER).write_text("".join(lines[:cut]))
    with pytest.raises(ConfigError, match=r"the ledger has 2 releases, and had 6|not a ledger of privacy"):
        train(folder, privacy=QUICK, options={"rounds": 8}, resume=True)


def spending(folder: Path, rounds: int, budget: float | None, clock: Iterator[float]) -> Spending:
    central = Central(Privacy(noise_multiplier=1.0, accountant="rdp"), multiplier=1.0, cohorts=Participation(rate=0.1))
    return Spending(central, Ledger.begin(folder / LEDGER), rounds, 0, budget, lambda: next(clock))


def ahead(ledger: Ledger) -> list[int]:
    lines = ledger.path.read_text().splitlines()[1:]
    return [json.loads(line).get("reserved", 0) for line in lines]


ONE = Release(1.0, 0.1)


def test_as_many_releases_are_reserved_as_the_last_second_had(tmp_path: Path, here: str) -> None:
    clock = itertools.chain([0.0, 2.0, 2.4, 2.8, 3.1, 3.3, 9.0], itertools.count(9.01, 0.01))
    run = spending(tmp_path, 1000, None, clock)
    for round in range(1, 60):
        run.write(round, f"id {round}", Cost(ONE))
    # After 2.4 s two rounds of the last second, after 3.3 three; then ever more, up to the most.
    told = [(place, count) for place, count in enumerate(ahead(run.ledger), 1) if count]
    assert told == [
        (3, 1),
        (5, 2),
        (8, 1),
        (10, 3),
        (14, 7),
        (22, MOST_AHEAD),
        (31, MOST_AHEAD),
        (40, MOST_AHEAD),
        (49, MOST_AHEAD),
        (58, MOST_AHEAD),
    ]


@pytest.mark.parametrize("limit", ["rounds", "budget", "share"])
def test_no_more_is_reserved_than_the_run_may_make_and_a_part_of_that(tmp_path: Path, here: str, limit: str) -> None:
    rounds, ends, last = {"rounds": (100, 100, 97), "budget": (200, 99, 95), "share": (60, 60, 1)}[limit]
    budget = spent([Release(1.0, 0.1, ends)], 1e-5, "rdp") if limit == "budget" else None
    run = spending(tmp_path, rounds, budget, itertools.count(0.0, 0.01))
    for round in range(1, ends + 1):
        run.write(round, f"id {round}", Cost(ONE))
    told = ahead(run.ledger)
    assert max(told) == min(MOST_AHEAD, rounds // SHARE_AHEAD)
    assert all(place + count <= ends for place, count in enumerate(told, 1))
    assert any(told[last - 1 :])
    assert bool(run.used_up(ends)) == (limit == "budget")


def test_of_correlated_noise_nothing_is_reserved(tmp_path: Path, here: str) -> None:
    run = spending(tmp_path, 1000, None, itertools.count(0.0, 0.01))
    tree = Release(4.0, sampling="fixed", relation="zero_out", mechanism="tree", planned=1000, single=8.0)
    for round in range(1, 10):
        run.write(round, f"id {round}", Cost(tree))
    assert not any(ahead(run.ledger))


@pytest.fixture
def steady(here: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In such a boot, three releases that are reserved with one, however fast the rounds are."""
    monkeypatch.setattr(Spending, "_ahead", lambda self, round: 3)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> str:
    """A boot, within which what is written is kept."""
    monkeypatch.setattr(ledgers, "boot_id", lambda: "here")
    monkeypatch.setattr(ledgers, "keeping_boot", lambda folder: "here")
    return "here"


def test_a_run_that_was_stopped_or_has_ended_pays_for_nothing_that_it_did_not_make(
    tmp_path: Path, steady: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    goes_on: list[tuple[int, dict[str, Any]]] = [(5, {"callbacks": [stops_at(5)]}), (12, {"resume": True})]
    for round, more in goes_on:
        train(folder, privacy=QUICK, options={"rounds": 12}, **more)
        assert b'"reserved": 3' in (folder / LEDGER).read_bytes()
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(ledgers, "boot_id", lambda: "another")
            assert [entry.round for entry in Ledger.read(folder / LEDGER)] == list(range(1, round + 1))


def test_where_the_machine_stopped_what_was_reserved_counts_and_the_run_still_keeps_its_budget(
    tmp_path: Path, steady: None, caplog: pytest.LogCaptureFixture
) -> None:
    folder, budget = tmp_path / "run", spent([Release(4.0, 0.3, 11)], 1e-5, "rdp")
    rounds, loud = {"rounds": 12, "epsilon": budget}, {**QUICK, "noise_multiplier": 4.0}
    train(folder, privacy=loud, options=rounds, callbacks=[stops_at(4)])
    # As another boot would find it of a machine that stopped after round 4.
    lines = (folder / LEDGER).read_bytes().replace(b'{"settled": true}\n', b"").replace(b"here", b"before")
    (folder / LEDGER).write_bytes(lines.replace(b'"reserved": 3', b'"reserved": 5'))
    assert Ledger.read(folder / LEDGER).lost == 2
    train(folder, privacy=loud, options=rounds, resume=True)
    assert "those without one, 2 so far, count as made" in caplog.text
    ledger = Ledger.read(folder / LEDGER)
    lost = [(entry.round, entry.id == LOST) for entry in ledger]
    assert lost[4:8] == [(5, True), (6, True), (5, False), (6, False)]
    assert ledger.spent(1e-5, "rdp") <= budget
    assert 6 <= ledger.rounds < 11
    said = json.loads((folder / PRIVACY).read_text())
    assert said["releases"].endswith(f"in {ledger.rounds} rounds, 2 of which count as their machine stopped")


KILLED = """
import sys
from pathlib import Path
import fedray.privacy.ledger as ledgers
from fedray.run.spending import Spending
from tests.privacy.test_runs import train
ledgers.boot_id = lambda: "here"
ledgers.keeping_boot = lambda folder: "here"
Spending._ahead = lambda self, round: 3
train(Path(sys.argv[1]), sys.argv[2], privacy={"accountant": "rdp"}, options={"rounds": 12})
"""


@pytest.mark.slow
@pytest.mark.parametrize("boot", ["here", "another"])
@pytest.mark.parametrize(
    "point", ["driver.round", "driver.fold", "driver.aggregate", "ledger.write", "ledger.written", "driver.end"]
)
def test_a_run_that_is_killed_at_any_point_pays_for_what_it_made(
    tmp_path: Path, steady: None, point: str, boot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plan = tmp_path / "run", tmp_path / "faults"
    round = 12 if point == "driver.end" else 7
    plan.write_text(json.dumps([{"point": point, "round": round, "action": "kill"}]))
    command = [sys.executable, "-c", KILLED, str(folder), "secure"]
    killed = subprocess.run(command, env=os.environ | {"FEDRAY_FAULTS": str(plan)}, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert b'"reserved"' in (folder / LEDGER).read_bytes()
    made = round if point in ("ledger.written", "driver.end") else round - 1
    monkeypatch.setattr(ledgers, "boot_id", lambda: boot)
    found = Ledger.read(folder / LEDGER)
    # Rounds 2 to 4 were reserved with round 1, and 6 to 8 with 5.
    assert (len(found) - found.lost, found.lost) == (made, 0 if boot == "here" else {6: 2, 7: 1, 12: 0}[made])
    train(folder, "secure", privacy=QUICK, options={"rounds": 12}, resume=True)
    ledger = Ledger.read(folder / LEDGER)
    assert [entry.round for entry in ledger if entry.id != LOST] == [*range(1, 13)]
    assert ledger.lost == found.lost


def test_a_budget_without_privacy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"budget.epsilon=3: nothing counts it but privacy: give that"):
        train(tmp_path / "run", privacy=None, options={"epsilon": 3.0})


def test_without_the_accountant_privacy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedray.privacy.accounting.find_spec", lambda name: None)
    with pytest.raises(fedray.ConfigError, match=r"pip install 'fedray\[dp\]'"):
        train(tmp_path / "run")
