"""Data from arrays in memory: rows sorted by client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedray.core.draws import put_back
from fedray.core.errors import ConfigError
from fedray.data.columns.checks import (
    Naming,
    as_array,
    as_examples,
    check_fits,
    doubts,
    infer_spec,
    plain_row,
    same_shapes,
    tensor,
    tensors,
    widened,
    with_inputs,
)
from fedray.data.columns.contiguous import ContiguousData
from fedray.data.columns.holdout import NOTHING, Holdout
from fedray.data.columns.ids import check_ids, id_keys
from fedray.data.columns.inputs import InputColumns
from fedray.data.columns.ragged import Ragged, level
from fedray.data.columns.rows import Examples, make_examples
from fedray.data.spec import DataSpec

D = TypeVar("D", bound=ContiguousData)


@dataclass(frozen=True)
class Columns:
    """Rows in the order of their clients, as :class:`ContiguousData` takes them.

    Args:
        x: inputs ``[N, ...]``, or :class:`InputColumns` of them.
        y: targets ``[N, ...]``.
        sizes: rows of each client, int64 ``[n]``.
        spec: shape and meaning of an example.
        test: central test set.
        ids: names of the clients; None: they are numbers.
        warnings: warnings raised while they were read.
        encoding: their encoding from tables, see :class:`ClientData`.
        marks: a hash of each training file, by its name or its client's.
        notes: lines for the log on what was found in files.
        taken: the columns of files of arrays, see :class:`ClientData`.
        asked: the questions that their encoding was learnt by, see :class:`ClientData`.
        holdout: the rows to be held out of them, without which their encoding was learnt.
    """

    x: Any
    y: NDArray[Any]
    sizes: NDArray[np.int64]
    spec: DataSpec
    test: Examples | None = None
    ids: NDArray[np.bytes_] | None = None
    warnings: tuple[str, ...] = ()
    encoding: Mapping[str, Any] | None = None
    marks: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()
    taken: Mapping[str, Any] | None = None
    asked: Sequence[Mapping[str, Any]] = ()
    holdout: Holdout = NOTHING

    def of(self, kind: type[D]) -> D:
        """Return them as data of some kind, which holds out what is to be held out."""
        data = kind(tensors(self.x), tensor(self.y), self.sizes, self.spec, test=self.test, ids=self.ids)
        data.warnings, data.encoding, data.marks = self.warnings, self.encoding, self.marks
        data.notes, data.taken = (*data.notes, *self.notes), self.taken
        data = data.with_holdout(self.holdout.fraction, self.holdout.seed)
        data.asked = self.asked
        return data


def by_client(
    x: Any,
    y: Any,
    clients: Any,
    *,
    test: Any = None,
    ids: Sequence[str] | None = None,
    spec: DataSpec | None = None,
    test_clients: Any = None,
) -> Columns:
    """Sort rows by client; see ``FederatedData.from_arrays``."""
    inputs, targets = as_examples(x, y, naming=_of_client(clients, ids))
    if len(inputs) == 0:
        raise ConfigError("the data has no rows")
    index, names, count = number_clients(as_array(clients), ids)
    if len(index) != len(inputs):
        raise ConfigError(f"x has {len(inputs)} rows but clients has {len(index)}")
    if (index[1:] < index[:-1]).any():
        order = np.argsort(index, kind="stable")
        inputs, targets = inputs[order], targets[order]
    said = doubts(targets) if spec is None else ()
    if isinstance(test, tuple) and len(test) == 2:
        (inputs, targets), test = _leveled((inputs, targets), as_examples(*test, where="test"))
    if spec is None:
        spec = infer_spec(inputs, targets)
        if test is not None:
            test, spec = _fit_test(test, targets, spec)
    if isinstance(targets, Ragged):
        spec = replace(spec, padding=_label(targets, spec))
        targets, test = targets.changed(pad=spec.padding), _padded(test, spec)
    check_fits(inputs, targets, spec, "training data")
    sizes = np.bincount(index, minlength=count)
    own = make_examples(test, spec)
    if test_clients is not None:
        own = _owned(own, as_array(test_clients), names, count)
    return Columns(inputs, targets, sizes, spec, own, names, said)


def _of_client(clients: Any, ids: Sequence[str] | None) -> Naming:
    """Return the words for a row in an error: its place among all, and among those of its client.

    >>> _of_client(["b", "a", "b"], None)(2), _of_client([0, 1, 1], ["nord", "sued"])(2), _of_client([0], None)(7)
    ("row 2 (row 1 of client 'b')", "row 2 (row 1 of client 'sued')", 'row 7')
    """

    def naming(row: int) -> str:
        labels = as_array(clients)
        if labels.ndim != 1 or row >= len(labels):
            return plain_row(row)  # which is an error of its own
        label = labels[row]
        number = labels.dtype.kind in "iu" and ids is not None and 0 <= label < len(ids)
        name = ids[label] if number and ids is not None else label.decode() if isinstance(label, bytes) else label
        return f"{plain_row(row)} (row {int((labels[:row] == label).sum())} of client {str(name)!r})"

    return naming


def _owned(test: Examples | None, labels: NDArray[Any], names: NDArray[np.bytes_] | None, count: int) -> Examples:
    """Return a test set that knows whose own its examples are.

    Raises:
        ConfigError: there is none, it has another length, or a label is no client's.
    """
    if test is None:
        raise ConfigError("test_clients: there is no test set whose examples they could be; give `test`")
    if labels.shape != (len(test),):
        raise ConfigError(f"test_clients: one label for each of the {len(test)} rows is needed, got {labels.shape}")
    if labels.dtype.kind in "iu":
        numbers = labels.astype(np.int64)
        if len(numbers) and not -1 <= int(numbers.min()) <= int(numbers.max()) < count:
            raise ConfigError(f"test_clients: clients are numbered from 0 to {count - 1}; -1 stands for nobody")
        return Examples(test.x, test.y, numbers)
    place = {"": -1} if names is None else {"": -1, **{name.decode(): number for number, name in enumerate(names)}}
    for label in np.unique(labels.astype(np.str_)):
        if str(label) not in place:
            raise ConfigError(f"test_clients: {str(label)!r} is no client of the training rows; '' stands for nobody")
    return Examples(test.x, test.y, np.array([place[str(label)] for label in labels], dtype=np.int64))


def _leveled(training: tuple[Any, Any], test: tuple[Any, Any]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return two sets of examples, whose sequences of different lengths are padded to one length."""
    (x, y), (test_x, test_y) = training, test
    same = y is x, test_y is test_x
    if isinstance(x, InputColumns) and isinstance(test_x, InputColumns) and list(x) == list(test_x):
        pairs = {name: level(x[name], test_x[name]) for name in x}
        x, test_x = (InputColumns({name: pair[side] for name, pair in pairs.items()}) for side in (0, 1))
    else:
        x, test_x = level(x, test_x)
    y, test_y = level(y, test_y)
    return (x, x if same[0] else y), (test_x, test_x if same[1] else test_y)


