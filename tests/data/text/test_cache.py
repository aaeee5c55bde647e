"""Tokens on the disk: found again, made again when anything they depend on has changed, and never half there."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest

from fedray.core.errors import ConfigError
from fedray.data.text.cache import Kept, kept, key_of
from fedray.data.text.formats import Format
from fedray.data.text.tokenizers import Bytes
from fedray.data.text.tokens import Tokens, tokens_of

TEXT = Format(text="text")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "a.jsonl"
    found.write_text('{"text": "né", "who": "ann"}\n{"text": "two", "who": "bob"}\n')
    return found


def made(file: Path) -> Tokens:
    return tokens_of(file, TEXT, Bytes(), ["who"])


def never() -> Tokens:
    raise AssertionError("they are there")


def same(one: Tokens, other: Tokens) -> bool:
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("ids", "learnt", "offsets"))
    beside = one.beside["who"].tolist() == other.beside["who"].tolist()
    return arrays and beside and (one.vocabulary, one.end, one.pad) == (other.vocabulary, other.end, other.pad)


def test_they_are_made_once(tmp_path: Path, file: Path) -> None:
    first = kept(tmp_path / "kept", "k", lambda: made(file))
    again = kept(tmp_path / "kept", "k", never)
    assert (first.how, again.how) == ("made", "read")
    assert same(first.tokens, again.tokens)
    assert [one.name for one in (tmp_path / "kept").iterdir()] == ["k"]


@pytest.mark.parametrize("name", ["ids.npy", "learnt.npy", "beside0.npy", "meta.json"])
def test_what_is_cut_is_noticed_and_made_again(tmp_path: Path, file: Path, name: str) -> None:
    whole = kept(tmp_path, "k", lambda: made(file)).tokens
    part = tmp_path / "k" / name
    part.write_bytes(part.read_bytes()[:-1])
    again = kept(tmp_path, "k", lambda: made(file))
    assert again.how == "damaged"
    assert same(whole, again.tokens)
    assert kept(tmp_path, "k", never).how == "read"


def test_two_at_once_both_have_them(tmp_path: Path, file: Path) -> None:
    both, found = Barrier(2), list[Kept]()

    def slow() -> Tokens:
        both.wait()
        return made(file)

    threads = [Thread(target=lambda: found.append(kept(tmp_path / "kept", "k", slow))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert same(found[0].tokens, found[1].tokens)
    assert [one.name for one in (tmp_path / "kept").iterdir()] == ["k"]
    assert kept(tmp_path / "kept", "k", never).how == "read"


def test_the_key_is_of_all_that_they_depend_on(tmp_path: Path, file: Path) -> None:
    key = key_of(file, TEXT, Bytes(), ())
    other = tmp_path / "b.jsonl"
    other.write_bytes(file.read_bytes())
    assert key_of(other, TEXT, Bytes(), ()) == key
    assert key_of(file, TEXT, Bytes(), ("who",)) != key
    assert key_of(file, Format(text="{text}!"), Bytes(), ()) != key
    other.write_bytes(file.read_bytes() + b"\n")
    assert key_of(other, TEXT, Bytes(), ()) != key


def test_a_folder_that_cannot_be_is_said(tmp_path: Path, file: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(ConfigError, match=r"tokens cannot be kept in .*set FEDRAY_CACHE to another folder"):
        kept(tmp_path / "kept", "k", lambda: made(file))
