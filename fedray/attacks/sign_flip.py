"""Updates turned round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fedray.attacks.base import Attack, attacks
from fedray.config.bounds import check_above_0


@attacks.register("sign_flip")
@dataclass(frozen=True)
class SignFlip(Attack):
    """Sign flipping (Li et al., RSA, arXiv:1811.03761, section 5): an attacker sends ``-scale`` times its own update.

    Deviation: the paper's workers send models, and flip those.

    >>> import torch
    >>> SignFlip(scale=2.0).forge(torch.tensor([[1.0, -3.0]]), torch.tensor([0]), [])
    tensor([[-2.,  6.]])

    Args:
        scale: above 0.
    """

    scale: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_0(scale=self.scale)

    def forge(self, delta: Tensor, lying: Tensor, draws: Sequence[np.random.Generator]) -> Tensor:
        """Turn each update round."""
        return -self.scale * delta[lying]
