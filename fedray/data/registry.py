"""The registries of data sources and partitioners, and those of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from fedray.config.registry import Imported, Registry
from fedray.data.columns.base import ClientData
from fedray.data.sites import Sites, here


@dataclass(frozen=True)
class UserSource(Imported):
    """A function that returns the data, called with the options, and with ``seed`` if it has such a parameter."""

    given: ClassVar[tuple[str, ...]] = ("seed",)
    gives: ClassVar[str] = "a fedray.FederatedData, or a source with load(seed, sites)"

    def load(self, seed: int, sites: Callable[[], Sites] = here) -> ClientData:
        """Return what the function returns; the arguments are those of a registered source."""
        made = self.make(seed=seed)
        data: ClientData = made.load(seed, sites) if hasattr(made, "load") else made
        return data

    def fits(self, made: Any) -> bool:
        """Tell if it is data, or loads some."""
        return isinstance(made, ClientData) or callable(getattr(made, "load", None))


@dataclass(frozen=True)
class UserPartitioner(Imported):
    """A class or function that is called with the options and returns an object with ``assign(labels, seed)``."""

    gives: ClassVar[str] = "a partitioner, an object with assign(labels, seed)"

    def fits(self, made: Any) -> bool:
        """Tell if it assigns rows."""
        return callable(getattr(made, "assign", None))


data_sources = Registry("data source", package="fedray.data.sources", imported=UserSource)
partitioners = Registry("partitioner", package="fedray.data.partition", imported=UserPartitioner)
