"""The files of the user's own code are those that an import runs, as the interpreter itself finds them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedray.config.code import files_of, hashes_of
from fedray.config.imported import Imported

FILES = {
    "study/__init__.py": "",
    "study/nets/__init__.py": "from .blocks import Block",
    "study/nets/blocks.py": "import numpy\nfrom ..sizes import WIDTH\nclass Block: ...",
    "study/sizes.py": "def late():\n    import helper\nWIDTH = 3\nlate()",
    "helper.py": "from json import *",
    "top.py": "import study.nets as nets",
    "loop.py": "import loop, missing_one" + "\n",
    "broken.py": "def",
    "unused.py": "import top",
    "names/part.py": "",
    "json/ignored.txt": "",
}
NEEDED = ["helper.py", "study/__init__.py", "study/nets/__init__.py", "study/nets/blocks.py", "study/sizes.py"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def found(folder: Path, *modules: str) -> list[str]:
    return [path.as_posix() for path in files_of(folder, modules)]


def test_files_are_those_that_an_import_runs(folder: Path) -> None:
    assert found(folder, "top") == sorted([*NEEDED, "top.py"])
    ask = "import sys, top; print(*(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)))"
    ran = subprocess.run([sys.executable, "-c", ask], cwd=folder, capture_output=True, text=True, check=True)
    own = [Path(name) for name in ran.stdout.split() if Path(name).is_relative_to(folder)]
    assert sorted(path.relative_to(folder).as_posix() for path in own) == found(folder, "top")


def test_a_module_within_a_package_needs_the_packages_above(folder: Path) -> None:
    assert found(folder, "study.nets.blocks") == NEEDED
    assert found(folder, "names.part") == ["names/part.py"]


def test_circles_mistakes_and_installed_packages_are_no_hindrance(folder: Path) -> None:
    assert found(folder, "loop", "broken", "numpy", "nowhere.at.all") == ["broken.py", "loop.py"]


def test_a_hash_tells_of_a_change_and_of_nothing_else(folder: Path) -> None:
    parts = [Imported("top:Net", folder=str(folder)), Imported("helper:f", folder=str(folder))]
    before = hashes_of(parts)
    assert list(before) == sorted([*NEEDED, "top.py"])
    (folder / "unused.py").write_text("")
    assert hashes_of(parts) == before
    (folder / "study" / "sizes.py").write_text("WIDTH = 4")
    after = hashes_of(parts)
    assert [name for name in before if after.get(name) != before[name]] == ["study/sizes.py"]
