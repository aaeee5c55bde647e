"""MOON: contrast of a client's features with the global model's and with its own last ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fedray.algorithms.base import Algorithm, algorithms, check_above_0, check_at_least_0
from fedray.core.messages import Parts
from fedray.local.batches import Output
from fedray.local.clients import Clients
from fedray.local.step import Step

_LEAST = 1e-8
"""The least length of features that a cosine divides by, as in ``torch.cosine_similarity``."""


def features_of(output: Output, algorithm: str) -> Tensor:
    """Return the features of an output, ``[A, B, f]``.

    Raises:
        ValueError: the module's head was not called once.
    """
    if output.features is None:
        raise ValueError(f"{algorithm} needs features: the last layer with parameters must be called once in a forward")
    return output.features


@algorithms.register("moon")
@dataclass(frozen=True)
class MOON(Algorithm):
    """MOON (Li et al., arXiv:2103.16257, equation 3).

    To the task's loss is added ``-mu log(near / (near + far))`` with ``near = e^{cos(z, z_glob) / tau}`` and
    ``far = e^{cos(z, z_prev) / tau}``: z are the features of the client's model, of the global one, and of the client's
    after its last round; a newcomer's is the global one.  Features are what comes into the last layer with parameters;
    the paper's projection head is the model's business.  The other two models are run in evaluation mode.

    >>> MOON(mu=5.0)
    MOON(weight='auto', mu=5.0, tau=0.5)

    Args:
        mu: weight of the contrast, >= 0; 0 is FedAvg, bitwise.
        tau: temperature, > 0.
    """

    mu: float = 1.0
    tau: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(mu=self.mu)
        check_above_0(tau=self.tau)

    def initial_state(self, c: Clients) -> Parts:
        """Return the global model."""
        return {"previous": c.anchor}

    def client(self, c: Clients) -> None:
        """Fit with the contrast, and remember where that ended."""

        def objective(step: Step) -> Tensor:
            out = step.forward()
            z = features_of(out, self.name)
            near, far = (
                functional.normalize(features_of(step.forward(model, train=False), self.name), dim=-1, eps=_LEAST)
                for model in (step.anchor, c.state["previous"][step.rows])
            )
            # With the others' directions of length 1 one product gives the difference of both cosines.
            length = torch.linalg.vector_norm(z, dim=-1).clamp_min(_LEAST)
            closer = (z * far.sub_(near)).sum(dim=-1) / length
            return step.loss(out) + self.mu * step.mean(functional.softplus(closer / self.tau))

        c.fit(objective=objective if self.mu else None)
        c.state["previous"] = c.params.clone()
