"""Files and folders that there are not."""

from __future__ import annotations

from pathlib import Path

import pytest

import fedray
from fedray.core.errors import ConfigError
from fedray.data.columns.paths import need_file, need_folder


def test_the_files_of_a_pattern_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.csv", "a.csv", "cleveland.csv"):
        Path(name).write_text("x,y\n1,0\n")
    with pytest.raises(
        ConfigError,
        match=r"^data file \*\.csv does not exist .*; .* write its files: \[a\.csv, b\.csv, cleveland\.csv\]$",
    ):
        fedray.FederatedData.from_csv(["*.csv"], target="y")
    with pytest.raises(ConfigError, match=r"^data file \*\.txt does not exist \(current folder: .*\)$"):
        need_file(Path("*.txt"))
    with pytest.raises(
        ConfigError, match=r"^data file clevland\.csv does not exist \(did you mean 'cleveland\.csv'\?\) "
    ):
        fedray.FederatedData.from_csv(["clevland.csv"], target="y")
    Path("[1].csv").write_text("x,y\n1,0\n")
    need_file(Path("[1].csv"))  # a name is a name first


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a folder, not a file"):
        need_file(tmp_path)
    with pytest.raises(ConfigError, match="is a file; a folder is needed here"):
        need_folder(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"does not exist .*; expected in it: x$"):
        need_folder(tmp_path / "none", "; expected in it: x")
    need_folder(tmp_path)
