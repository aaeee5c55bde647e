"""Files and modules that lie beside a config, while those of the current folder are meant."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
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
    run goes on, and its Slurm job starts, by the same files.  What lies beside the config is never taken unsaid.

    Args:
        resolved: the config.
        files: the files that it was read from.

    Raises:
        ConfigError: naming both folders, and what to do.
    """
    here = Path.cwd()
    folders = [path.absolute().parent for path in files if not _of_run(path)]
    others = [folder for folder in dict.fromkeys(folders) if folder.resolve() != here.resolve()]
    for key, text in _texts(resolved, "") if others else ():
        named = _MODULE.fullmatch(text)
        if named is None and (_own(resolved, key) or not PATHS.fullmatch(key)):
            continue
        if named is None:
            folder = None if _there(here, text) else next((one for one in others if _there(one, text)), None)
            what, known = text, False
        else:
            what = named[1]
            folder = None if _module(here, what) else next((one for one in others if _module(one, what)), None)
            known = folder is not None and (what in sys.modules or find_spec(what) is not None)
        if folder is None or known:
            continue
        near = Path(os.path.relpath(folder, here)) if folder.is_relative_to(here) else folder
        other_way = f"write {near / text}, or " if named is None else ""
        raise ConfigError(
            f"{key}: {what} is not in the current folder, {here}, but beside the config, in {near}\n"
            f"paths and modules are taken from the current folder: {other_way}run the command in {near}"
        )


def _of_run(path: Path) -> bool:
    """Tell if a config is that of a run folder, where files of the same names are other ones."""
    return path.name.startswith(Path(CONFIG).stem) and (path.parent / "checkpoints").is_dir()


def _own(resolved: Mapping[str, Any], key: str) -> bool:
    """Tell if a part is of the user's own, which looks for its files where it likes."""
    part = resolved.get(key.partition(".")[0])
    return isinstance(part, Mapping) and ":" in str(part.get("name"))


def _there(folder: Path, text: str) -> bool:
    if not text or Path(text).is_absolute():
        return True
    # Not by Path, which fails for a text that is too long for a name, as a template may be.
    if os.path.exists(folder / text):  # noqa: PTH110
        return True
    return glob.has_magic(text) and bool(glob.glob(text, root_dir=folder))  # noqa: PTH207


def _module(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()


def _texts(node: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, Mapping):
        for name, value in node.items():
            yield from _texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, key)
