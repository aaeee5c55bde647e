"""A model that has one answer for all examples, though they are of several classes: where, and what may help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fedray.core.errors import listed

ONE_ANSWER = "one_answer"
"""The key of the line in the summary of a run."""


class OneAnswer(NamedTuple):
    """The class that is the answer for all of some examples, though they are of several.

    Args:
        name: of the class.
        missed: the examples that are of others.
        examples: all of them.
    """

    name: str
    missed: int
    examples: int

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> OneAnswer | None:
        """Return that of a table of :class:`fedray.metrics.support.Support`; None: there is no such class.

        >>> OneAnswer.of({"classes": ["well", "ill"], "counts": [40, 8], "said": [48, 0]})
        OneAnswer(name='well', missed=8, examples=48)
        >>> OneAnswer.of({"classes": ["well", "ill"], "counts": [40, 8], "said": [47, 1]})
        """
        counts, said = (np.asarray(table.get(key, ()), np.int64) for key in ("counts", "said"))
        if np.count_nonzero(said) != 1 or np.count_nonzero(counts) < 2:
            return None
        place = int(said.argmax())
        return cls(str(table["classes"][place]), int(counts.sum() - counts[place]), int(counts.sum()))


def told(
    tables: Mapping[str, Mapping[str, Any]],
    clients: Mapping[str, Mapping[str, OneAnswer]] | None = None,
    *,
    threshold: bool = False,
    weights: bool = False,
) -> str:
    """Return a line on where one class is the only answer, and what may help; empty: nowhere.

    >>> told({"test": {"classes": ["well", "ill"], "counts": [40, 8], "said": [48, 0]}}).partition(";")[0]
    "one class is the only answer: 'well' for all 48 of test, of which 8 are of another class"

    Args:
        tables: those of :class:`fedray.metrics.support.Support`, by the section of the record.
        clients: of single clients, by section and id.
        threshold: the task has one.
        weights: examples are weighted by their class already.
    """
    parts = []
    for section, table in tables.items():
        if (found := OneAnswer.of(table)) is not None:
            other = f"of which {found.missed:,} are of another class"
            parts.append(f"{found.name!r} for all {found.examples:,} of {section}, {other}")
    for section, each in (clients or {}).items():
        if OneAnswer.of(tables.get(section, {})) is None:
            own = [
                f"{client} ({one.name!r}, {one.missed:,} of {one.examples:,} are not)" for client, one in each.items()
            ]
            parts += [f"for each of the clients {listed(own)} in {section}"] if own else []
    if not parts:
        return ""
    cures = [] if weights else ["`local.class_weights: balanced`"]
    cures.append("more rounds, or another learning rate")
    if threshold:
        cures.append("another threshold (`--threshold 0.3` of `fedray evaluate` and `predict`, or in the task)")
    return f"one class is the only answer: {'; '.join(parts)}; what may help: {', '.join(cures)}"
