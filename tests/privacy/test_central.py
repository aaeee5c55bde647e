"""Client-level privacy by a trusted server: the clip, the noise, and what one client can change."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedray import Mean, Poisson, Privacy
from fedray.audit.bound import Guesses, log_ratio
from fedray.core.layout import Layout
from fedray.core.messages import Aggregate, BlockUpdate
from fedray.core.noise import Noise
from fedray.core.now import Now
from fedray.privacy.accounting import epsilon
from fedray.privacy.central import BELOW, BOUND, Central
from fedray.transforms import Setting

NETWORK = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
LAYOUT = Layout.of(NETWORK)
WIDTH = LAYOUT.size


def central(multiplier: float = 1.0, clients: int = 100, rate: float = 0.1, control: int = 0, **said: Any) -> Central:
    sends = {"delta": WIDTH} | ({"control": control} if control else {})
    setting = Setting(sampler=Poisson(rate), sizes=np.ones(clients, np.int64), layout=LAYOUT, sends=sends, rounds=5)
    return Central(Privacy(noise_multiplier=multiplier, **said)).prepare(setting)


def update(parts: dict[str, Tensor], received: Tensor | None = None) -> BlockUpdate:
    count = len(parts["delta"])
    one, copies = np.ones(count), {name: part.clone() for name, part in parts.items()}
    found = BlockUpdate(1, np.arange(count), copies, {}, one, one, np.ones(count, np.int64))
    found.received = {} if received is None else {BOUND: received}
    return found


def clipped(mechanism: Central, parts: dict[str, Tensor], received: Tensor | None = None) -> dict[str, Tensor]:
    sent = update(parts, received)
    mechanism.on_clients(sent)
    return sent.parts


def norms(parts: dict[str, Tensor]) -> np.ndarray:
    return np.asarray(torch.cat([part.double() for part in parts.values()], dim=1).norm(dim=1))


rows = st.integers(0, 2**32 - 1).flatmap(
    lambda seed: st.tuples(
        st.just(seed),
        st.integers(1, 12),
        st.lists(
            st.sampled_from([0.0, 1e-30, 1e-6, 0.1, 1.0, 1e4, 1e30, math.inf, math.nan]), min_size=12, max_size=12
        ),
    )
)


def drawn(case: tuple[int, int, list[float]], control: int = 3) -> dict[str, Tensor]:
    seed, count, scales = case
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor(scales[:count])[:, None]
    return {
        "delta": torch.randn(count, WIDTH, generator=generator) * scale,
        "control": torch.randn(count, control, generator=generator) * scale,
    }


@settings(max_examples=60, deadline=None)
@given(rows, st.sampled_from([1e-3, 0.7, 1.0, 30.0]), st.booleans())
def test_no_client_sends_more_than_the_norm(case: tuple[int, int, list[float]], norm: float, per_layer: bool) -> None:
    parts = drawn(case)
    sent = clipped(central(norm=norm, per_layer=per_layer, control=3), parts)
    assert (norms(sent) <= norm).all()
    for row, scale in enumerate(case[2][: case[1]]):
        whole = {name: part[row] for name, part in parts.items()}
        if not all(bool(part.isfinite().all()) for part in whole.values()) or scale == 0.0:
            assert norms(sent)[row] == 0.0, "no number, and no update: zeros, which count like any other"
        elif norms(parts)[row] <= norm / 1.00075 and not per_layer:
            assert all((sent[name][row] == part).all() for name, part in whole.items()), "left as it is"


@settings(max_examples=60, deadline=None)
@given(rows, st.sampled_from([0.1, 1.0, 30.0]), st.integers(0, 11), st.booleans(), st.booleans())
def test_one_client_more_or_less_changes_the_mean_by_the_norm_over_the_expected_cohort_at_most(
    case: tuple[int, int, list[float]], norm: float, who: int, per_layer: bool, adaptive: bool
) -> None:
    clip: dict[str, Any] = {"clip": "adaptive", "bit_noise": 50.0} if adaptive else {}
    mechanism = central(norm=norm, per_layer=per_layer, control=3, **clip)
    bound = mechanism._first
    sent = clipped(mechanism, drawn(case), bound)
    count = len(sent["delta"])
    without = {name: part[[row for row in range(count) if row != who % count]] for name, part in sent.items()}
    one, other = (released(mechanism, parts) for parts in (sent, without))
    apart = {name: one[name] - other[name] for name in one}
    change = math.sqrt(sum(float(apart[name] @ apart[name]) for name in ("delta", "control")))
    # The sum is exact; the mean that the aggregator hands on is float32.
    assert change <= norm / mechanism.expected * (1 + 1e-6 * (count + 1))
    if adaptive:
        assert np.abs(apart[BELOW]).max() <= 0.5 / mechanism.expected * (1 + 1e-6 * (count + 1))


def released(mechanism: Central, parts: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Return what is released in float64, before the noise, of the exact mean of those who came."""
    mean, widths = Mean(), {name: part.shape[1] for name, part in parts.items()}
    into, count = mean.zero(widths, "cpu"), len(parts["delta"])
    total = Aggregate({name: torch.zeros(width) for name, width in widths.items()}, 0.0, 0)
    if count:
        mean.add(into, update(parts), float(count))
        total = mean.finish(into, float(count), float(count), count, Now(1, 1))
    seen: dict[str, np.ndarray] = {}

    class Looks(Noise):
        def of(self, released: Any, cost: Any = None) -> Any:
            seen.update({name: values.copy() for name, values in released.items()})
            return super().of(released, cost)

    state = mechanism.start()
    mechanism.on_aggregate(total, Now(1, 1, state, noise=Looks(bytes(32))))
    return seen


