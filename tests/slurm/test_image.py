"""The recipe of an image has what an installation needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "slurm" / "fedray.def"


def section(name: str) -> list[str]:
    """The lines of a section of the recipe."""
    text = re.split(r"^%", RECIPE.read_text(), flags=re.MULTILINE)
    (found,) = [part for part in text if part.startswith(f"{name}\n")]
    return [line.strip() for line in found.splitlines()[1:] if line.strip()]


def test_the_files_are_those_that_the_package_is_built_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {
        "pyproject.toml",
        "constraints.txt",
        "hatch_build.py",
        project["project"]["readme"],
        *project["project"]["license-files"],
    }
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    copied = [line.split() for line in section("files")]
    assert {source for source, _ in copied} == needed
    assert all((ROOT / source).exists() and target == f"/opt/fedray/{source}" for source, target in copied)


def test_it_is_installed_with_the_pins_that_are_tested_on_a_python_that_fits() -> None:
    compiler, install = section("post")
    assert compiler.endswith("apt-get install -y --no-install-recommends gcc libc6-dev")
    assert install == "python -m pip install --no-cache-dir -c /opt/fedray/constraints.txt /opt/fedray"
    found = re.search(r"^From: python:3\.(\d+)-slim$", RECIPE.read_text(), flags=re.MULTILINE)
    assert found is not None
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    low, high = map(int, re.findall(r"3\.(\d+)", wanted))
    assert low <= int(found[1]) < high
