"""Logistic and linear regression."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fedray.data.spec import DataSpec
from fedray.models.fit import feature_count
from fedray.models.registry import models


@models.register("logistic")
@dataclass(frozen=True)
class Logistic:
    """One linear layer on the flattened input: softmax regression, or linear regression for a regression task.

    >>> Logistic().build(DataSpec(shape=(30,), outputs=2))
    Sequential(
      (flatten): Flatten(start_dim=1, end_dim=-1)
      (head): Linear(in_features=30, out_features=2, bias=True)
    )

    Args:
        bias: add a constant to every output.
    """

    name: ClassVar[str]
    bias: bool = True

    def build(self, spec: DataSpec) -> nn.Module:
        """Build the module, ``[B, *shape]`` to ``[B, outputs]``; ConfigError for tokens."""
        features = feature_count(spec, self.name)
        layers = OrderedDict[str, nn.Module](flatten=nn.Flatten())
        layers["head"] = nn.Linear(features, spec.outputs, bias=self.bias)
        return nn.Sequential(layers)
