"""From a config's section to a module: names, options, and first parameters that depend on the seed alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedray.config.registry import dump
from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models import Model, initial_model, resolve_model
from tests.models.cases import EVERY_CASE

MODEL = resolve_model({"name": "mlp", "hidden": [3]})
SPEC = DataSpec(shape=(4,), outputs=2)


def flat(seed: int, model: Model = MODEL) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in initial_model(model, SPEC, seed).parameters()])


@settings(max_examples=20)
@given(seed=st.integers(0, 2**63 - 1), state=st.integers(0, 2**32 - 1))
def test_same_seed_same_bits_whatever_the_global_generator(seed: int, state: int) -> None:
    expected = flat(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        assert torch.equal(flat(seed), expected)
        assert torch.equal(torch.get_rng_state(), before)


def test_other_seeds_other_parameters() -> None:
    drawn = [tuple(flat(seed).tolist()) for seed in (*range(20), 2**32, 2**40 + 1)]
    assert len(set(drawn)) == len(drawn)


def test_global_generator_is_put_back_after_an_error() -> None:
    class Broken:
        name = "broken"

        def build(self, spec: DataSpec) -> nn.Module:
            torch.rand(spec.outputs)
            raise RuntimeError("no model")

    before = torch.get_rng_state()
    try:
        initial_model(Broken(), SPEC, seed=0)
    except RuntimeError as error:
        assert str(error) == "no model"  # noqa: PT017
    assert torch.equal(torch.get_rng_state(), before)


@EVERY_CASE
def test_options_survive_dump_and_resolve(node: dict[str, Any], spec: DataSpec) -> None:
    part = resolve_model(node)
    assert resolve_model(dump(part)) == part
    assert node.items() <= dump(part).items()


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "mlpp"}, r"model.name: unknown model 'mlpp' \(did you mean 'mlp'\?\)"),
        (None, r"model.name: a model is needed; known: cnn, decoder, huggingface, logistic"),
    ],
)
def test_bad_options_are_config_errors(node: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node)
