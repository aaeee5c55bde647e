"""Where data lies, and asking there: what is opened at a site stays there, and only answers come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
A = TypeVar("A")


@dataclass(frozen=True)
class Stop(Generic[T]):
    """One place to go to.

    Args:
        name: what it is called in errors.
        where: ``label=value`` or a custom resource of its node.
        open: opens what is asked about, at the place.
    """

    name: str
    where: str
    open: Callable[[], T]


class Visit(Protocol[T_co]):
    """What was opened at some places, for as long as it is asked about."""

    def ask(self, questions: Sequence[Callable[[T_co], A]]) -> list[A]:
        """One question for each place, all put at the same time; the answers in order.

        Raises:
            ConfigError: as the question raised it there.
        """
        ...


class Sites(Protocol):
    """The places that can be reached."""

    def visit(self, stops: Sequence[Stop[T]]) -> AbstractContextManager[Visit[T]]:
        """Open something at each of some places.

        Raises:
            ConfigError: there is no such place, or as raised there.
        """
        ...


class Here:
    """Every place is this process."""

    @contextmanager
    def visit(self, stops: Sequence[Stop[T]]) -> Iterator[Visit[T]]:
        """See :class:`Sites`."""
        yield _Opened([stop.open() for stop in stops])


class _Opened(Generic[T]):
    def __init__(self, things: Sequence[T]) -> None:
        self._things = things

    def ask(self, questions: Sequence[Callable[[T], A]]) -> list[A]:
        return [question(thing) for question, thing in zip(questions, self._things, strict=True)]


def here() -> Sites:
    """This process."""
    return Here()
