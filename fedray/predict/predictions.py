"""The predictions of rows by a model: classes with their probabilities, or numbers."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedray.core.errors import ConfigError, listed
from fedray.rundir import durable
from fedray.tasks import Task

if TYPE_CHECKING:
    import pyarrow

PREDICTED = "predicted"
"""The column of classes, or of numbers, in a table of predictions."""


@dataclass(frozen=True)
class Predictions:
    """The predictions of rows by a model, in their order.

    NumPy and scikit-learn take it for its array ``predicted``, as in ``accuracy_score(y, predictions)``.

    >>> names = np.array(["benign", "malignant"])
    >>> shares = np.array([[0.2, 0.8], [0.9, 0.1]])
    >>> found = Predictions(names[[1, 0]], shares, ("benign", "malignant"), np.log(shares))
    >>> list(np.asarray(found)), len(found)
    ([np.str_('malignant'), np.str_('benign')], 2)
    >>> found.to_arrow().to_pylist()[0]
    {'predicted': 'malignant', 'benign': 0.2, 'malignant': 0.8}

    Args:
        predicted: names of classes ``[n]``, of positions ``[n, ...]``; for several labels 0 or 1, ``[n, L]``; for
            regression numbers in the unit of the target, ``[n]`` or ``[n, k]``.
        probabilities: of each class, float64 ``[n, K]``, of positions ``[n, K, ...]``; None for regression.
        classes: the names of the classes, in the order of the probabilities; empty for regression.
        outputs: those of the model, float32 ``[n, ...]``: logits, or numbers.
        rest: columns of the rows that are no inputs of the model, such as the ids of patients, by name.
        column: the name of the column of ``predicted`` in a table.
    """

    predicted: NDArray[Any]
    probabilities: NDArray[np.float64] | None
    classes: tuple[str, ...]
    outputs: NDArray[np.float32]
    rest: dict[str, Any] = field(default_factory=dict)
    column: str = PREDICTED

    @classmethod
    def of(cls, outputs: torch.Tensor, task: Task, rest: dict[str, Any] | None = None) -> Predictions:
        """Return what outputs ``[n, ...]`` of a model say, by its task."""
        found, shares = task.predicted(outputs), task.probabilities(outputs.double())
        raw, predicted = outputs.numpy(), found.numpy()
        if shares is None:
            if predicted.ndim == 2 and predicted.shape[1] == 1:
                predicted = predicted[:, 0]
            return cls(predicted, None, (), raw, rest or {})
        # A model may have more outputs than there are classes.
        more = range(len(task.classes), shares.shape[1])
        classes = (*task.classes, *map(str, more))
        named = predicted if task.several else np.array(classes)[predicted]
        return cls(named, shares.numpy(), classes, raw, rest or {})

    def __len__(self) -> int:
        return len(self.predicted)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.predicted, dtype=dtype, copy=True if copy is None else copy)

    def columns(self) -> dict[str, Any]:
        """Return the table of predictions: the columns that are no inputs, what is predicted, a share for each class.

        Raises:
            ConfigError: there is more than a number or a class for each row, or two columns have one name.
        """
        if self.predicted.ndim > 2 or (self.probabilities is not None and self.probabilities.ndim > 2):
            raise ConfigError(
                f"predictions are arrays {list(self.predicted.shape)} here, which no table holds; write them to a "
                "file called .npz"
            )
        own: dict[str, Any] = {}
        if self.probabilities is None:
            values = self.predicted.reshape(len(self), -1)
            single = values.shape[1] == 1
            own = {self.column if single else f"{self.column}_{k}": values[:, k] for k in range(values.shape[1])}
        else:
            own[PREDICTED] = self._words() if self.predicted.ndim == 2 else self.predicted
            own |= {name: self.probabilities[:, k] for k, name in enumerate(self.classes)}
            if len(own) != len(self.classes) + 1:
                raise ConfigError(f"{PREDICTED!r} is the name of a class, too, so that no table can hold both")
        if twice := [name for name in self.rest if name in own]:
            raise ConfigError(
                f"the rows have a column {listed(map(repr, twice))} that is no input, and the predictions have one of "
                "that name; leave it out, or call it otherwise"
            )
        return {**self.rest, **own}

    def _words(self) -> NDArray[Any]:
        """Return the names of the labels that each row has, with semicolons between them."""
        names = np.array(self.classes)
        return np.array([";".join(names[row > 0]) for row in self.predicted])

    def to_arrow(self) -> pyarrow.Table:
        """Return :meth:`columns` as a table of Arrow."""
        import pyarrow

        return pyarrow.table(self.columns())

    def to_pandas(self) -> Any:
        """Return :meth:`columns` as a DataFrame."""
        return self.to_arrow().to_pandas()

    def to_csv(self) -> str:
        """Return :meth:`columns` as text of CSV."""
        return self._csv().decode()

    def _csv(self) -> bytes:
        import pyarrow.csv

        out = io.BytesIO()
        pyarrow.csv.write_csv(self.to_arrow(), out, pyarrow.csv.WriteOptions(quoting_style="needed"))
        return out.getvalue()

    def write(self, path: str | Path) -> None:
        """Write them to a file: ``.csv``, ``.parquet``, or ``.npz`` with arrays of the names of the fields.

        Raises:
            ConfigError: another kind of file, one that cannot be written, or as :meth:`columns`.
        """
        path = Path(path)
        kinds = {".csv": self._csv, ".parquet": self._parquet, ".npz": self._npz}
        if path.suffix not in kinds:
            raise ConfigError(f"{path}: predictions are written to a file called {', '.join(kinds)}")
        content = kinds[path.suffix]()
        try:
            durable.replace(path, content)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None

    def _parquet(self) -> bytes:
        import pyarrow.parquet

        out = io.BytesIO()
        pyarrow.parquet.write_table(self.to_arrow(), out)
        return out.getvalue()

    def _npz(self) -> bytes:
        arrays = {"predicted": self.predicted, "classes": np.array(self.classes), "outputs": self.outputs}
        if self.probabilities is not None:
            arrays["probabilities"] = self.probabilities
        out = io.BytesIO()
        np.savez(out, allow_pickle=False, **arrays)
        return out.getvalue()
