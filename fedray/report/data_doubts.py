"""The warnings of a report on data: whatever looks like a mistake, or will hurt."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence

import yaml

from fedray.config.binding import nearest
from fedray.core.errors import listed
from fedray.data.encoding.overview import FEWEST, Column
from fedray.report.columns import ColumnReport
from fedray.report.drift import LARGE
from fedray.report.of_data import MEDIAN, DataReport, worded
from fedray.tasks.rare import rarely

At = tuple[str, int, Column]
"""A site, its rows, and what it says of a column."""

_SCARCE, _MOST, _FAR = 0.2, 0.5, 0.3

_CODES = 3, 10
"""The fewest and the most different whole numbers that look like codes; two are an input of 0 and 1 either way."""


def doubts(report: DataReport) -> list[str]:
    """Return the warnings, the gravest first."""
    found = [f"A run of this config is refused: {report.refused}"] if report.refused else []
    if report.target is not None:
        found += _of_target(report, report.target)
    found += [words for column in report.columns for words in _of_column(column, report)]
    return [*found, *_of_stand_ins(report), *_of_codes(report), *_of_drift(report), *_of_groups(report)]


def _of_drift(report: DataReport) -> Iterator[str]:
    every = [*report.columns, *filter(None, [report.target])]
    found = []
    for column in every if len(report.sites) > 1 else ():
        pairs = zip(column.drift, report.sites, strict=False)
        beyond = [(one.psi, site) for one, site in pairs if one.psi > max(LARGE, one.chance)]
        if beyond:
            psi, site = max(beyond)
            found.append((psi, f"{column.name} ({site} {psi:.2f})"))
    if found:
        words = listed(text for _, text in sorted(found, reverse=True))
        yield f"distributions that differ much between sites, beyond chance, with the site and its PSI: {words}"


def _of_target(report: DataReport, target: ColumnReport) -> Iterator[str]:
    for site, one in zip(report.sites, target.at, strict=True):
        if one.kind == "absent":
            yield f"{site} has no column {target.name}, the target"
        elif one.missing:
            yield f"{target.name}, the target, is missing in {one.missing:,} rows of {site}"


def _of_column(column: ColumnReport, report: DataReport) -> Iterator[str]:
    name, sites = column.name, list(zip(report.sites, report.rows, column.at, strict=True))
    absent = [site for site, _, one in sites if one.kind == "absent"]
    if absent:
        renamed = nearest(name, _only_at(absent, report))
        yield f"{name}: {listed(absent)} {'lacks' if len(absent) == 1 else 'lack'} this column{renamed}"
    empty = [site for site, _, one in sites if one.kind == "empty"]
    if empty and len(empty) + len(absent) == len(sites):
        yield f"{name}: there is no value anywhere; leave it out: `ignore: [{name}]`"
        return
    if empty:
        yield f"{name}: {listed(empty)} {'has' if len(empty) == 1 else 'have'} no value in it"
    there = [(site, rows, one) for site, rows, one in sites if one.kind in ("numbers", "dates", "text")]
    yield from _missing(name, there)
    if any(one.names_rows for _, _, one in there):
        yield f"{name}: it differs from row to row, as ids or free text do; leave it out: `ignore: [{name}]`"
    elif not column.categories and {one.kind for _, _, one in there} == {"text"}:
        yield f"{name}: it holds text, and is not declared; say `categorical: [{name}]`, or `ignore: [{name}]`"
    elif not column.categories and len({one.kind for _, _, one in there}) > 1:
        worded = [site for site, _, one in there if one.kind == "text"]
        yield f"{name}: it is text at {listed(worded)}, and numbers elsewhere"
    yield from _constant(name, there)
    yield from _far(name, there)
    yield from _categories(column, report)


def _only_at(sites: Sequence[str], report: DataReport) -> list[str]:
    """Return the columns that some of these sites have, and no other site."""
    places = [
        {site for site, one in zip(report.sites, c.at, strict=True) if one.kind != "absent"} for c in report.columns
    ]
    return [column.name for column, at in zip(report.columns, places, strict=True) if at and at <= set(sites)]


def _missing(name: str, there: Sequence[At]) -> Iterator[str]:
    shares = [(site, one.missing / max(1, rows)) for site, rows, one in there]
    most = [f"{site} {share:.0%}" for site, share in shares if share >= _MOST]
    if most and min(share for _, share in shares) < _SCARCE:
        yield f"{name}: mostly missing at {listed(most)}, and there elsewhere"
    elif most:
        yield f"{name}: mostly missing ({listed(most)})"


def _constant(name: str, there: Sequence[At]) -> Iterator[str]:
    there = [(site, rows, one) for site, rows, one in there if rows - one.missing >= FEWEST]
    alike = [(site, one) for site, _, one in there if one.different == 1]
    if len(alike) == len(there) and len(there) > 1 and len({_value(one) for _, one in alike}) == 1:
        yield f"{name}: it has the same value everywhere, and tells nothing"
    elif len(alike) < len(there) or len({_value(one) for _, one in alike}) > 1:
        for site, one in alike:
            value = _value(one)
            said = "one value" if value is None else f"the value {worded(one.kind, value, 10)}"
            yield f"{name}: all of {site} has {said}, which elsewhere varies: is it a measurement?"


def _value(one: Column) -> float | None:
    quantiles = one.quantiles
    return None if quantiles is None else float(quantiles[MEDIAN])


def _far(name: str, there: Sequence[At]) -> Iterator[str]:
    for site, rows, one in there:
        if one.extreme is not None:
            value, count = one.extreme
            said = worded(one.kind, value, 10)
            yield (
                f"{name}: {count:,} of {rows:,} rows of {site} have {said}, far from all others: does it stand for "
                "a missing value?"
            )


def _of_stand_ins(report: DataReport) -> Iterator[str]:
    """Say how numbers that may stand for missing values are said to be such, of all columns of tables at once."""
    found = {name: list(values) for name, values in report.missing.items()}
    for column in report.columns if report.target is not None and not report.target.words else ():
        for value in sorted(_stand_ins(column)):
            if value not in found.get(column.name, ()):
                found.setdefault(column.name, []).append(int(value) if value.is_integer() else value)
    if found != report.missing:
        said = {name: values[0] if len(values) == 1 else values for name, values in found.items()}
        more = ", with those that the config says already" if report.missing else ""
        yield f"values that do stand for missing ones are said by {_said('missing', said)}{more}"


def _stand_ins(column: ColumnReport) -> set[float]:
    """Return numbers far from all others: of many rows of a site, or all that a site has."""
    there = [one for one in column.at if one.kind == "numbers"]
    found = {one.extreme[0] for one in there if one.extreme is not None}
    for one in there:
        ends = [end for other in there if other is not one and other.quantiles for end in other.quantiles]
        value = _value(one) if one.different == 1 else None
        if value is not None and ends and not min(ends) <= value <= max(ends):
            found.add(value)
    return found


def _of_codes(report: DataReport) -> Iterator[str]:
    """Name the columns of tables whose whole numbers are so few that they may be codes."""
    codes = [
        column.name
        for column in report.columns
        if not column.words and not column.categories and column.kind == "numbers" and _may_be_codes(column.at)
    ]
    if codes:
        own = report.categorical
        said = {**own, **dict.fromkeys(codes)} if isinstance(own, Mapping) else [*(own or ()), *codes]
        each = "each has" if len(codes) > 1 else "it has"
        yield (
            f"{listed(codes)}: {each} a few whole numbers; those that are codes, of which 3 is not more than 2, are "
            f"said by {_said('categorical', said)}"
        )


def _may_be_codes(at: Sequence[Column]) -> bool:
    there = [one for one in at if one.kind == "numbers"]
    return all(one.whole for one in there) and _CODES[0] <= max(one.different for one in there) <= _CODES[1]


def _said(key: str, value: object) -> str:
    """Return how an option of tables is said, as YAML and behind a command."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False, allow_unicode=True).strip()
    return f"`{key}: {text}` under `data`, or behind a command by {shlex.quote(f'data.{key}={text}')}"


