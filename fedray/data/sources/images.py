"""Sources that read image data sets from their standard files, and Hugging Face data sets from disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config.registry import nearest
from fedray.core.errors import ConfigError, listed
from fedray.data.columns.checks import as_examples
from fedray.data.columns.paths import need_folder
from fedray.data.federated import FederatedData
from fedray.data.files.images import read_cifar, read_mnist
from fedray.data.partition import assign_rows
from fedray.data.registry import data_sources
from fedray.data.sources.base import Source, make_partitioner, partitioned
from fedray.data.spec import DataSpec


@data_sources.register("mnist")
@dataclass(frozen=True, kw_only=True)
class Mnist(Source):
    """MNIST, or Fashion-MNIST, from its four idx files on disk (plain or gzipped): images 1 x 28 x 28 in [0, 1].

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for half, count in (("train", 6), ("t10k", 2)):
    ...         head, sizes = bytes([0, 0, 8]), np.array([count, 28, 28], dtype=">u4").tobytes()
    ...         _ = Path(folder, f"{half}-images-idx3-ubyte").write_bytes(head + b"\\x03" + sizes + bytes(count * 784))
    ...         _ = Path(folder, f"{half}-labels-idx1-ubyte").write_bytes(head + b"\\x01" + sizes[:4] + bytes(count))
    ...     data = Mnist(path=folder, partition={"name": "iid", "clients": 3}).load(seed=1)
    >>> data.sizes, data.spec.shape, data.spec.outputs
    (array([2, 2, 2]), (1, 28, 28), 10)

    Args:
        path: folder with ``train-images-idx3-ubyte`` and so on.
        partition: the split of rows over clients.
    """

    path: str
    partition: dict[str, Any]

    def read(self, seed: int) -> FederatedData:
        partitioner = make_partitioner(self.partition)
        (x, y), test = read_mnist(Path(self.path))
        return partitioned(x, y, partitioner, seed, DataSpec(x.shape[1:], 10), test)


@data_sources.register("cifar10")
@dataclass(frozen=True, kw_only=True)
class Cifar10(Source):
    """CIFAR-10 from its files on disk: images 3 x 32 x 32 in [0, 1].

    The binary version is preferred; of the Python version only arrays are unpickled, never code.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
    ...         _ = Path(folder, f"{name}.bin").write_bytes(bytes(2 * 3073))  # two pictures: a class, then pixels
    ...     data = Cifar10(path=folder, partition={"name": "iid", "clients": 5}).load(seed=1)
    >>> data.sizes, data.spec.shape, data.spec.outputs
    (array([2, 2, 2, 2, 2]), (3, 32, 32), 10)

    Args:
        path: the unpacked folder (``cifar-10-batches-bin`` or ``cifar-10-batches-py``), or the one it lies in.
        partition: the split of rows over clients.
    """

    path: str
    partition: dict[str, Any]

    def read(self, seed: int) -> FederatedData:
        partitioner = make_partitioner(self.partition)
        (x, y), test, classes = read_cifar(Path(self.path), "cifar10")
        return partitioned(x, y, partitioner, seed, DataSpec(x.shape[1:], 10, classes=classes), test)


@data_sources.register("cifar100")
@dataclass(frozen=True, kw_only=True)
class Cifar100(Source):
    """CIFAR-100 with its 100 fine classes, from its files on disk; as ``cifar10``.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("train", "test"):
    ...         _ = Path(folder, f"{name}.bin").write_bytes(bytes(4 * 3074))  # four pictures: classes, pixels
    ...     data = Cifar100(path=folder, partition={"name": "iid", "clients": 2}).load(seed=1)
    >>> data.sizes, data.spec.shape, data.spec.outputs
    (array([2, 2]), (3, 32, 32), 100)

    Args:
        path: the unpacked folder (``cifar-100-binary`` or ``cifar-100-python``), or the one it lies in.
        partition: the split of rows over clients.
    """

    path: str
    partition: dict[str, Any]

    def read(self, seed: int) -> FederatedData:
        partitioner = make_partitioner(self.partition)
        (x, y), test, classes = read_cifar(Path(self.path), "cifar100")
        return partitioned(x, y, partitioner, seed, DataSpec(x.shape[1:], 100, classes=classes), test)


@data_sources.register("huggingface")
@dataclass(frozen=True, kw_only=True)
class HuggingFace(Source):
    """A Hugging Face data set saved with ``save_to_disk`` (needs the extra: ``pip install fedray[huggingface]``).

    Inputs are a column of numbers, of equally long lists (integers are tokens), or of images of one size.

    >>> columns = {"input": "ids", "target": "label"}
    >>> HuggingFace(path="data/ag_news", **columns, partition={"name": "iid", "clients": 20}).split
    'train'

    Args:
        path: folder of the saved ``Dataset`` or ``DatasetDict``.
        input: name of the input column.
        target: name of the target column: class labels, integers, or floats for regression.
        split: training split of a ``DatasetDict``.
        test_split: split of the held-out test set, or none.
        partition: the split of rows over clients; ``{name: column, column: ...}`` takes any other column.
    """

    path: str
    input: str
    target: str
    partition: dict[str, Any]
    split: str = "train"
    test_split: str | None = None

    def read(self, seed: int) -> FederatedData:
        try:
            datasets = import_module("datasets")
        except ImportError:
            raise ConfigError(
                "data.name: huggingface needs the package `datasets`; install it: pip install 'fedray[huggingface]'"
            ) from None
        partitioner = make_partitioner(self.partition)
        need_folder(Path(self.path), "; expected: a data set written by save_to_disk")
        try:
            saved = datasets.load_from_disk(self.path)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.path} is not a data set written by save_to_disk: {error}") from None
        train = self._split(saved, self.split, "split")
        x, y = self._arrays(train)
        test = None if self.test_split is None else self._arrays(self._split(saved, self.test_split, "test_split"))
        assigned = assign_rows(partitioner, y, _Columns(train), seed)
        spec = None
        names = getattr(train.features[self.target], "names", None)
        if names is not None:
            largest = max(int(part.max()) for part in ([x] if test is None else [x, test[0]]))
            vocabulary = largest + 1 if x.dtype == np.int64 else 0
            spec = DataSpec(x.shape[1:], len(names), classes=tuple(names), vocabulary=vocabulary)
        return FederatedData.from_arrays(x, y, assigned, test=test, spec=spec)

    def _split(self, saved: Any, split: str, key: str) -> Any:
        if not isinstance(saved, Mapping):
            if key == "test_split":
                raise ConfigError(f"data.test_split: {self.path} is a single split; leave test_split out")
            return saved
        if split not in saved:
            raise ConfigError(
                f"data.{key}: {self.path} has no split {split!r}{nearest(split, saved)}; it has: {listed(saved)}"
            )
        return saved[split]

    def _arrays(self, split: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        for key, name in (("input", self.input), ("target", self.target)):
            if name not in split.column_names:
                known = listed(split.column_names)
                raise ConfigError(f"data.{key}: no column {name!r}{nearest(name, split.column_names)}; it has: {known}")
        rows = split[self.input][:]
        try:
            x = np.stack([_image(row) if hasattr(row, "getbands") else np.asarray(row) for row in rows])
        except ValueError as error:
            raise ConfigError(
                f"data.input: {self.input!r} has rows of different shapes ({error}); pad or resize them"
            ) from None
        if x.dtype.kind in "USO":
            raise ConfigError(
                f"data.input: {self.input!r} is text; save the data set tokenised to equally long integer lists"
            )
        return as_examples(x, np.asarray(split[self.target][:]), f"column {self.input!r}:")


def _image(picture: Any) -> NDArray[np.uint8]:
    plain = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
    pixels: NDArray[np.uint8] = np.asarray(plain, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


class _Columns(Mapping[str, NDArray[Any]]):
    """The columns of a split, read only when asked for."""

    def __init__(self, split: Any) -> None:
        self._split = split

    def __getitem__(self, name: str) -> NDArray[Any]:
        return np.asarray(self._split[name][:])

    def __iter__(self) -> Iterator[str]:
        return iter(self._split.column_names)

    def __len__(self) -> int:
        return len(self._split.column_names)
