"""Readers of the standard image files: MNIST's idx, CIFAR's binary and Python batches.  Nothing is downloaded."""

from __future__ import annotations

import gzip
import pickle
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError
from fedray.data.columns.paths import need_folder

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]

_IDX_BYTES = 8  # type code of unsigned bytes in an idx header
_PIXELS = 3 * 32 * 32
_RECONSTRUCT = np.empty(0).__reduce__()[0]


def _need_folder(path: Path, expected: str) -> None:
    need_folder(path, f"; expected in it: {expected}")


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read the array of an idx file of unsigned bytes, plain or gzipped (``.gz``).

    Raises:
        ConfigError: not such a file, or cut short.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _IDX_BYTES or not content[3]:
        raise ConfigError(f"{path} is not an idx file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], dtype=">u4").astype(np.int64).tolist())
    if len(content) != start + int(np.prod(shape)):
        raise ConfigError(f"{path} has {len(content)} bytes, but its header promises {start + int(np.prod(shape))}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def read_mnist(folder: Path) -> tuple[Arrays, Arrays]:
    """Read training and test images ``[N, 1, 28, 28]`` uint8 with labels from (Fashion-)MNIST's four idx files.

    Raises:
        ConfigError: a file is missing or not what its name says.
    """
    _need_folder(folder, "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-... (each plain or .gz)")
    halves: list[Arrays] = []
    for half in ("train", "t10k"):
        images, labels = (_idx_file(folder, f"{half}-{name}") for name in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise ConfigError(f"{folder}: the {half} files hold images {images.shape} and labels {labels.shape}")
        halves.append((images[:, None], labels.astype(np.int64)))
    return halves[0], halves[1]


def _idx_file(folder: Path, name: str) -> NDArray[np.uint8]:
    spellings = [name, name.replace("-idx", ".idx")]
    for spelling in spellings:
        for path in (folder / spelling, folder / f"{spelling}.gz"):
            if path.is_file():
                return read_idx(path)
    raise ConfigError(f"data folder {folder} lacks {name} (or {name}.gz); put MNIST's four idx files there")


class _NumbersOnly(pickle.Unpickler):
    """An unpickler that builds NumPy arrays and plain values, and nothing else: a pickle cannot run code here."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
        }:
            return _RECONSTRUCT if name == "_reconstruct" else getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")


def read_cifar(folder: Path, kind: Literal["cifar10", "cifar100"]) -> tuple[Arrays, Arrays, tuple[str, ...]]:
    """Read training and test images ``[N, 3, 32, 32]`` uint8 with (fine) labels, and the class names.

    The binary version (``cifar-10-binary.tar.gz`` unpacked) is preferred, as reading it is reading bytes.  The Python
    version is read by an unpickler that can build arrays only.

    Args:
        folder: the unpacked folder, or the one it lies in.
        kind: one of the two.

    Raises:
        ConfigError: files are missing, cut short, or hold something else.
    """
    ten = kind == "cifar10"
    train = [f"data_batch_{number}" for number in range(1, 6)] if ten else ["train"]
    test = "test_batch" if ten else "test"
    names = ("cifar-10-batches-bin", "cifar-10-batches-py") if ten else ("cifar-100-binary", "cifar-100-python")
    expected = f"{train[0]}.bin ... {test}.bin (binary version) or {train[0]} ... {test} (Python version)"
    _need_folder(folder, expected)
    for suffix, read in ((".bin", _cifar_binary), ("", _cifar_pickle)):
        for place in (folder, *(folder / name for name in names)):
            if (place / (train[0] + suffix)).is_file():
                parts = [read(_existing(place / (name + suffix)), ten) for name in [*train, test]]
                images, labels = np.concatenate([x for x, _ in parts[:-1]]), np.concatenate([y for _, y in parts[:-1]])
                return (images, labels), parts[-1], _class_names(place, ten)
    raise ConfigError(f"data folder {folder} has no {kind} files; expected: {expected}")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"{path} is missing; put all files of the data set there")
    return path


def _cifar_binary(path: Path, ten: bool) -> Arrays:
    record = (1 if ten else 2) + _PIXELS
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    if len(content) == 0 or len(content) % record:
        raise ConfigError(f"{path} has {len(content)} bytes, not a multiple of {record}: cut short or another file")
    rows = content.reshape(-1, record)
    return rows[:, -_PIXELS:].reshape(-1, 3, 32, 32), rows[:, -_PIXELS - 1].astype(np.int64)


def _cifar_pickle(path: Path, ten: bool) -> Arrays:
    try:
        with path.open("rb") as stream:
            batch = _NumbersOnly(stream, encoding="bytes").load()
        plain = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        labels = np.asarray(plain["labels" if ten else "fine_labels"], dtype=np.int64)
        images = np.asarray(plain["data"])
        if images.dtype != np.uint8:
            raise ValueError(f"pixels are {images.dtype}, not uint8")
        return images.reshape(len(labels), 3, 32, 32), labels
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ConfigError(f"{path} is not a CIFAR batch: {error}; the binary version is safer to read") from None


def _class_names(folder: Path, ten: bool) -> tuple[str, ...]:
    names = folder / ("batches.meta.txt" if ten else "fine_label_names.txt")
    count = 10 if ten else 100
    found = tuple(names.read_text().split()) if names.is_file() else ()
    return found if len(found) == count else ()
