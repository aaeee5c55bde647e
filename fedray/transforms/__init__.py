"""Transforms of updates: clip, gaussian, topk, secure_sum; codecs: bf16, int8, int4."""

from fedray.transforms.base import Setting, Transform, transforms
from fedray.transforms.bf16 import BF16
from fedray.transforms.clip import Clip
from fedray.transforms.codec import Codec
from fedray.transforms.gaussian import Gaussian
from fedray.transforms.quantized import Int4, Int8
from fedray.transforms.secure_sum import SecureSum
from fedray.transforms.topk import TopK

__all__ = [
    "BF16",
    "Clip",
    "Codec",
    "Gaussian",
    "Int4",
    "Int8",
    "SecureSum",
    "Setting",
    "TopK",
    "Transform",
    "transforms",
]
