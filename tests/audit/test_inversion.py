"""Gradient inversion: exact where it is known to be, by a search elsewhere, and not through noise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fedray.audit.inversion import Inversion, Inverted, decibels, intercepted
from fedray.audit.runs import HERE
from fedray.config.layers import load_layers
from fedray.core.errors import ConfigError
from fedray.core.quiet import quieted
from fedray.experiment.build import Config

DIGITS = """\
seed: 2
data: {name: digits, flat: true, partition: {name: iid, clients: 1437}}
model: {name: logistic}
local: {batch_size: 8, optimizer: {name: sgd, lr: 0.1}}
sampler: {name: uniform, clients: 2}
rounds: 2
"""
"""Each client has one image of a digit."""


def inverted(
    folder: Path, *changes: str, round: int = 1, released: bool = False, client: str | None = None, **search: Any
) -> Inverted:
    (folder / "c.yaml").write_text(DIGITS)
    with quieted("fedray"):
        config = Config.bind("c", *load_layers(folder / "c.yaml", [*changes, *HERE]))
        seen = intercepted(config, round, client, released)
        return Inversion(**search)(config.plan().task, seen, round)


@pytest.mark.parametrize("changes", [(), ("transforms=[{name: clip, norm: 0.01}]",), ("local.epochs=3",)])
def test_one_example_of_a_linear_model_is_inverted_exactly(tmp_path: Path, changes: tuple[str, ...]) -> None:
    # Whatever the scale: a clip and a learning rate cancel, and so do further steps on the same row.
    found = inverted(tmp_path, *changes, round=2)
    assert found.exact
    assert found.psnr[0] > 90.0, "as exact as float32 is"
    assert found.distance < 1e-3


def test_noise_hides_the_same_example(tmp_path: Path) -> None:
    found = inverted(
        tmp_path, "sampler={name: poisson, rate: 0.001}", "privacy={noise_multiplier: 1, noise: seeded}",
        round=2, released=True, steps=20,
    )  # fmt: skip
    assert max(found.psnr) < 12.0


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.one_in(2)
def test_images_of_several_rows_are_found_by_a_search(tmp_path: Path, released: bool) -> None:
    changes = "model={name: mlp, hidden: [64]}", *([] if released else ["data.partition.clients=700"])
    found = inverted(tmp_path, *changes, released=released, steps=150)
    assert not found.exact
    assert len(found.x) >= 2
    assert min(found.psnr) > 18.0 > 12.0 > max(found.flat)
    again = inverted(tmp_path, *changes, released=released, steps=150)
    assert torch.equal(found.found, again.found), "the same draws"


def test_it_is_done_to_the_client_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(DIGITS)
    with quieted("fedray"):
        config = Config.bind("c", *load_layers(tmp_path / "c.yaml", HERE))
        cohort = config.plan().cohort(1)
        name = config.plan().task.data.client_id(int(cohort[1]))
        assert intercepted(config, 1, name, False).clients == (name,)
        assert len(intercepted(config, 1, None, True).clients) == 2


@pytest.mark.parametrize(
    ("changes", "round", "client", "words"),
    [
        ((), 3, None, "--round 3: the config has rounds 1 to 2"),
        ((), 1, "nobody", "--client nobody: it is not in round 1"),
        (("transforms=[secure_sum]", "sampler.clients=4"), 1, None, "transforms: the server sees masked updates"),
        (
            ("algorithm={name: streaming_diloco, keep: false}",),
            1,
            None,
            "algorithm: clients of streaming_diloco send a",
        ),
        (("sampler={name: poisson, rate: 1e-9}",), 1, None, "--round 1: nobody is in it"),
    ],
)
def test_what_nobody_can_intercept_is_refused(
    tmp_path: Path, changes: tuple[str, ...], round: int, client: str | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        inverted(tmp_path, *changes, round=round, client=client)


def test_bad_searches_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"steps=0, restarts=1, tv=0\.0001: steps and restarts are at least 1"):
        Inversion(steps=0)


def test_decibels() -> None:
    assert decibels(2.0, 0.04) == pytest.approx(20.0)
    assert math.isinf(decibels(1.0, 0.0))
