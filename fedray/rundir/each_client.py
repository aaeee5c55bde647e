"""The table of what each client got, for people: as many columns as there is room for, and words below it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedray.core.errors import listed
from fedray.core.record import VIEWS, by_weight
from fedray.core.terminal import Grid, fitted

SUPPORT = "support"
"""The column of the table of clients that has the examples of each class, by the metric of that name."""

MOST_SHOWN = 20
"""The most clients whose own numbers are shown one by one."""

_CLASSES, _MOST_NAMED = "of each class", 4


@dataclass(frozen=True)
class Got:
    """The numbers of a client in a view.

    Args:
        client: its id.
        view: one of :data:`fedray.core.record.VIEWS`.
        examples: those that its metrics are of.
        metrics: by name; None, as NaN: the metric has no value there.
        support: the number of its examples of each class, in words; empty: not known.
    """

    client: str
    view: str
    examples: int
    metrics: Mapping[str, float | None]
    support: str = ""


def each_client(found: Iterable[Got], width: int, digits: int = 4) -> tuple[Grid, list[str]]:
    """Return the table of what each client got, and the names of the columns that there is no room for.

    Where there is not room for all, the metric that stands for all comes first, then the others, then the examples of
    each class, where they are known, and the loss, which nobody asks for, last; of each the most personal view.

    >>> from fedray.core.terminal import plain
    >>> one = Got("ann", "global", 8, {"loss": 0.25, "accuracy": 1.0, "auroc": None})
    >>> table, left = each_client([one], width=40)
    >>> print(plain(table), left)
    ┏━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━┓
    ┃ client ┃ examples ┃ accuracy ┃ auroc ┃
    ┡━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━┩
    │ ann    │ 8        │ 1        │ nan   │
    └────────┴──────────┴──────────┴───────┘
     ['loss']

    Args:
        found: of each client and view; at least one.
        width: in characters.
        digits: those that count.
    """
    seen = {(one.client, one.view): one for one in found}
    examples = {one.client: one.examples for one in seen.values()}
    views = [view for view in VIEWS if any(view == one.view for one in seen.values())]
    metrics = list(dict.fromkeys(name for one in seen.values() for name in one.metrics))
    alone = views == ["global"]
    heads = {(view, name): name if alone else f"{VIEWS[view]}.{name}" for name in metrics for view in views}
    support = {one.client: one.support for one in seen.values()}
    classes = [_CLASSES] if any(support.values()) else []
    cells = [
        [
            client,
            f"{count:,}",
            *(support[client] for _ in classes),
            *(_cell(seen.get((client, view)), name, digits) for view, name in heads),
        ]
        for client, count in examples.items()
    ]
    asked = [name for name in by_weight(metrics) if name != "loss"]
    order = [heads[view, name] for name in asked for view in reversed(views)] + classes
    order += [heads[view, "loss"] for view in reversed(views) if "loss" in metrics]
    return fitted(Grid(["client", "examples", *classes, *heads.values()], cells), order, width)


def below(table: Grid, left: Sequence[str], instead: str) -> Iterator[str]:
    """Yield the lines below a table of clients: what ``nan`` means, if there is one, and what had no room.

    Args:
        table: as it is shown.
        left: the names of the columns that had no room.
        instead: the words for where they are.
    """
    measured = [place for place, head in enumerate(table.head) if place > 1 and not head.endswith("loss")]
    if any(line[place] == "nan" for line in table.lines for place in measured):
        yield "nan: no value, as auroc and the like have none where a client holds one class alone"
    if left:
        yield f"left out for want of room: {listed(left)}; {instead}"


def of_each_class(cells: Sequence[Mapping[str, Any]] | None) -> str:
    """Return how many examples of each class there are, of many classes the fewest and the most; empty: not known.

    >>> of_each_class([{"class": "benign", "count": 28}, {"class": "malignant", "count": 2}])
    'benign 28, malignant 2'
    >>> of_each_class([{"class": str(number), "count": 3 + number} for number in range(10)])
    '3 to 12 of each of 10'
    """
    if not cells:
        return ""
    counts = [int(cell["count"]) for cell in cells]
    if len(cells) > _MOST_NAMED:
        return f"{min(counts):,} to {max(counts):,} of each of {len(cells)}"
    return ", ".join(f"{cell['class']} {count:,}" for cell, count in zip(cells, counts, strict=True))


def most_frequent(classes: Sequence[str], counts: Sequence[int]) -> tuple[str, float] | None:
    """Return the class that most examples have, and its share: the accuracy of a model that always says it.

    >>> most_frequent(["no", "yes"], [2, 35])
    ('yes', 0.9459459459459459)

    Args:
        classes: their names.
        counts: the examples of each; without any there is None.
    """
    if not sum(counts):
        return None
    most = max(range(len(counts)), key=counts.__getitem__)
    return classes[most], counts[most] / sum(counts)


def frequent_among(cells: Sequence[Mapping[str, Any]] | None) -> tuple[str, float] | None:
    """Return the same of a client's cell of the table of clients; None: it is not known."""
    return most_frequent([str(cell["class"]) for cell in cells or ()], [int(cell["count"]) for cell in cells or ()])


def _cell(one: Got | None, name: str, digits: int) -> str:
    if one is None or name not in one.metrics:
        return ""
    value = one.metrics[name]
    return "nan" if value is None or math.isnan(value) else f"{value:.{digits}g}"
