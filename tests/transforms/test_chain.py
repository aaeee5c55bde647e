"""The order of transforms, and what each has of its own: adaptive clipping (arXiv:1905.03871) as a user writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fedray.aggregators import Median
from fedray.algorithms import FedAvg, HeteroFL, Scaffold
from fedray.algorithms.base import Algorithm
from fedray.config.sections import FailuresSection, LocalSection
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.messages import Aggregate, BlockUpdate, Broadcast, Parts
from fedray.core.now import Now
from fedray.local.clients import Clients
from fedray.sampling import Poisson, Uniform
from fedray.transforms import BF16, Clip, Codec, Gaussian, Int8, Setting, TopK, Transform
from fedray.transforms.chain import Chain
from fedray.transforms.codec import VALUES, Draws, travelled
from tests.helpers import Federation, class_problem, federation, train
from tests.run.test_survey import on_workers

PRIVATE: list[Transform] = [Clip(1.0), Gaussian(0.5, noise="seeded")]
SIZES = (7, 3, 12, 9, 1, 5)


@dataclass(frozen=True)
class Adaptive(Transform):
    """Clips to a norm that follows the quantile gamma of the clients' norms: ``C exp(-eta (b - gamma))``."""

    gamma: float = 0.5
    eta: float = 0.2
    first: float = 0.1

    @property
    def sends(self) -> Mapping[str, int]:
        return {"below": 1}

    def start(self) -> Parts:
        return {"norm": torch.tensor(self.first, dtype=torch.float64)}

    def broadcast(self, now: Now) -> Parts:
        return {"norm": now.state["norm"].to(torch.float32).reshape(1)}

    def on_clients(self, update: BlockUpdate) -> None:
        assert list(update.received) == ["norm"]
        norm, delta = update.received["norm"], update.parts["delta"]
        norms = delta.norm(dim=1)
        update.parts["below"] = (norms <= norm).float()[:, None]
        delta.mul_((norm / norms).clamp(max=1.0)[:, None])

    def on_aggregate(self, total: Aggregate, now: Now) -> Mapping[str, float]:
        share = float(total["below"])
        now.state["norm"].mul_(math.exp(-self.eta * (share - self.gamma)))
        return {"below": share, "norm": float(now.state["norm"]), "draw": float(now.generator().random())}


def made(folder: Path, *transforms: Transform, **options: object) -> Federation:
    options = {"rounds": 4, "sampler": Uniform(4), "args": LocalSection(2, 4), **options}
    return federation(class_problem(SIZES), folder, transforms=transforms or [Adaptive()], **options)  # type: ignore[arg-type]


def test_the_norm_follows_the_clients(tmp_path: Path) -> None:
    """Against a loop over clients, of updates that this run's own training gives."""
    run = made(tmp_path)
    norm = 0.1
    for number in range(1, 5):
        clients = run.plan.cohort(number).tolist()
        down, _ = run.plan.broadcast(run.state.server, run.state.transforms)
        assert float(down["transforms[0].norm"]) == pytest.approx(norm, rel=1e-6)
        before = run.vector.clone()
        norms = []
        mean = torch.zeros(len(before), dtype=torch.float64)
        for client in clients:
            delta = train(run.plan.task, [client], Broadcast(number, {"model": before}, 1.0)).parts["delta"][0].double()
            norms.append(float(delta.norm()))
            weight = SIZES[client] / sum(SIZES[c] for c in clients)
            mean += weight * delta * min(1.0, norm / norms[-1])
        (record,) = run.run(number)
        below = sum(SIZES[c] for c, n in zip(clients, norms, strict=True) if n <= norm) / sum(SIZES[c] for c in clients)
        norm *= math.exp(-0.2 * (below - 0.5))
        told = record.metrics["Adaptive"]
        assert told["below"] == pytest.approx(below, abs=1e-6)
        assert told["norm"] == pytest.approx(norm, rel=1e-6)
        torch.testing.assert_close((run.vector - before).double(), mean, rtol=1e-4, atol=1e-6)


def test_what_it_sends_and_hears_is_counted(tmp_path: Path) -> None:
    run, plain = made(tmp_path / "a"), made(tmp_path / "b", Clip())
    one, other = run.run(1)[0].bytes, plain.run(1)[0].bytes
    assert {way: one[way] - other[way] for way in ("up", "down")} == {"up": 4 * 4, "down": 4 * 4}


