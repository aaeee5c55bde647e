"""A model of the user's own: ``package.module:factory``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from fedray.config.imported import Imported
from fedray.data.spec import DataSpec


@dataclass(frozen=True)
class UserModel(Imported):
    """A factory named by its import path, called with the options as keyword arguments.

    The factory is a function or a class; if it has a parameter ``spec`` it is given the :class:`DataSpec`.
    """

    kind: str = dataclasses.field(default="model", compare=False)
    key: str = dataclasses.field(default="model", compare=False)

    given: ClassVar[tuple[str, ...]] = ("spec",)
    gives: ClassVar[str] = "a torch.nn.Module"

    def build(self, spec: DataSpec) -> nn.Module:
        """Return what the factory returns.

        Raises:
            ConfigError: as :meth:`check`, or the factory raises or returns something else than an ``nn.Module``.
        """
        made = self.make(spec=spec)
        module: nn.Module = made if isinstance(made, nn.Module) else made.build(spec)
        return module

    def is_maker(self, found: Any) -> bool:
        """Tell if it can be called, and is no module itself."""
        return callable(found) and not isinstance(found, nn.Module)

    def fits(self, made: Any) -> bool:
        """Tell if it is a module, or builds one as a registered model does."""
        return isinstance(made, nn.Module) or (dataclasses.is_dataclass(made) and hasattr(made, "build"))
