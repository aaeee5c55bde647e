"""The stages before a run's first round, as code tells them to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """A piece of work before a run, such as reading its data.

    Args:
        words: the work, as in "reading tables".
        done: the pieces of it that are done.
        of: all pieces; 0: it has none.
    """

    words: str
    done: int = 0
    of: int = 0


Listener = Callable[[Stage], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hand a listener the stages that this thread comes to in the context.

    >>> with listening(print):
    ...     stage("reading data")
    Stage(words='reading data', done=0, of=0)
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def stage(words: str) -> None:
    """Tell who listens that a stage begins."""
    _tell(Stage(words))


def along(items: Sequence[T], words: str) -> Iterator[T]:
    """Yield items one by one, each as a piece of a stage.

    >>> with listening(lambda stage: print(stage.words, f"{stage.done}/{stage.of}")):
    ...     list(along(["a.csv", "b.csv"], "reading tables"))
    reading tables 0/2
    reading tables 1/2
    reading tables 2/2
    ['a.csv', 'b.csv']
    """
    for done, item in enumerate(items):
        _tell(Stage(words, done, len(items)))
        yield item
    _tell(Stage(words, len(items), len(items)))


def _tell(one: Stage) -> None:
    listener = _listener.get()
    if listener is not None:
        listener(one)
