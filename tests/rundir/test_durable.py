"""Files are whole or absent, whatever fails while they are written, and their modes follow the umask."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedray.rundir import durable

TENSORS = {"weight": torch.arange(6.0).view(2, 3)}


@pytest.fixture(params=[0o022, 0o007, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


class Fault:
    """Fails one call of a system function, after some have passed."""

    def __init__(self, patch: pytest.MonkeyPatch, call: str, passing: int) -> None:
        self._left, self.happened = passing, False
        self._real: Callable[..., Any] = getattr(os, call)
        patch.setattr(os, call, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left == -1:
            self.happened = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._real(*args, **kwargs)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_umask_decides_for_every_kind_of_content(tmp_path: Path, umask: int) -> None:
    durable.write(tmp_path / "written", b"text")
    durable.write(tmp_path / "parts", iter([b"te", b"xt"]))
    durable.write(tmp_path / "tensors", TENSORS)
    durable.replace(tmp_path / "model.safetensors", TENSORS)
    durable.create(tmp_path / "created", b"text")
    assert {path.name: mode(path) for path in tmp_path.iterdir()} == dict.fromkeys(
        ("written", "parts", "tensors", "model.safetensors", "created"), 0o666 & ~umask
    )
    assert (tmp_path / "parts").read_bytes() == b"text"
    assert torch.equal(load_file(tmp_path / "model.safetensors")["weight"], TENSORS["weight"])


def test_a_secret_is_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    assert durable.create(tmp_path / "token", b"x", secret=True)
    assert mode(tmp_path / "token") == 0o600


@pytest.mark.parametrize("new", [b"new", TENSORS], ids=["bytes", "tensors"])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, new: durable.Content) -> None:
    path = tmp_path / "config.yaml"
    durable.replace(path, b"old")
    happened = 0
    for call in ("fsync", "open", "replace", "rename"):
        for passing in range(4):
            with pytest.MonkeyPatch.context() as patch:
                fault = Fault(patch, call, passing)
                try:
                    durable.replace(path, new)
                except OSError:
                    assert fault.happened
                    # The last step makes the new name last; that the file is there is seen before.
                    if passing == 0:
                        assert path.read_bytes() == b"old"
            happened += fault.happened
            assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]
            durable.replace(path, b"old")
    assert happened >= 5


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    durable.replace(path, b"old")

    def cut_short() -> Iterator[bytes]:
        yield b"n"
        raise OSError(errno.ENOSPC, "No space left on device")

    for action in (durable.replace, durable.create):
        with pytest.raises(OSError, match="No space left"):
            action(path, cut_short())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_lines_are_added_and_taken_off_again_where_the_disk_is_full(tmp_path: Path) -> None:
    file = durable.Growing(tmp_path / "ledger")
    file.append(b"one\n")
    for call in ("write", "fsync"):
        with pytest.MonkeyPatch.context() as patch:
            Fault(patch, call, 0)
            with pytest.raises(OSError, match="No space left"):
                file.append(b"lost\n")
    file.append(b"two\n", forced=False)
    durable.Growing(tmp_path / "ledger").append(b"three\n")  # as of a run that goes on
    assert (tmp_path / "ledger").read_bytes() == b"one\ntwo\nthree\n"


@pytest.mark.parametrize("put", ["replaced", "removed"])
def test_lines_are_added_to_the_file_that_stands_there(tmp_path: Path, put: str) -> None:
    path = tmp_path / "ledger"
    file = durable.Growing(path)
    file.append(b"one\n")
    if put == "replaced":
        durable.replace(path, b"0\n")
    else:
        path.unlink()
    file.append(b"two\n")
    assert path.read_bytes() == (b"0\n" if put == "replaced" else b"") + b"two\n"


def test_a_file_that_nobody_adds_to_any_more_is_closed(tmp_path: Path) -> None:
    def opened() -> int:
        return len([*Path("/proc/self/fd").iterdir()])

    file, before = durable.Growing(tmp_path / "ledger"), opened()
    file.append(b"one\n")
    assert opened() == before + 1
    del file
    assert opened() == before


def test_a_file_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    assert durable.create(path, b"one")
    assert not durable.create(path, b"another")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_swept_before_it_was_linked_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link
    linked: list[Path] = []

    def late(source: Path, target: Path) -> None:
        if not linked:
            durable.sweep(tmp_path)  # as by the process that drives the run meanwhile
        linked.append(source)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert durable.create(tmp_path / "job", b"7")
    assert len(linked) == 2
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"7"]


def test_a_link_whose_answer_was_lost_was_made_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, path = os.link, tmp_path / "config.yaml"

    def repeated(source: Path, target: Path) -> None:
        with contextlib.suppress(FileExistsError):
            link(source, target)
        raise FileExistsError

    monkeypatch.setattr(os, "link", repeated)
    assert durable.create(path, b"one")
    assert not durable.create(path, b"another")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "data" / "columns"
    with contextlib.suppress(OSError), durable.folder(path) as unfinished:
        (unfinished / "x.npy").write_bytes(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(path.parent.iterdir()) == []
    with durable.folder(path) as unfinished:
        (unfinished / "x.npy").write_bytes(b"x")
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(OSError, match="not empty"), durable.folder(path) as unfinished:
        (unfinished / "x.npy").write_bytes(b"another")
    assert list(path.parent.iterdir()) == [path]
    assert (path / "x.npy").read_bytes() == b"x"


def test_a_folder_takes_the_place_of_another_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    for content in (b"old", b"new"):
        with durable.folder(path, over=True) as unfinished:
            (unfinished / content.decode()).write_bytes(content)
    assert [file.read_bytes() for file in path.iterdir()] == [b"new"]
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.name.startswith(durable.TEMPORARY) and (self / "another").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space"), durable.folder(path, over=True) as unfinished:
        (unfinished / "another").touch()
    assert [file.read_bytes() for file in path.iterdir()] == [b"new"]
    assert list(tmp_path.iterdir()) == [path]


def test_the_umask_decides_for_what_libraries_write_into_a_folder(tmp_path: Path, umask: int) -> None:
    with durable.folder(tmp_path / "model") as unfinished:
        (unfinished / "inner").mkdir()
        save_file({"w": torch.zeros(2)}, unfinished / "inner" / "model.safetensors")
    assert mode(tmp_path / "model") == mode(tmp_path / "model" / "inner") == 0o777 & ~umask
    assert mode(tmp_path / "model" / "inner" / "model.safetensors") == 0o666 & ~umask


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / f"{durable.TEMPORARY}config.yaml-1").write_bytes(b"half")
    (tmp_path / f"{durable.TEMPORARY}round-1" / "inner").mkdir(parents=True)
    (tmp_path / "config.yaml").write_bytes(b"whole")
    durable.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
