"""The common ground of algorithms on adapters: what they ask of a model, and ranks of single clients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedray.algorithms import FedExLoRA, FLoRA, HetLoRA
from fedray.algorithms.lowrank import LowRank
from fedray.core.errors import ConfigError
from fedray.models.lora import adapted
from tests.helpers import class_problem, local_task


def net() -> nn.Module:
    return adapted(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), r=2)


@pytest.mark.parametrize("algorithm", [FedExLoRA(), FLoRA(), HetLoRA()], ids=lambda one: one.name)
def test_a_model_without_adapters_is_refused(algorithm: LowRank) -> None:
    with pytest.raises(ConfigError, match=f"^algorithm: {algorithm.name} averages low-rank adapters"):
        algorithm.prepare(nn.Linear(3, 2))


@pytest.mark.parametrize("algorithm", [FLoRA([2, 3]), HetLoRA([0])], ids=lambda one: one.name)
def test_a_rank_that_the_model_lacks_is_refused(algorithm: LowRank) -> None:
    with pytest.raises(ConfigError, match=r"^algorithm\.ranks=\[.*\]: \w+: each must be at least 1 and at most 2"):
        algorithm.prepare(net())


@pytest.mark.parametrize("algorithm", [FLoRA([1]), HetLoRA([1])], ids=lambda one: one.name)
@pytest.mark.parametrize("stack", [3, "off"])
def test_of_a_lower_rank_the_rest_does_not_move(algorithm: LowRank, stack: int) -> None:
    from tests.helpers import train

    task = local_task(class_problem(), program=algorithm, stack=stack)
    first = task.layout.pack(dict(task.model_fn().state_dict()))
    kept = {"rank": torch.ones(3, 1)} if isinstance(algorithm, HetLoRA) else {}
    update = train(task, range(3), state=kept)
    for entry in task.layout.parameters:
        moved = update.parts["delta"][:, entry.start : entry.stop].view(3, *entry.shape)
        rest = moved[:, 1:] if "lora_A" in entry.name else moved[..., 1:]
        start = first[entry.start : entry.stop].view(entry.shape)
        stays = start[1:] if "lora_A" in entry.name else start[..., 1:]
        # HetLoRA pads with zeros.
        assert torch.equal(rest, torch.zeros_like(rest) if isinstance(algorithm, FLoRA) else -stays.expand_as(rest))
