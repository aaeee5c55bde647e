"""Rows that the server sends to single clients, and those that it keeps of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedray
from fedray.algorithms import FedAMP, FedAvg
from fedray.algorithms.base import Algorithm
from fedray.config.sections import EvaluateSection, FailuresSection
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.messages import Aggregate
from fedray.local.clients import Clients
from fedray.local.stacking import Stack
from fedray.run.addressed import FOLDER
from fedray.sampling import Uniform
from fedray.server import PerClient, Server
from fedray.transforms import Clip, Gaussian, Transform
from tests.helpers import class_problem, federation, personal

HELD = class_problem((9, 7, 12, 5, 8, 6), holdout=0.3)


@dataclass(frozen=True)
class Echo(Algorithm):
    """Each client hears what it said last, and the number of those who have said something; all else is FedAvg's."""

    asks: bool = False
    wrong: str = ""

    def client(self, c: Clients) -> None:
        heard, asked = c.down["heard"], c.down["asked"] if self.asks else None
        c.fit()
        known = torch.ones(len(c))
        if self.wrong == "nan":
            known[torch.from_numpy(c.index == 1)] = torch.nan
        said = torch.stack([c.sizes * c.round, known], dim=1)
        c.send("said", said, apart=True)
        c.send("heard", heard if asked is None else heard + asked)

    def broadcast(self, s: Server) -> dict[str, PerClient]:
        def row(client: int) -> Tensor:
            sent = s.rows.clients
            mine = s.rows.read("said", sent[sent == client])[0] if client in sent else torch.zeros(2)
            return torch.cat([mine, torch.tensor([float(client), float(len(sent))])])

        return {"heard": PerClient(5 if self.wrong == "width" else 4, row)}

    def step(self, s: Server, total: Aggregate) -> dict[str, float]:
        s.move(total["delta"])
        return {str(place): float(number) for place, number in enumerate(total["heard"])}


@dataclass(frozen=True)
class Asking(Echo):
    """The same, with a survey that hears the rows, too."""

    asks: bool = True

    def survey(self, c: Clients) -> None:
        c.send("asked", c.down["heard"])


def expected(run: Any, rounds: int) -> list[list[float]]:
    """The weighted means of what clients hear in each round."""
    said: dict[int, float] = {}
    sizes, told = run.plan.task.data.sizes, []
    for number in range(1, rounds + 1):
        cohort = run.plan.cohort(number).tolist()
        rows = [[said.get(c, 0.0), float(c in said), c, len(said)] for c in cohort]
        told.append(np.average(rows, axis=0, weights=sizes[cohort]).tolist())
        said |= {c: float(sizes[c] * number) for c in cohort}
    return told


@pytest.mark.parametrize("stack", [3, "off"])
@pytest.mark.parametrize("algorithm", [Echo(), Asking()])
@pytest.mark.one_in(2)
def test_each_client_hears_its_own_row(algorithm: Algorithm, stack: Stack, tmp_path: Path) -> None:
    run = federation(HELD, tmp_path, algorithm, sampler=Uniform(3), rounds=5, stack=stack)
    records = run.run()
    more = 2.0 if isinstance(algorithm, Asking) else 1.0  # the mean of the survey is added to each row
    for record, means in zip(records, expected(run, 5), strict=True):
        told = record.metrics["Echo" if more == 1.0 else "Asking"]
        assert [told[str(place)] for place in range(4)] == pytest.approx([more * means[p] for p in range(4)], rel=1e-5)
    assert torch.equal(run.vector, plainly(tmp_path / "plain", stack))


def plainly(folder: Path, stack: Stack) -> Tensor:
    run = federation(HELD, folder, FedAvg(), sampler=Uniform(3), rounds=5, stack=stack)
    run.run()
    return run.vector


def test_bytes_are_those_of_the_rows(tmp_path: Path) -> None:
    run, plain = federation(HELD, tmp_path, Echo()), federation(HELD, tmp_path / "b", FedAvg())
    more = {way: run.plan.traffic(np.arange(3), np.arange(2))[way] for way in ("down", "up")}
    less = plain.plan.traffic(np.arange(3), np.arange(2))
    assert {way: more[way] - less[way] for way in more} == {"down": 3 * 4 * 4, "up": 2 * 4 * (2 + 4)}


def test_rows_of_a_round_are_gone_in_the_next(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "00000001-of-a-killed-run.f32").write_bytes(b"1234")
    run = federation(HELD, tmp_path, Echo(), rounds=4)
    run.run()
    assert len(list((tmp_path / FOLDER).iterdir())) == 1


