"""The registries of data sources and partitioners, and those of the user's own."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from fedray.config.binding import options_of
from fedray.config.imported import first_on_path
from fedray.config.registry import Imported, Registry
from fedray.core.errors import ConfigError
from fedray.data.columns.base import ClientData
from fedray.data.sites import Sites, here

HOLDOUT = "holdout"
"""The option of every source of data: the fraction of rows that are held out."""


@dataclass(frozen=True)
class UserSource(Imported):
    """A function that returns the data, called with the options, and with ``seed`` if it has such a parameter.

    ``holdout``, as every source has it, is carried out on what it returns, unless it has such a parameter itself.
    """

    given: ClassVar[tuple[str, ...]] = ("seed",)
    gives: ClassVar[str] = "a fedray.FederatedData, or a source with load(seed, sites)"

    def check(self) -> None:
        """Import the code and compare its parameters with the options, without calling it."""
        super().check()
        fraction = self._held_out()
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0.0 <= fraction < 1.0:
            raise ConfigError(f"{self.key}.{HOLDOUT}: must be at least 0 and below 1, got {fraction!r}")

    def load(self, seed: int, sites: Callable[[], Sites] = here) -> ClientData:
        """Return what the function returns; the arguments are those of a registered source."""
        made = self.make(seed=seed)
        data: ClientData = made.load(seed, sites) if hasattr(made, "load") else made
        return data.with_holdout(fraction, seed) if (fraction := self._held_out()) else data

    def fits(self, made: Any) -> bool:
        """Tell if it is data, or loads some."""
        return isinstance(made, ClientData) or callable(getattr(made, "load", None))

    def passed(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Return the options that the function is called with."""
        rest = {name: value for name, value in self.options.items() if name != HOLDOUT}
        return self.options if _takes(function, HOLDOUT) else rest

    def _held_out(self) -> Any:
        """Return the fraction that is held out of what the function returns."""
        with first_on_path(self.folder):
            return 0.0 if _takes(self.attribute(), HOLDOUT) else self.options.get(HOLDOUT, 0.0)


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Tell if a function or class takes a keyword argument, or does not say what it takes."""
    if isinstance(function, type) and dataclasses.is_dataclass(function):
        return name in options_of(function)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True
    return name in parameters or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())


@dataclass(frozen=True)
class UserPartitioner(Imported):
    """A class or function that is called with the options and returns an object with ``assign(labels, seed)``."""

    gives: ClassVar[str] = "a partitioner, an object with assign(labels, seed)"

    def fits(self, made: Any) -> bool:
        """Tell if it assigns rows."""
        return callable(getattr(made, "assign", None))


data_sources = Registry("data source", package="fedray.data.sources", imported=UserSource)
partitioners = Registry("partitioner", package="fedray.data.partition", imported=UserPartitioner)
