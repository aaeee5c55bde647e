"""Secure aggregation of updates: exact, hidden, and refused where it cannot hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor, nn

from fedray.aggregators import Median, TrimmedMean
from fedray.aggregators.ring import RingSum
from fedray.algorithms import IFCA, FedAvg, FedNova, HeteroFL, Mime, Scaffold
from fedray.config.sections import EvaluateSection, FailuresSection
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.messages import Aggregate, BlockUpdate
from fedray.core.now import Now
from fedray.core.rng import numpy_generator
from fedray.privacy.central import Central
from fedray.privacy.section import Privacy
from fedray.run.checks import check_cohorts
from fedray.sampling import Poisson, Uniform
from fedray.transforms import BF16, Clip, Gaussian, Int8, SecureSum, Setting, TopK
from fedray.transforms.base import Transform, placed
from fedray.transforms.secure.masks import Parties, centred, wrapped
from tests.helpers import Federation, class_problem, federation

PROBLEM = class_problem((7, 3, 12, 9, 1, 5, 8), test=20)
OWN = placed(0, "saturated")


def block(clients: list[int], rows: Tensor, round: int = 1) -> BlockUpdate:
    one = np.ones(len(clients))
    return BlockUpdate(round, np.array(clients), {"delta": rows}, {}, one, one, one.astype(np.int64))


def sent(secure: SecureSum, clients: list[int], rows: Tensor) -> dict[str, Tensor]:
    """What the fold is given of a block."""
    update = block(clients, rows.clone())
    secure.on_departure(update, clients)
    return {"delta": update.parts["delta"], OWN: update.parts["saturated"]}


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(2, 9),
    threshold=st.sampled_from([0.4, 0.8]),
    bits=st.sampled_from([3, 16, 32, 53]),
    rounding=st.sampled_from(["stochastic", "nearest", "zero"]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_the_mean_is_that_of_the_same_whole_numbers_or_nothing(
    count: int, threshold: float, bits: int, rounding: Any, seed: int, data: st.DataObject
) -> None:
    plain = SecureSum(threshold, bits, 1.0, rounding)
    secure = plain.prepare(Setting(sizes=np.ones(count, dtype=np.int64), seed=seed))
    rows = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    left = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1)))
    cut = data.draw(st.integers(0, len(left)))
    # In two blocks, as on two workers; those who are not left were in neither.
    parts = [sent(secure, some, rows[some]) for some in (left[:cut], left[cut:]) if some]
    total = {name: torch.cat([part[name] for part in parts]).sum(dim=0) for name in parts[0]}
    now = Now(seed, 1, clients=tuple(left))
    if len(left) < secure.least_of(count):
        with pytest.raises(RunFailed, match="nothing of it is released"):
            secure.opened(total, now)
        return
    found = secure.opened(total, now)
    each = [plain.grid.steps(rows[i].numpy(), numpy_generator(seed, "encode", 1, i)) for i in left]
    whole = np.sum([numbers for numbers, _ in each], axis=0)
    assert found["delta"].tolist() == plain.grid.mean(whole, len(left)).tolist()
    assert found[OWN].tolist() == [sum(min(over, plain.grid.most) for _, over in each)]


def test_workers_and_driver_see_uniform_numbers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    add = RingSum.add

    def noted(self: RingSum, into: Any, update: BlockUpdate, weight: float) -> None:
        seen.append(torch.cat([update.parts[name] for name in sorted(update.parts)], dim=1))
        add(self, into, update, weight)
        seen.append(torch.cat([into[name] for name in sorted(into)])[None])  # what a worker has folded

    monkeypatch.setattr(RingSum, "add", noted)
    run = federation(PROBLEM, tmp_path, Scaffold(), transforms=[SecureSum()], rounds=1, stack=3)
    assert isinstance(run.plan.algorithm.aggregator, RingSum)
    assert run.plan.algorithm.transforms.members[0].ring == 35  # type: ignore[attr-defined]
    run.run()
    assert len(seen) == 6
    # Not the last: it is the sum of all, from which only the own masks of clients are to be taken off.
    for rows in seen:
        for row in wrapped(rows.numpy(), 35):
            assert kstest(row / 2.0**35, "uniform").pvalue > 1e-4


def without_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parties, "mask_", lambda self, clients, values: None)
    monkeypatch.setattr(Parties, "unmasked", lambda self, total, arrived: centred(total, self.bits))


@pytest.mark.parametrize("algorithm", [FedAvg(), Scaffold()], ids=lambda one: type(one).__name__)
def test_a_run_has_the_bits_of_the_plain_sum(algorithm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among dropouts and failures, too."""
    failures = FailuresSection(dropout=0.2)

    def hashes(name: str) -> list[str | None]:
        run = federation(PROBLEM, tmp_path / name, algorithm, transforms=[SecureSum(0.3)], failures=failures, rounds=4)
        run.plan = replace(run.plan, left_out={2: frozenset([1, 3])})
        records = run.run()
        assert [record.metrics["secure_sum"]["saturated"] for record in records] == [0.0] * 4
        assert sum(record.clients["dropped"] for record in records) > 0
        return [record.model_sha256 for record in records]

    masked = hashes("masked")
    without_masks(monkeypatch)
    assert hashes("plain") == masked


