"""The convolutional network of the FedAvg paper."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models.fit import check_counts, image_shape
from fedray.models.registry import models


@models.register("cnn")
@dataclass(frozen=True)
class CNN:
    """Two 5x5 convolutions, each with ReLU and 2x2 max pooling, then a hidden layer with ReLU.

    McMahan et al., arXiv:1602.05629: with the defaults and 28x28 grey images, 10 classes, exactly their 1,663,370
    parameters.  Convolutions keep the size (padding 2, the paper's "same"), so any image of at least 8x8 pixels
    fits; an odd side loses its last row or column in the pooling.

    >>> sum(p.numel() for p in CNN().build(DataSpec(shape=(1, 28, 28), outputs=10)).parameters())
    1663370

    Args:
        channels: output channels of the two convolutions.
        hidden: width of the hidden layer.
    """

    name: ClassVar[str]
    channels: list[int] = field(default_factory=lambda: [32, 64])
    hidden: int = 512

    def __post_init__(self) -> None:
        if len(self.channels) != 2:
            raise ConfigError(f"channels must be two numbers, one per convolution, got {self.channels}")
        check_counts(hidden=self.hidden, **{f"channels[{index}]": count for index, count in enumerate(self.channels)})

    def build(self, spec: DataSpec) -> nn.Module:
        """Build the module, ``[B, channels, height, width]`` to ``[B, outputs]``.

        ConfigError unless images of at least 8x8.
        """
        channels, height, width = image_shape(spec, self.name, smallest=8)
        first, second = self.channels
        layers = OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(channels, first, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            hidden=nn.Linear(second * (height // 4) * (width // 4), self.hidden),
            relu3=nn.ReLU(),
            head=nn.Linear(self.hidden, spec.outputs),
        )
        return nn.Sequential(layers)
