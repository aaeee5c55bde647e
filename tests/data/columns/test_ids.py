"""Ids of clients that people have: those that cannot be are told all at once, with ids that can."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fedray.core.errors import ConfigError
from fedray.data.columns.ids import ID_PATTERN, allowed, check_ids, id_keys


def test_ids_become_bytes_and_keys() -> None:
    ids = check_ids(["nord", "St._3-a"], 2)
    assert ids.tolist() == [b"nord", b"St._3-a"]
    assert check_ids(ids, 2) is ids
    keys = id_keys(ids)
    assert keys.dtype == np.int64
    assert len({*keys.tolist()}) == 2


def test_all_that_cannot_be_are_told_at_once_with_a_list_that_can() -> None:
    names = ["nord", "münchen", "köln süd", "a" * 65]
    with pytest.raises(ConfigError) as refused:
        check_ids(names, 4)
    first, second = str(refused.value).splitlines()
    assert first == f"client ids 'münchen', 'köln süd', {'a' * 65!r} are not allowed; use 1 to 64 of A-Z a-z 0-9 . _ -"
    assert f"`data.ids: [nord, muenchen, koeln_sued, {'a' * 64}]`" in second
    with pytest.raises(ConfigError, match=r"^client id 'a b' is not allowed"):
        check_ids(["a b", "c"], 2)


@pytest.mark.parametrize(
    "names",
    [["Mu\u0308nchen", "o\u0302le"], ["京都", "東京"], ["a b", "a_b"], ["", "x"], ["client_0", "京都", "client_1"]],
)
def test_ids_that_are_proposed_can_be(names: list[str]) -> None:
    """Also of a name whose umlauts are two signs, as a Mac has them."""
    proposed = allowed(names)
    assert all(map(ID_PATTERN.fullmatch, proposed))
    assert len({*proposed}) == len(names)
    check_ids(proposed, len(names))
    assert not names[0].startswith("Mu") or proposed == ["Muenchen", "ole"]


def test_a_wrong_number_and_a_name_given_twice_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 client ids were given for 2 clients"):
        check_ids(["a"], 2)
    with pytest.raises(ConfigError, match=re.escape("client id 'a' is used twice")):
        check_ids(["a", "a"], 2)


def test_keys_of_names_are_the_same_for_ever() -> None:
    """Which rows are held out hangs on them; the numbers were taken with coreutils: b2sum -l 64."""
    assert id_keys(np.array([b"hospital_a", b"b"])).tolist() == [6265721976996852099, 4226560797588928834]
    assert [key >> 63 for key in id_keys(np.array([b"x", b"y", b"z"])).tolist()] == [0, 0, 0]