def test_it_resumes_with_the_same_bits(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole", TopK(0.5), Adaptive())
    expected = [(record.model_sha256, record.metrics) for record in whole.run()]
    first = made(tmp_path / "parts", TopK(0.5), Adaptive())
    early = first.run(2)
    second = made(tmp_path / "parts", TopK(0.5), Adaptive())
    saved = first.save()
    second.restore(saved)
    assert second.state.transforms["transforms[1].norm"] == first.state.transforms["transforms[1].norm"] != 0.1
    assert [(r.model_sha256, r.metrics) for r in [*early, *second.run()]] == expected
    with pytest.raises(ConfigError, match=r"has kept transforms\[1\]\.norm\[1\] for the transforms, the config wants"):
        made(tmp_path / "parts", TopK(0.5), Clip()).restore(saved)


def test_workers_that_die_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [record.model_sha256 for record in made(tmp_path / "a", stack=2).run()]
    records = on_workers(made(tmp_path / "b", stack=2), monkeypatch)
    assert [record.model_sha256 for record in records] == expected
    assert records[0].usage["retries"] >= 1


def test_two_of_a_kind_have_names_and_draws_of_their_own(tmp_path: Path) -> None:
    run = made(tmp_path, Adaptive(gamma=0.9), Adaptive(gamma=0.1), rounds=2)
    records = run.run()
    one, other = records[-1].metrics["Adaptive"], records[-1].metrics["Adaptive_2"]
    assert one["norm"] != other["norm"]
    assert one["draw"] != other["draw"]
    assert sorted(run.state.transforms) == ["transforms[0].norm", "transforms[1].norm"]


def test_it_stands_beside_an_algorithm_that_sends_more(tmp_path: Path) -> None:
    records = made(tmp_path, algorithm=Scaffold(), rounds=2).run()
    assert 0.0 <= records[-1].metrics["Adaptive"]["below"] <= 1.0


def test_an_empty_cohort_has_zeros(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Hiding(Adaptive):
        hides_empty = True

    run = made(tmp_path, Hiding(), sampler=Poisson(0.1), rounds=8)
    records = run.run()
    empty = [record for record in records if not record.clients["sampled"]]
    assert empty
    assert all(record.metrics["Hiding"]["below"] == 0.0 for record in empty)


def test_the_setting_says_what_there_is(tmp_path: Path) -> None:
    seen: list[Setting] = []

    class Looking(Transform):
        def prepare(self, setting: Setting) -> Transform:
            seen.append(setting)
            return self

    made(tmp_path / "a", TopK(0.5), Looking(), aggregator=Median(), sampler=Poisson(0.5))
    made(tmp_path / "b", Looking(), algorithm=Scaffold())
    first, second = seen
    assert (first.before, first.aggregator, first.linear, first.rounds) == ((TopK(0.5),), "median", False, 4)
    assert first.expected == 0.5 * len(SIZES)
    assert first.sizes.tolist() == list(SIZES)
    assert not first.uniform
    assert second.uniform
    assert second.sends.keys() == {"delta", "control"}
    assert second.layout is not None


class Fails(Transform):
    def start(self) -> Parts:
        raise KeyError("norm")


class Wide(Transform):
    def broadcast(self, now: Now) -> Parts:
        return {"matrix": torch.zeros(2, 2)}


class Turning(Adaptive):
    def broadcast(self, now: Now) -> Parts:
        now.state["norm"] *= 0.9
        return {"norm": now.state["norm"]}


class Picky(Transform):
    def prepare(self, setting: Setting) -> Transform:
        raise ValueError("picky needs a cohort of fixed size: take the sampler uniform")


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        (Fails(), r"^transforms\[0\]: the server's half of Fails fails: KeyError: 'norm'$"),
        (Wide(), r"^transforms\[0\]: the server's half of Wide broadcasts matrix, torch.float32 \[2, 2\]; it must be"),
        (
            Turning(),
            r"^transforms\[0\]: the server's half of Turning changes norm when it broadcasts; .* on_aggregate$",
        ),
        (Picky(), r"^transforms\[0\]: picky needs a cohort of fixed size"),
    ],
)
def test_what_cannot_work_is_said_before_the_run(transform: Transform, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        made(tmp_path, transform)


def test_models_of_different_size_have_no_vectors_beside_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^transforms\[0\]\.below: heterofl has models of different size"):
        made(tmp_path, algorithm=HeteroFL())


class Silent(Transform):
    @property
    def sends(self) -> Mapping[str, int]:
        return {"bit": 1}


class Forgetful(Adaptive):
    def on_aggregate(self, total: Aggregate, now: Now) -> Mapping[str, float]:
        now.state["nrom"] = now.state.pop("norm")
        return {}


@dataclass(frozen=True)
class Telling(Transform):
    first: int = 1

    def on_clients(self, update: BlockUpdate) -> dict[str, float] | None:  # type: ignore[override]
        return {"seen": 1.0} if update.round >= self.first and 0 in update.clients else None


@dataclass(frozen=True)
class TellingLater(Algorithm):
    def client(self, c: Clients) -> dict[str, float] | None:  # type: ignore[override]
        c.fit()
        return {"seen": 1.0} if c.round == 3 and 0 in c.index else None


@pytest.mark.parametrize(("transforms", "program"), [([Telling(3)], FedAvg()), ([], TellingLater())])
def test_they_are_refused_in_any_round_whatever_failures_of_clients_mean(
    transforms: list[Transform], program: Algorithm, tmp_path: Path
) -> None:
    """What a program says wrong is no failure of the clients of one block, who could be dropped."""
    drop = FailuresSection(on_failure="drop", min_share=0.0)
    run = federation(class_problem(), tmp_path, program, transforms=transforms, rounds=4, failures=drop, stack=2)
    with pytest.raises(RunFailed, match=r"^round 3: the block of .* failed: .*\) returns something of type dict"):
        run.run()
    assert run.state.round == 2


def test_numbers_that_nobody_would_hear_are_refused(tmp_path: Path) -> None:
    words = (
        r"Telling\.on_clients\(update\) returns something of type dict, which nobody would hear: rows in update\.parts"
    )
    with pytest.raises(RunFailed, match=words):
        made(tmp_path, Telling(), rounds=1).run()


def test_what_it_says_it_does(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"ValueError: Silent sends nothing as bit, and said \[C, 1\]"):
        made(tmp_path / "a", Silent(), rounds=1).run()
    with pytest.raises(
        RunFailed, match=r"round 1: Forgetful keeps \['nrom'\] and began with \['norm'\]: start returns"
    ):
        made(tmp_path / "b", Forgetful(), rounds=1).run()


# The order


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        (
            [Int8(), Clip()],
            r"\[1\]: clip changes updates, and int8, which stands before it, encodes them: put it before",
        ),
        ([BF16("both"), TopK()], r"\[1\]: topk changes updates, and bf16, .*: put it before bf16$"),
        ([Int8(), BF16()], r"\[1\]: bf16 would encode again what int8 has rounded: leave one of them out$"),
        ([BF16("down"), Int8(direction="both")], r"\[1\]: int8 would encode again what bf16 has rounded"),
        ([*PRIVATE, Int8()], r"\[2\]: int8 may round an update to more than the clip that gaussian relies on: leave"),
        ([Clip(), BF16("both"), Gaussian()], r"\[1\]: bf16 may round .* or set its direction to down$"),
        ([Clip(), Gaussian(), TopK()], r"\[2\]: topk with error feedback undoes the clip that gaussian relies on"),
    ],
)
def test_what_is_refused(transforms: list[Transform], words: str) -> None:
    with pytest.raises(ConfigError, match="^transforms" + words) as raised:
        Chain.of(transforms)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "transforms",
    [
        [Clip(), TopK(), Int8("nearest")],
        [TopK(), Clip(), BF16()],
        [TopK(0.5), TopK(0.1), Int8()],
        [BF16(), Int8(direction="down")],
        [Int8(direction="down"), *PRIVATE],
        [*PRIVATE, BF16("down")],
        [TopK(), *PRIVATE, BF16("down")],
    ],
)
def test_what_fits(transforms: list[Transform]) -> None:
    assert len(Chain.of(transforms).prepared(Setting())) == len(transforms)


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        ([Gaussian(1.0)], r"^transforms\[0\]: gaussian needs a clip before it"),
        ([Gaussian(1.0), Clip(1.0)], r"^transforms\[0\]: gaussian needs a clip before it"),
        ([TopK(0.5), Gaussian(1.0)], r"^transforms\[1\]: gaussian needs a clip before it"),
        ([Clip(1.0), TopK(0.5), Gaussian(1.0)], r"^transforms\[2\]: gaussian .*no error feedback between"),
        ([*PRIVATE, Gaussian(0.1)], r"^transforms\[2\]: gaussian stands before it already: say the noise of both"),
    ],
)
def test_what_the_noise_needs(transforms: list[Transform], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        Chain.of(transforms).prepared(Setting())
    assert "\n" not in str(raised.value)


def test_each_encodes_what_the_one_before_has_left() -> None:
    """Of the largest values those that are sent are rounded; zeros take no scale of their own."""
    row = torch.zeros(1, 1000)
    row[0, ::10] = torch.linspace(1.0, 2.0, 100)
    chain: list[Codec] = [TopK(0.1), Int8("nearest")]
    got = travelled(chain, row, Draws())
    assert torch.equal(got != 0, row != 0)
    assert float((got - row).abs().max()) <= 2.0 / 127 / 2 * 1.001
    kept = TopK(0.1).encode(row, Draws())
    assert Int8().encode(kept[VALUES], Draws())["scale"].shape == (1, 1)
