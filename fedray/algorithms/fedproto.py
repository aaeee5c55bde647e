"""FedProto: what travels is the mean features of each class, and no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from fedray.algorithms.base import Algorithm, algorithms, check_at_least_0
from fedray.algorithms.moon import features_of
from fedray.core.layout import Layout
from fedray.core.messages import Aggregate, Parts
from fedray.core.regions import Entry, Region
from fedray.local.batches import Output
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.server import Server

_EXACT = "donot_use_mm_for_euclid_dist"


def vectors(output: Output) -> Tensor:
    """Return the features ``[A, B, f]`` of an output.

    Raises:
        ValueError: an example's features are no vector, or it has several classes.
    """
    z = features_of(output, FedProto.name)
    if z.dim() != 3 or output.batch.y.dim() != 2:
        each = f"{list(z.shape[2:])} features and {list(output.batch.y.shape[2:])} classes"
        raise ValueError(f"{FedProto.name} needs a vector of features and one class for each example; here are {each}")
    return z


@torch.no_grad()
def sums_of(c: Clients, classes: int) -> Tensor:
    """Return the sum of the features of each class over all training examples of each client, ``[C, K f]``."""
    sums = []
    for step in c.scan():
        z, y = vectors(step.forward(step.params, train=False)), step.batch.y
        real = torch.arange(y.shape[1]) < torch.from_numpy(step.batch.count)[:, None]
        of_class = functional.one_hot(y, classes).to(z) * real.to(z).unsqueeze(-1)  # [C, B, K]
        sums.append(of_class.transpose(1, 2) @ z)
    return torch.stack(sums).sum(dim=0).flatten(1)


def width_of(layout: Layout) -> int:
    """Return the number of features: the inputs of the head.

    Raises:
        ValueError: the head is frozen.
    """
    head = next((entry for entry in layout.parameters if entry.head), None)
    if head is None:
        raise ValueError("it needs features: the head of the model has no trained parameters")
    return head.shape[-1]


@algorithms.register("fedproto")
@dataclass(frozen=True)
class FedProto(Algorithm):
    """FedProto (Tan et al., arXiv:2105.00243, Algorithm 1): models stay with their clients, prototypes are averaged.

    A client trains a model of its own on ``loss + lam d``, with d the mean over examples of ``|z - P_y|^2 / f``: z are
    an example's f features, which are what comes into the last layer with parameters, ``P_y`` the global prototype of
    its class.  (Equation 8 has the distance of the batch's mean features of each class; the authors' code, as here, the
    mean squared difference of each example's.)  Then it sends, for each class, the sum of the features of all of its
    examples, in evaluation mode, and their number; ``P_k`` is the quotient of both sums over the cohort.  (Equation 6
    divides by the number of clients with the class once more, which would shrink it.)  A class that nobody in the
    cohort has keeps its prototype, and one that has none yet adds nothing to a loss.  All clients begin with the run's
    first model.  A client is evaluated by the nearest prototype: its logits are ``-|z - P_k|``; a class without a
    prototype is twice as far as the farthest one.  Each example has one class.

    >>> FedProto(lam=0.5).lam
    0.5

    Args:
        lam: weight of the distance, >= 0; with 0 clients train as in ``local_only``, bitwise.
    """

    lam: float = 1.0
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uniform_only: ClassVar[bool] = True
    needs_classes: ClassVar[bool] = True
    uses_server: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(lam=self.lam)

    def region(self, entry: Entry) -> Region:
        """Return ``personal`` for everything."""
        return "personal"

    def client(self, c: Clients) -> None:
        """Fit near the prototypes, and send sums of features."""
        known = c.down["known"]
        prototypes = c.down["prototypes"].view(len(known), -1)

        def objective(step: Step) -> Tensor:
            out, y = step.forward(), step.batch.y
            away = (vectors(out) - prototypes[y]).square().mean(dim=-1)
            return step.loss(out) + self.lam * step.mean(away * known[y])

        c.fit(objective=objective if self.lam else None)
        c.send("sums", sums_of(c, len(known)))
        c.send("counts", c.labels)

    def predict(self, step: Step) -> Tensor:
        """Return how near each prototype is, ``[A, B, K]``."""
        known = step.c.down["known"]
        z = vectors(step.forward(step.params, train=False)).float()
        # Products of matrices would round distances by how many rows there are.
        away = torch.cdist(z, step.c.down["prototypes"].view(len(known), -1), compute_mode=_EXACT)
        return -torch.where(known > 0.0, away, 2.0 * (away * known).amax(dim=-1, keepdim=True))

    def start(self, s: Server) -> Parts:
        """Keep a prototype for each class, and 1 where there is one."""
        none = s.vector.new_zeros
        return {"prototypes": none(s.classes * width_of(s.layout)), "known": none(s.classes)}

    def broadcast(self, s: Server) -> Parts:
        """Send both."""
        return s.state

    def step(self, s: Server, total: Aggregate) -> dict[str, float]:
        """Take the means of the classes that the cohort has."""
        seen = total["counts"] > 0.0
        prototypes = s.state["prototypes"].view(s.classes, -1)
        prototypes[seen] = total["sums"].view(s.classes, -1)[seen] / total["counts"][seen].unsqueeze(1)
        s.state["known"][seen] = 1.0
        return {"known": float(s.state["known"].sum())}