def _label(targets: Ragged, spec: DataSpec) -> int:
    """Return the target of padding: the one given, or the number behind the last class."""
    if spec.padding is not None:
        return spec.padding
    if targets.pad is None:
        return spec.outputs
    if targets.pad != int(targets.pad) or targets.pad < 0:
        raise ConfigError(f"y: pad={targets.pad}: padding of targets is a whole number from 0, as targets are")
    return int(targets.pad)


def _padded(test: Any, spec: DataSpec) -> Any:
    """Return a test set whose targets are padded as those of training."""
    if not isinstance(test, tuple) or not isinstance(test[1], Ragged):
        return test
    return test[0], test[1].changed(pad=spec.padding)


def _fit_test(test: Any, targets: NDArray[Any], spec: DataSpec) -> tuple[Any, DataSpec]:
    """Check a test set against the specification that was read off the training data, and widen it for tokens.

    Training has to know every class of the test set, and ``spec`` every token.
    """
    if isinstance(test, Examples):
        test = (test.x, test.y)
    if not isinstance(test, tuple) or len(test) != 2:
        return test, spec
    x, y = as_examples(*test, where="test")
    if y is x or (isinstance(y, Ragged) and isinstance(x, Ragged) and y.values is x.values):
        spec = replace(spec, outputs=max(spec.outputs, int(y.max()) + 1))
    elif y.dtype == targets.dtype == np.int64:
        mine, theirs = (one.values if isinstance(one, Ragged) else one for one in (y, targets))
        unseen = np.setdiff1d(mine, theirs)
        if len(unseen):
            raise ConfigError(f"test: class {unseen[0]} does not occur in the training data; give `spec` to allow it")
    return (x, y), widened(spec, with_inputs(spec, x)) if same_shapes(x, spec) else spec


