"""Labels of settings: short, whatever they differ in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fedray.core.errors import counted

MOST = 40
"""The characters of a label; what needs more is called by its run folder, and the table of differences has all."""

_VALUE = 24

# The keys that say which data it is, before those that say how it is read.
_WHICH = ("data", "data.name", "data.train", "data.path", "data.target")

Values = Mapping[str, str | None]
"""The values of a setting, by the keys in which settings differ; None: the key is not there."""


def labels_of(keys: Sequence[str], values: Sequence[Values], folders: Sequence[Sequence[Path]]) -> list[str]:
    """Return a label for each setting: what tells it apart, or where that is long the name of its run folder.

    Where the data differs, it is said in any case.

    >>> values = [{"name": "fedavg", "mu": None}, {"name": "fedprox", "mu": "1"}, {"name": "fedprox", "mu": "2"}]
    >>> labels_of(["mu", "name"], values, [[Path("a")], [Path("b")], [Path("c")]])
    ['name=fedavg', 'name=fedprox, mu=1', 'name=fedprox, mu=2']
    >>> notes = [{"note": f"the same for more than a label holds, {number}"} for number in (1, 2)]
    >>> labels_of(["note"], notes, [[Path("runs/nord")], [Path("runs/sued"), Path("runs/sued-2")]])
    ['nord', 'sued (2 runs)']

    Args:
        keys: those in which settings differ, in their order.
        values: of each setting.
        folders: the run folders of each setting.
    """
    every = (_by_config(keys, values), _by_folder(folders))
    numbered = [f"setting {number}" for number in range(1, len(values) + 1)]
    return next((found for found in every if _fit(found)), numbered)


def _fit(labels: Sequence[str]) -> bool:
    return bool(labels) and len({*labels}) == len(labels) and max(map(len, labels)) <= MOST


def _by_config(keys: Sequence[str], values: Sequence[Values]) -> list[str]:
    """Return what as few keys as tell them apart are, names of parts before all else; none: it is not short."""
    chosen: list[str] = []
    for key in sorted(keys, key=lambda key: (not _is_name(key), keys.index(key))):
        if len({_at(one, [*chosen, key]) for one in values}) > len({_at(one, chosen) for one in values}):
            chosen.append(key)
    # Numbers of other tables are no comparison, which a label by the model alone would promise.
    if (tables := [key for key in keys if _is_data(key)]) and not any(_is_data(key) for key in chosen):
        chosen.append(max(tables, key=lambda key: (key in _WHICH, len({one[key] for one in values}))))
    columns = [_shortened([one[key] for one in values]) for key in chosen]
    if not all(columns):
        return []
    short = [key.rpartition(".")[2] for key in chosen]
    words = [key if short.count(last) > 1 else last for key, last in zip(chosen, short, strict=True)]
    said = [
        [None if text is None else text if _is_part(key) else f"{word}={text}" for text in column]
        for key, word, column in zip(chosen, words, columns, strict=True)
    ]
    return [", ".join(text for text in line if text is not None) or "otherwise" for line in zip(*said, strict=True)]


def _by_folder(folders: Sequence[Sequence[Path]]) -> list[str]:
    """Return the names of the first run folders, with as many of those above as tell them apart."""
    parts = [own[0].resolve().parts for own in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-depth:]) for one in parts]
        if len({*names}) == len(names):
            more = (f" ({len(own)} runs)" if len(own) > 1 else "" for own in folders)
            return [name + words for name, words in zip(names, more, strict=True)]
    return []


def _shortened(texts: Sequence[str | None]) -> list[str | None]:
    """Return the values of a key, cut where they are long, and lists by their lengths; empty: so they are not told."""
    there = [text for text in texts if text is not None]
    if all(len(text) <= _VALUE for text in there):
        return [*texts]
    lists = [_items(text) for text in there]
    whole = [text if len(text) <= _VALUE else f"{text[: _VALUE - 1]}…" for text in there]
    ways = [[way(found or []) for found in lists] for way in _WAYS] if None not in lists else [whole]
    different = len({*there})
    short = next((way for way in ways if all(way) and len({*way}) == different), [])
    if not short:
        return []
    by_text = dict(zip(there, short, strict=True))
    return [None if text is None else by_text[text] for text in texts]


def _items(text: str) -> list[object] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def _folder(items: Sequence[object]) -> str:
    """Return the folder that all files of a list lie in; empty: they lie in none, or in several."""
    above = {str(Path(str(item)).parent) for item in items}
    found = above.pop() if len(above) == 1 else "."
    return f"{found}/" if found != "." and len(found) < _VALUE else ""


def _stems(items: Sequence[object]) -> str:
    words = "+".join(Path(str(item)).stem if isinstance(item, str) else str(item) for item in items)
    return words if len(words) <= _VALUE else ""


def _length(items: Sequence[object]) -> str:
    return counted(len(items), "item")


def _place(items: Sequence[object]) -> str:
    return _folder(items) or _stems(items)


_WAYS = (_place, _stems, _length)


def _is_data(key: str) -> bool:
    return key.partition(".")[0] == "data" and not re.match(r"data\.(partition|holdout)", key)


def _is_name(key: str) -> bool:
    return key.endswith("name") or key == "algorithm"


def _is_part(key: str) -> bool:
    return key.endswith(".name") or key == "algorithm"


def _at(one: Values, keys: Iterable[str]) -> tuple[str | None, ...]:
    return tuple(one[key] for key in keys)
