"""The registry of models and the contract of one entry."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn

from fedray.config.registry import Registry
from fedray.data.spec import DataSpec
from fedray.models.user import UserModel


@runtime_checkable
class Model(Protocol):
    """The options of a model, able to build it: what a config's ``model`` section becomes.

    A built-in model has float32 parameters and no buffers, ends in a layer called ``head`` (so that a rule can keep
    it out of the exchange by name), draws random numbers only in ``nn.Dropout``, and runs under ``torch.func.vmap``.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Flat:
    ...     name = "flat"
    ...     def build(self, spec):
    ...         return nn.Linear(spec.shape[0], spec.outputs)
    >>> isinstance(Flat(), Model), Flat().build(DataSpec((30,), 2))
    (True, Linear(in_features=30, out_features=2, bias=True))
    """

    @property
    def name(self) -> str:
        """The model's name in the config, ``model.name``."""
        ...

    def build(self, spec: DataSpec) -> nn.Module:
        """Build a new module from a batch ``[B, *spec.shape]`` to logits or predictions ``[B, spec.outputs]``.

        Raises:
            ConfigError: the model does not fit the data.
        """
        ...


models = Registry("model", package="fedray.models", base=Model, imported=UserModel)
