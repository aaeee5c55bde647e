"""Words for what is missing, true and false, and the one form of a number as a name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MISSING = frozenset(
    {"", "na", "nan", "n/a", "n.a.", "#n/a", "#na", "null", "none", "k.a.", "k. a.", "-", "--", "---", "?", "."}
)
"""Words of missing values, in lower case; a ``-`` beside a ``+``, as of a rhesus factor, is a value."""

BOOLEANS = {
    **dict.fromkeys(("true", "yes", "ja", "wahr", "oui", "vrai", "si", "sí"), 1.0),
    **dict.fromkeys(("false", "no", "nein", "falsch", "non", "faux"), 0.0),
}
"""Words of booleans, in lower case.  Single letters may be anything."""


@dataclass(frozen=True)
class MissingWords:
    """The words and numbers that stand for a missing value in a column.

    >>> own = MissingWords.of(["-9", "k.A."])
    >>> [own.has(word) for word in ("K.A.", "-9", "-9.0", "NaN", "9")]
    [True, True, True, True, False]

    Args:
        words: in lower case.
        numbers: of those that are numbers.
    """

    words: frozenset[str] = MISSING
    numbers: frozenset[float] = frozenset()

    @classmethod
    def of(cls, given: Iterable[object]) -> MissingWords:
        """Return the usual words and those that are given."""
        words = [str(word).strip().lower() for word in given]
        return cls(MISSING.union(words), frozenset(float(word) for word in words if is_number(word)))

    def has(self, word: str) -> bool:
        """Tell if a trimmed word stands for a missing value."""
        return word.lower() in self.words or (bool(self.numbers) and is_number(word) and float(word) in self.numbers)


def canonical(label: str) -> str:
    """Write whole numbers in one form, so that ``1``, ``01``, ``1.0`` and ``1,0`` are one class; other text stays.

    >>> [canonical(word) for word in ("01", "1.0", "1,0", "1.5", "one")]
    ['1', '1', '1', '1.5', 'one']
    """
    whole, comma, zeros = label.partition(",")
    try:
        value = float(whole if comma and zeros in ("0", "00") else label)
    except ValueError:
        return label
    return str(int(value)) if value.is_integer() else label


def numbered(names: Sequence[str]) -> dict[str, int]:
    """Return the number of each name, and of its canonical form where that is no other's.

    >>> numbered(["1.0", "2"])
    {'1.0': 0, '2': 1, '1': 0}
    """
    known = {name: number for number, name in enumerate(names)}
    for number, name in enumerate(names):
        known.setdefault(canonical(name), number)
    return known


def is_number(word: str) -> bool:
    """Tell if a word is a number with a decimal point."""
    try:
        return "_" not in word and float(word) is not None
    except ValueError:
        return False


def names_rows(different: int, values: int) -> bool:
    """Return whether a column names single rows: more than ten different values, and more than half of all differ.

    >>> names_rows(10, 10), names_rows(11, 20), names_rows(11, 22)
    (False, True, False)
    """
    return different > 10 and 2 * different > values
