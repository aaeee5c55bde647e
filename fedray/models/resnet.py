"""ResNet-18 with group normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models.fit import check_counts, image_shape
from fedray.models.registry import models

_SMALL_IMAGE = 64


@models.register("resnet18_gn")
@dataclass(frozen=True)
class ResNet18GN:
    """ResNet-18 (He et al., arXiv:1512.03385) with GroupNorm in the place of BatchNorm.

    Statistics of a batch do not survive averaging over clients with different data (Hsieh et al., arXiv:1910.00189);
    two groups as in Reddi et al., arXiv:2003.00295.  Images of up to 64 pixels enter through one 3x3 convolution of
    stride 1, larger ones through the paper's 7x7 convolution and max pooling, each of stride 2.

    >>> import torch
    >>> ResNet18GN(width=8).build(DataSpec(shape=(3, 32, 32), outputs=10))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])

    Args:
        width: channels of the first of the four stages; each next stage doubles them.
        groups: groups of every normalisation, a divisor of ``width``.
    """

    name: ClassVar[str]
    width: int = 64
    groups: int = 2

    def __post_init__(self) -> None:
        check_counts(width=self.width, groups=self.groups)
        if self.width % self.groups:
            raise ConfigError(f"groups must divide width, got groups {self.groups} and width {self.width}")

    def build(self, spec: DataSpec) -> nn.Module:
        """Build the module, ``[B, channels, height, width]`` to ``[B, outputs]``; ConfigError unless images."""
        channels, height, width = image_shape(spec, self.name)
        small = max(height, width) <= _SMALL_IMAGE
        return ResNet(channels, spec.outputs, self.width, self.groups, small)


class Block(nn.Module):
    """``relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))``; shortcut: x, or a 1x1 convolution if the shape changes.

    Args:
        inputs: input channels.
        outputs: output channels.
        stride: of the first convolution; 2 halves height and width.
        groups: of the normalisations.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            project = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(project, nn.GroupNorm(groups, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, inputs, height, width]`` to ``[B, outputs, height / stride, width / stride]`` (rounded up)."""
        inner = self.norm1(self.conv1(x)).relu()
        total: Tensor = self.shortcut(x) + self.norm2(self.conv2(inner))
        return total.relu()


class ResNet(nn.Module):
    """Stem, four stages of two blocks, global mean pooling, linear head.

    Args:
        channels: input channels.
        outputs: size of the output.
        width: channels of the first stage.
        groups: of the normalisations.
        small: the stem for small images, see :class:`ResNet18GN`.
    """

    def __init__(self, channels: int, outputs: int, width: int, groups: int, small: bool) -> None:
        super().__init__()
        kernel, stride = (3, 1) if small else (7, 2)
        conv = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
        pool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        self.stem = nn.Sequential(conv, nn.GroupNorm(groups, width), nn.ReLU(), pool)
        stages: list[nn.Module] = []
        for stage in range(4):
            inputs, wide = (width << max(stage - 1, 0)), width << stage
            stages.append(nn.Sequential(Block(inputs, wide, min(stage, 1) + 1, groups), Block(wide, wide, 1, groups)))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width << 3, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, channels, height, width]`` to ``[B, outputs]``."""
        pooled = self.stages(self.stem(x)).mean(dim=(2, 3))
        logits: Tensor = self.head(pooled)
        return logits