def close(run: Federation, other: Federation) -> float:
    run.run()
    other.run()
    return float((run.vector - other.vector).norm() / other.vector.norm())


def test_a_run_comes_close_to_one_without(tmp_path: Path) -> None:
    parts = {"algorithm": FedAvg(weight="uniform"), "rounds": 3}
    plain = federation(PROBLEM, tmp_path / "plain", **parts)  # type: ignore[arg-type]
    fine = federation(PROBLEM, tmp_path / "fine", transforms=[SecureSum()], **parts)  # type: ignore[arg-type]
    assert close(fine, plain) < 1e-6
    coarse = federation(PROBLEM, tmp_path / "coarse", transforms=[SecureSum(bits=6, range=0.05)], **parts)  # type: ignore[arg-type]
    assert 1e-4 < close(coarse, plain) < 0.2
    assert coarse.plan.algorithm.upload(coarse.plan.layout) == 2 * (coarse.plan.layout.shared + 1)


def test_saturated_entries_are_counted_of_all_clients_together() -> None:
    secure = SecureSum(bits=8, range=1.0).prepare(Setting(sizes=np.ones(3, dtype=np.int64)))
    rows = torch.tensor([[2.0, 0.0, -3.0], [0.5, 1.0, -1.0], [9.0, 0.0, 0.0]])
    total = {name: part.sum(dim=0) for name, part in sent(secure, [0, 1, 2], rows).items()}
    parts = secure.opened(total, Now(0, 1, clients=(0, 1, 2)))
    assert secure.on_aggregate(Aggregate({"saturated": parts[OWN]}, 3.0, 3), Now(0, 1)) == {"saturated": 3.0}


def test_noise_on_the_server_stands_beside_it(tmp_path: Path) -> None:
    noise: list[Transform] = [Clip(0.5), Gaussian(0.2, noise="seeded")]
    plain = federation(PROBLEM, tmp_path / "plain", transforms=noise)
    secure = federation(PROBLEM, tmp_path / "secure", transforms=[SecureSum(rounding="zero"), *noise])
    assert close(secure, plain) < 1e-6
    # Its count of saturated entries would be a release of its own.
    assert not secure.plan.algorithm.transforms.sends
    private = Privacy(noise_multiplier=0.5, clip="adaptive", bit_noise=9.0, noise="seeded", accountant="rdp")
    adaptive = federation(
        PROBLEM,
        tmp_path / "a",
        transforms=[SecureSum(0.2, rounding="zero", corrupt=0.1), Central(private)],
        sampler=Poisson(0.7),
    )
    (record, *_) = adaptive.run()
    assert record.metrics["privacy"]["clip"] == 1.0


def test_a_clipped_update_stays_within_the_clip_that_noise_relies_on() -> None:
    secure = SecureSum(bits=12, range=1.0, rounding="zero").prepare(
        Setting(sizes=np.ones(2, dtype=np.int64), private=True)
    )
    rows = torch.randn(2, 500, generator=torch.Generator().manual_seed(1))
    update = block([0, 1], rows)
    Clip(1.0).on_clients(update)
    norms = update.parts["delta"].double().norm(dim=1)
    for row, norm in zip(update.parts["delta"].numpy(), norms.tolist(), strict=True):
        whole, _ = secure.grid.steps(row)
        assert np.linalg.norm(whole * secure.grid.step) <= norm <= 1.0


def test_a_client_whose_update_is_not_finite_is_lost_and_its_masks_come_off(tmp_path: Path) -> None:
    run = federation(PROBLEM, tmp_path, transforms=[SecureSum(0.5)], rounds=1, stack=3)

    class Broken(Transform):
        def on_clients(self, update: BlockUpdate) -> None:
            update.parts["delta"][update.clients == 2] = float("nan")

    run = federation(PROBLEM, tmp_path, transforms=[SecureSum(0.5), Broken()], rounds=1, stack=3)
    (record,) = run.run()
    assert [(f["client"], f["stage"]) for f in record.failures] == [("2", "update")]
    assert "delta is not finite; lower the learning rate" in record.failures[0]["error"]
    assert run.vector.isfinite().all()


