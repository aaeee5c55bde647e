"""Advice on tables that cannot be read: whoever trains has a config, whoever predicts has options alone."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Advice:
    """The words of advice for a reader of tables.

    >>> Advice().said("decimal", ","), Advice("command").said("decimal", ","), Advice("python").said("decimal", ",")
    ("`csv: {decimal: ','}`", '`--csv decimal=,`', "`csv={'decimal': ','}`")

    Args:
        to: the reader, ``config``: whoever trains; of rows to be predicted, ``command``: whoever gives
            ``fedray predict`` a file, ``python``: whoever gives it rows in memory, ``rows``: whoever can only mend the
            rows, as those of Parquet have no dialect.
    """

    to: Literal["config", "command", "python", "rows"] = "config"

    @property
    def trains(self) -> bool:
        """True where a config says how tables are read."""
        return self.to == "config"

    def said(self, key: str, value: str) -> str:
        """Return how a key of a dialect is said that has one value."""
        if self.to == "config":
            return f"`csv: {{{key}: {value if value.replace('-', '').isalnum() else repr(value)}}}`"
        if self.to == "command":
            return f"`--csv {shlex.quote(f'{key}={value}')}`"
        return f"`csv={{{key!r}: {value!r}}}`"

    def missing(self, word: str, known: Sequence[str]) -> str:
        """Return how a word for missing values is said.

        >>> Advice("command").missing("x", ["-9"]), Advice("python").missing("x", [])
        ("`--csv 'missing=-9|x'`", "`csv={'missing': ['x']}`")

        Args:
            word: the word.
            known: those that are said already.
        """
        words = [*known, word]
        if self.to == "config":
            return f"`csv: {{missing: [{', '.join(words)}]}}`"
        if self.to == "command":
            return f"`--csv {shlex.quote('missing=' + '|'.join(words))}`"
        return f"`csv={{'missing': {words!r}}}`"

    def or_missing(self, word: str, known: Sequence[str]) -> str:
        """Return, in brackets, how a word for missing values is said; nothing where none can be."""
        return "" if self.to == "rows" else f" (or say {self.missing(word, known)})"

    @property
    def dates(self) -> str:
        """The advice on dates that have the day first or the month."""
        if self.to == "rows":
            return "write dates as 2020-12-31"
        return f"say it: {self.said('dates', '%d/%m/%Y')} or {self.said('dates', '%m/%d/%Y')}"

    @property
    def delimiter(self) -> str:
        """The end of a message on columns that another character separates."""
        such_as = {"config": "`csv: {delimiter: ...}`", "command": "`--csv delimiter=...`"}
        return f"; if columns are separated by another character, say it: {such_as.get(self.to, 'csv=')}"

    def no_rows(self, path: object) -> str:
        """Return what is said of a file with a header alone."""
        why = "neither a client nor a test set can be empty" if self.trains else "there is nothing to predict"
        return f"{path} has a header but no rows; {why}"

    def unseen(self, word: str, known: Sequence[str]) -> str:
        """Return what to do about a category that the model does not know."""
        if self.trains:
            return "correct it, or take such values for missing ones: `unseen: other`"
        return f"correct it, or leave the cell empty where it is not known{self.or_missing(word, known)}"


CONFIG = Advice()
"""The advice for whoever trains."""
