"""A user's values made into stored columns, or into one clear error."""

from __future__ import annotations

import keyword
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.errors import ConfigError, short
from fedray.data.columns.inputs import InputColumns, Inputs, like, named, parts
from fedray.data.columns.ragged import Ragged, alongside
from fedray.data.columns.small import is_small
from fedray.data.spec import Column, DataSpec

LABEL_LIMIT = 20
"""The most classes that whole numbers are taken for unasked: as indices below it, or as so many different values."""

IGNORED = (
    "positions that do not count have a target of their own, at least 0, which the task names: "
    "task: {name: segmentation, ignore_index: 255}"
)
"""Advice for pixels or tokens that do not count."""

_CHUNK = 1 << 22

Naming = Callable[[int], str]
"""From the place of a row, from 0, to the words for it in an error."""


def plain_row(row: int) -> str:
    """Return the words for a row of which nobody knows whose it is.

    >>> plain_row(7)
    'row 7'
    """
    return f"row {row}"


def as_array(values: Any) -> Any:
    """Return a tensor, an array or a sequence as a NumPy array (no copy where there need be none).

    Sequences of different lengths stay such where they are said to be.

    Raises:
        ConfigError: rows of different lengths make no array.
    """
    if isinstance(values, Ragged):
        return values
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ConfigError(f"no array can be made of these rows ({short(error)}); make them of one length") from None