def test_below_the_threshold_a_run_ends_with_the_model_before(tmp_path: Path) -> None:
    run = federation(PROBLEM, tmp_path, transforms=[SecureSum(0.7)], rounds=2)
    run.plan = replace(run.plan, left_out={2: frozenset([0, 1, 2])})
    words = (
        r"transforms: secure_sum needs 5 updates at least, and round 2 (will have|has) 4 of 7: take a lower threshold"
    )
    with pytest.raises(ConfigError, match=words):
        check_cohorts(run.plan)
    before = federation(PROBLEM, tmp_path / "one", transforms=[SecureSum(0.7)], rounds=1)
    before.run()
    with pytest.raises(RunFailed, match=words):
        run.run()
    assert run.state.round == 1
    assert torch.equal(run.vector, before.vector)


def test_bytes_count_keys_and_shares(tmp_path: Path) -> None:
    run = federation(PROBLEM, tmp_path, transforms=[SecureSum()])
    everyone, model = np.arange(7), run.plan.layout.shared
    moved = run.plan.traffic(everyone, everyone[:5])
    # Down: keys and shares of 6 others to each of 7, who is there to 5. Up: keys and shares, 5 updates, shares of 7.
    assert moved["down"] == 7 * (4 * run.plan.layout.travels + 6 * (64 + 94)) + 5
    assert moved["up"] == 7 * (64 + 6 * 94) + 5 * (5 * (model + 1) + 7 * 33)


def checked(run: Federation) -> None:
    run.plan.algorithm.check(run.plan.layout)


def norm_model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {"aggregator": Median()},
            "aggregator: secure_sum hides single updates, so the aggregator must be linear: use mean",
        ),
        ({"aggregator": TrimmedMean(0.2)}, "hides single updates"),
        ({"algorithm": FedAvg(weight="examples")}, "secure_sum needs every client to weigh the same"),
        ({"algorithm": Mime()}, "secure_sum protects the update alone, but mime begins each round with a survey"),
        ({"algorithm": IFCA()}, "secure_sum works on the update alone, but ifca sends"),
        ({"algorithm": HeteroFL()}, "heterofl has models of different size"),
        ({"transforms": [Int8()]}, "so that int8 saves nothing: leave int8 out, or set its direction to down"),
        ({"transforms": [BF16("both")]}, "so that bf16 saves nothing"),
        ({"transforms": [TopK(0.1)]}, "so that topk saves nothing: leave topk out; secure_sum has bits"),
        ({"transforms": [SecureSum()]}, "secure_sum is there already"),
        ({"transforms": [Clip(1.0), Gaussian(1.0)]}, "may make an update longer than the clip .* take rounding: zero"),
        ({"problem": class_problem(model_fn=norm_model)}, "local.buffers: secure_sum protects the trained parameters"),
    ],
    ids=range(12),
)
def test_what_cannot_stand_beside_it_is_refused(parts: dict[str, Any], words: str, tmp_path: Path) -> None:
    parts = dict(parts)
    more = parts.pop("transforms", [])
    problem = parts.pop("problem", PROBLEM)
    for chain in ([SecureSum(), *more], [*more, SecureSum()]):
        with pytest.raises(ConfigError, match=words):
            checked(federation(problem, tmp_path, transforms=chain, **parts))


def test_codecs_on_the_way_down_stay(tmp_path: Path) -> None:
    run = federation(PROBLEM, tmp_path, FedNova(), transforms=[SecureSum(), Int8("nearest", "down")], rounds=1)
    assert run.run()[0].model_sha256


def test_statistics_that_stay_with_clients_are_refused() -> None:
    with pytest.raises(ValueError, match="statistics of layers that stay with clients"):
        SecureSum().prepare(Setting(sends={"delta": 3, "statistics": 2}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 0.0}, "threshold=0: the share of clients to be left is above 0"),
        ({"threshold": 1.1}, "at most 1"),
        ({"bits": 1}, "from 2 to 53 bits"),
        ({"bits": 54}, "from 2 to 53 bits"),
        ({"range": 0.0}, "must be above 0"),
        ({"rounding": "up"}, "stochastic, nearest or zero"),
        ({"corrupt": 0.7}, "could take all masks off by themselves"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SecureSum(**options)


def test_a_ring_has_64_bits_at_most() -> None:
    many = Setting(sizes=np.ones(5000, dtype=np.int64))
    with pytest.raises(
        ValueError, match=r"sums of up to 5,000 clients have 66, and there are 64: take bits of at most 51"
    ):
        SecureSum(bits=53).prepare(many)
    some = SecureSum(bits=53).prepare(replace(many, sampler=Uniform(2048)))
    assert some.ring == 64  # type: ignore[attr-defined]


def test_the_head_of_the_log_says_that_it_is_a_simulation(tmp_path: Path) -> None:
    run = federation(PROBLEM, tmp_path, transforms=[SecureSum()], evaluate=EvaluateSection())
    (line,) = [note for note in run.plan.notes if "secure_sum" in note]
    assert line == (
        "secure_sum: updates are masked modulo 2^35, with 6 others each in a cohort of 7; opened with 5 at least; keys "
        "follow from the seed: a simulation"
    )
