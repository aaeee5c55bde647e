"""Noise that clients share: what the server opens, what it costs, and where it is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dp_accounting import SelfComposedDpEvent, ZCDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from fedray.core.discrete import DiscreteGaussian
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.messages import Aggregate, BlockUpdate
from fedray.core.noise import ClientNoise, Noise
from fedray.core.now import Now
from fedray.privacy.accounting import counted_by, multiplier_for, noise_multiplier, spent
from fedray.privacy.distributed import Distributed, inverse_multiplier, least_square
from fedray.privacy.ledger import Cost, Entry, Ledger
from fedray.privacy.local import composed
from fedray.privacy.releases import Release
from fedray.privacy.section import Privacy
from fedray.privacy.statement import statement
from fedray.sampling import Full, Poisson, RoundRobin, Sampler, Uniform
from fedray.transforms import SecureSum, Setting
from fedray.transforms.chain import Chain
from tests.privacy.test_refused import plan

SECURE = {"name": "secure_sum", "bits": 16, "range": 1.0}


def chain(
    count: int = 10, width: int = 6, sampler: Sampler | None = None, secure: dict[str, Any] | None = None, **said: Any
) -> tuple[Distributed, SecureSum]:
    section = Privacy(model="distributed", **{"noise_multiplier": 2.0, **said})
    setting = Setting(
        sampler=sampler or Full(), sizes=np.ones(count, np.int64), sends={"delta": width}, private=True, rounds=8
    )
    ring = SecureSum(**{"bits": 16, "range": 1.0, **(secure or {})})
    first, second = Chain.of([Distributed(section), ring]).prepared(setting)
    assert isinstance(first, Distributed)
    assert isinstance(second, SecureSum)
    return first, second


def sent(one: Distributed, ring: SecureSum, clients: list[int], rows: torch.Tensor) -> torch.Tensor:
    count = np.ones(len(clients))
    update = BlockUpdate(1, np.array(clients), {"delta": rows[clients].clone()}, {}, count, count, count.astype(int))
    update.noise = ClientNoise(bytes(32), np.array(clients))
    one.on_clients(update)
    ring.on_departure(update, clients)
    return update.parts["delta"].sum(dim=0)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 99), cut=st.integers(0, 7), lost=st.sets(st.integers(0, 9), max_size=3))
def test_what_is_opened_is_the_sum_of_whole_numbers_and_noise_whoever_is_lost(
    seed: int, cut: int, lost: set[int]
) -> None:
    one, ring = chain(secure={"rounding": "nearest"})
    rows = torch.randn(10, 6, generator=torch.Generator().manual_seed(seed))
    left = [client for client in range(10) if client not in lost]
    total = sum(sent(one, ring, some, rows) for some in (left[:cut], left[cut:]) if some)
    assert isinstance(total, torch.Tensor)
    costs: list[tuple[int, str, Cost]] = []
    noise = Noise(bytes(32), 1, 1, lambda *said: costs.append(said))
    one.before_opening({"delta": total}, Now(0, 1, clients=tuple(left), noise=noise))
    opened = ring.opened({"delta": total}, Now(0, 1, clients=tuple(left)))["delta"]
    expected = np.zeros(6, np.int64)
    for client in left:
        update = BlockUpdate(1, np.array([0]), {"delta": rows[[client]].clone()}, {}, *[np.ones(1)] * 3)  # type: ignore[arg-type]
        one.on_clients(update)
        whole, _ = ring.grid.steps(update.parts["delta"][0].numpy())
        assert int(whole @ whole) <= one.share.most
        _, stream = ClientNoise(bytes(32), np.array([client])).of(0, whole.astype(float))
        expected += whole + DiscreteGaussian(one.share.square).draw(stream.words, 6)
    assert opened.tolist() == ring.grid.mean(expected, len(left)).tolist()
    parts = Aggregate({"delta": opened.clone()}, float(len(left)), len(left))
    one.on_aggregate(parts, Now(0, 1))
    # Divided by the number expected; written down before.
    assert parts.parts["delta"].tolist() == pytest.approx((opened * (len(left) / 10)).tolist(), rel=1e-6)
    ((_, _, cost),) = costs
    assert cost.release == Release(2.0, 1.0, 1, "fixed", "replace_one", mechanism="discrete")
    assert cost.circumstances is not None
    assert cost.circumstances.noise_std == math.sqrt(len(left) * one.share.square) * one.step / 10
    entry = Entry(1, "a", cost.release, cost.circumstances)
    assert Entry.from_json(json.loads(json.dumps(entry.to_json()))) == entry


def test_the_ledger_alone_says_what_can_be_claimed(tmp_path: Path) -> None:
    one, _ = chain(count=40, sampler=Uniform(10), secure={"rounding": "zero"})
    ledger = Ledger.begin(tmp_path / "privacy.jsonl")
    now = Now(0, 1, clients=tuple(range(10)), noise=Noise(bytes(32), 1, 1, ledger.write))
    one.before_opening({"delta": torch.zeros(6, dtype=torch.int64)}, now)
    told = statement(one.privacy, Ledger.read(ledger.path))
    assert "and the server, which sees their sums" in told["claim"]
    assert told["sampling"].endswith("counted as though all took part, as the server knows who does")
    assert told["mechanism"].startswith("Noise of multiplier 2 on the sum")
    assert told["mechanism"].endswith(one.mechanism)
    assert "the noise of 5 clients counts" in one.mechanism
    assert told["accountant"].startswith("rdp, dp-accounting")
    assert "who takes part in a round, and who is lost in it" in told["not_covered"]


def test_a_release_is_known_by_what_is_masked_and_by_who_came() -> None:
    one, _ = chain()
    ids: list[str] = []

    def release(*numbers: int, clients: tuple[int, ...] = (1, 2, 3)) -> str:
        noise = Noise(bytes(32), 1, 1, lambda round, id, cost: ids.append(id))
        one.before_opening({"delta": torch.tensor(numbers)}, Now(0, 1, clients=clients, noise=noise))
        return ids[-1]

    # Numbers that are one in float64, or no number as its bits, are not taken for each other.
    others = [release(2**60), release(2**60 + 1), release(-1), release(-2), release(2**60, clients=(1, 2))]
    assert len(set(others)) == len(others)
    assert release(2**60) == others[0]


def test_the_noise_that_counts_is_that_of_honest_clients_who_must_be_there() -> None:
    one, ring = chain(count=20, secure={"threshold": 0.7, "corrupt": 0.2, "rounding": "zero"})
    assert one.counted == 14 - 4
    change = 2.0 * 1.0 / ring.grid.step
    assert math.sqrt(one.counted * one.share.square) >= 2.0 * change
    assert math.sqrt(one.counted * one.share.square) == pytest.approx(2.0 * change, rel=1e-3)
    alone, _ = chain(count=20, secure={"threshold": 0.7, "corrupt": 0.0, "rounding": "zero"})
    assert alone.counted == 14
    assert alone.share.square == pytest.approx(one.share.square * 10 / 14, rel=1e-3)
    zeros, _ = chain(count=20, secure={"rounding": "zero"}, relation="zero_out")
    assert zeros.share.square == pytest.approx(one.share.square / 4, rel=1e-3)


@pytest.mark.parametrize("order", [2, 8, 16])
@pytest.mark.parametrize(("clients", "square", "change"), [(1, 1, 1), (2, 1, 2), (3, 1, 1), (4, 3, 2)])
def test_the_bound_is_above_the_exact_divergence_and_close(clients: int, square: int, change: int, order: int) -> None:
    """An oracle: the sum of discrete Gaussians by convolution, and its Renyi divergence from itself moved along."""
    values = np.arange(-120, 121)
    one = np.exp(-(values**2) / (2.0 * square))
    mass = one = one / one.sum()
    for _ in range(clients - 1):
        mass = np.convolve(mass, one)
    reach = (len(mass) - 1) // 2
    at = np.arange(-reach + change, reach + 1)
    here, moved = mass[at + reach], mass[at + reach - change]
    seen = (here > 1e-290) & (moved > 1e-290)
    terms = np.exp(order * np.log(here[seen]) - (order - 1) * np.log(moved[seen]))
    exact = math.log(math.fsum(terms)) / (order - 1)
    eps = inverse_multiplier(change, square, clients, clients, length=1)
    assert exact <= order * eps**2 / 2.0 * (1.0 + 1e-9)
    assert order * eps**2 / 2.0 <= 1.01 * exact


def test_coarse_steps_take_more_noise_until_sums_are_as_good() -> None:
    # At sigma^2 = 1 what a sum of discrete Gaussians costs shows, over many entries.
    assert inverse_multiplier(1.0, 1, 4, 4, 10**6) > 0.5
    square = least_square(2.0, 1, 4, 4, 10**6)
    assert square == 2
    assert inverse_multiplier(1.0, square, 4, 4, 10**6) <= 0.5
    assert least_square(2.0**27, 1, 4, 4, 1) == 2**52  # more than can be drawn, which is refused


def test_what_is_counted_is_concentrated_privacy_by_dp_accounting() -> None:
    oracle = RdpAccountant([*range(2, 64), 80, 96, 128, 192, 256, 512, 1024])
    oracle.compose(SelfComposedDpEvent(ZCDpEvent(1.0 / 18.0), 50))
    releases = [Release(3.0, 1.0, 50, "fixed", "replace_one", mechanism="discrete")]
    for accountant in ("pld", "rdp"):
        assert spent(releases, 1e-5, accountant) == oracle.get_epsilon(1e-5)
    # No less than that of a Gaussian of the same multiplier, which no more is known of.
    assert spent(releases, 1e-5) >= composed([Release(3.0, 1.0, 50)], 1e-5)
    assert counted_by(releases, "pld") == "rdp"
    z = multiplier_for(8.0, releases[0], 50, 1e-5)
    assert z == noise_multiplier(8.0, 1.0, 50, 1e-5, "rdp")
    with pytest.raises(ValueError, match="nobody knows what draws gain"):
        spent([Release(3.0, 0.5, 50, "poisson", mechanism="discrete")], 1e-5)


def test_draws_gain_nothing_and_turns_do() -> None:
    uniform, _ = chain(count=40, sampler=Uniform(10), epsilon=8.0, noise_multiplier=None)
    assert uniform.release().rate == 1.0
    assert "as the server knows who does" in uniform.cohorts.words(8, "rdp")
    turns, _ = chain(count=40, sampler=RoundRobin(10), epsilon=8.0, noise_multiplier=None)
    # Eight rounds of four groups: two of each client.
    assert turns.multiplier == noise_multiplier(8.0, 1.0, 2, 1e-5, "rdp")
    assert uniform.multiplier == noise_multiplier(8.0, 1.0, 8, 1e-5, "rdp")


def test_noise_is_refused_where_nobody_added_any() -> None:
    one, _ = chain()
    with pytest.raises(RunFailed, match="nobody came, and so nobody added any noise"):
        one.on_aggregate(Aggregate({"delta": torch.zeros(6)}, 0.0, 0), Now(0, 1, noise=Noise(bytes(32))))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"transforms": []}, "privacy: model=distributed: .* a secure sum adds up: give transforms"),
        ({"sampler": Poisson(0.5)}, "privacy: model=distributed: .* nothing is gained by coins"),
        ({"transforms": [{**SECURE, "bits": 46}]}, "privacy: norm=1: .* take bits of at most 31"),
        ({"transforms": [{**SECURE, "bits": 30}]}, "privacy: norm=1: noise .* beyond what is drawn exactly: take bits"),
        ({"transforms": ["clip", SECURE]}, r"transforms\[0\]: privacy has a clip"),
        ({"privacy": {"clip": "adaptive"}}, "model=distributed: each client clips .* leave out clip"),
        ({"privacy": {"mechanism": "tree"}}, "mechanism=tree: with model: distributed"),
        ({"privacy": {"unit": "example"}}, "model=distributed: with unit: example"),
    ],
)
def test_what_cannot_be_accounted_for_is_refused_in_one_line(parts: dict[str, Any], words: str) -> None:
    said = {"model": "distributed", **parts.pop("privacy", {})}
    with pytest.raises((ConfigError, ValueError), match=words):
        plan(privacy=said, **{"transforms": [SECURE], "sampler": Uniform(3), **parts})


def test_it_stands_before_the_secure_sum_wherever_that_stands() -> None:
    made = plan(privacy={"model": "distributed"}, transforms=[SECURE], sampler=Uniform(3))
    first, second = made.algorithm.transforms
    assert isinstance(first, Distributed)
    assert isinstance(second, SecureSum)
    assert made.noised_by_clients == "secure"
    (line, *_) = first.words
    assert "the server sees no sum without noise" in line
