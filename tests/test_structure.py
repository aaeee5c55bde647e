"""The house rules that a program can check: floors, docstrings, sizes, and a reason for every dependency."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent

# Imports go down, or sideways on one floor. A new module takes its place here.
FLOORS = """
    errors files collector layout messages rng losses metrics config schema       # 0 words
    data models optim sampling blocks local transforms aggregators server store   # 1 parts
    algorithm algorithms                                                          # 2 bundles
    worker executor plan rounds run snapshot record tracking checkpoint lock \
        usage budget failures faults machine scratch log                          # 3 a run
    ray slurm                                                                     # 4 machines
    layers place experiment fit evaluation planning quickstart interrupt api cli \
        status sweep submission doctor __init__ __main__                          # 5 faces
"""
FLOOR = {
    module: floor for floor, line in enumerate(FLOORS.strip().splitlines()) for module in line.partition("#")[0].split()
}
MACHINES = 4
STARTS_PROCESSES = {"multiprocessing", "subprocess", "torch.multiprocessing"}

LONGEST_FILE = 400
LONGER: set[str] = set()  # files that may pass it, each for a reason given here
LONGEST_LAUNCHER = 39


def top(path: Path, package: Path) -> str:
    """The module of the floor table that a file belongs to: ``data`` for ``fedray/data/spec.py``."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def imports(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything a file imports, at its top or in a function, relative or not."""
    inside = [package.name, *path.relative_to(package).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            start = inside[: len(inside) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def fedray_module(name: str, package: Path) -> str | None:
    """The floor-table module that a dotted name lies in; ``from fedray import FedAvg`` is ``__init__``'s."""
    first, *rest = name.split(".")
    if first != package.name:
        return None
    if rest and ((package / rest[0]).is_dir() or (package / f"{rest[0]}.py").is_file()):
        return rest[0]
    return "__init__"


def breaches(package: Path) -> list[str]:
    """What breaks the floors: modules without one, imports that go up, Ray or processes above or below their floor."""
    found = []
    for path in sorted(package.rglob("*.py")):
        here = top(path, package)
        if here not in FLOOR:
            found.append(f"{path.relative_to(package)}: {here!r} has no floor; enter it in tests/test_structure.py")
            continue
        for line, name in imports(path, package):
            place = f"{path.relative_to(package)}:{line}"
            module = fedray_module(name, package)
            if module is not None and FLOOR.get(module, -1) > FLOOR[here]:
                found.append(f"{place}: floor {FLOOR[here]} imports {name} of floor {FLOOR[module]}")
            if name.split(".")[0] == "ray" and here != "ray":
                found.append(f"{place}: only {package.name}/ray imports ray")
            if FLOOR[here] < MACHINES and any(f"{name}.".startswith(f"{start}.") for start in STARTS_PROCESSES):
                found.append(f"{place}: {name} starts processes, which is for floor {MACHINES} and above")
    return found


def bare_folders(package: Path) -> list[str]:
    """Folders with modules but no ``__init__.py``: their modules can be imported twice, and registered twice."""
    folders = {path.parent for path in package.rglob("*.py")}
    return [str(folder.relative_to(package)) for folder in sorted(folders) if not (folder / "__init__.py").is_file()]


def undocumented(path: Path) -> Iterator[str]:
    """The public names of a file, and the file itself, that have no docstring."""
    tree = ast.parse(path.read_text())
    if tree.body and ast.get_docstring(tree) is None:
        yield str(path)
    for node in tree.body:
        if (
            isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and not node.name.startswith("_")
            and ast.get_docstring(node) is None
        ):
            yield f"{path}:{node.lineno} {node.name}"


def too_long(folder: Path, limit: int) -> list[str]:
    """Files of more than ``limit`` lines."""
    counts = {path: len(path.read_text().splitlines()) for path in sorted(folder.rglob("*.py"))}
    return [f"{path.relative_to(folder)}: {count} lines" for path, count in counts.items() if count > limit]


def requirements() -> dict[str, list[Requirement]]:
    """The requirements of pyproject.toml by where they stand."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = {"build": project["build-system"]["requires"], "run": project["project"]["dependencies"]}
    groups |= project["project"]["optional-dependencies"]
    return {group: [Requirement(line) for line in lines] for group, lines in groups.items()}


def pins() -> dict[str, str]:
    """Name to version of constraints.txt."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    return dict(line.split("==") for line in lines if line)


def test_imports_go_down_and_ray_stays_on_its_floor() -> None:
    assert breaches(ROOT / "fedray") == []


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("rng.py", "from fedray.data.spec import DataSpec", "floor 0 imports fedray.data.spec.DataSpec of floor 1"),
        (
            "data/csv.py",
            "def f():\n  from ..algorithm import Algorithm",
            "floor 1 imports fedray.algorithm.Algorithm",
        ),
        ("rounds.py", "from . import cli", "floor 3 imports fedray.cli of floor 5"),
        ("rounds.py", "from fedray import FedAvg", "floor 3 imports fedray.FedAvg of floor 5"),
        ("rounds.py", "import ray", "only fedray/ray imports ray"),
        ("experiment.py", "from ray.util import state", "only fedray/ray imports ray"),
        ("executor.py", "from subprocess import run", "subprocess.run starts processes"),
        ("oddity.py", "", "'oddity' has no floor"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, file: str, text: str, complaint: str) -> None:
    package = tmp_path / "fedray"
    for name in ("__init__.py", "cli.py", "algorithm.py", "data/__init__.py", "data/spec.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    assert breaches(package) == []
    (package / file).write_text(text)
    found = breaches(package)
    assert len(found) == 1
    assert complaint in found[0]


def test_down_and_sideways_are_allowed(tmp_path: Path) -> None:
    package = tmp_path / "fedray"
    (package / "ray").mkdir(parents=True)
    for name in ("__init__.py", "executor.py", "rounds.py", "ray/__init__.py"):
        (package / name).write_text("")
    (package / "ray" / "driver.py").write_text("import ray\nfrom fedray.rounds import loop\nfrom . import workers\n")
    (package / "rounds.py").write_text("from fedray.executor import Executor\nimport rayon\n")
    assert breaches(package) == []


def test_folders_are_packages(tmp_path: Path) -> None:
    assert bare_folders(ROOT / "fedray") == []
    (tmp_path / "local").mkdir()
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "local" / "rules.py").write_text("")
    assert bare_folders(tmp_path) == ["local"]


def test_public_names_have_docstrings() -> None:
    assert [name for path in sorted((ROOT / "fedray").rglob("*.py")) for name in undocumented(path)] == []


def test_a_missing_docstring_is_found(tmp_path: Path) -> None:
    path = tmp_path / "bare.py"
    path.write_text("def f(): ...\nclass C:\n    'Documented.'\ndef _private(): ...\n")
    assert list(undocumented(path)) == [str(path), f"{path}:1 f"]


def test_files_stay_readable() -> None:
    names = {line.partition(":")[0] for line in too_long(ROOT / "fedray", LONGEST_FILE)}
    assert names - LONGER == set()
    assert LONGER - names == set(), "no longer too long: take them off the list"


def test_launchers_stay_thin() -> None:
    assert too_long(ROOT / "launch", LONGEST_LAUNCHER) == []


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.partition("## Dependencies")[2].partition("\n## ")[0]
    named = re.findall(r"^- `([a-z0-9-]+)`: \S", section, flags=re.MULTILINE)
    wanted = {requirement.name for group in requirements().values() for requirement in group} | {"flwr"}
    assert sorted(named) == sorted(wanted)


def test_pins_lie_in_the_ranges() -> None:
    pinned = pins()
    groups = requirements()
    named = {name for group, lines in groups.items() if group != "build" for name in (line.name for line in lines)}
    assert named | {"flwr"} == set(pinned)
    for lines in groups.values():
        for requirement in lines:
            if requirement.name in pinned:
                assert requirement.specifier.contains(pinned[requirement.name]), requirement