def aggregated(mechanism: Central, delta: Tensor, count: int, key: int = 0, **more: Any) -> tuple[Any, Any, Any]:
    total = Aggregate({"delta": delta.clone(), **more}, float(count), count)
    now = Now(1, 1, mechanism.start(), noise=Noise(bytes([key] * 32)))
    told = mechanism.on_aggregate(total, now)
    return total.parts["delta"], told, now.state


def test_the_denominator_is_that_of_the_expected_cohort_whoever_comes() -> None:
    mechanism = central(multiplier=1e-9)
    for count in (0, 3, 10, 25):
        moved, told, _ = aggregated(mechanism, torch.ones(WIDTH), count)
        assert torch.allclose(moved, torch.full((WIDTH,), count / 10.0), atol=1e-6)
        assert told["noise_std"] == pytest.approx(1e-10)


def test_nobody_gives_noise_alone_and_as_much_as_anybody() -> None:
    mechanism = central(multiplier=2.0, norm=3.0)
    noise = np.concatenate([aggregated(mechanism, torch.zeros(WIDTH), 0, key)[0] for key in range(200)])
    assert noise.std() == pytest.approx(2.0 * 3.0 / 10.0, rel=5 / math.sqrt(2 * len(noise)))


def test_signal_to_noise_is_of_what_is_released() -> None:
    mechanism = central(multiplier=1e-3)
    _, told, _ = aggregated(mechanism, torch.full((WIDTH,), 0.05), 10)
    assert told["signal_to_noise"] == pytest.approx(0.05 / (1e-3 / 10), rel=0.1)


def test_by_layers_the_norms_together_are_the_norm() -> None:
    parts = {"delta": torch.ones(1, WIDTH)}
    sent = clipped(central(norm=0.1, per_layer=True), parts)["delta"][0].double()
    first, second = sent[:8].norm(), sent[8:].norm()
    assert first == pytest.approx(0.1 / math.sqrt(2), rel=1e-3)
    assert second == pytest.approx(0.1 / math.sqrt(2), rel=1e-3)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"per_layer": True}, r"^per_layer: .*other layers in each round$"),
        ({"mechanism": "tree"}, "^mechanism=tree: .*take gaussian$"),
    ],
)
def test_what_needs_the_same_columns_in_every_round_is_refused_of_fragments(said: dict[str, Any], message: str) -> None:
    setting = Setting(sizes=np.ones(4, np.int64), layout=LAYOUT, sends={"delta": WIDTH - 1}, rounds=5)
    with pytest.raises(ValueError, match=message):
        Central(Privacy(noise_multiplier=1.0, relation="zero_out", **said)).prepare(setting)


