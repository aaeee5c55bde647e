"""What ledgers have in common: a head that names the kind, and lines that are on the disk before they are taken."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.privacy.journal import Journal
from fedray.rundir import durable
from tests.privacy import test_client_ledger, test_ledger


@dataclass(frozen=True)
class Number:
    number: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Numbers(Journal[Number]):
    format: ClassVar[int] = 4
    whose: ClassVar[str] = "clients"

    @classmethod
    def entry_of(cls, line: Any) -> Number:
        return Number(**line)


def test_what_is_appended_is_read_again_and_the_kind_stands_in_the_head(tmp_path: Path) -> None:
    numbers = Numbers.begin(tmp_path / "l")
    numbers.append([Number(1), Number(2)])
    numbers.append([])
    assert [*Numbers.read(numbers.path)] == [*numbers] == [Number(1), Number(2)]
    assert len(numbers) == 2
    head = numbers.path.read_bytes().split(b"\n")[0]
    assert head == f'{{"ledger": "{numbers.id}", "format": 4, "of": "clients"}}'.encode()


def test_what_the_disk_does_not_take_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = Numbers.begin(tmp_path / "l")

    def full(self: durable.Growing, content: bytes, *, forced: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.Growing, "append", full)
    with pytest.raises(OSError, match="No space left"):
        numbers.append([Number(1)])
    assert [*numbers] == []


def test_a_ledger_of_a_kind_that_a_later_fedray_has_is_no_other_one(tmp_path: Path) -> None:
    (tmp_path / "l").write_bytes(b'{"ledger": "a", "format": 9, "of": "moons"}\n')
    with pytest.raises(ConfigError, match="the ledger of moons, not of clients' releases"):
        Numbers.read(tmp_path / "l")
    assert not Numbers.is_at(tmp_path / "l")


@pytest.mark.parametrize("owner", [test_ledger, test_client_ledger], ids=["server", "clients"])
@given(cut=st.integers(0, 10_000))
def test_a_file_cut_anywhere_has_every_line_but_the_one_that_nothing_was_made_of(
    tmp_path_factory: pytest.TempPathFactory, owner: Any, cut: int
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "l"
    ledger: Journal[Any] = owner.filled(path)
    content = path.read_bytes()
    head = content.index(b"\n") + 1
    left = content[: head + cut % (len(content) - head + 1)]
    path.write_bytes(left)
    kind = type(ledger)
    found = kind.resume(path, ledger.id, least=0)
    assert [*found] == [*ledger][: left.count(b"\n") - 1]
    found.append([*ledger][-1:])  # goes on with a whole line
    again = kind.read(path)
    assert [*again] == [*found]
    assert again.id == ledger.id
