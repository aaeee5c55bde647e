"""The encoding of a table's row as inputs and a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedray.config.registry import nearest
from fedray.core.errors import ConfigError, listed, one_line
from fedray.data.encoding.table import Table
from fedray.data.spec import DataSpec

FORMAT = 1

Task = Literal["auto", "classification", "regression"]


@dataclass(frozen=True)
class Options:
    """The options for reading tables; see :meth:`fedray.data.FederatedData.from_csv`."""

    target: str
    task: Task = "auto"
    categorical: Mapping[str, Sequence[Any] | None] | Sequence[str] | None = None
    classes: Sequence[str] | None = None
    standardize: bool = True
    ignore: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.ignore, str) or not all(isinstance(name, str) for name in self.ignore):
            raise ConfigError(f"ignore: expected names of columns, as in [patient_id], got {self.ignore!r}")
        if self.target in self.ignore:
            raise ConfigError(f"ignore: {self.target!r} is the target")
        for name in self.ignore:
            if isinstance(self.categorical, (Mapping, list, tuple)) and name in self.categorical:
                raise ConfigError(f"ignore: {name!r} is declared as categorical too; leave it out of one of them")
        if self.task not in ("auto", "classification", "regression"):
            raise ConfigError(f"task: {self.task!r} is unknown; known: auto, classification, regression")
        if self.task == "regression" and self.classes is not None:
            raise ConfigError("classes: a regression target has none; leave them out or set task: classification")
        if self.classes is not None and len(set(map(str, self.classes))) != len(self.classes):
            raise ConfigError(f"classes: a name is given twice: {listed(self.classes)}")
        if not isinstance(self.categorical, (Mapping, list, tuple, type(None))):
            raise ConfigError(f"categorical: expected [columns] or {{column: [values]}}, got {self.categorical!r}")
        columns = self.categorical if isinstance(self.categorical, Mapping) else {}
        for where, values in {"classes": self.classes, **columns}.items():
            if not isinstance(values, (list, tuple, type(None))):
                of = where if where == "classes" else f"categorical.{where}"
                raise ConfigError(f"{of}: expected a list of values, as in [f, m], got {values!r}")
            if any(isinstance(value, bool) for value in values or ()):
                raise ConfigError(f'{where}: YAML reads bare yes, no, on and off as true and false; quote them: ["no"]')

    @property
    def declared(self) -> dict[str, list[str] | None]:
        """Categorical columns with their categories, None where the silos' union is to be taken."""
        if isinstance(self.categorical, Mapping):
            given = self.categorical.items()
            return {name: None if values is None else [str(value) for value in values] for name, values in given}
        return dict.fromkeys(self.categorical or ())


