"""Local differential privacy in a run: all that a client sends is clipped as one vector and noised by the client."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import fedray
from fedray.core.errors import ConfigError
from fedray.core.messages import BlockUpdate
from fedray.core.noise import ClientNoise
from fedray.privacy.local import Mechanism, Randomizer
from fedray.privacy.randomized import Local
from fedray.privacy.section import Privacy
from fedray.sampling import Uniform
from fedray.transforms.base import Setting
from tests.privacy.test_refused import Late, Tells, normed, plan


def local(**parts: Any) -> Local:
    privacy = {"model": "local", **parts.pop("privacy", {})}
    found = [*plan(privacy=privacy, **parts).algorithm.transforms]
    return next(part for part in found if isinstance(part, Local))


def noised(one: Local, rows: dict[str, torch.Tensor], key: bytes = bytes(32)) -> BlockUpdate:
    count = len(rows["delta"])
    clients, none = np.arange(count), np.ones(count)
    update = BlockUpdate(1, clients, rows, {}, none, none, clients, noise=ClientNoise(key, np.arange(count)))
    one.on_clients(update)
    return update


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
def test_each_value_that_is_sent_has_the_noise_that_is_said(mechanism: Mechanism) -> None:
    one = Local(Privacy(model="local", epsilon=1.0), Randomizer(mechanism, 0.7, 3.0), ("delta", "control"))
    sent = noised(one, {"delta": torch.zeros(2, 150_001), "control": torch.zeros(2, 50_000)}).parts
    values = torch.cat([sent["delta"], sent["control"]], dim=1).double().numpy()
    error = math.sqrt((5.0 if mechanism == "laplace" else 2.0) / (4.0 * values.size))
    assert values.std() == pytest.approx(one.randomizer.deviation, rel=4.0 * error)
    assert values.std() == pytest.approx(0.7 * 6.0 * (math.sqrt(2.0) if mechanism == "laplace" else 1.0), rel=0.01)
    law = stats.laplace(0.0, 4.2) if mechanism == "laplace" else stats.norm(0.0, 4.2)
    assert stats.kstest(values[0], law.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(values)[0, 1]) < 4.0 / math.sqrt(values.shape[1])


def test_what_is_sent_beside_the_update_is_clipped_with_it() -> None:
    one = Local(Privacy(model="local", epsilon=1.0), Randomizer("gaussian", 1e-9, 1.0), ("delta", "control"))
    sent = noised(one, {"delta": torch.tensor([[3.0], [math.nan]]), "control": torch.tensor([[4.0], [1.0]])}).parts
    assert torch.allclose(torch.cat([sent["delta"], sent["control"]], dim=1), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_noise_is_that_of_the_key_the_client_and_what_it_sends() -> None:
    one = Local(Privacy(model="local", epsilon=1.0), parts=("delta",))

    def sent(key: bytes, *rows: float) -> BlockUpdate:
        return noised(one, {"delta": torch.tensor([[row] for row in rows])}, key)

    first, again, key = sent(bytes(32), 0.1, 0.1), sent(bytes(32), 0.1, 0.1), sent(b"1" * 32, 0.1, 0.1)
    other = sent(bytes(32), 0.1, 0.2)
    assert first.released == again.released
    assert torch.equal(first.parts["delta"], again.parts["delta"])
    assert len({*first.released, *key.released}) == 4
    assert other.released[0] == first.released[0]
    assert other.released[1] != first.released[1]
    assert float(other.parts["delta"][1] - first.parts["delta"][1]) != pytest.approx(0.1)


def test_a_target_is_met_by_the_client_that_is_drawn_most_often() -> None:
    sizes = np.ones(30, dtype=np.int64)
    setting = Setting(sampler=Uniform(6), sizes=sizes, rounds=20, seed=3, sends={"delta": 5})
    found = Local(Privacy(model="local", epsilon=4.0)).prepare(setting)
    counts = np.zeros(30)
    for round in range(1, 21):
        counts[Uniform(6).cohort(sizes, 3, round)] += 1
    assert found.participations == counts.max() > 20 * 6 / 30
    assert 0.998 * 4.0 < found.planned <= 4.0
    pure = Local(Privacy(model="local", epsilon=4.0, mechanism="laplace")).prepare(setting)
    assert 0.998 * 4.0 < pure.planned <= 4.0
    assert pure.randomizer.spent(1) == pytest.approx(4.0 / counts.max(), rel=1e-3)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {"sampler": {"name": "weighted", "clients": 2}},
            "privacy: sampler: weighted may draw clients by their numbers",
        ),
        ({"transforms": [fedray.Clip(1.0)]}, r"transforms\[0\]: privacy has a clip"),
        ({"transforms": [Tells()]}, "clients send length for Tells past the clip"),
        ({"algorithm": {"name": "fedavg", "weight": "examples"}}, "algorithm.weight: privacy needs every client"),
        ({"algorithm": "mime"}, "privacy: it protects the update alone, but mime begins each round with a survey"),
        ({"algorithm": "ifca"}, "privacy: it works on the update alone, but ifca sends delta by slots"),
        ({"algorithm": "fedamp"}, "but of fedamp the server keeps"),
        ({"algorithm": "centralized"}, "algorithm: centralized has all rows in one place"),
        ({"net": normed}, "local.buffers: privacy"),
        ({"stop": {"metric": "train.loss"}}, "stop.metric=train.loss"),
    ],
)
def test_what_would_pass_by_the_noise_is_refused_with_the_reason(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        local(**parts)


@pytest.mark.parametrize(
    "parts",
    [
        {"aggregator": "median"},
        {"aggregator": {"name": "multi_krum", "byzantine": 1, "keep": 2}, "sampler": {"name": "uniform", "clients": 5}},
        {"transforms": [{"name": "int8", "error_feedback": True, "rounding": "nearest"}]},
        {"transforms": [Late()]},
        {"transforms": [{"name": "secure_sum", "rounding": "stochastic"}]},
        {"attack": {"name": "sign_flip", "clients": 0.5}},
        {"algorithm": "scaffold", "sampler": {"name": "round_robin", "clients": 2}},
    ],
)
def test_whatever_is_done_to_what_was_sent_costs_nothing(parts: dict[str, Any]) -> None:
    found = local(**parts)
    assert found.parts[0] == "delta"
    assert ("control" in found.parts) == (parts.get("algorithm") == "scaffold")