def test_evaluations_hear_the_rows_of_the_coming_round(tmp_path: Path) -> None:
    """Whoever is evaluated at the end of a run, or beside a further round, gets the same."""
    evaluate = EvaluateSection(0, clients_every=1)

    @dataclass(frozen=True)
    class Told(FedAMP):
        def personal(self, c: Clients) -> Tensor:
            return c.down["mixture"]

    found: dict[int, list[float]] = {}
    for rounds in (2, 4):
        run = federation(
            HELD, tmp_path / str(rounds), Told(alpha=1.0), sampler=Uniform(3), rounds=rounds, evaluate=evaluate, stack=2
        )
        found[rounds] = [record.clients_personal["loss"]["mean"] for record in run.run()]
    assert found[2] == found[4][:2]
    assert len(set(found[4])) == 4


@pytest.mark.parametrize("stack", [3, "off"])
def test_a_resumed_run_has_the_bits_of_one_that_was_not_stopped(stack: Stack, tmp_path: Path) -> None:
    algorithm = FedAMP(alpha=1.0)
    whole = federation(HELD, tmp_path / "a", algorithm, sampler=Uniform(3), rounds=5, stack=stack)
    whole.run()
    half = federation(HELD, tmp_path / "b", algorithm, sampler=Uniform(3), rounds=5, stack=stack)
    half.run(2)
    again = federation(HELD, tmp_path / "b", algorithm, sampler=Uniform(3), rounds=5, stack=stack)
    again.restore(half.save())
    again.run()
    assert torch.equal(personal(again), personal(whole))


def test_a_row_without_numbers_is_a_failed_client(tmp_path: Path) -> None:
    drop = FailuresSection("drop", min_share=0.5)
    run = federation(HELD, tmp_path, Echo(wrong="nan"), rounds=1, failures=drop)
    (record,) = run.run()
    assert [(failure["client"], failure["stage"]) for failure in record.failures] == [("1", "update")]
    assert "said is not finite" in record.failures[0]["error"]
    assert run.state.server.rows.clients.tolist() == [0, 2, 3, 4, 5]


def trained(algorithm: Algorithm, **options: Any) -> fedray.Result:
    model = fedray.FederatedModel(lambda: nn.Linear(6, 3), fedray.optim.SGD(lr=0.1))
    args = fedray.TrainArgs(rounds=1, tracking=[])
    return fedray.train(model, HELD.data, args, algorithm=algorithm, cluster="inline", **options)


@dataclass(frozen=True)
class Aside(FedAvg):
    """Sends something apart that a server must not take, or in a way that there is not."""

    how: str = ""

    def client(self, c: Clients) -> None:
        c.fit()
        slot = torch.zeros(len(c), dtype=torch.long) if self.how == "slot" else None
        c.send("delta" if self.how == "delta" else "said", c.sizes, apart=True, slot=slot)


@pytest.mark.parametrize(
    ("algorithm", "words"),
    [
        (
            Echo(wrong="width"),
            r"^algorithm: the server's step of Echo fails: ValueError: the heard for a client is \[",
        ),
        (Aside(how="slot"), "a mean within slots, or each client's row apart, not both"),
        (Aside(how="delta"), "the name 'delta' is the engine's"),
    ],
)
def test_what_cannot_be_is_refused_before_the_run(algorithm: Algorithm, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        trained(algorithm)


@pytest.mark.parametrize("transforms", [[Clip(1.0), Gaussian(1.0)]])
def test_noise_protects_the_update_alone(transforms: list[Transform]) -> None:
    with pytest.raises(ConfigError, match=r"^transforms: gaussian protects the update alone, but of Aside the "):
        trained(Aside(), transforms=transforms)
    with pytest.raises(ConfigError, match=r"^aggregator: median is made for the update alone, but of Aside the "):
        trained(Aside(), aggregator=fedray.Median())
    assert trained(Aside(), transforms=[Clip(1.0)]).history[0].clients["ok"] == 6


def test_a_row_that_cannot_be_made_ends_the_run(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Late(FedAvg):
        def broadcast(self, s: Server) -> dict[str, PerClient]:
            return {"late": PerClient(1, lambda client: torch.ones(1 if s.round < 2 else 3))}

    run = federation(HELD, tmp_path, Late())
    with pytest.raises(RunFailed, match=r"^round 2: the server's late for client \d is \[3\], or not finite"):
        run.run()
