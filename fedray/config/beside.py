"""Files and modules that lie beside a config, while those of the current folder are meant."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedray.core.errors import ConfigError
from fedray.rundir.names import CONFIG

PATHS = re.compile(r"data\.(path|train|test|tokenizer|format\.chat_template)(\..+)?|model\.path|sampler\.file")
"""Keys of the files and folders that a run reads; paths of silos are those of their own nodes."""

_MODULE = re.compile(r"([^\W\d]\w*)(\.[^\W\d]\w*)*:[^\W\d]\w*")


def check_places(resolved: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Check that nothing is missing in the current folder that lies beside the config, or beside one of its bases.

    All paths of a config, and modules of one's own, are taken from the current folder, wherever the config lies: so a
    run goes on, and its Slurm job starts, by the same files.  What lies beside the config is never taken unsaid.  In
    the options of a part of one's own a text with a slash, or an ending as ``.csv``, counts as a path.

    Args:
        resolved: the config.
        files: the files that it was read from.

    Raises:
        ConfigError: naming both folders, and what to do.
    """
    here = Path.cwd()
    folders = [path.absolute().parent for path in files if not _of_run(path)]
    others = [folder for folder in dict.fromkeys(folders) if folder.resolve() != here.resolve()]
    for key, named in _all_named(resolved, "") if others else ():
        folder = next((one for one in others if named.lies_in(one)), None)
        if folder is None or named.found_from(here):
            continue
        near = Path(os.path.relpath(folder, here)) if folder.is_relative_to(here) else folder
        raise ConfigError(
            f"{key}: {named.name} is not in the current folder, {here}, but beside the config, in {near}\n"
            f"paths and modules are taken from the current folder: {named.instead(near)}run the command in {near}"
        )


@dataclass(frozen=True)
class _File:
    """A file, a folder, or a pattern of files that a config names."""

    name: str

    def lies_in(self, folder: Path) -> bool:
        if not self.name or Path(self.name).is_absolute():
            return False
        # Not by Path, which fails for a text that is too long for a name, as a template may be.
        if os.path.exists(folder / self.name):  # noqa: PTH110
            return True
        return glob.has_magic(self.name) and bool(glob.glob(self.name, root_dir=folder))  # noqa: PTH207

    def found_from(self, here: Path) -> bool:
        return self.lies_in(here)

    def instead(self, near: Path) -> str:
        return f"write {near / self.name}, or "


@dataclass(frozen=True)
class _Module:
    """A module that a config names: the first part of its dotted name."""

    name: str

    def lies_in(self, folder: Path) -> bool:
        return (folder / f"{self.name}.py").is_file() or (folder / self.name).is_dir()

    def found_from(self, here: Path) -> bool:
        return self.lies_in(here) or self.name in sys.modules or find_spec(self.name) is not None

    def instead(self, near: Path) -> str:
        return ""


def _all_named(node: Any, key: str, own: bool = False) -> Iterator[tuple[str, _File | _Module]]:
    """Yield the files and modules that a config names, by their keys; ``own``: among options of a part of one's own."""
    if isinstance(node, str):
        if module := _MODULE.fullmatch(node):
            yield key, _Module(module[1])
        elif ("/" in node or Path(node).suffix) if own else PATHS.fullmatch(key):
            yield key, _File(node)
    elif isinstance(node, Mapping):
        own = own or ":" in str(node.get("name"))
        for name, value in node.items():
            yield from _all_named(value, f"{key}.{name}" if key else str(name), own)
    elif isinstance(node, list):
        for value in node:
            yield from _all_named(value, key, own)


def _of_run(path: Path) -> bool:
    """Tell if a config is that of a run folder, where files of the same names are other ones."""
    return path.name.startswith(Path(CONFIG).stem) and (path.parent / "checkpoints").is_dir()
