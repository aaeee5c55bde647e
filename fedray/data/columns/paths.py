"""Files and folders of data that a config names."""

from __future__ import annotations

import glob
from pathlib import Path

from fedray.config.binding import nearest
from fedray.core.errors import ConfigError, listed


def need_file(file: Path) -> None:
    """Raise ConfigError unless there is such a file; the files of a pattern are said to be named each."""
    if file.is_file():
        return
    what = "is a folder, not a file" if file.is_dir() else "does not exist"
    meant = sorted(glob.glob(str(file))) if glob.has_magic(str(file)) else []  # noqa: PTH207 - it may be absolute
    named = f"; a pattern is not read here, write its files: [{listed(meant)}]" if meant else ""
    there = [] if file.exists() or not file.parent.is_dir() else [one.name for one in file.parent.iterdir()]
    near = "" if named else nearest(file.name, sorted(there))
    raise ConfigError(f"data file {file} {what}{near} (current folder: {Path.cwd()}){named}")


def need_folder(folder: Path, expected: str = "") -> None:
    """Raise ConfigError unless there is such a folder."""
    if folder.is_file():
        raise ConfigError(f"{folder} is a file; a folder is needed here{expected or ', with one file per client'}")
    if not folder.is_dir():
        raise ConfigError(f"data folder {folder} does not exist (current folder: {Path.cwd()}){expected}")
