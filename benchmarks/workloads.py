"""The workloads: what is trained on what, the same for the bare loop and for fedray; nothing of fedray in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.models import (
    VOCABULARY,
    blaze_model,
    cnn_model,
    lora_model,
    resnet_model,
    tiny_model,
    wide_model,
)

Data = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Workload:
    """A model and the data to train it on.

    Args:
        name: as given on the command line.
        model_fn: makes the model; classification, cross-entropy.
        shape: of one input.
        clients: number of clients.
        examples: examples per client; with ``fewest`` the most.
        cohort: clients per round.
        batch: examples per step; an epoch's last batch may be smaller.
        epochs: passes over a client's data; 0 returns the model unchanged.
        lr: learning rate of the clients' SGD.
        classes: number of classes.
        fewest: the fewest examples of a client, uniform from there up to ``examples``; None: all have as many.
        tokens: inputs are as many different tokens, and each one's class is the token that comes next; 0: they are
            numbers.
        algorithm: its name.
        fast: the bare loop has channels-last images and bf16 autocast.
    """

    name: str
    model_fn: Callable[[], nn.Module]
    shape: tuple[int, ...]
    clients: int
    examples: int
    cohort: int
    batch: int
    epochs: int = 1
    lr: float = 0.05
    classes: int = 10
    fewest: int | None = None
    tokens: int = 0
    algorithm: Literal["fedavg", "scaffold"] = "fedavg"
    fast: bool = False

    @cached_property
    def sizes(self) -> list[int]:
        """The examples of each client."""
        if self.fewest is None:
            return [self.examples] * self.clients
        draw = torch.Generator().manual_seed(0)
        sizes: list[int] = torch.randint(self.fewest, self.examples + 1, (self.clients,), generator=draw).tolist()
        return sizes

    @cached_property
    def starts(self) -> list[int]:
        """The row at which each client's examples begin."""
        return [0, *accumulate(self.sizes)][:-1]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("tiny", tiny_model, (64,), clients=5000, examples=20, cohort=500, batch=20),
        Workload("ragged", tiny_model, (64,), clients=5000, examples=59, cohort=500, batch=4, fewest=2),
        Workload("cnn", cnn_model, (3, 32, 32), clients=1000, examples=50, cohort=50, batch=10),
        Workload("wide", wide_model, (2048,), clients=8, examples=4, cohort=8, batch=4),
        Workload("noop", tiny_model, (64,), clients=5000, examples=20, cohort=1000, batch=20, epochs=0),
        Workload("blaze", blaze_model, (3, 32, 32), clients=100, examples=500, cohort=100, batch=50),
        Workload("resnet", resnet_model, (3, 32, 32), clients=100, examples=20, cohort=10, batch=10),
        Workload(
            "lora",
            lora_model,
            (32,),
            clients=8,
            examples=1,
            cohort=8,
            batch=1,
            classes=VOCABULARY,
            tokens=VOCABULARY,
        ),
        Workload("stateful", tiny_model, (64,), clients=5000, examples=20, cohort=500, batch=20, algorithm="scaffold"),
    )
}


def make_data(workload: Workload, seed: int = 0) -> Data:
    """Synthetic examples, client after client: x ``[N, *shape]`` standard normal, y int64 ``[N]``.

    The label of an example is the largest of ``classes`` of its inputs, so there is something to learn.  Of tokens x is
    int64 ``[N, T]``, and y the same, one further on.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = sum(workload.sizes)
    if workload.tokens:
        text = torch.randint(workload.tokens, (rows, workload.shape[0] + 1), generator=generator)
        return text[:, :-1].contiguous(), text[:, 1:].contiguous()
    x = torch.randn(rows, *workload.shape, generator=generator)
    return x, x.flatten(1)[:, : workload.classes].argmax(1)


def make_cohort(workload: Workload, generator: torch.Generator) -> list[int]:
    """One round's clients, uniform without replacement."""
    return torch.randperm(workload.clients, generator=generator)[: workload.cohort].tolist()
