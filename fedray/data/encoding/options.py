"""The options for reading tables, as a config or a call has them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict

from fedray.config.binding import bind, check_words, nearest
from fedray.core.errors import ConfigError, listed, quoted
from fedray.data.encoding.dialect import Dialect
from fedray.data.encoding.table import Reading

Task = Literal["auto", "classification", "regression"]

_CHOICES = {
    "task": ("auto", "classification", "regression"),
    "missing_columns": ("error", "impute"),
    "missing_values": ("impute", "indicator"),
    "missing_target": ("error", "drop"),
    "unseen": ("error", "other"),
}


class TableOptions(TypedDict, total=False):
    """The options for reading tables but the target, as keywords; see :meth:`fedray.data.FederatedData.from_csv`."""

    task: Task
    categorical: Mapping[str, Any] | Sequence[str] | None
    classes: Sequence[str] | None
    standardize: bool
    ignore: Sequence[str]
    columns: Sequence[str] | None
    ordinal: Mapping[str, Sequence[Any]]
    missing: Mapping[str, Sequence[Any]]
    missing_columns: Literal["error", "impute"]
    missing_values: Literal["impute", "indicator"]
    missing_target: Literal["error", "drop"]
    unseen: Literal["error", "other"]
    csv: Mapping[str, Any] | None


@dataclass(frozen=True)
class Options:
    """The options for reading tables; see :meth:`fedray.data.FederatedData.from_csv`.

    >>> options = Options("sick", categorical={"sex": ["f", "m"], "ward": {"top": 20}}, ordinal={"grade": ["I", "II"]})
    >>> options.declared, options.top
    ({'sex': ['f', 'm'], 'ward': None}, {'ward': 20})
    >>> Options("sick", missing={"chol": 0, "crp": [-1, "k.A."]}).missing  # one value stands for a list of it
    {'chol': [0], 'crp': [-1, 'k.A.']}
    """

    target: str
    task: Task = "auto"
    categorical: Mapping[str, Any] | Sequence[str] | None = None
    classes: Sequence[str] | None = None
    standardize: bool = True
    ignore: Sequence[str] = ()
    columns: Sequence[str] | None = None
    ordinal: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    missing: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    missing_columns: Literal["error", "impute"] = "error"
    missing_values: Literal["impute", "indicator"] = "impute"
    missing_target: Literal["error", "drop"] = "error"
    unseen: Literal["error", "other"] = "error"
    csv: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for key, allowed in _CHOICES.items():
            if getattr(self, key) not in allowed:
                raise ConfigError(f"{key}: {quoted(getattr(self, key))} is unknown; known: {', '.join(allowed)}")
        for key in ("ignore", "columns"):
            names = getattr(self, key)
            if names is not None and (isinstance(names, str) or not all(isinstance(name, str) for name in names)):
                raise ConfigError(f"{key}: expected names of columns, as in [patient_id], got {quoted(names)}")
        if self.target in self.ignore:
            raise ConfigError(f"ignore: {self.target!r} is the target")
        if self.task == "regression" and self.classes is not None:
            raise ConfigError("classes: a regression target has none; leave them out or set task: classification")
        if self.classes is not None and len(set(map(str, self.classes))) != len(self.classes):
            raise ConfigError(f"classes: a name is given twice: {listed(self.classes)}")
        if not isinstance(self.categorical, (Mapping, list, tuple, type(None))):
            raise ConfigError(
                f"categorical: expected [columns] or {{column: [values]}}, got {quoted(self.categorical)}"
            )
        for key in ("ordinal", "missing"):
            if not isinstance(getattr(self, key), Mapping):
                raise ConfigError(f"{key}: expected {{column: [values]}}, got {quoted(getattr(self, key))}")
        single = {name: [one] if isinstance(one, str | int | float) else one for name, one in self.missing.items()}
        object.__setattr__(self, "missing", single)
        self._check_values()
        self._check_columns()
        self._dialects  # noqa: B018 - a mistake in it is said now

    def _check_values(self) -> None:
        columns = self.categorical if isinstance(self.categorical, Mapping) else {}
        lists = {"classes": self.classes}
        lists |= {f"categorical.{name}": values for name, values in columns.items() if not isinstance(values, Mapping)}
        lists |= {
            f"{key}.{name}": values for key in ("ordinal", "missing") for name, values in getattr(self, key).items()
        }
        for where, values in lists.items():
            if not isinstance(values, list | tuple) and (values is not None or where.startswith("missing.")):
                raise ConfigError(f"{where}: expected a list of values, as in [f, m], got {quoted(values)}")
            check_words(where, values or ())
        for key in ("categorical", "ordinal", "missing"):
            check_words(key, getattr(self, key) or ())
        for name, values in self.ordinal.items():
            if values is None or len(values) < 2 or len(set(map(str, values))) != len(values):
                raise ConfigError(
                    f"ordinal.{name}: expected two levels or more, from low to high, got {quoted(values)}"
                )
        for name, how in columns.items():
            if not isinstance(how, Mapping):
                continue
            key, count = next(iter(how.items())) if len(how) == 1 else ("", 0)
            if key not in ("top", "hash") or type(count) is not int or count < 1:
                raise ConfigError(
                    f"categorical.{name}: expected a list of values, {{top: 20}} for the most frequent ones, or "
                    f"{{hash: 64}}, got {quoted(dict(how))}"
                )

    def _check_columns(self) -> None:
        if self.columns is not None and self.ignore:
            raise ConfigError("ignore: `columns` says already which columns are inputs; leave one of the two out")
        if self.columns is not None and self.target in self.columns:
            raise ConfigError(f"columns: {self.target!r} is the target; these are the inputs")
        if self.columns is not None and (not self.columns or len(set(self.columns)) != len(self.columns)):
            raise ConfigError(f"columns: expected names of columns, each once, got {quoted(list(self.columns))}")
        declared = {"categorical": self.declared | self.hashed, "ordinal": self.ordinal, "missing": self.missing}
        for key, names in declared.items():
            for name in names:
                if name in self.ignore:
                    raise ConfigError(f"ignore: {name!r} is declared as {key} too; leave it out of one of them")
                if (
                    self.columns is not None
                    and name not in self.columns
                    and not (name == self.target and key == "missing")
                ):
                    raise ConfigError(f"{key}: {name!r} is not among `columns`; name it there, or leave it out here")
        for name in self.ordinal:
            if name in declared["categorical"]:
                raise ConfigError(f"ordinal: {name!r} is declared as categorical too; leave it out of one of them")

    @property
    def declared(self) -> dict[str, list[str] | None]:
        """Categorical columns with their categories, None where those of the silos are to be taken."""
        if isinstance(self.categorical, Mapping):
            given = {name: values for name, values in self.categorical.items() if name not in self.hashed}
            return {
                name: None if values is None or isinstance(values, Mapping) else [str(value) for value in values]
                for name, values in given.items()
            }
        return dict.fromkeys(self.categorical or ())

    @property
    def hashed(self) -> dict[str, int]:
        """Categorical columns whose values are hashed, with the number of inputs."""
        return self._with("hash")

    @property
    def top(self) -> dict[str, int]:
        """Categorical columns of which the most frequent values are taken, with their number."""
        return self._with("top")

    @property
    def levels(self) -> dict[str, list[str]]:
        """Ordinal columns with their levels, from low to high."""
        return {name: [str(value) for value in values] for name, values in self.ordinal.items()}

    def reading(self, path: str | Path, own: Mapping[str, Any] | None = None) -> Reading:
        """Return how a file is to be read.

        Args:
            path: of the file, by whose name ``csv.files`` may say how it differs.
            own: its dialect, as far as it differs, from elsewhere.
        """
        common, files = self._dialects
        dialect = next((files[name] for name in _names_of(path) if name in files), common)
        if own is not None:
            dialect = _joined(dialect, own, "csv")
        drop = self.target if self.missing_target == "drop" else None
        return Reading(dialect, self.missing, drop, tuple(map(str, self.classes or ())))

    @cached_property
    def _dialects(self) -> tuple[Dialect, dict[str, Dialect]]:
        """The dialect of all files, and those of single ones."""
        if not isinstance(self.csv, (Mapping, type(None))):
            raise ConfigError(f"csv: expected a section such as {{delimiter: ';'}}, got {quoted(self.csv)}")
        given = dict(self.csv or {})
        files = given.pop("files", None) or {}
        if not isinstance(files, Mapping) or not all(isinstance(one, Mapping) for one in files.values()):
            raise ConfigError(f"csv.files: expected {{file: {{delimiter: ';'}}}}, got {quoted(files)}")
        common = _joined(Dialect(), given, "csv")
        return common, {str(name): _joined(common, own, f"csv.files.{name}") for name, own in files.items()}

    def check_files(self, paths: Sequence[Path]) -> None:
        """Raise ConfigError if ``csv.files`` names a file that is none of these."""
        names = {name for path in paths for name in _names_of(path)}
        for name in self._dialects[1]:
            if name not in names:
                files = listed(path.name for path in paths)
                raise ConfigError(f"csv.files: {name!r} is none of the files{nearest(name, names)}; they are {files}")

    def _with(self, key: str) -> dict[str, int]:
        if not isinstance(self.categorical, Mapping):
            return {}
        return {name: how[key] for name, how in self.categorical.items() if isinstance(how, Mapping) and key in how}


def _names_of(path: str | Path) -> tuple[str, str, str]:
    """Return the names that a file may have in ``csv.files``."""
    if not isinstance(path, str | os.PathLike):
        return "", "", ""  # is refused where it is read
    name = Path(path).name
    return name, Path(name).stem, name.partition(".")[0]


def _joined(common: Dialect, own: Mapping[str, Any], key: str) -> Dialect:
    """Return a dialect in which what is given takes the place of what all files have."""
    words = own.get("missing")
    if words is not None and (
        isinstance(words, str | Mapping) or not isinstance(words, Iterable) or any(isinstance(w, bool) for w in words)
    ):
        columns = "; numbers that stand for missing values in one column are missing: {column: [0]}, beside csv"
        raise ConfigError(
            f'{key}.missing: expected a list of words, as in ["-9", "k.A."], got {quoted(words)}'
            f"{columns if isinstance(words, Mapping) else ''}"
        )
    bound = bind(Dialect, {**own, **({} if words is None else {"missing": [str(word) for word in words]})}, key)
    return replace(common, **{name: getattr(bound, name) for name in own})
