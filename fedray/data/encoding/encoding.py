"""The encoding of a table's row as inputs and a target."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config.binding import nearest
from fedray.core.errors import ConfigError, listed, one_line
from fedray.data.encoding.options import Options
from fedray.data.encoding.table import Kind, Table
from fedray.data.encoding.usual import GIVEN, read_told
from fedray.data.encoding.words import canonical, numbered
from fedray.data.spec import DataSpec

FORMAT = 5
OTHER = "other"
"""The category of values that are none of the others."""

_SAVED = ("missing", "missing_columns", "missing_target", "unseen", "csv")


@dataclass(frozen=True)
class Encoding:
    """The way from a row of a table to inputs and a target: a part of every model that was trained on tables.

    It is learnt once, from the training tables, and written into the run folder (``encoding.json``), each checkpoint
    and each export; resuming and evaluating use it from there.

    Args:
        options: as the user gave them.
        numeric: numeric and ordinal columns with (mean, deviation, fill): inputs are ``(value or fill - mean) /
            deviation``; 0 and 1 where they are not standardised.
        categories: categorical columns with their categories; the last of ``top`` ones is ``other``.
        order: all input columns in the order of the inputs, that of the first file.
        classes: class names, None for regression.
        warnings: things in the tables that look like a mistake.
        kinds: numeric columns that were dates or booleans.
        files: the way each training file is written, in words, where it is not the usual one.
        indicated: numeric and ordinal columns with a second input, 1 where the value is missing and else 0.
        dialect: the dialect that the training files share, see :mod:`fedray.data.encoding.usual`.
        dialects: those of single files, as far as they differ from it, by their names.
        beside: the columns stand beside arrays, each an input of its own by its name, and none of them is the target.
        lacked: the columns that some training table lacked, where such are filled in: rows to be predicted may lack
            them, and no others; None: an encoding of an earlier fedray, which does not know.
    """

    options: Options
    numeric: dict[str, tuple[float, float, float]]
    categories: dict[str, list[str]]
    order: list[str]
    classes: list[str] | None
    warnings: tuple[str, ...] = ()
    kinds: dict[str, Kind] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    indicated: tuple[str, ...] = ()
    dialect: Mapping[str, Any] = field(default_factory=dict)
    dialects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    beside: bool = False
    lacked: tuple[str, ...] | None = ()

    def to_json(self) -> dict[str, Any]:
        """Return it for ``encoding.json``; floats survive JSON exactly."""
        options, knows = self.options, self.lacked is not None
        own = {"missing_values": "indicator"} if options.missing_values == "indicator" else {}
        return {
            "format": self._format,
            "target": options.target,
            "task": self.spec.task,
            "classes": self.classes,
            "standardize": options.standardize,
            "ignore": list(options.ignore),
            "chosen": options.columns is not None,
            **{key: getattr(options, key) for key in _SAVED},
            "columns": [self._column(name) for name in self.order],
            "files": self.files,
            **({"dialect": _sorted(self.dialect)} if self.dialect else {}),
            **(
                {"dialects": {name: _sorted(own) for name, own in sorted(self.dialects.items())}}
                if self.dialects
                else {}
            ),
            **own,
            **({"beside": True} if self.beside else {}),
            **({"lacked": list(self.lacked or ())} if options.missing_columns == "impute" and knows else {}),
        }

    @property
    def _format(self) -> int:
        """The lowest format of which a fedray that reads no higher one gives the same inputs."""
        if self.beside:
            return 5
        dialects = [self.dialect, *self.dialects.values()]
        if any(told.keys() & {"dates", *GIVEN} or told.get("decimal") == "," for told in dialects):
            return 4
        return 3 if self.options.missing_values == "indicator" else 2

    def _column(self, name: str) -> dict[str, Any]:
        """Return a column for ``encoding.json``."""
        if name in self.categories:
            top = {"top": self.options.top[name]} if name in self.options.top else {}
            return {"name": name, "categories": self.categories[name], **top}
        if name in self.options.hashed:
            return {"name": name, "hash": self.options.hashed[name]}
        mean, deviation, fill = self.numeric[name]
        column: dict[str, Any] = {"name": name, "mean": mean, "deviation": deviation, "fill": fill}
        if name in self.kinds:
            column["kind"] = self.kinds[name]
        if name in self.options.levels:
            column["levels"] = self.options.levels[name]
        if name in self.indicated:
            column["indicator"] = True
        return column

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Encoding:
        """Return the encoding that :meth:`to_json` wrote, of this format or an earlier one.

        Raises:
            ConfigError: it is something else, or of another version.
        """
        if content.get("format") not in range(1, FORMAT + 1):
            raise ConfigError(f"the encoding has format {content.get('format')!r}; this fedray reads 1 to {FORMAT}")
        try:
            columns: dict[str, dict[str, Any]] = {str(one["name"]): one for one in content["columns"]}
            categories = {
                name: [str(v) for v in one["categories"]] for name, one in columns.items() if "categories" in one
            }
            declared: dict[str, Any] = dict(categories)
            declared |= {
                name: {key: one[key]} for name, one in columns.items() for key in ("top", "hash") if key in one
            }
            numeric = {
                name: (float(one["mean"]), float(one["deviation"]), float(one["fill"]))
                for name, one in columns.items()
                if name not in declared
            }
            classes = None if content["classes"] is None else [str(name) for name in content["classes"]]
            options = Options(
                content["target"],
                content["task"],
                declared,
                classes,
                content["standardize"],
                content["ignore"],
                columns=list(columns) if content.get("chosen") else None,
                ordinal={name: one["levels"] for name, one in columns.items() if "levels" in one},
                **{key: content[key] for key in (*_SAVED, "missing_values") if key in content},
            )
            kinds = {name: one["kind"] for name, one in columns.items() if "kind" in one}
            files = dict(content.get("files", {}))
            indicated = tuple(name for name, one in columns.items() if one.get("indicator"))
            dialect = read_told(content.get("dialect", {}))
            dialects = {name: read_told(told) for name, told in content.get("dialects", {}).items()}
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"the encoding is not one of fedray's: {one_line(error)}") from None
        read = cls(options, numeric, categories, list(columns), classes, kinds=kinds, files=files, indicated=indicated)
        told = content.get("lacked", None if options.missing_columns == "impute" else ())
        lacked = None if told is None else tuple(map(str, told))
        return replace(read, dialect=dialect, dialects=dialects, beside=bool(content.get("beside")), lacked=lacked)

    def may_lack(self, name: str) -> bool:
        """Tell if rows to be predicted may lack a column, which is then missing in all of them."""
        return self.options.missing_columns == "impute" and (self.lacked is None or name in self.lacked)

    def usual(self, path: Path) -> dict[str, Any]:
        """Return the dialect by which a table is read where it does not tell: that of the training file of its name.

        Of another name, and in what that file does not tell, it is what the training files share.
        """
        return {**self.dialect, **self.dialects.get(path.name, {})}

    def measured(self, kind: Kind) -> list[str]:
        """Return the numeric columns that hold numbers, or dates, or booleans; no ordinal ones."""
        return [name for name in self.numeric if name not in self.options.levels and self._kind(name) == kind]

    def _kind(self, name: str) -> Kind:
        return self.kinds.get(name, "numbers")

    def need(self, options: Options) -> Encoding:
        """Return it for tables that are read as ``options`` say.

        Raises:
            ConfigError: they are to be read in another way than this one, naming the option.
        """
        own, declared = self.options, options.declared
        same = {
            "target": options.target == own.target,
            "standardize": options.standardize == own.standardize or not self.numeric,
            "task": options.task in ("auto", self.spec.task),
            "classes": options.classes is None or [str(name) for name in options.classes] == self.classes,
            "categorical": set(declared) == set(self.categories)
            and all(given in (None, self.categories[name]) for name, given in declared.items())
            and (options.top, options.hashed) == (own.top, own.hashed),
            "ordinal": options.levels == own.levels,
            "columns": options.columns is None or list(options.columns) == self.order,
            "ignore": not any(name in options.ignore for name in self.order),
            "unseen": options.unseen == own.unseen,
            "missing": _words(options.missing) == _words(own.missing),
            "missing_values": options.missing_values == own.missing_values,
        }
        for name, kept in same.items():
            if not kept:
                raise ConfigError(
                    f"{name}: the model was trained on tables that were encoded otherwise (see encoding.json in its "
                    "folder)\nleave this option as it was, or train anew in another run.dir"
                )
        return replace(self, options=replace(own, categorical=options.categorical))

    @property
    def features(self) -> list[str]:
        """The names of the inputs, in their order.

        A column, after it ``column missing`` where it is indicated; ``column=category``; ``column#number`` of a hash.
        """
        names = []
        for name in self.order:
            if name in self.categories:
                names += [f"{name}={category}" for category in self.categories[name]]
            elif name in self.options.hashed:
                names += [f"{name}#{number}" for number in range(self.options.hashed[name])]
            else:
                names += [name, f"{name} missing"] if name in self.indicated else [name]
        return names

    @property
    def spec(self) -> DataSpec:
        """Shape and meaning of an example."""
        features = len(self.features)
        if self.classes is None:
            return DataSpec((features,), 1, "regression")
        return DataSpec((features,), len(self.classes), "classification", tuple(self.classes))

    def inputs(self, table: Table) -> NDArray[np.float32]:
        """Return inputs ``[rows, features]``; an unknown category raises ConfigError with file, line and column."""
        return np.concatenate(list(self.blocks(table).values()), axis=1)

    def blocks(self, table: Table) -> dict[str, NDArray[np.float32]]:
        """Return the inputs of each column by its name, ``[rows, k]``; errors are as of :meth:`inputs`."""
        found = {}
        for name in self.order:
            block = self._block(table, name)
            if block.size and np.abs(block).max() > np.finfo(np.float32).max:
                raise ConfigError(
                    f"{table.path} has a number so far from the training data that float32 cannot hold it"
                )
            found[name] = block.astype(np.float32)
        return found

    def _block(self, table: Table, name: str) -> NDArray[np.float64]:
        if name in self.categories:
            return self._one_hot(table, name)
        return self._hashed(table, name) if name in self.options.hashed else self._scaled(table, name)

    def _scaled(self, table: Table, name: str) -> NDArray[np.float64]:
        center, scale, fill = self.numeric[name]
        values = column_values(table, name, self.options)
        kind, expected = table.kind(name), self.kinds.get(name)
        if name not in self.options.levels and kind != "empty" and "dates" in (kind, expected) and kind != expected:
            raise ConfigError(
                f"{table.path}: column {name!r} has {kind}, and {expected or 'numbers'} in the tables that the model "
                "was trained on"
            )
        missing = np.isnan(values)
        scaled = (np.where(missing, fill, values) - center) / scale
        return np.stack([scaled, missing] if name in self.indicated else [scaled], axis=1)

    def _one_hot(self, table: Table, name: str) -> NDArray[np.float64]:
        known = numbered(self.categories[name])
        lenient = self._lenient(table, name)
        other = known.get(OTHER)
        block = np.zeros((table.rows, len(self.categories[name])))
        for row, value in enumerate(table.text(name, known)):
            if value is None:
                continue
            number = known.get(value, known.get(canonical(value), other if lenient[row] else None))
            if number is not None:
                block[row, number] = 1.0
            elif not lenient[row]:
                raise ConfigError(
                    f"{table.where(row)}, column {name!r}: unknown category {value!r}"
                    f"{nearest(value, self.categories[name])}; known: {listed(self.categories[name])}\n"
                    f"{table.reading.advice.unseen(value, table.reading.dialect.missing or ())}"
                )
        return block

    def _hashed(self, table: Table, name: str) -> NDArray[np.float64]:
        size = self.options.hashed[name]
        block = np.zeros((table.rows, size))
        for row, value in enumerate(table.text(name)):
            if value is not None:
                digest = hashlib.blake2b(canonical(value).encode(), digest_size=8).digest()
                block[row, int.from_bytes(digest, "big") % size] = 1.0
        return block

    def _lenient(self, table: Table, name: str) -> NDArray[np.bool_]:
        """Return the rows in which a value of no known category stands for ``other``, else for a missing one.

        Where ``unseen`` is ``error`` they are held-out rows alone, of a column whose categories are those of training
        rows: which rows are held out is drawn, so that such a value is no mistake.
        """
        if name in self.options.top or self.options.unseen == "other":
            return np.ones(table.rows, dtype=np.bool_)
        return ~table.training if self.options.declared.get(name) is None else np.zeros(table.rows, dtype=np.bool_)

    def unseen(self, table: Table) -> dict[str, int]:
        """Count the cells of each categorical column that are taken as they are of no known category.

        Of ``top`` columns, which are made for them, there are none unless ``unseen`` is ``other``.
        """
        counts = {}
        for name, categories in self.categories.items():
            if name in self.options.top and self.options.unseen == "error":
                continue
            known, rows = numbered(categories), self._lenient(table, name).tolist()
            pairs = zip(table.text(name, known), rows, strict=True)
            cells = [cell for cell, lenient in pairs if lenient and cell is not None]
            counts[name] = sum(cell not in known and canonical(cell) not in known for cell in cells)
        return {name: count for name, count in counts.items() if count}

    def targets(self, table: Table) -> NDArray[Any]:
        """Return targets, int64 ``[rows]`` classes or float32 ``[rows, 1]``.

        Unknown or missing ones raise ConfigError.
        """
        name = self.options.target
        if self.classes is None:
            values = table.numbers(name, target=True)
            if np.isnan(values).any():
                raise self._without(table, int(np.argmax(np.isnan(values))))
            return values[:, None].astype(np.float32)
        known = {label: number for number, label in enumerate(self.classes)}
        numbers = np.empty(table.rows, dtype=np.int64)
        for row, label in enumerate(table.text(name, known)):
            if label is None:
                raise self._without(table, row)
            number = known.get(label, known.get(canonical(label)))
            if number is None:
                source = "given" if self.options.classes is not None else "seen in training"
                raise ConfigError(
                    f"{table.where(row)}, column {name!r}: class {label!r} is not among the classes {source}: "
                    f"{listed(known)}"
                )
            numbers[row] = number
        return numbers

    def by_class(self, targets: NDArray[Any]) -> NDArray[np.int64]:
        """Count targets by class, int64 ``[classes]``; empty for regression."""
        if self.classes is None:
            return np.zeros(0, dtype=np.int64)
        return np.bincount(targets, minlength=len(self.classes))

    def _without(self, table: Table, row: int) -> ConfigError:
        return ConfigError(
            f"{table.where(row)}: the target {self.options.target!r} is missing; to leave such rows out: "
            "`missing_target: drop`"
        )


def column_values(table: Table, name: str, options: Options) -> NDArray[np.float64]:
    """Return the values of a numeric or ordinal column, float64 ``[rows]``, NaN where they are missing.

    Raises:
        ConfigError: a cell that is no number, or no level of an ordinal column, with its line.
    """
    if name in options.levels:
        return table.levels(name, options.levels[name], lenient=options.unseen == "other")
    return table.numbers(name)


def _sorted(dialect: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(dialect.items()))


def _words(missing: Mapping[str, Any]) -> dict[str, list[str]]:
    return {name: sorted(map(str, words)) for name, words in missing.items()}
