"""Augmentation and normalisation of batches: parts that change stored inputs, before a model sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedray.config.registry import Registry
from fedray.core.messages import Floats
from fedray.data.columns.base import ClientData
from fedray.data.spec import DataSpec


@dataclass(frozen=True)
class Augmentation(ABC):
    """The base of changes of inputs.

    It is done to training batches; with ``always`` in evaluations, too, and then it must not draw.

    >>> @dataclass(frozen=True)
    ... class Louder(Augmentation):
    ...     most: float = 2.0
    ...     def draws(self, shape):
    ...         return 1
    ...     def __call__(self, x, u):
    ...         return x * (1 + (self.most - 1) * u[:, 0].view(-1, *[1] * (x.dim() - 1)))
    >>> Louder()(torch.ones(2, 3), torch.tensor([[0.0], [0.5]]))
    tensor([[1.0000, 1.0000, 1.0000],
            [1.5000, 1.5000, 1.5000]])
    """

    always: ClassVar[bool] = False
    """True for what is done in evaluations, too."""

    def draws(self, shape: tuple[int, ...]) -> int:
        """Return the numbers that it draws for an example of a shape."""
        return 0

    def check(self, spec: DataSpec) -> None:  # noqa: B027
        """Raise ValueError if it cannot work on such examples."""

    def fitted(self, data: ClientData) -> Augmentation:
        """Return it with the numbers that it learns from the training examples."""
        return self

    def again(self, told: Mapping[str, Any], data: ClientData) -> Augmentation:
        """Return it as a run that goes on has it, which ``told`` of the numbers that it had learnt."""
        return self.fitted(data)

    @abstractmethod
    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """Return changed inputs; those of one example do not depend on the others.

        Args:
            x: inputs, float ``[n, ...]``; not to be changed in place.
            u: draws in [0, 1) of each, float32 ``[n, k]``.
        """


class ColumnsAugmentation(Augmentation):
    """The base of changes of several columns of inputs together, such as a picture and its mask.

    >>> @dataclass(frozen=True)
    ... class MirrorBoth(ColumnsAugmentation):
    ...     def draws(self, shape):
    ...         return 1
    ...     def __call__(self, x, u):
    ...         changed = {name: Flip()(x[name], u) for name in ("image", "mask")}
    ...         return {**x, **changed}
    >>> x = {"image": torch.tensor([[[1.0, 2.0]]]), "mask": torch.tensor([[[0.0, 1.0]]]), "age": torch.ones(1)}
    >>> MirrorBoth()(x, torch.tensor([[0.1]]))["mask"]
    tensor([[[1., 0.]]])
    """

    def draws(self, shape: Any) -> int:
        """Return the numbers that it draws for an example; ``shape``: those of its columns, by their names."""
        return 0

    @abstractmethod
    def __call__(self, x: Any, u: Tensor) -> Any:
        """Return changed columns; those of one example do not depend on the others.

        Args:
            x: the columns by name, each ``[n, ...]``, those of a tuple named ``"0"``, ``"1"``; not to be changed in
                place.
            u: draws in [0, 1) of each example, float32 ``[n, k]``.
        """


augmentations = Registry(
    "augmentation", package="fedray.data.augment", base=Augmentation, such_as='{"name": "crop", "padding": 4}'
)


def _need_picture(spec: DataSpec) -> None:
    if len(spec.shape) not in (2, 3):
        raise ValueError(f"it needs pictures, [channels, height, width] or [height, width]; inputs are {spec.shape}")


@augmentations.register("flip")
@dataclass(frozen=True)
class Flip(Augmentation):
    """Pictures are mirrored left to right, each with probability ``p``.

    >>> Flip()(torch.tensor([[[1.0, 2.0]], [[1.0, 2.0]]]), torch.tensor([[0.9], [0.1]])).tolist()
    [[[1.0, 2.0]], [[2.0, 1.0]]]

    Args:
        p: from 0 to 1.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.p <= 1.0:
            raise ValueError(f"p={self.p}: it must be from 0 to 1")

    def draws(self, shape: tuple[int, ...]) -> int:
        return 1

    def check(self, spec: DataSpec) -> None:
        _need_picture(spec)

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        return torch.where((u[:, 0] < self.p).view(-1, *[1] * (x.dim() - 1)), x.flip(-1), x)


