"""The pictures that TensorBoard is given: maps of numbers, and the labels of clients, drawn by Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedray.data.picture import cells_of, chosen_clients, palette
from fedray.metrics.confused import Confused

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

Pixels = NDArray[np.uint8]

MOST_CLASSES = 200
"""Classes up to which a confusion matrix is drawn."""

INK, FAINT, LINE, PAPER, BLUE = (27, 31, 36), (120, 127, 136), (208, 212, 217), (255, 255, 255), (0, 114, 178)

_BAR, _STEP, _PAD, _LONGEST, _MOST_KEYS, _MOST_NUMBERS = 200, 14, 6, 20, 40, 24


def matrix_image(matrix: Confused) -> Pixels:
    """Draw a confusion matrix, uint8 ``[H, W, 3]``: the larger its share of its row, the darker a cell.

    >>> matrix_image(Confused(["no", "yes"], ["no", "yes"], np.array([[9, 1], [2, 8]]))).shape[2]
    3

    Args:
        matrix: the counts, which stand in the cells where there is room.
    """
    from PIL import Image, ImageDraw

    font = _font()
    high, wide = matrix.counts.shape
    rows, columns = ([_short(name) for name in names] for names in (matrix.rows, matrix.columns))
    texts = [[f"{value:,}" for value in line] for line in matrix.counts.tolist()]
    room = max(font.getlength(text) for line in texts for text in line) + 6
    side = int(np.clip(240 // max(high, wide), 3, 40))
    if max(high, wide) <= _MOST_NUMBERS:
        side = max(side, int(np.ceil(room)))
    longest = max(font.getlength(name) for name in columns)
    upright = longest > side - 2
    left = _PAD + int(max(font.getlength(name) for name in [*rows, matrix.y])) + 8
    top = _PAD + 18
    below = top + high * side + 6
    size = left + max(wide * side, int(font.getlength(matrix.x))) + _PAD, int(below + (longest if upright else 14) + 22)
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((left - 8, _PAD), matrix.y, FAINT, font, anchor="ra")
    draw.text((left + wide * side / 2, size[1] - 18), matrix.x, FAINT, font, anchor="ma")
    for (row, column), share in np.ndenumerate(matrix.shares):
        x, y = left + column * side, top + row * side
        mixed = tuple(round(paper + (blue - paper) * share) for paper, blue in zip(PAPER, BLUE, strict=True))
        draw.rectangle((x, y, x + side, y + side), mixed, LINE if side >= 8 else None)
        if side >= room:
            ink = PAPER if share > 0.5 else INK if matrix.counts[row, column] else FAINT
            draw.text((x + side / 2, y + side / 2), texts[row][column], ink, font, anchor="mm")
    for place in range(0, high, -(-14 // side)):
        draw.text((left - 8, top + (place + 0.5) * side), rows[place], INK, font, anchor="rm")
    for place in range(0, wide, -(-14 // side)):
        middle = left + (place + 0.5) * side
        if upright:
            words = Image.new("RGB", (int(longest) + 2, 16), PAPER)
            ImageDraw.Draw(words).text((longest, 8), columns[place], INK, font, anchor="rm")
            picture.paste(words.rotate(90, expand=True), (int(middle - 8), below))
        else:
            draw.text((middle, below), columns[place], INK, font, anchor="ma")
    return np.asarray(picture)


def label_map(counts: NDArray[np.int64], clients: Sequence[str] = (), classes: Sequence[str] = ()) -> Pixels:
    """Draw a bar for each client, in which each class has a stretch of its own colour, and the key of the colours.

    >>> label_map(np.array([[3, 1], [0, 2]]), ["ann", "bob"], ["benign", "malignant"]).dtype
    dtype('uint8')

    Args:
        counts: examples per client and class, ``[n, classes]``; at most 50 clients are shown, evenly picked.
        clients: ids of the clients; default: their numbers.
        classes: names of the classes; default: their numbers.
    """
    from PIL import Image, ImageDraw

    font = _font()
    shown = chosen_clients(len(counts))
    names = [_short(clients[number] if clients else str(number)) for number in shown]
    sizes = [f"{int(total):,}" for total in counts[shown].sum(axis=1)]
    keys = [_short(classes[n] if n < len(classes) else str(n)) for n in range(counts.shape[1])][:_MOST_KEYS]
    title = "label shares, examples", "" if len(shown) == len(counts) else f"{len(shown)} of {len(counts):,} clients"
    left = _PAD + int(max(font.getlength(name) for name in names)) + 6
    width = left + _BAR + 6 + int(max(font.getlength(size) for size in sizes)) + _PAD
    lines = _wrapped(keys, width - 2 * _PAD, font)
    top = _PAD + 18 * len([line for line in title if line])
    picture = Image.new("RGB", (width, top + _STEP * len(shown) + 8 + 18 * len(lines) + _PAD), PAPER)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(title):
        draw.text((_PAD, _PAD + 18 * number), line, FAINT, font)
    colours = palette(counts.shape[1])
    for place, cells in enumerate(cells_of(counts[shown], _BAR)):
        y = top + place * _STEP
        bar = np.repeat(colours[cells][None], _STEP - 2, axis=0)
        picture.paste(Image.fromarray(bar), (left, y))
        draw.text((left - 6, y + _STEP / 2 - 1), names[place], INK, font, anchor="rm")
        draw.text((left + _BAR + 6, y + _STEP / 2 - 1), sizes[place], INK, font, anchor="lm")
    for row, entries in enumerate(lines):
        y = top + _STEP * len(shown) + 8 + 18 * row
        for number, x in entries:
            draw.rectangle((_PAD + x, y + 2, _PAD + x + 10, y + 12), tuple(colours[number].tolist()))
            draw.text((_PAD + x + 14, y + 7), keys[number], INK, font, anchor="lm")
    return np.asarray(picture)


def _font() -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(11)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _wrapped(keys: Sequence[str], width: float, font: FreeTypeFont | ImageFont) -> list[list[tuple[int, float]]]:
    """Return lines of the key: the numbers of its entries with their places from the left."""
    lines: list[list[tuple[int, float]]] = [[]]
    x = 0.0
    for number, name in enumerate(keys):
        needed = 14 + font.getlength(name) + 10
        if lines[-1] and x + needed > width:
            lines.append([])
            x = 0.0
        lines[-1].append((number, x))
        x += needed
    return lines
