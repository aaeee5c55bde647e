"""Names of cells: what varies in a sweep, and never another name for a run that its folder holds already."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fedray.sweep.grid import SEED, Cell, digested, name_of
from fedray.sweep.space import ranged

Names = Mapping[str, Mapping[str, str]]
"""The settings of each cell that a folder has had, by its name."""


def varying(axes: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the keys that have more than one value, or a range of them.

    >>> varying({"seed": ["1", "2"], "rounds": ["5"], "local.optimizer.lr": ["{uniform: [0, 1]}"]})
    ['seed', 'local.optimizer.lr']
    """
    return [key for key, values in axes.items() if len(values) > 1 or ranged(key, values)]


def names_of(cells: Iterable[Cell]) -> dict[str, dict[str, str]]:
    """Return the settings of cells by their names."""
    return {cell.name: dict(cell.settings) for cell in cells}


def identity(cell: Cell, seed: str) -> frozenset[tuple[str, str]]:
    """Return the settings of a cell in no order; ``seed``: that of the config, where it has none of its own.

    >>> identity(Cell(0, (("seed", "3"), ("rounds", "5"))), "1") == identity(Cell(0, (("rounds", "5"),)), "3")
    True
    """
    return _unordered({SEED: seed, **dict(cell.settings)})


def named(
    cells: Sequence[Cell], axes: Mapping[str, Sequence[str]], before: Names, folder: Path, circumstances: Sequence[str]
) -> tuple[Cell, ...]:
    """Return the cells, named by what varies, but those that a folder has had by the name that they have there.

    A name stands for the same settings for as long as a folder is there: where a later sweep has another value of what
    did not vary, its cells have the constants in their names, too.

    >>> axes = {"seed": ["1", "2"], "rounds": ["5"]}
    >>> cells = [Cell(0, (("seed", "1"), ("rounds", "5"))), Cell(1, (("seed", "2"), ("rounds", "5")))]
    >>> [cell.name for cell in named(cells, axes, {}, Path("/nowhere"), ())]
    ['seed=1', 'seed=2']
    >>> before = {"seed=1": {"seed": "1", "rounds": "3"}}
    >>> [cell.name for cell in named(cells, axes, before, Path("/nowhere"), ())]
    ['seed=1,rounds=5', 'seed=2']

    Args:
        cells: those of a sweep.
        axes: the values of each key of the sweep.
        before: the cells that the folder has had.
        folder: of the sweep; earlier versions of fedray named each run there by all of its settings.
        circumstances: sections of the config that have no part in what a run computes.
    """
    keys, known = varying(axes), {_unordered(settings): name for name, settings in before.items()}

    def free(name: str, cell: Cell) -> bool:
        return name not in before or _computed(before[name], circumstances) == _computed(
            dict(cell.settings), circumstances
        )

    def one(cell: Cell) -> Cell:
        if there := known.get(_unordered(dict(cell.settings))):
            return replace(cell, named=there)
        whole = name_of(cell.settings)
        short = name_of([(key, value) for key, value in cell.settings if key in keys] or cell.settings)
        earlier = [name for name in (whole, digested(cell.settings)) if (folder / name).is_dir()]
        wanted = [*earlier, short, whole]
        last = f"{whole}-{hashlib.sha256(repr(cell.settings).encode()).hexdigest()[:8]}"
        return replace(cell, named=next((name for name in wanted if free(name, cell)), last))

    return tuple(map(one, cells))


def _unordered(settings: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(settings.items())


def _computed(settings: Mapping[str, str], circumstances: Sequence[str]) -> dict[str, str]:
    """Return the settings that have a part in what a run computes."""
    return {key: value for key, value in settings.items() if key.partition(".")[0] not in circumstances}