@augmentations.register("crop")
@dataclass(frozen=True)
class Crop(Augmentation):
    """Pictures are padded on each side, and a piece of the first size is cut out, at any place with equal probability.

    >>> Crop(padding=1)(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[0.0, 0.9]])).tolist()
    [[[0.0, 0.0], [2.0, 0.0]]]

    Args:
        padding: of so many pixels, at least 1.
        fill: the value of the padding; earlier parts of the list have changed the picture by then.
    """

    padding: int = 4
    fill: float = 0.0

    def __post_init__(self) -> None:
        if self.padding < 1:
            raise ValueError(f"padding={self.padding}: it must be at least 1 pixel")

    def draws(self, shape: tuple[int, ...]) -> int:
        return 2

    def check(self, spec: DataSpec) -> None:
        _need_picture(spec)

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        places = 2 * self.padding + 1
        first = (u * places).long().clamp(max=places - 1)
        padded = functional.pad(x, (self.padding,) * 4, value=self.fill).view(len(x), -1, *self._padded(height, width))
        rows = first[:, :1] + torch.arange(height, device=x.device)
        columns = first[:, 1:] + torch.arange(width, device=x.device)
        which = torch.arange(len(x), device=x.device)[:, None, None]
        # Advanced indices around a slice come first: [n, height, width, channels].
        cut = padded[which, :, rows[:, :, None], columns[:, None, :]]
        return cut.permute(0, 3, 1, 2).reshape(x.shape)

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        return height + 2 * self.padding, width + 2 * self.padding


@augmentations.register("normalize")
@dataclass(frozen=True)
class Normalize(Augmentation):
    """Inputs less a mean, by a standard deviation, in training and in evaluations: of each channel, or of each feature.

    >>> Normalize([0.5], [0.25])(torch.tensor([[[[0.5, 1.0]]]]), torch.zeros(1, 0)).tolist()
    [[[[0.0, 2.0]]]]

    Without numbers it takes those of all training examples together, as they are stored: a pooled mean and the standard
    deviation of the population, with a channel that never changes only centred.  They are the same whatever the list
    says before it.  Clients then tell the server their sums; give the numbers where they must not.

    Args:
        mean: one number for each channel of ``[channels, height, width]``, one in all for ``[height, width]``, one for
            each feature of a table; a single one counts for all.  Default: learnt.
        std: the same, each above 0.
    """

    always: ClassVar[bool] = True
    mean: list[float] | None = None
    std: list[float] | None = None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together: give both, or neither to have them learnt")
        if self.std is not None and not all(value > 0.0 for value in self.std):
            raise ValueError(f"std={self.std}: each must be above 0")
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            raise ValueError(f"mean and std: {len(self.mean)} numbers and {len(self.std)}")

    def check(self, spec: DataSpec) -> None:
        if len(spec.shape) > 3:
            raise ValueError(f"it knows pictures and tables; inputs are {spec.shape}")
        count = _channels(spec.shape)
        if self.mean is not None and len(self.mean) not in (1, count):
            raise ValueError(f"mean: inputs {spec.shape} need {count} numbers, or one for all; given: {len(self.mean)}")

    def fitted(self, data: ClientData) -> Normalize:
        if self.mean is not None:
            return self
        if data.silos:
            raise ValueError("the rows of silos stay with them; give mean and std")
        mean = _mean(data, lambda values: values)
        std = np.sqrt(_mean(data, lambda values: (values - torch.from_numpy(mean)).square()))
        return replace(self, mean=mean.tolist(), std=np.where(std > 0.0, std, 1.0).tolist())

    def again(self, told: Mapping[str, Any], data: ClientData) -> Normalize:
        if self.mean is not None or told.get("name") != "normalize":
            return self.fitted(data)
        return replace(self, mean=list(told["mean"]), std=list(told["std"]))

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        assert self.mean is not None
        assert self.std is not None
        shape = (-1, 1, 1) if x.dim() == 4 else (-1,)
        mean, std = (
            torch.tensor(values, dtype=x.dtype, device=x.device).view(shape) for values in (self.mean, self.std)
        )
        return (x - mean) / std


_ROWS = 1024


def _mean(data: ClientData, of: Callable[[Tensor], Tensor]) -> Floats:
    """Return the mean of something of all training examples, ``[channels]``, in float64, client after client."""
    total, number = np.zeros(_channels(data.spec.shape)), 0
    for client in range(len(data)):
        rows, size = data.rows(np.array([client])), int(data.sizes[client])
        for start in range(0, size, _ROWS):
            x, _ = rows.take(np.arange(start, min(start + _ROWS, size))[None])
            values = of(_by_channel(x[0].double(), data.spec.shape))
            total, number = total + values.sum(dim=0).numpy(), number + len(values)
    return total / number


def _channels(shape: tuple[int, ...]) -> int:
    return 1 if len(shape) == 2 else shape[0] if shape else 1


def _by_channel(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return all values ``[m, channels]`` of inputs ``[n, ...]``."""
    if len(shape) == 3:
        return x.movedim(1, -1).reshape(-1, shape[0])
    return x.reshape(-1, _channels(shape))
