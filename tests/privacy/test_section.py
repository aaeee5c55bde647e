"""The section ``privacy``."""

from __future__ import annotations

from typing import Any

import pytest

from fedray.config.binding import bind
from fedray.core.errors import ConfigError
from fedray.local.private import ExamplePrivacy
from fedray.privacy import Privacy


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "privacy: give one of epsilon"),
        ({"epsilon": 8, "noise_multiplier": 0.9}, "privacy: give one of epsilon"),
        ({"epsilon": 0}, "epsilon=0: it must be above 0"),
        ({"noise_multiplier": -1}, "noise_multiplier=-1"),
        ({"noise_multiplier": float("inf")}, "noise_multiplier=inf"),
        ({"noise_multiplier": 1, "norm": 0}, "norm=0"),
        ({"noise_multiplier": 1, "norm": 1e-31}, "norm=1e-31: it must be from 1e-30 to 1e30"),
        ({"noise_multiplier": 1e-320}, "noise_multiplier=9.99989e-321: it must be from 1e-30 to 1e30"),
        ({"noise_multiplier": 1, "clip": "adaptive", "bit_noise": 1e40}, "bit_noise=1e.40: it must be from 1e-30"),
        ({"noise_multiplier": 1, "delta": 0}, "delta=0: it must be above 0 and below 1"),
        ({"noise_multiplier": 1, "delta": 1}, "delta=1"),
        ({"noise_multiplier": 1, "clip": "adaptive", "quantile": 1.5}, "quantile=1.5"),
        ({"noise_multiplier": 1, "clip": "adaptive", "bit_noise": 0}, "bit_noise=0"),
        ({"noise_multiplier": 1, "bit_noise": 5}, "bit_noise=5: it is for clip: adaptive"),
        ({"noise_multiplier": 1, "quantile": 0.9}, "quantile=0.9: it is for clip: adaptive"),
        ({"noise_multiplier": 1, "unit": "hospital"}, "privacy.unit"),
        ({"noise_multiplier": 1, "unit": "example", "clip": "adaptive"}, "unit=example: gradients of rows are clipped"),
        ({"noise_multiplier": 1, "unit": "example", "per_layer": True}, "unit=example: gradients of rows are clipped"),
        ({"noise_multiplier": 1, "bands": 3}, "bands=3: it is for mechanism: banded, and this one is gaussian"),
        ({"noise_multiplier": 1, "mechanism": "banded", "restart": 3}, "restart=3: it is for mechanism: tree"),
        ({"noise_multiplier": 1, "mechanism": "tree", "restart": 0}, "restart=0: it must be at least 1"),
        ({"noise_multiplier": 1, "mechanism": "tree", "clip": "adaptive"}, "mechanism=tree: .* take clip: fixed"),
        ({"noise_multiplier": 1, "mechanism": "tree", "unit": "example"}, "mechanism=tree: of unit: example"),
        ({"noise_multiplier": 1, "relation": "zero_out", "unit": "example"}, "relation=zero_out: of unit: example"),
        ({"noise_multiplier": 1, "mechanism": "laplace"}, "mechanism=laplace: it is for model: local"),
        ({"epsilon": 1, "model": "local", "clip": "adaptive"}, "model=local: each client clips"),
        ({"epsilon": 1, "model": "local", "per_layer": True}, "model=local: each client clips"),
        ({"epsilon": 1, "model": "local", "mechanism": "tree"}, "mechanism=tree: correlated noise is that of a server"),
        ({"epsilon": 1, "model": "local", "relation": "zero_out"}, "relation=zero_out: with model: local"),
        ({"epsilon": 1, "model": "local", "accountant": "rdp"}, "accountant=rdp: with model: local"),
        (
            {"epsilon": 1, "model": "local", "mechanism": "laplace", "delta": 1e-6},
            "delta=1e-06: with mechanism: laplace",
        ),
        ({"noise_multiplier": 1, "model": "local", "unit": "example"}, "model=local: with unit: example"),
        ({"noise_multiplier": 1, "noise": "public"}, "privacy.noise"),
        ({"noise_multiplier": 1, "clipping": "fixed"}, "privacy.clipping: unknown key"),
    ],
)
def test_what_cannot_be_is_said_with_its_key(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        bind(Privacy, said, "privacy")


def test_rows_are_protected_by_the_clients_and_clients_by_the_server() -> None:
    assert Privacy(noise_multiplier=2.0).examples is None
    rows = Privacy(unit="example", noise_multiplier=2.0, norm=0.5).examples
    assert rows == ExamplePrivacy(0.5, 2.0, "secure")
    assert Privacy(unit="example", epsilon=3.0).examples == ExamplePrivacy(1.0, 1.0, "secure")
