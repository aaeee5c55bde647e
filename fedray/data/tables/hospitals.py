"""Five hospitals: the breast-cancer table written out as CSV files, unequal in size and in share of malignant cases."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedray.core.rng import numpy_generator
from fedray.data.tables import load_table

TARGET = "diagnosis"

# Malignant and benign rows of each file: 212 and 357 in total, every row of the table once.
SHARES = {
    "hospital_a": (24, 136),
    "hospital_b": (42, 78),
    "hospital_c": (44, 36),
    "hospital_d": (34, 21),
    "hospital_e": (26, 14),
    "test": (42, 72),
}


def write_hospitals(folder: str | Path, seed: int = 0) -> tuple[list[Path], Path]:
    """Write ``hospital_a.csv`` to ``hospital_e.csv`` and ``test.csv`` into ``folder``, which is made if need be.

    The hospitals hold 160, 120, 80, 55 and 40 rows, of which 15, 35, 55, 62 and 65 % are malignant; the test set
    holds 114 rows with the share of the whole table (37 %).  Which rows go where is a function of ``seed``.  Target
    column: ``diagnosis``, with classes ``benign`` and ``malignant``.  Files that are there already are replaced.

    Returns:
        The hospitals' files and the test file.
    """
    table = load_table("breast_cancer")
    generator = numpy_generator(seed, "partition")
    classes = [str(name) for name in table["classes"]]
    decks = [
        generator.permutation(np.flatnonzero(table["y"] == classes.index(name))) for name in ("malignant", "benign")
    ]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    header = [*map(str, table["features"]), TARGET]
    paths = []
    for name, counts in SHARES.items():
        dealt: list[NDArray[np.int64]] = []
        for number, count in enumerate(counts):
            dealt.append(decks[number][:count])
            decks[number] = decks[number][count:]
        path = folder / f"{name}.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(header)
            for row in generator.permutation(np.concatenate(dealt)):
                writer.writerow([*map(repr, table["x"][row].tolist()), classes[table["y"][row]]])
        paths.append(path)
    return paths[:-1], paths[-1]