def number_clients(
    clients: NDArray[Any], ids: Sequence[str] | None
) -> tuple[NDArray[np.int64], NDArray[np.bytes_] | None, int]:
    """Return client numbers per row ``[N]``, the clients' ids (None: unnamed), and the number of clients.

    Raises:
        ConfigError: negative numbers, names that ``ids`` lacks, bad ids, labels that are neither numbers nor text.
    """
    if clients.ndim != 1:
        raise ConfigError(f"clients must have one label per row, got shape {clients.shape}")
    if clients.dtype.kind in "iu":
        if clients.size and int(clients.min()) < 0:
            raise ConfigError("clients has negative numbers; clients are numbered from 0")
        largest = int(clients.max()) + 1 if clients.size else 0
        count = largest if ids is None else len(ids)
        if count < largest:
            raise ConfigError(f"{count} client ids were given, but clients has numbers up to {largest - 1}")
        index = clients.astype(np.int64, copy=False)
        if ids is None and (empty := _first_empty(index, count)) is not None:
            raise ConfigError(
                f"clients has numbers up to {largest - 1}, but client '{empty}' has no training examples; "
                "number them from 0 without gaps, or turn the numbers into text to use them as names"
            )
        return index, None if ids is None else check_ids(ids, count), count
    if clients.dtype.kind not in "USO":
        raise ConfigError(f"clients must be numbers or names, got {clients.dtype}")
    labels = clients.astype(np.str_) if clients.dtype.kind != "S" else np.char.decode(clients, "ascii")
    found, index = np.unique(labels, return_inverse=True)
    if ids is None:
        return index.astype(np.int64), check_ids(found, len(found)), len(found)
    names = check_ids(ids, len(ids))
    place = {name: number for number, name in enumerate(ids)}
    for label in found:
        if str(label) not in place:
            raise ConfigError(f"clients has the name {str(label)!r}, which is not among ids")
    numbers = np.array([place[str(label)] for label in found], dtype=np.int64)
    return numbers[index], names, len(names)


def held_out(clients: NDArray[Any], ids: Sequence[str] | None, holdout: Holdout) -> NDArray[np.bool_]:
    """Return which rows ``with_holdout`` will hold out, once they are sorted by client, ``[N]``.

    Args:
        clients: for each row its client, ``[N]``; as ``ids``, see :func:`by_client`.
        ids: names of the clients.
        holdout: the fraction, and the seed.
    """
    if not holdout.fraction:
        return np.zeros(len(clients), dtype=np.bool_)
    index, names, count = number_clients(clients, ids)
    keys = np.arange(count) if names is None else id_keys(names)
    held = np.zeros(len(index), dtype=np.bool_)
    held[np.argsort(index, kind="stable")] = holdout.rows(keys, np.bincount(index, minlength=count))
    return held


def _first_empty(index: NDArray[np.int64], count: int) -> int | None:
    """Return the first number below ``count`` that no row has."""
    # Numbers may be far larger than there are rows: a gap is then among as many as there are rows, and one.
    near = index if count <= len(index) + 1 else index[index <= len(index)]
    rows = np.bincount(near, minlength=min(count, len(index) + 1))
    return None if rows.all() else int(np.argmin(rows))


def stack_dataset(dataset: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Stack all ``(x, y)`` pairs of a map-style data set.

    Raises:
        ConfigError: a data set without a length, empty, or whose items are not pairs of equal shapes.
    """
    tensors = getattr(dataset, "tensors", None)
    if isinstance(tensors, tuple) and len(tensors) == 2:
        return as_array(tensors[0]), as_array(tensors[1])
    if not hasattr(dataset, "__len__") or len(dataset) == 0:
        raise ConfigError("the data set must have a length and at least one example (map-style, not iterable)")
    xs, ys = [], []
    for number in range(len(dataset)):
        item = dataset[number]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise ConfigError(f"item {number} of the data set is {type(item).__name__}, expected a pair (x, y)")
        xs.append(as_array(item[0]))
        ys.append(as_array(item[1]))
        if xs[-1].shape != xs[0].shape or ys[-1].shape != ys[0].shape:
            raise ConfigError(
                f"item {number} of the data set has shapes {xs[-1].shape}, {ys[-1].shape}, but item 0 has "
                f"{xs[0].shape}, {ys[0].shape}; resize or pad them to one shape"
            )
    return np.stack(xs), np.stack(ys)


def random_items(dataset: Any, x: NDArray[Any]) -> str | None:
    """Say that a data set gives other values when it is asked again, if it does; the first items are asked."""
    if isinstance(getattr(dataset, "tensors", None), tuple):
        return None
    with put_back():
        same = all(np.array_equal(as_array(dataset[number][0]), x[number]) for number in range(min(8, len(x))))
    if same:
        return None
    return (
        "the data set gives other values when it is asked again, as with random transforms, and is read once: leave "
        "them out, and augment each batch anew by draws of the run: data.with_augment([...])"
    )
