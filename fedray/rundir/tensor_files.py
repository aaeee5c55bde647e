"""The tensors of a checkpoint on disk: in one file, or in several where they are large.

A file holds at most :data:`LARGEST` bytes of tensors, so that files are written, hashed and compared side by side, none
is too long for its file system, and a tensor is read without another one.  A tensor that is longer than that is cut
into pieces, one in a file; any other is whole in one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.core import inject
from fedray.rundir import durable

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 1 << 30
"""Bytes of tensors in a file, at most."""

ALONE = "tensors.safetensors"
"""The file of all tensors, where it is one."""

_AT_ONCE = 4

_PIECE = 1 << 24
"""Bytes that are read back at a time, about."""


@dataclass(frozen=True)
class Shared:
    """Tensors, shared out over files.

    Args:
        files: the tensors of each file by its name, of one that is cut a piece ``[n]``.
        index: the shape and the files of each tensor, in their order; empty where there is one file.
    """

    files: Mapping[str, Mapping[str, Tensor]]
    index: Mapping[str, Any]

    @classmethod
    def out(cls, tensors: Mapping[str, Tensor]) -> Shared:
        """Share tensors out, in their order.

        Args:
            tensors: on the CPU, each in one piece of memory; files take views of them.
        """
        files, room = [dict[str, "Tensor"]()], LARGEST
        for name, tensor in tensors.items():
            whole = tensor.nbytes <= LARGEST
            for piece in [tensor] if whole else tensor.flatten().split(LARGEST // tensor.itemsize):
                if piece.nbytes > room:
                    files.append({})
                    room = LARGEST
                files[-1][name] = piece
                room -= piece.nbytes
        if len(files) == 1:
            return cls({ALONE: files[0]}, {})
        named = {f"tensors-{number:05d}-of-{len(files):05d}.safetensors": one for number, one in enumerate(files, 1)}
        held = {name: [file for file, one in named.items() if name in one] for name in tensors}
        return cls(named, {name: {"shape": [*tensors[name].shape], "files": held[name]} for name in tensors})

    def write(self, folder: Path, round: int) -> dict[str, str]:
        """Write the files side by side, each forced to disk and read back; returns the SHA-256 of each.

        Args:
            folder: of the checkpoint.
            round: its round, for faults on purpose.

        Raises:
            OSError: a file could not be written, or is read back otherwise.
        """

        def written(numbered: tuple[int, str]) -> str:
            number, name = numbered
            inject.point("checkpoint.file", round, number)
            durable.write(folder / name, dict(self.files[name]))
            _compare(folder / name, self.files[name])
            return sha256_of(folder / name)

        return dict(zip(self.files, _side_by_side(written, enumerate(self.files)), strict=True))


class Mapped(Mapping[str, "Tensor"]):
    """The tensors of several files that are mapped into memory: each is read when it is asked for.

    One that is whole in its file lies in the pages of the file, and whoever writes into it writes into a copy of
    theirs; one that is cut is put together anew each time.  The files may be deleted meanwhile.

    Args:
        folder: of the checkpoint.
        index: see :class:`Shared`.

    Raises:
        ValueError: a file is none of tensors, or lacks one.
    """

    def __init__(self, folder: Path, index: Mapping[str, Any]) -> None:
        # Here, because who asks how a run stands needs no torch.
        from safetensors import SafetensorError, safe_open

        try:
            opened: dict[str, Any] = {file: safe_open(folder / file, "pt") for file in files_of(index)}
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{folder.name} is incomplete: {error}") from error
        self._shapes = {name: about["shape"] for name, about in index.items()}
        self._parts = {name: [opened[file] for file in about["files"]] for name, about in index.items()}

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor.

        Raises:
            KeyError: there is none of this name.
        """
        import torch

        parts: list[Tensor] = [file.get_tensor(name) for file in self._parts[name]]
        return parts[0] if len(parts) == 1 else torch.cat(parts).view(self._shapes[name])

    def __contains__(self, name: object) -> bool:
        """Return True if there is a tensor of this name, which is not read."""
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._parts)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._parts)


def files_of(index: Mapping[str, Any]) -> list[str]:
    """Return the files of an index, each once.

    >>> files_of({"model": {"shape": [3], "files": ["a", "b"]}, "step": {"shape": [], "files": ["b"]}})
    ['a', 'b']
    """
    return list(dict.fromkeys(file for about in index.values() for file in about["files"]))


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def check(folder: Path, names: Iterable[str], manifest: Mapping[str, str]) -> None:
    """Compare files with their SHA-256 in a manifest, side by side.

    Raises:
        ValueError: one is missing, torn or damaged.
    """
    names = list(names)
    try:
        found = dict(zip(names, _side_by_side(lambda name: sha256_of(folder / name), names), strict=True))
    except OSError as error:
        raise ValueError(f"{folder.name} is incomplete: {error}") from error
    if other := [name for name in names if found[name] != manifest.get(name)]:
        raise ValueError(f"{folder.name}/{other[0]} does not match its checksum")


def _side_by_side(do: Any, items: Iterable[Any]) -> list[Any]:
    items = list(items)
    with ThreadPoolExecutor(min(_AT_ONCE, len(items))) as pool:
        return list(pool.map(do, items))


def _compare(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Compare a file with what it should hold.

    Raises:
        OSError: it is something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            same = {*opened.keys()} == {*tensors}
        same = same and all(_holds(file, name, tensor) for name, tensor in tensors.items())
    except SafetensorError:
        same = False
    if not same:
        raise OSError("what is read back is not what was written")


def _holds(file: Path, name: str, tensor: Tensor) -> bool:
    """Return True if a file has a tensor, which is compared a piece at a time: whatever is mapped counts as memory."""
    from safetensors import safe_open

    if tensor.nbytes <= _PIECE or len(tensor) == 1:
        with safe_open(file, "pt") as opened:
            return _equal(opened.get_tensor(name), tensor)
    rows = max(1, _PIECE * len(tensor) // tensor.nbytes)
    for start in range(0, len(tensor), rows):
        # Opened anew: a file lets go of its pages when it is closed.
        with safe_open(file, "pt") as opened:
            part = opened.get_slice(name)
            if start == 0 and part.get_shape() != [*tensor.shape]:
                return False
            if not _equal(part[start : start + rows], tensor[start : start + rows]):
                return False
    return True


def _equal(one: Tensor, other: Tensor) -> bool:
    """Return True if tensors are equal in type, shape and values; NaN, which a rule's state may have, is NaN."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return one.equal(other) or bool(((one == other) | (one.isnan() & other.isnan())).all())