def _floats(array: NDArray[Any], what: str, naming: Naming) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array, dtype=np.float32)
    per_row = max(1, int(np.prod(values.shape[1:])))
    step = max(1, _CHUNK // per_row)
    for start in range(0, len(values), step):
        good = np.isfinite(values[start : start + step]).reshape(-1, per_row).all(axis=1)
        if not good.all():
            row = start + int(np.argmin(good))
            where = naming(row)
            raise ConfigError(
                f"{what} has NaN, an infinite value or one beyond 3e38 in {where}; fill in or drop such values first"
            )
    return values


def _first_negative(array: NDArray[Any], naming: Naming) -> str:
    """Return the words for the first row that has a negative number; empty if none has."""
    if not array.size or int(array.min()) >= 0:
        return ""
    return naming(int(np.argmax((array < 0).reshape(len(array), -1).any(axis=1))))


def _sequence(values: Ragged, naming: Naming) -> Naming:
    """Return the words for the sequence that one of its values lies in."""
    return lambda place: naming(int(np.searchsorted(values.offsets, place, side="right")) - 1)


def as_inputs(values: Any, what: str = "x", rows: int | None = None, naming: Naming = plain_row) -> Any:
    """Return inputs as stored: uint8 unchanged (bytes of images), other integers as int64 tokens, the rest as float32.

    Args:
        values: array, tensor or nested sequence, ``[N, ...]``; or several columns of such, as a dict, or as a tuple of
            arrays of ``rows`` rows each.
        what: the word for it in an error.
        rows: the number of targets, by which columns are told from rows; None: not known.
        naming: the words for a row in an error.

    Returns:
        An array, or :class:`InputColumns` of arrays.

    Raises:
        ConfigError: not numeric, no batch axis, NaN or infinite values, negative tokens; columns that are not of one
            length, or whose names a model cannot be called with.
    """
    if (columns := _columns(values, what, rows)) is not None:
        columns = _with_masks(columns, what)
        found = InputColumns(columns)
        found = InputColumns(
            {name: _column(one, at, naming) for (name, one), at in zip(columns.items(), named(found), strict=True)}
        )
        if len(lengths := {name: len(one) for name, one in found.columns.items()}) and len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ConfigError(f"{what}: its columns must have as many rows each: {said}")
        return found
    if isinstance(values, Ragged) and (values.mask or values.lengths):
        raise ConfigError(
            f"{what}: a mask, or lengths, is a column of its own, so that the sequences must be one with a name: "
            "{'input_ids': Ragged(..., mask='attention_mask')}"
        )
    return _column(values, what, naming)


def _with_masks(columns: dict[str, Any], what: str) -> dict[str, Any]:
    """Return columns with those that tell padding from values."""
    found = dict(columns)
    for column, one in columns.items():
        if not isinstance(one, Ragged):
            continue
        found[column] = one.changed(mask=None, lengths=None)  # whose columns stand beside it now
        for name, told in ((one.mask, one.present), (one.lengths, one.counts)):
            if name is None:
                continue
            if name in found or not name.isidentifier() or keyword.iskeyword(name):
                raise ConfigError(f"{what}: {name!r} cannot be the name of a mask, or of lengths: choose another one")
            found[name] = told()
    return found


def _columns(values: Any, what: str, rows: int | None) -> dict[str, Any] | None:
    """Return the columns of inputs by name; None where there is but one array."""
    if isinstance(values, InputColumns):
        return values.columns
    if isinstance(values, Mapping):
        for name in values:
            if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
                raise ConfigError(
                    f"{what}: a model is called as model(name=...), and {name!r} is no name of an argument; rename it"
                )
        if not values:
            raise ConfigError(f"{what} is a dict without columns; at least one is needed")
        return dict(values)
    if not isinstance(values, tuple) or not all(isinstance(one, np.ndarray | Tensor) and one.ndim for one in values):
        return None
    lengths = {len(one) for one in values}
    if rows is None or lengths != {rows}:
        return None
    if len(values) == rows:
        raise ConfigError(
            f"{what} is a tuple of {rows} arrays of {rows} rows: give a dict of columns, or np.stack(...) of rows"
        )
    return {str(place): one for place, one in enumerate(values)}


def _column(values: Any, what: str, naming: Naming, small: bool = False) -> Any:
    """Return one column as stored; ``small``: whole numbers may stay of a small type."""
    if isinstance(values, Ragged):
        if values.values is None:
            return values
        return values.changed(values=_column(values.values, what, _sequence(values, naming), small=True))
    array = as_array(values)
    if array.ndim == 0 or array.dtype.kind not in "bfiu":
        raise ConfigError(f"{what} must be an array of numbers with one row per example, got {_kind(array)}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind in "iu":
        if where := _first_negative(array, naming):
            raise ConfigError(
                f"{what} holds integers, which are read as tokens, but has negative ones in {where}; use float inputs"
            )
        return np.ascontiguousarray(array, dtype=array.dtype if small and is_small(array.dtype) else np.int64)
    return _floats(array, what, naming)


def as_targets(values: Any, what: str = "y", small: bool = False, naming: Naming = plain_row) -> Any:
    """Return targets as stored: integers as int64 class indices ``[N, ...]``, floats as float32 ``[N, ...]``.

    Floats ``[N]`` become ``[N, 1]``.  Sequences of different lengths are classes, which with ``small`` may stay of a
    small type.

    Raises:
        ConfigError: not numeric, a wrong number of axes, NaN or infinite values, negative class indices.
    """
    if isinstance(values, Ragged):
        if values.values is None or values.values.dtype.kind not in "iu" or not values.size:
            raise ConfigError(
                f"{what}: targets of different lengths are classes, whole numbers; these are {values.dtype}"
            )
        return values.changed(values=as_targets(values.values, what, True, _sequence(values, naming)))
    array = as_array(values)
    if array.ndim == 0 or array.dtype.kind not in "bfiu":
        raise ConfigError(
            f"{what} must hold class indices or real targets, got {_kind(array)}; number the classes first"
        )
    if array.dtype.kind == "f":
        return _floats(array[:, None] if array.ndim == 1 else array, what, naming)
    if where := _first_negative(array, naming):
        more = f"; {IGNORED}" if array.ndim > 1 else ""
        raise ConfigError(f"{what} has negative class indices in {where}; classes are numbered from 0{more}")
    return np.ascontiguousarray(array, dtype=array.dtype if small and is_small(array.dtype) else np.int64)


def counting(y: Tensor, ignored: int) -> Tensor:
    """Return which target positions are classes other than ``ignored``, of ``[N, T]`` or ``[N, ...]``.

    Raises:
        ConfigError: an example has one target, or numbers for targets.
    """
    if y.dim() < 2 or y.is_floating_point():
        kind = "numbers for targets" if y.is_floating_point() else "one target"
        raise ConfigError(
            f"algorithm.weight: tokens counts the positions of targets, and an example has {kind} here; take examples"
        )
    return y != ignored


def doubts(targets: Any) -> tuple[str, ...]:
    """Return what is to be said of float targets ``[N, ...]`` that look like classes.

    >>> doubts(np.array([[0.0], [2.0]], dtype=np.float32))[0][:63]
    'targets are whole numbers from 0 to 2 written as floats, and ar'
    """
    if targets.dtype != np.float32 or not targets.size or targets.ndim > 2:
        return ()
    said = ""
    if targets.shape[1] == 1 and are_classes(targets):
        said = (
            f"targets are whole numbers from 0 to {targets.max():g} written as floats, and are read as one target of "
            "regression; for classification give integers, y.astype(int)"
        )
    elif targets.shape[1] > 1 and np.isin(targets, (0, 1)).all() and (targets.sum(axis=1) == 1).all():
        said = (
            f"targets are one-hot rows of {targets.shape[1]}, and are read as so many targets of regression; for "
            "classification give the number of the class, y.argmax(axis=1)"
        )
    return (said,) if said else ()


def are_classes(targets: NDArray[Any]) -> bool:
    """Return whether numbers look like class indices: whole, from 0, and not more kinds than numbers.

    >>> are_classes(np.array([4.0, 0.0])), are_classes(np.array([4.5, 0.0])), are_classes(np.array([250000.0, 0.0]))
    (True, False, False)
    """
    if not targets.size or float(targets.min()) < 0 or float(targets.max()) >= max(LABEL_LIMIT, len(targets)):
        return False
    return bool((targets == np.rint(targets)).all())


def _kind(array: NDArray[Any]) -> str:
    return f"{array.dtype} of shape {array.shape}"


def as_examples(x: Any, y: Any, where: str = "", naming: Naming = plain_row) -> tuple[Any, Any]:
    """Return inputs and targets of equal length; in errors ``where`` names the set (``test``), ``naming`` a row.

    Without targets (None) the inputs are their own where they are tokens, and else each example has none: ``[N, 0]``.
    """
    prefix = f"{where} " if where else ""
    if y is None:
        inputs = as_inputs(x, f"{prefix}x", _rows(x), naming)
        tokens = not isinstance(inputs, InputColumns) and inputs.dtype == np.int64 and inputs.ndim > 1
        if tokens and isinstance(inputs, Ragged):
            return inputs, inputs.changed(pad=None)
        return inputs, inputs if tokens else np.zeros((len(inputs), 0), dtype=np.float32)
    targets = as_targets(y, f"{prefix}y", naming=naming)
    inputs = as_inputs(x, f"{prefix}x", len(targets), naming)
    if len(inputs) != len(targets):
        raise ConfigError(f"{prefix}x has {len(inputs)} rows but {prefix}y has {len(targets)}")
    if isinstance(targets, Ragged):
        targets = alongside(targets, parts(inputs))
    return inputs, targets


def _rows(x: Any) -> int | None:
    """Return the rows of a tuple of arrays, where there are no targets to tell them by."""
    return len(x[0]) if isinstance(x, tuple) and len(x) and isinstance(x[0], np.ndarray | Tensor) else None


def infer_spec(x: Any, y: Any) -> DataSpec:
    """Infer the specification from stored columns: integer targets are classes ``0 .. max``, float ones regression."""
    if y.dtype == np.int64:
        spec = DataSpec((), int(y.max()) + 1, "classification")
    else:
        shape = y.shape[1:]
        spec = DataSpec((), math.prod(shape), "regression", target=shape if len(shape) > 1 else ())
    return with_inputs(spec, x)


def with_inputs(spec: DataSpec, x: Any) -> DataSpec:
    """Return a specification with the inputs that stored ones are."""
    if isinstance(x, InputColumns):
        columns = (Column(name, one.shape[1:], _vocabulary(one)) for name, one in x.columns.items())
        return replace(spec, shape=(), vocabulary=0, columns=tuple(columns))
    return replace(spec, shape=x.shape[1:], vocabulary=_vocabulary(x), columns=())


def _vocabulary(x: Any) -> int:
    if isinstance(x, Ragged) and x.dtype == np.int64:
        return max(int(x.max()), int(x.pad or 0)) + 1 if x.size else 1
    return int(x.max()) + 1 if x.dtype == np.int64 and x.size else 0


def widened(spec: DataSpec, found: DataSpec) -> DataSpec:
    """Return a specification that also knows the tokens of another one of the same columns."""
    tokens = {column.name: column.vocabulary for column in found.columns}
    columns = tuple(replace(one, vocabulary=max(one.vocabulary, tokens[one.name])) for one in spec.columns)
    return replace(spec, vocabulary=max(spec.vocabulary, found.vocabulary), columns=columns)


def same_shapes(x: Any, spec: DataSpec) -> bool:
    """Tell if stored inputs have the names and shapes that a specification says."""
    if isinstance(x, InputColumns):
        return {name: one.shape[1:] for name, one in x.columns.items()} == {c.name: c.shape for c in spec.columns}
    return not spec.columns and x.shape[1:] == spec.shape


def check_fits(x: Any, y: Any, spec: DataSpec, where: str) -> None:
    """Raise ConfigError unless the columns have the shape, kind and classes that ``spec`` promises."""
    if not same_shapes(x, spec):
        if isinstance(x, InputColumns) or spec.columns:
            raise ConfigError(f"{where}: inputs are {with_inputs(spec, x).inputs}, expected {spec.inputs}")
        raise ConfigError(f"{where}: inputs have shape {x.shape[1:]}, expected {spec.shape}")
    if spec.task == "classification":
        if y.dtype != np.int64:
            raise ConfigError(f"{where}: classification needs integer targets, got {y.dtype}")
        if y.size and int(y.max()) >= spec.outputs and int(y.max()) != spec.padding:
            raise ConfigError(f"{where}: class {int(y.max())} is unknown; known are 0 to {spec.outputs - 1}")
    elif y.dtype != np.float32 or y.shape[1:] != spec.target_shape:
        wanted = f"float targets of shape {spec.target}" if spec.target else f"{spec.outputs} float target(s)"
        raise ConfigError(f"{where}: regression needs {wanted} per row, got {y.dtype} of shape {y.shape[1:]}")
    for column in spec.columns or (Column("", spec.shape, spec.vocabulary),):
        if (tokens := _vocabulary(x[column.name] if column.name else x)) > column.vocabulary:
            of = f" of {column.name}" if column.name else ""
            raise ConfigError(f"{where}: token {tokens - 1} is outside the vocabulary of {column.vocabulary}{of}")


def tensors(x: Any) -> Inputs:
    """Return inputs of arrays as inputs of tensors, see :func:`tensor`."""
    found: Inputs = like(x, tensor)
    return found


def tensor(array: Any) -> Any:
    """Return a tensor on the array's memory, or on a copy of it if it is read-only (torch knows no such tensors).

    Of a file that is mapped for reading there is no copy, as it may be larger than the memory: nobody writes to rows.
    """
    if isinstance(array, Ragged):
        return array.tensors()
    if array.flags.writeable:
        return torch.from_numpy(array)
    if not _is_mapped(array):
        return torch.from_numpy(array.copy())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def _is_mapped(array: Any) -> bool:
    """Tell if an array is, or shows a part of, a file that is mapped."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False
