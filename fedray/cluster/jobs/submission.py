"""A submission to a standing Ray cluster.

The files that a config needs, in one archive, and the command to run there.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from fedray.config.layers import ConfigFile
from fedray.core.errors import ConfigError

LIMIT = 100 * 2**20
"""Bytes that Ray's Jobs API takes in one request."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
# Below a node's session folder.  Ray tells a job whether it has a working directory, and not where.
_UPLOADED = {"runtime_resources", "working_dir_files"}
_IMPORTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_LEFT_OUT = {"runs", "sweeps", "outputs", "build", "dist", "__pycache__", "node_modules"}


@dataclass(frozen=True)
class Package:
    """Files to upload.

    Args:
        root: the working directory.
        files: paths relative to it, sorted.
    """

    root: Path
    files: tuple[Path, ...]

    @classmethod
    def of(cls, config: ConfigFile, overrides: Sequence[str], root: Path) -> Package:
        """Collect the files of ``root`` that a config needs.

        These are the config and its base files, whatever its ``data`` section names by a relative path that exists,
        and, if a part is of the user's own, all Python files and the part's package.  Absolute paths are left alone:
        they are paths on the cluster.

        Args:
            config: the YAML file, as it was read.
            overrides: ``key=value`` strings.
            root: the working directory.

        Raises:
            ConfigError: a bad override, or a config that needs a file outside ``root``.
        """
        _, resolved = config.layers(overrides)
        found = {_inside(root, path, "config") for path in config.files}
        for key, text in _strings(resolved.get("data"), "data"):
            # A silo's path is one of its own node: a file of that name here is another one, or must not travel.
            silo = key.startswith("data.silos.")
            if text and not silo and not Path(text).is_absolute() and (root / text).exists():
                inside = _inside(root, Path(text), key)
                found.update(_below(root, inside) if (root / inside).is_dir() else [inside])
        for _, text in _strings(resolved, ""):
            found.update(_code(root, text))
        return cls(root, tuple(sorted(found)))

    def named(self, path: Path) -> str:
        """Return the path on the cluster of a file of the working directory."""
        return _inside(self.root, path, "config").as_posix()

    def archive(self) -> bytes:
        """Make a ZIP file, the same bytes for the same files, so that a second upload can be saved.

        Raises:
            ConfigError: it is too large for one upload.
        """
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in self.files:
                info = zipfile.ZipInfo(path.as_posix(), _EPOCH)
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(info, (self.root / path).read_bytes())
        if buffer.tell() > LIMIT:
            largest = sorted(self.files, key=lambda path: -(self.root / path).stat().st_size)[:3]
            named = ", ".join(f"{path} ({decimal((self.root / path).stat().st_size)})" for path in largest)
            raise ConfigError(
                f"the files that the config needs are {decimal(buffer.tell())} as a ZIP file; Ray takes "
                f"{decimal(LIMIT)} in one upload\nthe largest are {named}\n"
                "put data on a file system that the cluster sees, and name it by its absolute path"
            )
        return buffer.getvalue()


def command(verb: str, words: Sequence[str], run_dir: Path, python: str = "python") -> str:
    """Return the shell command that runs fedray on the cluster.

    >>> print(command("run", ["x.yaml", "model.hidden=[64, 32]"], Path("/shared/x")))
    python -m fedray run x.yaml 'model.hidden=[64, 32]' 'run.dir="/shared/x"'

    Args:
        verb: ``run`` or ``resume``.
        words: its further arguments.
        run_dir: the run folder; if relative, below the home of the account that runs the cluster, because the working
            directory of a job does not outlive it.
        python: the interpreter on the cluster.

    Raises:
        ConfigError: quotes or backslashes in ``run_dir``.
    """
    text = str(run_dir)
    if any(letter in text for letter in '"\\\n'):
        raise ConfigError(f"run.dir: {text!r} holds a quote, a backslash or a line end; choose a plainer path")
    home = _home(run_dir)
    start = f"{shlex.quote(python)} -m fedray {verb}"
    if verb == "resume":
        return " ".join([start, on_the_cluster(run_dir), *map(shlex.quote, words)])
    # The value is YAML, where a string in double quotes may hold anything else.
    last = f"""'run.dir="{text}"'""" if not home else f"""'run.dir="'{home}{shlex.quote(text + '"')}"""
    return " ".join([start, *map(shlex.quote, words), last])


def on_the_cluster(run_dir: Path) -> str:
    """Return a run folder as the cluster's shell writes it.

    >>> print(on_the_cluster(Path("runs/a b")))
    "$HOME"/'runs/a b'
    """
    return _home(run_dir) + shlex.quote(str(run_dir))


def _home(run_dir: Path) -> str:
    # The shell fills in the home folder, and joins it to the words before and after it.
    return "" if run_dir.is_absolute() else '"$HOME"/'


def short_lived(run_dir: Path) -> str | None:
    """Warn of a run folder among the files that Ray unpacked for a job; None for one that lies elsewhere.

    >>> short_lived(Path("/shared/runs/x"))
    """
    if not _UPLOADED.issubset(run_dir.resolve().parts):
        return None
    return (
        f"the run folder {run_dir} lies in the working directory of a Ray job, which Ray may delete as soon as the job "
        "has ended; give an absolute one, as in run.dir=$HOME/runs/NAME, or use `fedray submit`"
    )


def _strings(node: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, Mapping):
        for name, value in node.items():
            yield from _strings(value, f"{key}.{name}")
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value, key)


def _inside(root: Path, path: Path, key: str) -> Path:
    """Return ``path`` relative to ``root``; links inside it may point anywhere, as what they point to is sent."""
    absolute = Path(os.path.normpath(path if path.is_absolute() else root / path))
    if not absolute.is_relative_to(root):
        raise ConfigError(
            f"{key}: {path} lies outside the working directory {root}, which is what the cluster gets;\n"
            "submit from a folder that holds it, or name a path that is absolute on the cluster"
        )
    return absolute.relative_to(root)


def _code(root: Path, text: str) -> Iterator[Path]:
    """Yield the files that may be code of what ``module:name`` stands for, if the text is one."""
    if not _IMPORTED.fullmatch(text):
        return
    top = text.partition(":")[0].partition(".")[0]
    if (root / top).is_dir():
        yield from _below(root, Path(top))
    if (root / top).is_dir() or (root / f"{top}.py").is_file():
        yield from (path for path in _below(root, Path()) if path.suffix == ".py")


def _below(root: Path, folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, without what tools and runs leave there."""
    for entry in sorted((root / folder).iterdir()):
        path = folder / entry.name
        if entry.name.startswith(".") or entry.name in _LEFT_OUT or entry.name.endswith(".egg-info"):
            continue
        if entry.is_dir():
            if not (entry / "pyvenv.cfg").exists():
                yield from _below(root, path)
        elif entry.is_file():
            yield path
