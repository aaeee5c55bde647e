"""Multilayer perceptron."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import nn

from fedray.data.spec import DataSpec
from fedray.models.fit import check_choice, check_counts, check_dropout, feature_count
from fedray.models.registry import models

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


@models.register("mlp")
@dataclass(frozen=True)
class MLP:
    """Linear layers with an activation and dropout after each hidden one, on the flattened input.

    No hidden layer is logistic regression.

    >>> MLP(hidden=[16], activation="tanh").build(DataSpec(shape=(30,), outputs=2))
    Sequential(
      (flatten): Flatten(start_dim=1, end_dim=-1)
      (linear1): Linear(in_features=30, out_features=16, bias=True)
      (activation1): Tanh()
      (head): Linear(in_features=16, out_features=2, bias=True)
    )

    Args:
        hidden: width of each hidden layer, at least 1.
        activation: ``relu``, ``tanh`` or ``gelu``.
        dropout: probability in [0, 1) of dropping a hidden value; 0 adds no layer.
    """

    name: ClassVar[str]
    hidden: list[int] = field(default_factory=lambda: [64])
    activation: Literal["relu", "tanh", "gelu"] = "relu"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_counts(**{f"hidden[{index}]": width for index, width in enumerate(self.hidden)})
        check_choice("activation", self.activation, list(_ACTIVATIONS))
        check_dropout(self.dropout)

    def build(self, spec: DataSpec) -> nn.Module:
        """Build the module, ``[B, *shape]`` to ``[B, outputs]``; ConfigError for tokens."""
        width = feature_count(spec, self.name)
        layers = OrderedDict[str, nn.Module](flatten=nn.Flatten())
        for number, wider in enumerate(self.hidden, start=1):
            layers[f"linear{number}"] = nn.Linear(width, wider)
            layers[f"activation{number}"] = _ACTIVATIONS[self.activation]()
            if self.dropout:
                layers[f"dropout{number}"] = nn.Dropout(self.dropout)
            width = wider
        layers["head"] = nn.Linear(width, spec.outputs)
        return nn.Sequential(layers)
