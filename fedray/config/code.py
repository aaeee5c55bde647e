"""The Python files that ``module:name`` needs, as far as they are the user's own, and what is in them."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from fedray.config.imported import Imported


def hashes_of(parts: Iterable[Imported]) -> dict[str, str]:
    """Return the SHA-256 of each Python file of the user's own that parts need, by its path below their folder.

    Those are the files of the modules that are named, and those that they import from the same folder, wherever in a
    file the ``import`` stands.  A module that is imported by a name which is made when the code runs is not among them.

    Args:
        parts: the parts that are named by their import path.
    """
    found: dict[str, str] = {}
    for folder in dict.fromkeys(part.folder for part in parts):
        names = [part.name.partition(":")[0] for part in parts if part.folder == folder]
        for path in files_of(Path(folder), names):
            found[path.as_posix()] = hashlib.sha256((Path(folder) / path).read_bytes()).hexdigest()
    return dict(sorted(found.items()))


def files_of(folder: Path, modules: Iterable[str]) -> list[Path]:
    """Return the files of modules, and of all that they import from ``folder``, relative to it and sorted.

    Args:
        folder: the folder that modules are looked up in first.
        modules: their dotted names; those of installed packages have no file there.
    """
    found: dict[Path, None] = {}
    waiting = list(modules)
    while waiting:
        for path, package in _on_the_way(folder, waiting.pop()):
            if path not in found:
                found[path] = None
                waiting += _imports((folder / path).read_bytes(), package)
    return sorted(found)


def _on_the_way(folder: Path, module: str) -> Iterator[tuple[Path, str]]:
    """Yield the files that are run when a module is imported, each with the package that its imports are relative to.

    >>> [*_on_the_way(Path("/nowhere"), "a.b")]
    []
    """
    words = module.split(".")
    for end in range(1, len(words) + 1):
        stem, name = Path(*words[:end]), ".".join(words[:end])
        if (folder / stem / "__init__.py").is_file():
            yield stem / "__init__.py", name
        elif (folder / stem.with_suffix(".py")).is_file():
            yield stem.with_suffix(".py"), name.rpartition(".")[0]


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Yield the dotted names of what a file may import; what is a name within a module is none, and has no file.

    >>> sorted(_imports(b"import a.b\\nfrom . import c\\nfrom d import e", "study"))
    ['a.b', 'd', 'd.e', 'study', 'study.c']
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # whoever imports it says so
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            if start:
                yield start
            yield from (f"{start}.{one.name}".lstrip(".") for one in node.names if one.name != "*")