def _categories(column: ColumnReport, report: DataReport) -> Iterator[str]:
    if not column.categories or not column.counts.size:
        return
    known, others = column.counts[:, :-1], column.counts[:, -1]
    for site, count in zip(report.sites, others.tolist(), strict=True):
        if count:
            yield f"{column.name}: {count:,} rows of {site} have a value that is none of {listed(column.categories)}"
    has = [site for site, total in enumerate(known.sum(axis=1)) if total]
    if len(has) > 1:
        lonely = [
            f"{name!r} ({report.sites[int(known[:, number].argmax())]})"
            for number, name in enumerate(column.categories)
            if (known[:, number] > 0).sum() == 1
        ]
        if lonely:
            yield f"{column.name}: categories that one site alone has: {listed(lonely)}; are they coded alike?"


def _of_groups(report: DataReport) -> Iterator[str]:
    groups, counts = report.groups, report.counts
    sizes = report.sizes or report.rows
    small = [group for group, size in zip(groups, sizes, strict=True) if size < FEWEST]
    if small:
        yield f"fewer than {FEWEST} rows: {listed(small)}"
    if counts.size and (
        said := rarely(counts.sum(axis=0), report.classes, metrics=report.metrics, weights=report.weights)
    ):
        yield said
    if not counts.size or len(groups) < 2:
        return
    single = [group for group, row in zip(groups, counts, strict=True) if (row > 0).sum() == 1]
    if single:
        yield f"one class alone: {listed(single)}"
    never = [name for number, name in enumerate(report.classes) if not counts[:, number].any()]
    if never:
        yield f"classes without a row: {listed(never)}"
    far = [
        f"{group} {value:.2f}"
        for value, group in sorted(zip(report.skew, groups, strict=True), reverse=True)
        if value >= _FAR
    ]
    if far:
        yield (
            f"label skew: the mix of classes differs much from that of all (by a distance from 0 to 1: {listed(far)}); "
            "look at each client's own numbers, and at personal models"
        )
