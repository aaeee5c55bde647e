"""Tokens on the disk between runs: found by a hash of all that they depend on, and whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from fedray.core.errors import ConfigError, reason
from fedray.data.text.formats import Format
from fedray.data.text.tokenizers import Tokenizer, template_of
from fedray.data.text.tokens import Tokens
from fedray.rundir import durable
from fedray.rundir.names import CACHE

VERSION = 1
"""Rises when the same file, format and tokenizer give other tokens than before."""

_PARTS = ("ids", "learnt", "offsets")


class Kept(NamedTuple):
    """Tokens, and where they come from.

    Args:
        tokens: the tokens.
        how: ``read`` from the disk, ``made`` for want of them, or made as what was there was ``damaged``.
    """

    tokens: Tokens
    how: Literal["read", "made", "damaged"]


def key_of(file: Path, form: Format, tokenizer: Tokenizer, beside: Sequence[str]) -> str:
    """Return a hash of a file's bytes, and of all else that its tokens depend on."""
    hasher = hashlib.blake2b(digest_size=16)

    def add(*parts: Iterable[Any] | bytes | str) -> None:
        for part in parts:
            found = part if isinstance(part, bytes) else json.dumps(part).encode()
            hasher.update(len(found).to_bytes(8, "little") + found)

    add(f"fedray text {VERSION}", file.suffix.lower(), list(astuple(form)), template_of(form.chat_template) or "")
    add(list(beside))
    for name, content in tokenizer.marks():
        add(name, content)
    with file.open("rb") as opened:
        while piece := opened.read(1 << 20):
            hasher.update(piece)
    return hasher.hexdigest()


def kept(folder: Path, key: str, make: Callable[[], Tokens]) -> Kept:
    """Return the tokens of a key from the disk, or make and keep them.

    Several processes may ask at once: each writes a folder of its own, and the first one stays.  What is damaged is
    noticed by its hash, and made again.

    Args:
        folder: the folder of all tokens.
        key: see :func:`key_of`.
        make: makes the tokens.

    Raises:
        ConfigError: they cannot be written.
    """
    final = folder / key
    damaged = False
    if final.is_dir():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, EOFError):
            return Kept(_load(final), "read")
        damaged = True
    tokens = make()
    try:
        with durable.folder(final, over=damaged) as unfinished:
            _save(unfinished, tokens)
    except OSError as error:
        # Another process may have been the first: then its tokens are as good as ours.
        if not final.is_dir():
            raise ConfigError(
                f"data.tokenizer: tokens cannot be kept in {folder}: {reason(error)}; set {CACHE} to another folder"
            ) from None
    return Kept(tokens, "damaged" if damaged else "made")


def _save(folder: Path, tokens: Tokens) -> None:
    arrays = {name: getattr(tokens, name) for name in _PARTS}
    arrays |= {f"beside{number}": values for number, values in enumerate(tokens.beside.values())}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    said = {"beside": list(tokens.beside), "vocabulary": tokens.vocabulary, "end": tokens.end, "pad": tokens.pad}
    meta = json.dumps({**said, "hashes": {name: _hash(folder / f"{name}.npy") for name in arrays}})
    (folder / "meta.json").write_text(meta)


def _load(folder: Path) -> Tokens:
    """Read tokens back; ValueError where a file is not what was written."""
    meta = json.loads((folder / "meta.json").read_text())

    def array(name: str) -> Any:
        file = folder / f"{name}.npy"
        if _hash(file) != meta["hashes"][name]:
            raise ValueError(f"{file} is not what was written")
        return np.load(file, allow_pickle=False)

    ids, learnt, offsets = (array(name) for name in _PARTS)
    beside = {name: array(f"beside{number}") for number, name in enumerate(meta["beside"])}
    return Tokens(ids, learnt, offsets, beside, meta["vocabulary"], meta["end"], meta["pad"])


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").hexdigest()
