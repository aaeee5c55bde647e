"""Dates as numbers: days since the first of January 1970, with the time of day as a part of one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from fedray.core.errors import ConfigError
from fedray.data.encoding.advice import CONFIG, Advice

_EPOCH = datetime(1970, 1, 1)
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.]\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")
_FORMATS = (
    (re.compile(r"\d{1,2}[.]\d{1,2}[.]\d{4}([ T].*)?"), ("%d.%m.%Y",)),
    (re.compile(r"\d{4}/\d{1,2}/\d{1,2}([ T].*)?"), ("%Y/%m/%d",)),
    (re.compile(r"\d{1,2}/\d{1,2}/\d{4}([ T].*)?"), ("%d/%m/%Y", "%m/%d/%Y")),
)
_TIMES = ("", " %H:%M", " %H:%M:%S")


def looks_like_date(word: str, given: str | None = None) -> bool:
    """Tell if a word may be a date, of the format that is given or of a known one.

    >>> [looks_like_date(word) for word in ("2024-02-29", "29.02.2024", "2/29/2024 10:15", "1.5", "20240229")]
    [True, True, True, False, False]
    >>> looks_like_date("20240229", "%Y%m%d")
    True
    """
    if given is not None and _parse(word, given) is not None:
        return True
    return bool(_ISO.fullmatch(word)) or any(pattern.fullmatch(word) for pattern, _ in _FORMATS)


def as_days(words: Iterable[str], given: str | None = None, advice: Advice = CONFIG) -> dict[str, float] | None:
    """Return the number of each different word, or None if they are not all dates of one way of writing.

    >>> as_days(["01.01.1970", "31.12.1970 12:00"])
    {'01.01.1970': 0.0, '31.12.1970 12:00': 364.5}
    >>> as_days(["1970-01-02", "31.02.1970"]) is None
    True

    Args:
        words: the words.
        given: their format, as ``datetime.strptime`` has it; by default ISO 8601, ``dd.mm.yyyy``, ``yyyy/mm/dd``, and
            ``dd/mm/yyyy`` or ``mm/dd/yyyy`` where a day above 12 tells them apart.
        advice: the words for what to do.

    Raises:
        ConfigError: days and months cannot be told apart.
    """
    words = list(dict.fromkeys(words))
    if not words:
        return None
    if given is not None:
        found = _all(words, given)
        if found is not None:
            return found
    if all(_ISO.fullmatch(word) for word in words):
        return _iso(words)
    for pattern, formats in _FORMATS:
        if all(pattern.fullmatch(word) for word in words):
            ways = [found for found in (_all(words, form) for form in formats) if found is not None]
            if len(ways) > 1 and ways[0] != ways[1]:
                raise ConfigError(f"{words[0]!r} may have the day first or the month; {advice.dates}")
            return ways[0] if ways else None
    return None


def day_order(words: Iterable[str]) -> str | None:
    """Return the format of dates with slashes, if a day above 12 tells it; None for others, and where none tells.

    >>> day_order(["01/02/2020", "25/02/2020"]), day_order(["01/02/2020"]), day_order(["25.02.2020"])
    ('%d/%m/%Y', None, None)
    """
    words = list(words)
    pattern, formats = _FORMATS[-1]
    if not words or not all(pattern.fullmatch(word) for word in words):
        return None
    ways = [form for form in formats if _all(words, form) is not None]
    return ways[0] if len(ways) == 1 else None


def _iso(words: list[str]) -> dict[str, float] | None:
    found = {}
    for word in words:
        try:
            found[word] = _days(datetime.fromisoformat(word))
        except ValueError:
            return None
    return found


def _all(words: list[str], form: str) -> dict[str, float] | None:
    found = {}
    for word in words:
        day = _parse(word, form)
        if day is None:
            return None
        found[word] = day
    return found


def _parse(word: str, form: str) -> float | None:
    for time in _TIMES:
        try:
            return _days(datetime.strptime(word, form + time))
        except ValueError:
            continue
    return None


def _days(moment: datetime) -> float:
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH).total_seconds() / 86400.0
