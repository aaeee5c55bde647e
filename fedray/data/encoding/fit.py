"""Tables of several silos to one encoding of inputs and targets, learnt from answers that the silos may give."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedray.config.binding import nearest
from fedray.core.errors import ConfigError, counted, listed
from fedray.data.columns.checks import LABEL_LIMIT
from fedray.data.encoding import questions
from fedray.data.encoding.check import input_columns
from fedray.data.encoding.encoding import OTHER, Encoding
from fedray.data.encoding.moments import Sums, federated_moments
from fedray.data.encoding.options import Options
from fedray.data.encoding.questions import Labels, Outline
from fedray.data.encoding.table import Kind, Table
from fedray.data.encoding.usual import kept

A = TypeVar("A")
_log = logging.getLogger("fedray")


class Ask(Protocol):
    """A question to the tables of all silos, wherever they are."""

    def __call__(self, question: Callable[[Table], A]) -> list[A]:
        """Return every silo's answer, in their order."""
        ...


def class_names(ask: Ask, options: Options, paths: Sequence[str]) -> tuple[list[str] | None, tuple[str, ...]]:
    """Return class names in index order, None for regression, and the warnings about them."""
    if options.classes is not None:
        return [str(name) for name in options.classes], ()
    if options.task == "regression":
        return None, ()
    answers = ask(partial(questions.labels, target=options.target, classes=options.task == "classification"))
    kinds = {answer.kind for answer in answers}
    told = {name for answer in answers for name in answer.names or ()}
    silent = any(answer.names is None for answer in answers)
    if options.task == "auto" and "text" not in kinds and (silent or "numbers" in kinds or len(told) > LABEL_LIMIT):
        return None, ()
    if silent:
        raise ConfigError(
            f"the target {options.target!r} is numbers in some files and text in others; correct them, or say "
            "`task: classification` if all of them are names of classes"
        )
    warnings = _lonely(answers, paths) if "text" in kinds and len(answers) > 1 else ()
    return sorted(told, key=int) if kinds == {"whole"} else sorted(told), warnings


def _lonely(answers: Sequence[Labels], paths: Sequence[str]) -> tuple[str, ...]:
    """Return the warning of classes that one of several files alone has, if any: a typo is one of them."""
    files = Counter(name for answer in answers for name in answer.names or ())
    lonely = [
        f"{name!r} ({path})"
        for path, answer in zip(paths, answers, strict=True)
        for name in answer.names or ()
        if files[name] == 1
    ]
    if not lonely:
        return ()
    return (
        f"classes that one file alone has: {listed(lonely)}; correct them if they are typos, else declare `classes`",
    )


def fit(ask: Ask, outlines: Sequence[Outline], options: Options, column: str | None = None) -> Encoding:
    """Learn the encoding of the silos' tables from merged sums and categories of training rows, and class names.

    Classes that only held-out rows have are named as well: a row whose class has no name could not count as wrong.

    Args:
        ask: reaches the silos.
        outlines: of their tables.
        options: the options for reading them.
        column: names the clients of rows, and is no input.

    Raises:
        ConfigError: a column without any value, a cell that cannot be read, dates in one file and numbers in another.
    """
    order, paths = input_columns(outlines, options, column), [outline.path for outline in outlines]
    if not order:
        raise ConfigError(f"{paths[0]} has no columns beside the target {options.target!r}")
    named = {**options.declared, **options.hashed}
    names = [name for name in order if name not in named]
    measured = [name for name in names if name not in options.levels]
    kinds = _kinds(ask, measured, paths)
    rows = sum(outline.rows - outline.held for outline in outlines)
    numeric, indicated = _numeric(ask, names, options, rows)
    categories, differing = _categories(ask, order, options, paths)
    classes, warnings = class_names(ask, options, paths)
    for warning in (*differing, *warnings):
        _log.warning("%s", warning)
    files = {Path(outline.path).name: outline.form for outline in outlines if outline.form}
    dates = [name for name in measured if kinds.get(name) == "dates"]
    numbers = [name for name in measured if name not in kinds]
    dialect, dialects = kept(paths, ask(partial(questions.dialect, columns=numbers, dates=dates)))
    found = Encoding(options, numeric, categories, order, classes, (*differing, *warnings), kinds, files, indicated)
    lacked = tuple(name for name in order if any(name not in outline.columns for outline in outlines))
    return replace(found, dialect=dialect, dialects=dialects, lacked=lacked)


