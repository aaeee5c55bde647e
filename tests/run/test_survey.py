"""The survey of a round: its means, and that it changes nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedray.aggregators import Median
from fedray.algorithms import FedAvg, Mime
from fedray.algorithms.base import Algorithm
from fedray.config.sections import FailuresSection, LocalSection
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.messages import Aggregate
from fedray.core.record import RoundRecord
from fedray.local.clients import Clients
from fedray.run.executor import InlineExecutor
from fedray.run.worker import Item, Report
from fedray.sampling import Uniform
from fedray.server import Server
from fedray.transforms import Clip, Gaussian
from tests.cluster.work.within import workers_within
from tests.helpers import Federation, class_problem, federation
from tests.run.test_loop import DROP, STACKS, Flaky

SIZES = (7, 3, 12, 9, 1, 5)


@dataclass(frozen=True)
class Asked(Algorithm):
    """FedAvg that asks first who is there."""

    def survey(self, c: Clients) -> None:
        c.fit(steps=2)
        c.send("size", c.sizes)
        c.send("index", torch.from_numpy(c.index).to(c.params))

    def client(self, c: Clients) -> None:
        assert "size" in c.down
        c.fit()
        c.send("heard", c.down["size"].expand(len(c), 1))

    def step(self, s: Server, total: Aggregate) -> dict[str, float]:
        s.move(total["delta"])
        return {name: float(total[name]) for name in ("size", "index", "heard")}


@STACKS
@pytest.mark.parametrize("weight", ["examples", "uniform"])
@pytest.mark.one_in(2)
def test_means_are_heard_in_the_same_round_and_nothing_else_changes(
    weight: str, stack: int | str, tmp_path: Path
) -> None:
    args = LocalSection(1, 4)
    asked, plain = (
        federation(class_problem(SIZES), tmp_path / type(one).__name__, one, args=args, stack=stack, sampler=Uniform(4))  # type: ignore[arg-type]
        for one in (Asked(weight=weight), FedAvg(weight=weight))  # type: ignore[arg-type]
    )
    records = asked.run()
    assert [r.model_sha256 for r in records] == [r.model_sha256 for r in plain.run()]
    sizes = np.array(SIZES, dtype=float)
    for record in records:
        cohort = asked.plan.cohort(record.round)
        weights = sizes[cohort] if weight == "examples" else np.ones(4)
        told = record.metrics["Asked"]
        assert told["size"] == told["heard"] == pytest.approx((weights * sizes[cohort]).sum() / weights.sum(), rel=1e-6)
        assert told["index"] == pytest.approx((weights * cohort).sum() / weights.sum(), rel=1e-6)
    both = replace(asked.plan.algorithm, profile=replace(asked.plan.algorithm.profile, surveys={}, sends={}))
    layout = asked.plan.layout
    assert asked.plan.algorithm.upload(layout) - both.upload(layout) == 4 * 3
    assert asked.plan.algorithm.download(layout) - plain.plan.algorithm.download(layout) == 4 * 2


def on_workers(run: Federation, monkeypatch: pytest.MonkeyPatch) -> list[RoundRecord]:
    """The records of a run on two workers in this process, both of which die once in the first round."""
    run.executor = workers_within(monkeypatch, 2, {0: [False, False, True], 1: [True]})
    return run.run()


def test_workers_that_die_in_a_survey_or_after_it_change_no_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inline = federation(class_problem(SIZES), tmp_path / "a", Mime(), stack=2)
    expected = [record.model_sha256 for record in inline.run()]
    records = on_workers(federation(class_problem(SIZES), tmp_path / "b", Mime(), stack=2), monkeypatch)
    assert [record.model_sha256 for record in records] == expected
    assert records[0].usage["retries"] >= 2  # one died in the survey, and one after it
    assert all(record.clients["ok"] == len(SIZES) for record in records)


@STACKS
def test_who_fails_in_the_survey_does_not_train(stack: int | str, tmp_path: Path) -> None:
    trained: list[list[int]] = []

    class Watching(InlineExecutor):
        def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
            trained.append(sorted(c for item in items for c in item.clients.tolist()))  # type: ignore[union-attr]
            return super().run(items, stopping)

    flaky = Flaky(2, lambda call: True)
    run = federation(flaky.problem, tmp_path / "a", Mime(), stack=stack, rounds=1, failures=DROP)  # type: ignore[arg-type]
    run.executor = Watching
    flaky.armed = True
    (record,) = run.run()
    assert trained == [[0, 1, 2, 3, 4, 5], [0, 1, 3, 4, 5]]
    assert record.clients == {"sampled": 6, "ok": 5, "failed": 1}
    assert record.failures == [
        {"client": "2", "stage": "train", "error": "RuntimeError: the disk of hospital five is gone"}
    ]
    left_out = federation(class_problem(SIZES), tmp_path / "b", Mime(), stack=stack, rounds=1)  # type: ignore[arg-type]
    left_out.plan = replace(left_out.plan, left_out={1: frozenset([2])}, failures=FailuresSection(on_failure="abort"))
    assert left_out.run()[0].model_sha256 == record.model_sha256


def test_where_all_fail_in_the_survey_nobody_trains_and_the_run_ends(tmp_path: Path) -> None:
    run = federation(class_problem(SIZES), tmp_path, Mime(), rounds=1, failures=DROP)
    run.plan = replace(run.plan, left_out={1: frozenset(range(6))})
    before = run.vector.clone()
    with pytest.raises(RunFailed, match="only 0 of 6 clients survived"):
        run.run()
    assert torch.equal(run.vector, before)


def test_a_resumed_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    whole = federation(class_problem(SIZES), tmp_path / "a", Mime(), checkpoint_every=1)
    expected = [record.model_sha256 for record in whole.run()]
    again = federation(class_problem(SIZES), tmp_path / "b", Mime())
    again.restore(whole.saves[0])
    assert [record.model_sha256 for record in again.run()][-2:] == expected[1:]


@dataclass(frozen=True)
class Bad(Algorithm):
    """A program whose survey does what it may not."""

    what: str = ""

    def initial_state(self, c: Clients) -> dict[str, torch.Tensor]:
        return {"own": torch.zeros(1)}

    def broadcast(self, s: Server) -> dict[str, torch.Tensor]:
        return {"told": torch.zeros(1)}

    def survey(self, c: Clients) -> None:
        one = torch.ones(len(c), 1)
        if self.what == "written":
            c.state["own"].add_(1.0)
        elif self.what == "replaced":
            c.state["own"] = one
        elif self.what == "weight":
            c.weight = one[:, 0]
        if self.what != "nothing":
            name = self.what if self.what in ("delta", "model", "told", "sent") else "fine"
            c.send(name, c.delta if name == "delta" else one, slot=self.slot(c), slots=1)

    def slot(self, c: Clients) -> torch.Tensor | None:
        return torch.zeros(len(c), dtype=torch.long) if self.what == "slots" else None

    def client(self, c: Clients) -> None:
        c.fit()
        c.send("sent", torch.ones(len(c), 1))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nothing", "it sends nothing"),
        ("delta", "it moves no model, so that it sends no delta"),
        ("model", "the name 'model' is the engine's"),
        ("told", "sends told, as its server or its client does"),
        ("sent", "sends sent, as its server or its client does"),
        ("slots", "so no slots"),
        ("weight", "so no c.weight"),
        ("written", r"c.state\['own'\] is read-only, as a survey keeps nothing"),
        ("replaced", "does not support item assignment"),
    ],
)
def test_what_a_survey_may_not_is_refused_before_the_run(what: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words.replace("so no", "no")):
        federation(class_problem(SIZES), tmp_path, Bad(what))


def test_it_is_refused_beside_noise_and_robust_aggregators(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^aggregator: median is made for the update alone, but mime begins each"):
        federation(class_problem(SIZES), tmp_path, Mime(), aggregator=Median())
    with pytest.raises(
        ConfigError, match=r"^transforms: gaussian protects the update alone, but mime begins each round"
    ):
        federation(class_problem(SIZES), tmp_path, Mime(), transforms=[Clip(1.0), Gaussian(0.1)])
