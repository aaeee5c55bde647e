"""The ids of clients: what they may be, and what draws know clients by."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError, listed

ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}")

_SPELT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "ø": "o"})


def check_ids(ids: Sequence[str] | NDArray[Any], count: int) -> NDArray[np.bytes_]:
    """Return client ids as one array of bytes (no Python object per client); such an array is taken as it is.

    Raises:
        ConfigError: not ``count`` of them, ids that do not match ``[A-Za-z0-9._-]{1,64}``, or a duplicate.
    """
    if isinstance(ids, np.ndarray) and ids.dtype.kind == "S" and len(ids) == count:
        return ids
    names = [str(name) for name in ids]
    if len(names) != count:
        raise ConfigError(f"{len(names)} client ids were given for {count} clients")
    if wrong := [name for name in names if not ID_PATTERN.fullmatch(name)]:
        which = f"client id {wrong[0]!r} is" if len(wrong) == 1 else f"client ids {listed(map(repr, wrong))} are"
        raise ConfigError(
            f"{which} not allowed; use 1 to 64 of A-Z a-z 0-9 . _ -\n"
            "where ids are names of files: rename them, or, for data.name=csv, give others in their order: "
            f"`data.ids: [{listed(allowed(names))}]`"
        )
    encoded = np.array(names, dtype=np.bytes_)
    unique, counts = np.unique(encoded, return_counts=True)
    if len(unique) != count:
        twice = unique[int(np.argmax(counts > 1))].decode()
        raise ConfigError(f"client id {twice!r} is used twice; every client needs an id of its own")
    return encoded


def allowed(names: Sequence[str]) -> list[str]:
    """Return ids that are allowed, different, and like some names.

    >>> allowed(["nord", "München", "Straße 1", "京都"])
    ['nord', 'Muenchen', 'Strasse_1', 'client_3']
    """
    made = [_plain(name) for name in names]
    counts = Counter(made)
    good = [one if one.strip("_") and counts[one] == 1 else f"client_{place}" for place, one in enumerate(made)]
    return good if len({*good}) == len(good) else [f"client_{place}" for place in range(len(good))]


def _plain(name: str) -> str:
    """Return a name in letters that are allowed, other signs as ``_``."""
    # A name of a file may have an umlaut as one sign, or, from a Mac, as two.
    spelt = unicodedata.normalize("NFC", name).translate(_SPELT)
    bare = "".join(one for one in unicodedata.normalize("NFKD", spelt) if not unicodedata.combining(one))
    return re.sub("[^A-Za-z0-9._-]+", "_", bare)[:64]


def id_keys(ids: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Return the keys of named clients for random draws, int64 in [0, 2**63): a hash of each name."""
    hashes = (hashlib.blake2b(name, digest_size=8).digest() for name in ids)
    return np.array([int.from_bytes(word, "little") >> 1 for word in hashes], dtype=np.int64)
