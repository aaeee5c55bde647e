"""Checks that a model's options make sense and that the model fits the data."""

from __future__ import annotations

from math import prod

from fedray.config.registry import nearest
from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec


def misfit(spec: DataSpec, name: str, needs: str) -> ConfigError:
    """Return the error that model ``name`` needs other inputs than those of ``spec``."""
    what = f"tokens of shape {spec.shape}" if spec.vocabulary else str(spec.shape)
    if spec.columns:
        what = f"several columns ({spec.inputs}), for which a module of your own is needed"
    return ConfigError(f"model.name: {name} needs {needs}; the data has {what}")


def feature_count(spec: DataSpec, name: str) -> int:
    """Return the length of a flattened input; ConfigError if the inputs are tokens, whose values are only names."""
    if spec.vocabulary or spec.columns:
        raise misfit(spec, name, "numeric inputs")
    return prod(spec.shape)


def image_shape(spec: DataSpec, name: str, smallest: int = 1) -> tuple[int, int, int]:
    """Return (channels, height, width) of an image input.

    Raises:
        ConfigError: the inputs are no images, or a side is shorter than ``smallest`` pixels.
    """
    if spec.vocabulary or len(spec.shape) != 3:
        raise misfit(spec, name, "images of shape (channels, height, width)")
    channels, height, width = spec.shape
    if min(height, width) < smallest:
        raise misfit(spec, name, f"images of at least {smallest} x {smallest} pixels")
    return channels, height, width


def token_length(spec: DataSpec, name: str) -> int:
    """Return the length of a token sequence input; ConfigError if the inputs are anything else."""
    if not spec.vocabulary or len(spec.shape) != 1:
        raise misfit(spec, name, "token sequences of shape (length,)")
    return spec.shape[0]


def check_counts(**counts: int) -> None:
    """Raise ConfigError unless every named count is at least 1."""
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name} must be at least 1, got {count}")


def check_dropout(dropout: float) -> None:
    """Raise ConfigError unless ``dropout`` is a probability below 1."""
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(f"dropout must be in [0, 1), got {dropout}")


def check_choice(name: str, choice: str, allowed: list[str]) -> None:
    """Raise ConfigError unless ``choice`` is one of ``allowed``.

    A config is checked by its types; Python calls are not.
    """
    if choice not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {choice!r}{nearest(choice, allowed)}")
