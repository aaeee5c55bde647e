"""The two ways a run ends badly, and other errors in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

MOST = 10
"""Names that a message lists; the rest are counted."""

_CPP = re.compile(r"\[enforce fail at [^\]]*\] *(err == 0\. *)?")
"""The beginning of torch's words where memory is too short: a line of its source."""

LONGEST = 60
"""Signs that a message quotes of what a user wrote: where a file is mistaken, its lines may be rows of patients."""


class ConfigError(ValueError):
    """A mistake in what the user gave us, in one to three lines: what is wrong, what is allowed, what to do.

    >>> import fedray
    >>> fedray.TrainArgs(rounds=0)
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: rounds=0: it must be at least 1

    Attributes:
        unknown: of a key that is not known in its section the full key, the words for the mistake, and the end of the
            message: whoever knows the whole config may say between them where it is known; else None.
    """

    unknown: tuple[str, str, str] | None = None

    def _render_traceback_(self) -> list[str]:
        """Return the lines that a notebook shows: its words say all, and the frames would be fedray's."""
        return [f"{type(self).__name__}: {self}"]


class RunFailed(RuntimeError):
    """A run that cannot go on: what failed, in which round and client.

    >>> try:
    ...     raise RunFailed("client 'north' raised in round 3")
    ... except RunFailed as error:
    ...     print(f"its last checkpoint is whole: {error}")
    its last checkpoint is whole: client 'north' raised in round 3
    """

    def _render_traceback_(self) -> list[str]:
        """Return the lines that a notebook shows: its words name its log, which has tracebacks of the user's code."""
        return [f"{type(self).__name__}: {self}"]


class UpdateOutOfRange(ArithmeticError):
    """The error of a client's update that is not finite, or too large to be summed exactly.

    >>> error = UpdateOutOfRange([1], "delta is not finite", "delta")
    >>> error.positions, error.part, str(error)
    ([1], 'delta', 'delta is not finite')

    Args:
        positions: of the clients in their block.
        reason: one line.
        part: the part of the update that is at fault, if one is.
    """

    def __init__(self, positions: list[int], reason: str, part: str | None = None) -> None:
        super().__init__(reason)
        self.positions, self.part = positions, part


def listed(names: Iterable[object], none: str = "(none)", separator: str = ", ") -> str:
    """Join names for a message, which ends after ten of them.

    >>> listed(["a", "b"]), listed([])
    ('a, b', '(none)')
    >>> listed(range(500))
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 490 more'
    """
    words = [str(name) for name in names]
    shown = separator.join(words[:MOST]) or none
    return f"{shown} and {len(words) - MOST} more" if len(words) > MOST else shown


def short(text: object) -> str:
    """Return what a user wrote as a message may have it: in one line, of 60 signs at most.

    >>> short("age"), short("age,sex\\n63,1 " * 99)
    ('age', 'age,sex 63,1 age,sex 63,1 age,sex 63,1 age,sex 63,1 age,s...')
    """
    words = " ".join(str(text)[: 4 * LONGEST].split())
    return words if len(words) <= LONGEST and len(str(text)) <= 4 * LONGEST else f"{words[: LONGEST - 3]}..."


def quoted(value: object) -> str:
    """Return the ``repr`` of a value that a user wrote as a message may have it, see :func:`short`.

    >>> quoted("a\\nb"), quoted([1, 2])
    ("'a\\\\nb'", '[1, 2]')
    """
    return short(repr(value))


def shortened(message: str, value: object) -> str:
    """Return a message with what it quotes of a value, or of the keys and values in it, as :func:`short` has it.

    >>> shortened(f"width={'9' * 100}: it must be a number", {"width": "9" * 100})
    'width=999999999999999999999999999999999999999999999999999999999...: it must be a number'

    Args:
        message: it.
        value: plain, as a file holds it.
    """
    for text in dict.fromkeys((repr(value), str(value), *str(value).splitlines()[:1])):
        if len(text) > LONGEST:
            message = message.replace(text, short(text))
    parts = (
        [*value, *value.values()] if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    )
    for part in parts if len(message) > LONGEST else ():
        message = shortened(message, part)
    return message


def an(word: str) -> str:
    """Return the word with its article.

    >>> an("algorithm"), an("model")
    ('an algorithm', 'a model')
    """
    article = "an" if word[0].lower() in "aeiou" else "a"
    return f"{article} {word}"


def counted(number: float, noun: str) -> str:
    """Write a number of things.

    >>> counted(1, "client"), counted(1234, "client"), counted(0.5, "GPU")
    ('1 client', '1,234 clients', '0.5 GPUs')

    Args:
        number: of things, at least 0.
        noun: the singular of a thing whose plural ends in s.
    """
    amount = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{amount} {noun}" if number == 1 else f"{amount} {noun}s"


def one_line(error: BaseException) -> str:
    """Return the type and the text of an error in one line, without the frames of C++ that torch may add.

    >>> one_line(ValueError("first\\n  second"))
    'ValueError: first second'
    """
    said = _CPP.sub("", str(error).partition("\nException raised from ")[0])
    return " ".join(f"{type(error).__name__}: {said}".split())


def reason(error: BaseException) -> str:
    """Return why something failed, in one line: a :class:`RunFailed` says it, another error is named by its type.

    >>> reason(RunFailed("client 'a' failed\\n  in round 3")), reason(KeyError("x"))
    ("client 'a' failed in round 3", "KeyError: 'x'")
    """
    return " ".join(str(error).split()) if isinstance(error, (RunFailed, ConfigError)) else one_line(error)