@dataclass(frozen=True)
class Encoding:
    """The way from a row of a table to inputs and a target: a part of every model that was trained on tables.

    It is learnt once, from the training tables, and written into the run folder (``encoding.json``), each checkpoint
    and each export; resuming and evaluating use it from there.

    Args:
        options: as the user gave them.
        numeric: numeric columns with (mean, deviation, fill): inputs are ``(value or fill - mean) / deviation``; 0 and
            1 where they are not standardised.
        categories: categorical columns with their categories.
        order: all input columns in the order of the inputs, that of the first file.
        classes: class names, None for regression.
        warnings: things in the tables that look like a mistake.
    """

    options: Options
    numeric: dict[str, tuple[float, float, float]]
    categories: dict[str, list[str]]
    order: list[str]
    classes: list[str] | None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it for ``encoding.json``; floats survive JSON exactly."""
        columns: list[dict[str, Any]] = []
        for name in self.order:
            if name in self.categories:
                columns.append({"name": name, "categories": self.categories[name]})
            else:
                mean, deviation, fill = self.numeric[name]
                columns.append({"name": name, "mean": mean, "deviation": deviation, "fill": fill})
        return {
            "format": FORMAT,
            "target": self.options.target,
            "task": self.spec.task,
            "classes": self.classes,
            "standardize": self.options.standardize,
            "ignore": list(self.options.ignore),
            "columns": columns,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Encoding:
        """Return the encoding that :meth:`to_json` wrote.

        Raises:
            ConfigError: it is something else, or of another version.
        """
        if content.get("format") != FORMAT:
            raise ConfigError(f"the encoding has format {content.get('format')!r}; this fedray reads {FORMAT}")
        try:
            columns: list[dict[str, Any]] = content["columns"]
            categories = {
                str(one["name"]): [str(v) for v in one["categories"]] for one in columns if "categories" in one
            }
            numeric = {
                str(one["name"]): (float(one["mean"]), float(one["deviation"]), float(one["fill"]))
                for one in columns
                if "categories" not in one
            }
            order = [str(one["name"]) for one in columns]
            classes = None if content["classes"] is None else [str(name) for name in content["classes"]]
            task, standardize, ignore = content["task"], content["standardize"], content["ignore"]
            options = Options(content["target"], task, categories, classes, standardize, ignore)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"the encoding is not one of fedray's: {one_line(error)}") from None
        return cls(options, numeric, categories, order, classes)

    def need(self, options: Options) -> None:
        """Raise ConfigError, naming the option, if tables are to be read in another way than this one."""
        declared = options.declared
        same = {
            "target": options.target == self.options.target,
            "standardize": options.standardize == self.options.standardize or not self.numeric,
            "task": options.task in ("auto", self.spec.task),
            "classes": options.classes is None or [str(name) for name in options.classes] == self.classes,
            "categorical": set(declared) == set(self.categories)
            and all(given in (None, self.categories[name]) for name, given in declared.items()),
            "ignore": not any(name in options.ignore for name in self.order),
        }
        for name, kept in same.items():
            if not kept:
                raise ConfigError(
                    f"{name}: the model was trained on tables that were encoded otherwise (see encoding.json in its "
                    "folder)\nleave this option as it was, or train anew in another run.dir"
                )

    @property
    def spec(self) -> DataSpec:
        """Shape and meaning of an example."""
        features = sum(len(self.categories.get(name, [name])) for name in self.order)
        if self.classes is None:
            return DataSpec((features,), 1, "regression")
        return DataSpec((features,), len(self.classes), "classification", tuple(self.classes))

    def inputs(self, table: Table) -> NDArray[np.float32]:
        """Return inputs ``[rows, features]``; an unknown category raises ConfigError with file, line and column."""
        blocks = [
            self._one_hot(table, name) if name in self.categories else self._scaled(table, name) for name in self.order
        ]
        joined = np.concatenate(blocks, axis=1)
        if joined.size and np.abs(joined).max() > np.finfo(np.float32).max:
            raise ConfigError(f"{table.path} has a number so far from the training data that float32 cannot hold it")
        return joined.astype(np.float32)

    def _scaled(self, table: Table, name: str) -> NDArray[np.float64]:
        center, scale, fill = self.numeric[name]
        values = table.numbers(name)
        return ((np.where(np.isnan(values), fill, values) - center) / scale)[:, None]

    def _one_hot(self, table: Table, name: str) -> NDArray[np.float64]:
        known = {category: number for number, category in enumerate(self.categories[name])}
        block = np.zeros((table.rows, len(known)))
        for row, value in enumerate(table.text(name)):
            if value is None:
                continue
            if value not in known:
                raise ConfigError(
                    f"{table.where(row)}, column {name!r}: unknown category {value!r}{nearest(value, known)}; "
                    f"known: {listed(known)}"
                )
            block[row, known[value]] = 1.0
        return block

    def targets(self, table: Table) -> NDArray[Any]:
        """Return targets, int64 ``[rows]`` classes or float32 ``[rows, 1]``.

        Unknown or missing ones raise ConfigError.
        """
        name = self.options.target
        if self.classes is None:
            values = table.numbers(name, target=True)
            if np.isnan(values).any():
                raise ConfigError(f"{table.where(int(np.argmax(np.isnan(values))))}: the target {name!r} is missing")
            return values[:, None].astype(np.float32)
        known = {label: number for number, label in enumerate(self.classes)}
        numbers = np.empty(table.rows, dtype=np.int64)
        for row, label in enumerate(table.text(name)):
            if label is None:
                raise ConfigError(f"{table.where(row)}: the target {name!r} is missing")
            number = known.get(label, known.get(canonical(label)))
            if number is None:
                source = "given" if self.options.classes is not None else "seen in training"
                raise ConfigError(
                    f"{table.where(row)}, column {name!r}: class {label!r} is not among the classes {source}: "
                    f"{listed(known)}"
                )
            numbers[row] = number
        return numbers


def canonical(label: str) -> str:
    """Write whole numbers in one form, so that ``1``, ``01`` and ``1.0`` are one class; other text stays."""
    try:
        value = float(label)
    except ValueError:
        return label
    return str(int(value)) if value.is_integer() else label
