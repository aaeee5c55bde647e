"""The face of a worker group, the same here and on another node."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from fedray.cluster.place.placement import GroupSpec
from fedray.run.usage import Reading
from fedray.run.worker import Item, Report


class GroupLost(Exception):
    """The error of a group that is gone, with a node of its workers or with its actor, and with it what it folded."""


class Group(ABC):
    """A group of workers on one node, as what hands out work sees it.

    Args:
        spec: the workers.
    """

    def __init__(self, spec: GroupSpec) -> None:
        self.spec = spec

    @property
    @abstractmethod
    def ranks(self) -> list[int]:
        """Ranks of the workers that it has, those still starting included."""

    @property
    @abstractmethod
    def up(self) -> int:
        """The number of workers that are up, as far as it has heard."""

    @property
    @abstractmethod
    def retries(self) -> int:
        """The number of items that had to be done again in the round."""

    @abstractmethod
    def readings(self) -> list[Reading]:
        """Return what the workers that took part in the round say of themselves."""

    @abstractmethod
    def work(self, items: Mapping[int, Item], stopping: Callable[[], bool]) -> dict[int, Report] | None:
        """Do items of the round, handed out in their order; return their reports, or None if it was stopped.

        Args:
            items: by their position in the round.
            stopping: asked often; once true, the work is left.
        """

    @abstractmethod
    def abandon(self) -> None:
        """End what may be left of a group that is lost, without a word."""

    @abstractmethod
    def close(self) -> None:
        """End the workers."""

    @property
    def pins(self) -> frozenset[str | None]:
        """Pins of the items that its workers do."""
        return self.spec.pins(self.ranks)

    def capacity(self, pin: str | None) -> int:
        """Return how many of its workers do items of a pin."""
        return self.spec.capacity(pin, self.ranks)