@pytest.mark.parametrize("layers", [False, True])
def test_bits_and_update_together_cost_what_the_multiplier_alone_would(layers: bool) -> None:
    mechanism = central(multiplier=0.9, clip="adaptive", bit_noise=3.0, per_layer=layers)
    groups = 2 if layers else 1
    # Two Gaussian releases compose to one of z^-2 = z_1^-2 + z_2^-2; the bits change by 1/2 in each group.
    of_bits = 3.0 / (0.5 * math.sqrt(groups))
    assert mechanism.of_update**-2 + of_bits**-2 == pytest.approx(0.9**-2)
    assert len(mechanism.groups) == groups
    assert mechanism.of_update > 0.9


def test_the_bits_have_a_twentieth_of_the_cohort_as_noise_and_too_little_is_refused() -> None:
    assert central(clients=1000, clip="adaptive").bit_noise == pytest.approx(5.0)
    with pytest.raises(ValueError, match=r"bit_noise=0.5 spends more than a noise multiplier of 1 allows"):
        central(clip="adaptive", multiplier=1.0)


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
def test_an_adaptive_norm_finds_the_quantile(quantile: float) -> None:
    # Andrew et al., section 3: with every client in every round C goes to the quantile of the norms.
    mechanism = central(
        multiplier=1e-2, clients=1000, rate=1.0, clip="adaptive", quantile=quantile, norm=0.3, bit_noise=0.5
    )
    lengths = torch.linspace(0.002, 2.0, 1000)
    direction = torch.nn.functional.normalize(torch.ones(WIDTH), dim=0)
    parts, state = {"delta": lengths[:, None] * direction}, mechanism.start()
    for round in range(1, 81):
        sent = clipped(mechanism, parts, state[BOUND])
        bits = sent[BELOW].mean(dim=0)
        total = Aggregate({"delta": sent["delta"].mean(dim=0), BELOW: bits}, 1000.0, 1000)
        now = Now(1, round, state, noise=Noise(bytes(32), round))
        told = mechanism.on_aggregate(total, now)
        state = now.state
    assert float(state[BOUND]) == pytest.approx(2.0 * quantile, rel=0.1)
    assert told["clipped"] == pytest.approx(1.0 - quantile, abs=0.05)


def test_one_step_of_the_norm_is_that_of_the_paper() -> None:
    mechanism = central(clip="adaptive", bit_noise=1.0, clip_lr=0.2, quantile=0.5, norm=2.0)
    bits = torch.tensor([0.3])
    _, told, state = aggregated(mechanism, torch.zeros(WIDTH), 10, 0, below=bits)
    noise = Noise(bytes(32)).of({"delta": np.zeros(WIDTH), BELOW: bits.double().numpy()}).draw(BELOW, 1)[0]
    below = 0.3 + noise / 10 + 0.5
    assert float(state[BOUND]) == pytest.approx(2.0 * math.exp(-0.2 * (below - 0.5)), rel=1e-6)
    assert told["clip"] == pytest.approx(2.0), "the norm that the round was clipped to"


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_next_norm_tells_of_one_bit_what_its_noise_allows_and_with_half_of_it_more(share: float) -> None:
    """As `fedray audit` scores canaries, which sees updates alone: one client is above the norm, or not there."""
    mechanism = central(multiplier=0.5, clip="adaptive", bit_noise=share, clip_lr=0.2, quantile=0.5)
    there, seen = np.arange(1200) % 2 == 0, []
    for trial, came in enumerate(there):
        bits = torch.full((1,), -0.5 if came else 0.0)
        state = mechanism.start()
        before = float(state[BOUND])
        total = Aggregate({"delta": torch.zeros(WIDTH), BELOW: bits}, float(came), int(came))
        mechanism.on_aggregate(total, now := Now(1, 1, state, noise=Noise(trial.to_bytes(32, "big"))))
        # The sum of the bits with its noise, by the step of the norm.
        below = -math.log(float(now.state[BOUND]) / before) / 0.2
        seen.append(below * mechanism.expected / -0.5)
    claimed = 1.0 / 0.5  # the noise multiplier of the bits: their sum changes by 1/2
    guesses = Guesses.of(log_ratio(np.array([seen]), claimed, 1.0), there)
    deltas = (0.01, 0.1, 0.2, 0.3)
    refuted = [guesses.epsilon(delta, 0.99) > epsilon(claimed, 1.0, 1, delta) for delta in deltas]
    assert any(refuted) == (share < 1.0)
