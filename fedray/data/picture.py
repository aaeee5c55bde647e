"""The label distribution of clients as text for a terminal, and what an image of it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError, counted

MOST_BARS = 50

_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def chosen_clients(count: int, most: int = MOST_BARS) -> NDArray[np.int64]:
    """Choose at most ``most`` client numbers, evenly spread over ``count`` clients, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def cells_of(counts: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Return for each client ``width`` cells with the class that fills them, ``[n, width]``.

    A bar is 100 % of a client.
    """
    if counts.ndim != 2 or 0 in counts.shape:
        raise ConfigError(f"a label picture needs counts [clients, classes], got shape {counts.shape}")
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    edges = np.cumsum(counts, axis=1) / total
    middle = (np.arange(width) + 0.5) / width
    filled = (middle[None, :, None] >= edges[:, None, :]).sum(axis=2)
    cells: NDArray[np.int64] = np.minimum(filled, counts.shape[1] - 1)
    return cells


def caption(clients: int) -> str:
    """Return the picture's title: how many clients it shows."""
    shown = len(chosen_clients(clients))
    part = "all" if shown == clients else f"{shown}, evenly picked, of"
    return f"label shares per client ({part} {counted(clients, 'client')}; one bar each)"


def label_picture(
    counts: NDArray[np.int64], names: Sequence[str] = (), width: int = 60, clients: Sequence[str] = ()
) -> str:
    """Draw a text picture: per client one bar, in which each class is a stretch of its own character, and its size.

    Args:
        counts: examples per client and class, ``[n, classes]``.
        names: class names for the key below; default: their numbers.
        width: characters of a bar, at least 1.
        clients: ids of the clients; default: their numbers.

    >>> print(label_picture(np.array([[3, 1], [0, 2]]), ["benign", "malignant"], width=8))
    label shares per client (all 2 clients; one bar each)
    0 |00000011| 4
    1 |11111111| 2
    0 = benign, 1 = malignant
    """
    shown = chosen_clients(len(counts))
    labels = [clients[number] if clients else str(number) for number in shown]
    margin = max(len(label) for label in labels)
    lines = [caption(len(counts))]
    for label, row, cells in zip(labels, counts[shown], cells_of(counts[shown], width), strict=True):
        bar = "".join(_LETTERS[cell % len(_LETTERS)] for cell in cells)
        lines.append(f"{label:>{margin}} |{bar}| {int(row.sum())}")
    key = [f"{_LETTERS[n % len(_LETTERS)]} = {names[n] if names else n}" for n in range(min(counts.shape[1], 20))]
    if all(one == f"{name} = {name}" for one, name in ((word, word.split(" = ")[0]) for word in key)):
        return "\n".join(lines)  # each class is drawn by its own name
    more = ", ..." if counts.shape[1] > len(key) else ""
    return "\n".join([*lines, ", ".join(key) + more])


def label_table(
    counts: NDArray[np.int64], name_of: Callable[[int], str], classes: Sequence[str], most: int = 1000
) -> dict[str, Any]:
    """Return the counts of at most ``most`` clients, evenly picked, ready for JSON.

    >>> label_table(np.array([[3, 1], [0, 2]]), "ab".__getitem__, ["benign", "malignant"])
    {'clients': ['a', 'b'], 'classes': ['benign', 'malignant'], 'of': 2, 'counts': [[3, 1], [0, 2]]}

    Args:
        counts: examples per client and class, ``[n, classes]``.
        name_of: the id of the client with a number.
        classes: names of the classes; empty: they have none.
        most: the number of clients there is room for; ``of`` is the number of all.
    """
    shown = chosen_clients(len(counts), most).tolist()
    ids = [name_of(client) for client in shown]
    return {"clients": ids, "classes": list(classes), "of": len(counts), "counts": counts[shown].tolist()}


def palette(count: int) -> NDArray[np.uint8]:
    """Return colours ``[count, 3]`` far apart: hues by the golden ratio, lightness in three steps."""
    number = np.arange(count)
    hue = (number * 0.618033988749895) % 1.0
    value = np.array([0.9, 0.65, 0.8])[number % 3]
    ramp = np.abs((hue[:, None] * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    colours: NDArray[np.float64] = 255 * value[:, None] * (1 - 0.75 * (1 - np.clip(ramp, 0, 1)))
    return np.rint(colours).astype(np.uint8)
