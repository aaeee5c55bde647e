"""LEAF's JSON format: ``{"users": [...], "user_data": {user: {"x": [...], "y": [...]}}}`` in one or more files.

The format of the LEAF benchmark (Caldas et al., arXiv:1812.01097): FEMNIST, Shakespeare, Synthetic and others.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError
from fedray.core.stages import along
from fedray.data.columns.arrays import Columns, by_client
from fedray.data.columns.checks import are_classes
from fedray.data.columns.ids import ID_PATTERN
from fedray.data.files.own_tests import files_in
from fedray.data.spec import DataSpec

Users = dict[str, tuple[list[Any], list[Any]]]


def client_name(user: str) -> str:
    """Return a client id for a LEAF user: its name, or where that is not a valid id, a cleaned one with a hash.

    >>> client_name("f0000_14")
    'f0000_14'
    >>> client_name("ALL'S_WELL")
    'ALL_S_WELL-f00b8c36a410184d'
    """
    if ID_PATTERN.fullmatch(user):
        return user
    mark = hashlib.blake2b(user.encode(), digest_size=8).hexdigest()
    return f"{re.sub('[^A-Za-z0-9._-]', '_', user)[:47]}-{mark}"


def read_leaf(path: Path) -> Users:
    """Read users with their inputs and targets, from one JSON file or all ``*.json`` of a folder, in the order listed.

    Raises:
        ConfigError: missing files, not JSON, not LEAF's layout, a user in two files, x and y of different lengths.
    """
    users: Users = {}
    for file in along([path] if path.is_file() else files_in(path, (".json",)), "reading files"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            listed, data = content["users"], content["user_data"]
            found = [(str(user), data[user]["x"], data[user]["y"]) for user in listed]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{file} is not LEAF JSON (users, user_data with x and y for each): {type(error).__name__} {error}"
            ) from None
        for user, x, y in found:
            if user in users:
                raise ConfigError(f"{file}: user {user!r} occurs twice; every client needs an id of its own")
            if len(x) != len(y):
                raise ConfigError(f"{file}: user {user!r} has {len(x)} inputs and {len(y)} targets")
            users[user] = (x, y)
    return users


def _join(users: Users, path: Path, text: bool, tokens: dict[str, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Join all users' rows: arrays of numbers, or of tokens where inputs are text."""
    xs = [row for x, _ in users.values() for row in x]
    ys = [row for _, y in users.values() for row in y]
    try:
        if not text:
            return np.array(xs, dtype=np.float32), np.array(ys)
        return np.array([[tokens[c] for c in row] for row in xs]), np.array([tokens[c] for c in ys])
    except (ValueError, TypeError, KeyError):
        what = (
            "texts of equal length with one character as target"
            if text
            else "numbers of one shape with numeric targets"
        )
        raise ConfigError(f"{path}: inputs must all be {what}; other LEAF data sets need converting first") from None


def read_users(
    path: Path, test: Path | None = None, shape: tuple[int, ...] | None = None, classes: int | None = None
) -> Columns:
    """Read LEAF's JSON, one client per user.

    Inputs are lists of numbers (FEMNIST, Synthetic) or texts of equal length (Shakespeare), whose characters become
    int64 tokens; then targets are characters too, numbered alike, and the classes are the vocabulary: the sorted
    characters of training and test data.  A user whose name is no valid client id gets a cleaned one with a hash
    (see :func:`client_name`).  Whole numbers from 0 are classes also where they are written as floats.

    Args:
        path: a JSON file, a folder of them, or a folder with subfolders ``train`` and ``test``.
        test: file or folder of the test set: each training user's own rows in it are its own test set, all together
            are the central one; default: ``test`` beside ``train``, if there.
        shape: shape to give to each input, e.g. ``(1, 28, 28)``.
        classes: number of classes where targets are numbers; default: those that occur in training.

    Raises:
        ConfigError: files that are missing or not LEAF's, an empty user, inputs that differ in shape.
    """
    if (path / "train").is_dir():
        test = path / "test" if test is None and (path / "test").is_dir() else test
        path = path / "train"
    users = read_leaf(path)
    held_out = {} if test is None else read_leaf(test)
    first = next((x[0] for x, _ in users.values() if x), None)
    if first is None:
        raise ConfigError(f"{path} has no user with examples")
    text = isinstance(first, str)
    tokens: dict[str, int] = {}
    if text:
        pool = [*users.values(), *held_out.values()]
        tokens = {c: n for n, c in enumerate(sorted({c for x, y in pool for row in [*x, *y] for c in str(row)}))}
    x, y = _join(users, path, text, tokens)
    tx, ty = _join(held_out, test, text, tokens) if test is not None and held_out else (None, None)
    if shape is not None:
        x, tx = _reshape(x, shape, path), None if tx is None else _reshape(tx, shape, path)
    said: tuple[str, ...] = ()
    if y.dtype.kind == "f" and are_classes(y) and (ty is None or are_classes(ty)):
        # As the files that the authors of FedProx publish have them: 4.0.
        y, ty = y.astype(np.int64), None if ty is None else ty.astype(np.int64)
        said = (f"{path}: targets are whole numbers written as floats, read as classes 0 to {int(y.max())}",)
    spec = None if classes is None else DataSpec(x.shape[1:], classes)
    if text:
        spec = DataSpec(x.shape[1:], len(tokens), "classification", tuple(tokens), len(tokens))
    sizes = [len(targets) for _, targets in users.values()]
    columns = by_client(
        x,
        y,
        np.repeat(np.arange(len(users)), sizes),
        test=None if tx is None else (tx, ty),
        ids=[client_name(user) for user in users],
        spec=spec,
        test_clients=None if tx is None else _owners(users, held_out),
    )
    return replace(columns, warnings=(*columns.warnings, *said))


def _owners(users: Users, test: Users) -> NDArray[np.int64]:
    """Return for each row of the test users the number of the training user that it is, -1 for none, ``[N]``."""
    number = {user: place for place, user in enumerate(users)}
    owners = [number.get(user, -1) for user in test]
    return np.repeat(np.array(owners, dtype=np.int64), [len(targets) for _, targets in test.values()])


def _reshape(x: NDArray[Any], shape: tuple[int, ...], path: Path) -> NDArray[Any]:
    if x[0].size != int(np.prod(shape)):
        raise ConfigError(f"{path}: inputs have {x[0].size} numbers, expected {int(np.prod(shape))} for shape {shape}")
    return x.reshape(len(x), *shape)
