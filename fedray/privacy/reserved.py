"""Releases that may be made before the disk has their lines, as a line that it has counts them already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from fedray.privacy.releases import Release


class Made(Protocol):
    """A release of a round."""

    @property
    def round(self) -> int:
        """The round's number."""
        ...

    @property
    def release(self) -> Release:
        """The mechanism."""
        ...


M = TypeVar("M", bound=Made)


class Reserved(Generic[M]):
    """Releases that a line of a ledger counts ahead, less those that have lines of their own.

    Who writes and who reads takes them off by the same rule: a line is of those reserved if its round is, with the same
    mechanism.  So whatever lines are lost, those that are left and what is still reserved count all that was made.

    >>> from fedray.privacy.ledger import Entry
    >>> once, reserved = Release(1.0, 0.1), Reserved[Entry]()
    >>> reserved.open("boot", [Entry(round, "", once) for round in (4, 5, 6)])
    >>> reserved.take(Entry(4, "a", once)), reserved.take(Entry(4, "b", once))  # the round came out otherwise
    (True, False)
    >>> [entry.round for entry in reserved.lost("another boot")], reserved.lost("boot")
    ([5, 6], [])
    """

    def __init__(self) -> None:
        self._left, self._boots = list[tuple[str, M]](), set[str]()

    def __len__(self) -> int:
        """Return the number of releases that are still reserved."""
        return len(self._left)

    @property
    def unsettled(self) -> bool:
        """True if something was reserved, so that lines may be there that the disk does not have."""
        return bool(self._boots)

    def of_another(self, boot: str | None) -> bool:
        """Return True if something was reserved in another boot than a reader's, so that lines may be lost to it."""
        return any(its != boot for its in self._boots)

    def open(self, boot: str, entries: Iterable[M]) -> None:
        """Reserve releases.

        Args:
            boot: the boot of the machine, within which no line can be lost.
            entries: the releases as they are counted where their lines are.
        """
        self._left += [(boot, entry) for entry in entries]
        self._boots.add(boot)

    def take(self, made: Made) -> bool:
        """Take a release off that has a line of its own; return False if it was not reserved."""
        for place, (_, entry) in enumerate(self._left):
            if (entry.round, entry.release) == (made.round, made.release):
                del self._left[place]
                return True
        return False

    def settle(self) -> None:
        """Give back what is reserved, as no more than has lines was made."""
        self._left.clear()
        self._boots.clear()

    def lost(self, boot: str | None) -> list[M]:
        """Return what counts as made though it has no line, for a reader in a boot of a machine; None: of none."""
        return [entry for its, entry in self._left if its != boot]