def found_in(outlines: Sequence[Outline], encoding: Encoding) -> tuple[str, ...]:
    """Return lines for the log: how files are written, what they lack, which columns are dates, what is left out."""
    notes = []
    for outline in outlines:
        missing = [name for name in encoding.order if name not in outline.columns]
        own = [name for name in outline.columns if any(name not in other.columns for other in outlines)]
        told = [
            outline.form,
            f"{outline.dropped:,} of {outline.rows + outline.dropped:,} rows have no target and are left out"
            if outline.dropped
            else "",
            f"filled in, as it lacks them: {listed(f'{name}{nearest(name, own)}' for name in missing)}"
            if missing
            else "",
        ]
        if any(told):
            notes.append(f"{outline.path}: {'; '.join(filter(None, told))}")
    for kind, how in (("dates", "days since 1970-01-01"), ("booleans", "1 and 0")):
        names = [name for name, found in encoding.kinds.items() if found == kind]
        if names:
            notes.append(f"{kind}, taken as {how}: {listed(names)}")
    if encoding.options.missing_values == "indicator":
        names = list(encoding.indicated) or ["none, as no number is missing"]
        notes.append(f"columns with an input that is 1 where a value is missing: {listed(names)}")
    return tuple(notes)


def taken_for(encoding: Encoding) -> tuple[str, ...]:
    """Return a line for the log: the columns that are inputs, by what each was taken for."""
    levels, hashed = encoding.options.levels, encoding.options.hashed
    names = {
        "number": [name for name in encoding.numeric if name not in levels and name not in encoding.kinds],
        "date": encoding.measured("dates"),
        "boolean": encoding.measured("booleans"),
        "ordinal column": [name for name in encoding.order if name in levels],
        "categorical column": [name for name in encoding.order if name in encoding.categories or name in hashed],
    }
    told = [f"{counted(len(those), kind)}: {listed(those)}" for kind, those in names.items() if those]
    return (f"columns: {'; '.join(told)}",)


def unseen_in(outlines: Sequence[Outline], counts: Sequence[Mapping[str, int]], encoding: Encoding) -> tuple[str, ...]:
    """Return lines for the log: the cells of files that are taken as they are of no known category."""
    told = "known category"
    if encoding.options.unseen == "error":
        told = "category that training rows have, all held out, taken for missing ones"
    return tuple(
        f"{outline.path}, column {name!r}: {counted(count, 'cell')} of no {told}"
        for outline, found in zip(outlines, counts, strict=True)
        for name, count in found.items()
    )


def _kinds(ask: Ask, names: Sequence[str], paths: Sequence[str]) -> dict[str, Kind]:
    """Return which numeric columns are dates or booleans, on which files must agree."""
    answers = ask(partial(questions.kinds, columns=names)) if names else []
    agreed: dict[str, Kind] = {}
    for name in names:
        found: dict[Kind, str] = {}
        for path, answer in zip(paths, answers, strict=True):
            found.setdefault(answer[name], path)
        found.pop("empty", None)
        if "dates" in found and len(found) > 1:
            told = ", ".join(f"{kind} in {path}" for kind, path in found.items())
            raise ConfigError(f"column {name!r} has {told}; correct it, or leave it out: `ignore: [{name}]`")
        if set(found) in ({"dates"}, {"booleans"}):
            agreed[name] = next(iter(found))
    return agreed


