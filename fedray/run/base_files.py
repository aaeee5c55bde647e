"""The base of a run's model in the files that it was read from: named by path and hash, and not written once more."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.rundir import durable
from fedray.rundir.names import BASE, cache_folder

_SUFFIX = ".safetensors"
_PACKAGES = ("torch", "safetensors", "transformers", "peft")


@dataclass(frozen=True)
class Place:
    """The place of a frozen tensor in the files of the base.

    Args:
        file: name of the file.
        key: name of the tensor in it.
        dtype: its type.
        shape: its shape.
    """

    file: str
    key: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class BaseFiles:
    """The frozen tensors of a run that lie in the files of the model's base, byte by byte.

    Args:
        path: the folder of the base.
        files: the SHA-256 of each file.
        places: of each tensor, by its name in the model.
        fingerprint: of all frozen tensors, those that lie elsewhere included.
        rest: of these alone; None: there are none.
        packages: the versions of the packages that have read the files.
    """

    path: str
    files: Mapping[str, str]
    places: Mapping[str, Place]
    fingerprint: str | None = None
    rest: str | None = None
    packages: Mapping[str, str] | None = None

    @classmethod
    def of(cls, base: Path, tensors: Mapping[str, Tensor]) -> BaseFiles:
        """Find the tensors of a model in the files of a folder, and hash the files that have some.

        Args:
            base: the folder.
            tensors: by their names in the model.
        """
        places = dict(_found(sorted(base.glob(f"*{_SUFFIX}")), tensors))
        names = sorted({place.file for place in places.values()})
        return cls(
            str(base.absolute()), {name: file_sha256(base / name) for name in names}, places, packages=_versions()
        )

    @classmethod
    def read(cls, run_dir: Path) -> BaseFiles | None:
        """Read the note in a run folder; None: the run has none, and its frozen tensors lie there.

        Raises:
            ConfigError: it cannot be read.
        """
        file = run_dir / BASE
        if not file.exists():
            return None
        try:
            said = json.loads(file.read_text())
            places = {name: Place(**{**one, "shape": tuple(one["shape"])}) for name, one in said.pop("places").items()}
            return cls(places=places, **said)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{file}: the base of the model cannot be read: {error}") from None

    def write(self, run_dir: Path) -> None:
        """Write the note into a run folder."""
        durable.replace(run_dir / BASE, json.dumps(asdict(self), indent=1).encode())

    def changed(self) -> str | None:
        """Say which file of the base is gone, or is not what it was; None: none is."""
        for name, known in self.files.items():
            file = Path(self.path) / name
            try:
                now = file_sha256(file)
            except OSError as error:
                return f"{file}: the base of the run's model cannot be read ({error.strerror}): put it back"
            if now != known:
                return f"{file}: the base of the run's model is not what it was when the run was started: put it back"
        return None

    def load(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Read tensors from the files of the base, no two of them on the same memory.

        Raises:
            ConfigError: a file is gone, or is not what it was.
        """
        if words := self.changed():
            raise ConfigError(words)
        wanted, read = set(names), set[tuple[str, str]]()
        found = {}
        with _Opened() as opened:
            for name, place in self.places.items():
                if name in wanted:
                    tensor = opened(Path(self.path) / place.file).get_tensor(place.key)
                    # Two that are all zeros may have one place, and safetensors writes no memory twice.
                    found[name] = tensor.clone() if (place.file, place.key) in read else tensor
                    read.add((place.file, place.key))
        return found

    def fingerprint_of(self, base: Path, tensors: Mapping[str, Tensor], rest: str | None) -> str | None:
        """Return the fingerprint of frozen tensors without reading those that the same files have, or None.

        It is known where the model was read from the same folder, whose files are what they were, by the same packages,
        and has the same names, types and shapes.

        Args:
            base: the folder that the model was read from.
            tensors: by their names in the model.
            rest: the fingerprint of those of them that lie elsewhere.
        """
        kinds = {name: (str(t.dtype), tuple(t.shape)) for name, t in tensors.items() if name in self.places}
        same = kinds == {name: (place.dtype, place.shape) for name, place in self.places.items()}
        if not same or rest != self.rest or str(base.absolute()) != self.path or self.packages != _versions():
            return None
        return None if self.changed() else self.fingerprint


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file; that of one that has been asked for is kept, by path, size and times of change.

    Args:
        file: the file.

    Raises:
        OSError: it cannot be read.
    """
    about = file.stat()
    key = f"{file.absolute()}\n{about.st_size}\n{about.st_mtime_ns}\n{about.st_ctime_ns}"
    kept = cache_folder("hashes") / hashlib.sha256(key.encode()).hexdigest()
    with suppress(OSError):
        if len(found := kept.read_text()) == 64:
            return found
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    with suppress(OSError):  # it is asked for again, and read again
        kept.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(kept, digest.encode())
    return digest


class _Opened(ExitStack):
    """Files of safetensors, each opened once, and mapped into memory."""

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[Path, Any] = {}

    def __call__(self, file: Path) -> Any:
        from safetensors import safe_open

        if file not in self._files:
            self._files[file] = self.enter_context(safe_open(os.fspath(file), "pt"))
        return self._files[file]


def _found(files: Iterable[Path], tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Place]]:
    """Yield the places of tensors whose bytes a file has."""
    from safetensors import SafetensorError

    with _Opened() as opened:
        keys: dict[tuple[int, ...], list[tuple[Path, str]]] = {}
        for file in files:
            with suppress(SafetensorError, OSError):  # what is no such file has no tensor
                names: list[str] = opened(file).keys()
                for key in names:
                    keys.setdefault(tuple(opened(file).get_slice(key).get_shape()), []).append((file, key))
        for name, tensor in tensors.items():
            alike = sorted(keys.get(tuple(tensor.shape), []), key=lambda place: -_ends_alike(name, place[1]))
            for file, key in alike:
                if _same_bytes(opened(file).get_tensor(key), tensor):
                    yield name, Place(file.name, key, str(tensor.dtype), tuple(tensor.shape))
                    break


def _ends_alike(name: str, key: str) -> int:
    """Return how many words two names end in alike; adapters have put one of their own before the last."""
    words = [[word for word in one.split(".") if word != "base_layer"][::-1] for one in (name, key)]
    pairs = zip(*words, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(map(len, words)))


def _same_bytes(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(*(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for t in (one, other)))


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
