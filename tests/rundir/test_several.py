"""Who does several runs in a folder leaves a note there, by which it is asked to begin no further one."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.rundir.lock import Owner
from fedray.rundir.several import Several, at_work, doing_several


def note(folder: Path, owner: Owner) -> None:
    (folder / f"several-{owner.token}.json").write_text(json.dumps(asdict(owner)))


def test_a_process_is_asked_once_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "s"
    assert at_work(folder) == []
    with doing_several(folder) as mine:
        (seen,) = at_work(folder)
        assert (seen.owner, mine.asked, seen.ended) == (mine.owner, False, False)
        assert seen.ask()
        assert mine.asked
        (again,) = at_work(folder)
        assert not again.ask()
        assert not again.ended
    assert seen.ended
    assert not seen.ask()
    assert list(folder.iterdir()) == []


def test_one_that_fails_leaves_nothing_either(tmp_path: Path) -> None:
    with pytest.raises(KeyError), doing_several(tmp_path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_two_in_one_folder_are_asked_each(tmp_path: Path) -> None:
    with doing_several(tmp_path) as one, doing_several(tmp_path) as other:
        first = next(seen for seen in at_work(tmp_path) if seen.owner == one.owner)
        assert first.ask()
        assert (one.asked, other.asked) == (True, False)
        assert {seen.owner for seen in at_work(tmp_path)} == {one.owner, other.owner}


def test_the_note_of_a_dead_process_is_taken_away_and_one_of_elsewhere_stays(tmp_path: Path) -> None:
    dead, elsewhere = replace(Owner.me(), born=1), replace(Owner.me(), host="another", token="b")
    note(tmp_path, dead)
    note(tmp_path, elsewhere)
    assert [seen.owner for seen in at_work(tmp_path)] == [elsewhere]
    assert [path.name for path in tmp_path.iterdir()] == ["several-b.json"]
    assert Several(tmp_path, dead).ended
    assert not Several(tmp_path, elsewhere).ended


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/sweep: cannot be written"), doing_several(tmp_path / "file" / "sweep"):
        pass
