"""MNIST's idx and CIFAR's files, written here by hand as their formats say."""

from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedray.config.registry import bind_part
from fedray.core.errors import ConfigError
from fedray.data import data_sources
from fedray.data.files.images import read_cifar, read_idx, read_mnist

GENERATOR = np.random.default_rng(0)


def idx(array: NDArray[np.uint8]) -> bytes:
    """An idx file of unsigned bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize(("dash", "suffix"), [("-idx", ""), ("-idx", ".gz"), (".idx", "")])
def test_mnist_files_plain_gzipped_and_with_a_dot(tmp_path: Path, dash: str, suffix: str) -> None:
    written = {}
    for half, count in (("train", 20), ("t10k", 6)):
        images = GENERATOR.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        written[half] = images, labels
        for name, content in ((f"{half}-images{dash}3-ubyte", images), (f"{half}-labels{dash}1-ubyte", labels)):
            data = gzip.compress(idx(content)) if suffix else idx(content)
            (tmp_path / f"{name}{suffix}").write_bytes(data)
    for half, (x, y) in zip(("train", "t10k"), read_mnist(tmp_path), strict=True):
        np.testing.assert_array_equal(x[:, 0], written[half][0])
        np.testing.assert_array_equal(y, written[half][1])
    node = {"name": "mnist", "path": str(tmp_path), "partition": {"name": "iid", "clients": 4}, "holdout": 0.2}
    loaded = bind_part(data_sources, node, "data").load(seed=1)
    assert (loaded.spec.shape, loaded.spec.outputs) == ((1, 28, 28), 10)
    assert loaded.sizes.tolist() == [4, 4, 4, 4]
    assert loaded.holdout_sizes.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\x08\x01" + struct.pack(">I", 9) + b"abc", "its header promises 17"),
        (b"\0\0\x0d\x01" + struct.pack(">I", 1) + b"abcd", "not an idx file of unsigned bytes"),
        (b"<html>", "not an idx file"),
        (b"", "not an idx file"),
    ],
)
def test_damaged_idx_files_are_clear_errors(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_idx(tmp_path / "f")
    (tmp_path / "f.gz").write_bytes(gzip.compress(idx(np.zeros(100, dtype=np.uint8)))[:-12])
    with pytest.raises(ConfigError, match="cannot be read"):
        read_idx(tmp_path / "f.gz")


def test_missing_image_files_say_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not exist .*expected in it: train-images-idx3-ubyte"):
        read_mnist(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="lacks train-images-idx3-ubyte"):
        read_mnist(tmp_path)
    with pytest.raises(ConfigError, match=r"expected: data_batch_1\.bin"):
        read_cifar(tmp_path, "cifar10")
    (tmp_path / "train.bin").write_bytes(bytes(2 + 3072))
    with pytest.raises(ConfigError, match=r"test\.bin is missing"):
        read_cifar(tmp_path, "cifar100")
    (tmp_path / "test.bin").write_bytes(bytes(3072))
    with pytest.raises(ConfigError, match="not a multiple of 3074"):
        read_cifar(tmp_path, "cifar100")


def cifar_parts(ten: bool) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Images and labels of each file."""
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"] if ten else ["train", "test"]
    return {
        name: (
            GENERATOR.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8),
            GENERATOR.integers(0, 10 if ten else 100, 3, dtype=np.uint8),
        )
        for name in names
    }


def binary(folder: Path, ten: bool, parts: dict[str, Any]) -> None:
    """Write the binary version."""
    for name, (x, y) in parts.items():
        rows = [b"" if ten else b"\x07" for _ in y]
        content = b"".join(
            coarse + bytes([label]) + row.tobytes() for coarse, label, row in zip(rows, y, x, strict=True)
        )
        (folder / f"{name}.bin").write_bytes(content)


def python(folder: Path, ten: bool, parts: dict[str, Any]) -> None:
    """Write the Python version, with keys of bytes as Python 2 left them."""
    for name, (x, y) in parts.items():
        key = b"labels" if ten else b"fine_labels"
        batch = {b"data": x.reshape(len(x), -1), key: y.tolist(), b"filenames": [b"a.png"] * len(x)}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=3))


@pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
@pytest.mark.parametrize("version", [binary, python])
def test_both_versions_of_cifar(tmp_path: Path, kind: Any, version: Callable[..., None]) -> None:
    ten = kind == "cifar10"
    parts = cifar_parts(ten)
    folder = (
        tmp_path
        / {
            (True, binary): "cifar-10-batches-bin",
            (True, python): "cifar-10-batches-py",
            (False, binary): "cifar-100-binary",
            (False, python): "cifar-100-python",
        }[ten, version]
    )
    folder.mkdir()
    version(folder, ten, parts)
    (x, y), test, _ = read_cifar(tmp_path, kind)
    expected = list(parts.values())
    np.testing.assert_array_equal(x, np.concatenate([x for x, _ in expected[:-1]]))
    np.testing.assert_array_equal(y, np.concatenate([y for _, y in expected[:-1]]))
    np.testing.assert_array_equal(test[0], expected[-1][0])
    np.testing.assert_array_equal(test[1], expected[-1][1])
    node = {"name": kind, "path": str(folder), "partition": {"name": "iid", "clients": 2}}
    data = bind_part(data_sources, node, "data").load(seed=0)
    assert (data.spec.shape, data.spec.outputs) == ((3, 32, 32), 10 if ten else 100)
    batch, _ = data.rows(np.array([0])).take(np.array([[0]]))
    assert float(batch.max()) <= 1.0


def test_class_names_are_read_where_they_are(tmp_path: Path) -> None:
    binary(tmp_path, True, cifar_parts(True))
    names = [f"name{n}" for n in range(10)]
    (tmp_path / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    assert read_cifar(tmp_path, "cifar10")[2] == tuple(names)


class Harmful:
    """Its pickle would run a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    python(tmp_path, True, cifar_parts(True))
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": Harmful(marker), b"labels": [0]}))
    with pytest.raises(ConfigError, match="which no CIFAR file needs"):
        read_cifar(tmp_path, "cifar10")
    assert not marker.exists()
