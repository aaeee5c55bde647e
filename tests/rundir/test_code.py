"""The code of each stretch of rounds is kept with the round that it holds from."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.rundir.code import code_at, keep_code
from fedray.rundir.names import CODE


def test_each_code_is_kept_with_its_first_round(tmp_path: Path) -> None:
    keep_code(tmp_path, {"a.py": "1"}, 1)
    keep_code(tmp_path, {"a.py": "1"}, 4)
    keep_code(tmp_path, {"a.py": "2"}, 6)
    found = [code_at(tmp_path, round) for round in (1, 5, 6, 99)]
    assert found == [{"a.py": "1"}, {"a.py": "1"}, {"a.py": "2"}, {"a.py": "2"}]
    keep_code(tmp_path, {"a.py": "3"}, 4)  # rounds 4 and on are done again
    assert [code_at(tmp_path, round) for round in (3, 4, 6)] == [{"a.py": "1"}, {"a.py": "3"}, {"a.py": "3"}]


def test_a_run_without_code_of_its_own_has_no_file(tmp_path: Path) -> None:
    keep_code(tmp_path, {}, 1)
    assert not (tmp_path / CODE).exists()
    assert code_at(tmp_path, 1) is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / CODE).write_text("[")
    with pytest.raises(ConfigError, match=r"code\.json cannot be read"):
        code_at(tmp_path, 1)
