"""What cannot stand beside ``privacy``, each with the reason and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import fedray
from fedray.core.errors import ConfigError
from fedray.experiment.build import Config
from fedray.parts import Transform


class Tells(Transform):
    """A transform that hears from clients beside their updates."""

    @property
    def sends(self) -> dict[str, int]:
        return {"length": 1}

    def on_clients(self, update: Any) -> None:
        update.parts["length"] = update.parts["delta"].norm(dim=1, keepdim=True)


class Late(Transform):
    """A transform of updates on the server's side."""

    def on_arrival(self, update: Any, now: int) -> None:
        update.parts["delta"] *= 2.0


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


class Saving(nn.Module):
    """Layers whose activations are computed again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = checkpoint(self.layers, x, use_reentrant=False) if self.training else self.layers(x)
        return out


def plan(**parts: Any) -> Any:
    """Return the plan of a small run with privacy, and with these parts."""
    x, y = torch.arange(48.0).reshape(24, 2), np.arange(24) % 3
    given = {
        "data": fedray.FederatedData.from_arrays(x, y, np.repeat(range(8), 3)),
        "model": fedray.FederatedModel(parts.pop("net", lambda: nn.Linear(2, 3))).part(),
        "sampler": {"name": "poisson", "rate": 0.5},
        "privacy": {"noise_multiplier": 1.0, **parts.pop("privacy", {})},
        "cluster": {"name": "inline"},
        "evaluate": {"every": 0},
    }
    return Config.bind("test", {}, given | parts).plan()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {"transforms": [fedray.Clip(1.0)]},
            r"transforms\[0\]: privacy has a clip and noise of its own.* leave clip",
        ),
        ({"transforms": [fedray.Clip(1.0), fedray.Gaussian()]}, r"transforms\[0\]: privacy has a clip"),
        ({"transforms": ["bf16"]}, "bf16 may round an update to more than the clip that privacy relies on"),
        ({"transforms": ["int8"]}, "int8 may round .* set its direction to down"),
        ({"transforms": [Tells()]}, "clients send length for Tells past the clip and the noise of privacy"),
        ({"transforms": [Late()]}, "Late changes updates after the clip of privacy"),
        ({"aggregator": "median"}, "aggregator: the noise of privacy is made for a sum.* median is none: use mean"),
        ({"aggregator": "trimmed_mean"}, "aggregator: .* use mean"),
        ({"attack": {"name": "sign_flip", "clients": 0.5}}, "attack: attackers send what they like"),
        ({"algorithm": "centralized"}, "algorithm: centralized has all rows in one place"),
        (
            {"algorithm": {"name": "fedavg", "weight": "examples"}},
            "algorithm.weight: privacy needs every client",
        ),
        ({"algorithm": "mime"}, "privacy: it protects the update alone, but mime begins each round with a survey"),
        (
            {"algorithm": "fedamp"},
            "privacy: it protects the update alone, but of fedamp the server keeps",
        ),
        ({"algorithm": "ifca"}, "privacy: it works on the update alone, but ifca sends delta by slots"),
        ({"algorithm": "afl"}, "privacy: it works on the update alone, but afl sends loss by slots"),
        ({"algorithm": "heterofl"}, "privacy"),
        ({"net": normed}, "local.buffers: privacy"),
        (
            {"sampler": {"name": "uniform", "clients": 4}, "privacy": {"relation": "add_or_remove"}},
            "privacy: relation=add_or_remove: where cohorts have a fixed size",
        ),
        ({"sampler": {"name": "weighted", "clients": 2}}, r"privacy: sampler: .*weighted.* rate: 0.25"),
        ({"stop": {"metric": "train.loss"}}, "stop.metric=train.loss: it comes from clients' rows without any noise"),
        ({"privacy": {"clip": "adaptive"}}, "privacy: bit_noise=0.2 spends more than"),
    ],
)
def test_what_privacy_cannot_stand_beside_is_refused_with_the_reason(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(**parts)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"sampler": "full"},
        {"algorithm": "scaffold"},
        {"algorithm": "feddyn", "server": None},
        {"algorithm": "fedrep"},
        {"server": {"name": "adam", "lr": 0.1}},
        {"transforms": [{"name": "topk", "fraction": 0.5}]},
        {"transforms": [{"name": "bf16", "direction": "down"}]},
        {"net": normed, "local": {"buffers": "local"}},
    ],
)
def test_what_it_can_stand_beside_is_taken(parts: dict[str, Any]) -> None:
    found = plan(**parts)
    assert [*found.algorithm.transforms][-1].parts[0] == "delta", "the clip and the noise come last"
    assert found.secret


def test_what_clients_send_beside_the_update_is_clipped_with_it_and_said() -> None:
    note = next(note for note in plan(algorithm="scaffold").notes if note.startswith("privacy"))
    assert "delta, control are clipped together, as one vector" in note


def test_clip_and_gaussian_alone_are_as_they_were_and_not_accounted() -> None:
    x, y = torch.arange(48.0).reshape(24, 2), np.arange(24) % 3
    given = {
        "data": fedray.FederatedData.from_arrays(x, y, np.repeat(range(8), 3)),
        "model": fedray.FederatedModel(lambda: nn.Linear(2, 3)).part(),
        "transforms": [fedray.Clip(), fedray.Gaussian()],
        "cluster": {"name": "inline"},
    }
    found = Config.bind("test", {}, given).plan()
    assert [note for note in found.notes if "not accounted" in note] == [
        "clip and gaussian: not accounted: nobody counts what privacy is spent; a section privacy does"
    ]


@pytest.mark.parametrize("stack", ["auto", "off"])
def test_a_model_that_gives_no_gradients_of_single_rows_is_refused_before_the_run(stack: str) -> None:
    parts = {"net": Saving, "local": {"stack": stack}}
    with pytest.raises(ConfigError, match=r"^model: privacy\.unit=example takes the gradient of each row by itself"):
        plan(privacy={"unit": "example"}, **parts)
    plan(privacy={}, **parts)