def _numeric(
    ask: Ask, names: Sequence[str], options: Options, rows: int
) -> tuple[dict[str, tuple[float, float, float]], tuple[str, ...]]:
    """Return (mean, deviation, fill) of numeric and ordinal columns, from sums of all files, and which are indicated.

    Those are columns that have missing values among the ``rows`` of training, where the options say so.
    """
    numeric: dict[str, tuple[float, float, float]] = {}
    if not names:
        return numeric, ()
    found: list[Sums] = []

    def sums(center: NDArray[np.float64]) -> list[Sums]:
        found[:] = ask(partial(questions.sums, columns=names, center=center, options=options))
        return found

    mean, deviation = federated_moments(sums, len(names))
    for name, center, scale in zip(names, mean.tolist(), deviation.tolist(), strict=True):
        if np.isnan(center):
            raise ConfigError(f"column {name!r} has no value in any training row; leave it out: `ignore: [{name}]`")
        numeric[name] = (center, scale or 1.0, center) if options.standardize else (0.0, 1.0, center)
    there = np.sum([one.count for one in found], axis=0)
    wanted = options.missing_values == "indicator"
    return numeric, tuple(name for name, count in zip(names, there.tolist(), strict=True) if wanted and count < rows)


def _categories(
    ask: Ask, order: Sequence[str], options: Options, paths: Sequence[str]
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Return the categories of categorical columns, and warnings of columns that files code differently."""
    declared = {name: given for name, given in options.declared.items() if name in order}
    open_ones = [name for name, given in declared.items() if given is None and name not in options.top]
    answers = ask(partial(questions.categories, columns=open_ones)) if open_ones else []
    counts = ask(partial(questions.frequent, columns=list(options.top))) if options.top else []
    categories: dict[str, list[str]] = {}
    warnings: list[str] = []
    for name, given in declared.items():
        if name in options.top:
            categories[name] = _most_frequent(name, [count[name] for count in counts], options.top[name])
        elif given is not None:
            categories[name] = given
        else:
            values = [answer[name] for answer in answers]
            categories[name] = sorted({value for one in values for value in one})
            warnings += coded_differently(name, values, paths)
        if not categories[name]:
            raise ConfigError(
                f"categorical column {name!r} has no value in any training row; leave it out: `ignore: [{name}]`"
            )
    return categories, tuple(warnings)


def _most_frequent(name: str, counts: Sequence[Mapping[str, int]], most: int) -> list[str]:
    """Return the most frequent values of all files together, ties by name, and ``other``."""
    total = Counter[str]()
    for count in counts:
        total.update(count)
    total.pop(OTHER, None)
    if not total:
        raise ConfigError(
            f"categorical.{name}: no value stands in {questions.FEWEST} rows of a file, as of ids or free text\n"
            f"leave the column out: `ignore: [{name}]`, or hash its values: `categorical: {{{name}: {{hash: 64}}}}`"
        )
    ranked = sorted(total, key=lambda value: (-total[value], value))
    return [*ranked[:most], OTHER]


def coded_differently(name: str, values: Sequence[Sequence[str]], paths: Sequence[str]) -> list[str]:
    """Return warnings of a column whose categories do not agree.

    A file shares none with any other, or two categories differ by case alone.

    >>> coded_differently("sex", [["f", "m"], ["1", "2"]], ["a.csv", "b.csv"])[0].partition(";")[0]
    "column 'sex' may be coded differently in b.csv (1, 2) than elsewhere (f, m)"
    >>> coded_differently("sex", [["f", "m"], ["f"]], ["a.csv", "b.csv"])
    []
    """
    advice = f"; correct it if the codes mean the same, else list all: `categorical: {{{name}: [...]}}`"
    every = {value for one in values for value in one}
    found = []
    alone = []
    for place, (path, one) in enumerate(zip(paths, values, strict=True)):
        others = {value for number, other in enumerate(values) if number != place for value in other}
        if one and others and not others & set(one):
            alone.append((path, one, sorted(others)))
    if alone:
        # Of two files each is alone: the later one is named.
        path, one, elsewhere = alone[-1]
        found.append(
            f"column {name!r} may be coded differently in {path} ({listed(one)}) than elsewhere "
            f"({listed(elsewhere)}){advice}"
        )
    alike: dict[str, set[str]] = {}
    for value in every:
        alike.setdefault(value.casefold(), set()).add(value)
    twins = [" and ".join(sorted(group)) for _, group in sorted(alike.items()) if len(group) > 1]
    if twins:
        found.append(f"column {name!r} has categories that differ by case alone: {listed(twins)}{advice}")
    return found
