"""Transforms of updates: clip, gaussian, topk."""

from fedray.transforms.base import Transform, transforms
from fedray.transforms.clip import Clip
from fedray.transforms.gaussian import Gaussian
from fedray.transforms.topk import TopK

__all__ = ["Clip", "Gaussian", "TopK", "Transform", "transforms"]
