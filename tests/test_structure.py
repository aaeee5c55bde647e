"""The house rules that a program can check: order, docstrings, sizes, and a reason for every dependency."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent

# A line imports what stands above it, never what stands below. A new folder enters here and in CONTRIBUTING.md.
ORDER = """
    core          # words of the whole program
    rundir        # what a run leaves on disk
    config        # registries, sections, layers
    data          # what clients hold
    models
    optim
    sampling
    tasks         # what a model's output says
    metrics
    local         # the one local training loop
    server        # optimizers of the global model
    transforms
    aggregators
    attacks       # what Byzantine clients send
    algorithms
    privacy       # who is protected, what is released, what it costs
    tracking
    parts         # what packages with parts of their own build on
    run           # plan, worker, rounds
    cluster       # Ray, and nothing else imports it
    slurm
    experiment    # config or Python objects to a run
    tune          # short runs that tell what is fastest here
    replay        # rounds of a run done again
    audit         # claims of privacy put to the test
    predict       # models of runs, used elsewhere
    sweep
    report        # pages and figures
    doctor
    api
    again         # rounds done again from Python
    cli
    __init__
    __main__
"""
RANK = {line.split()[0]: rank for rank, line in enumerate(ORDER.strip().splitlines())}
LOOSE_MODULES = 8
STARTS_PROCESSES = {"multiprocessing", "subprocess", "torch.multiprocessing"}

# What a function's docstring cannot begin with; ruff's D401 knows verbs that are not imperative.
NO_VERBS = """
    A After All An And Any As At Before Both By Each Either Every For From If In It Its Neither No None Nothing Of On
    One Other Our The Their These This Those To True Two Until With Without
"""
HEADLESS = r"(how|if|that|what|when|where|whether|which|who|whose|why)\b"

# A module without a test file of its own, each with its reason.
UNTESTED = {
    "__init__": "the public names: tests/test_public_names.py",
    "__main__": "calls main: the tests that start `python -m fedray` pass it",
    "cli": "the exit status of main: every test of a command passes it",
    "cluster": "settings that Ray reads when it is imported: tests/cluster/test_same_bits.py looks at them in a worker",
    "cluster/start/preload": "an import, for the time that it saves",
    "data/spec": "fields",
}
# A test file of what no single module does, by its folder or name.
ACROSS = {
    "laws": "laws over all algorithms, registries, devices",
    "faults": "nights on a cluster",
    "benchmarks": "of the folder benchmarks",
    "test_ci": "of .ci/run",
    "test_docs": "of docs and README",
    "test_gpu": "the engine on a GPU",
    "test_public_names": "of the whole package",
    "test_structure": "of the whole repository",
    "cli/test_bad_input": "what a person gets wrong, from config to table, in the words of the command line",
    "cli/test_changed_data": "a run whose files have changed, through resume and evaluate",
    "cli/test_configs": "of the folder configs",
    "cli/test_failures": "clients, disks and signals that end a run, and how it goes on",
    "cli/test_large_checkpoints": "checkpoints in several files through resume, verify, status and export",
    "cli/test_text": "text through run, resume, data and predict",
    "cli/test_silos": "silos through run, resume, evaluate and plan",
    "cluster/test_private_rounds": "privacy and secure sums, on Ray",
    "cluster/test_resume": "a run that is killed, on Ray",
    "cluster/test_same_bits": "the same bits for any number of workers, on Ray",
    "cluster/test_silos": "silos on nodes of their own, on Ray",
    "metrics/test_runs": "metrics of runs, from what a client's rows add to the record and its files",
    "local/test_buffers": "local.buffers, from a client's batch to the evaluation",
    "run/test_statistics": "statistics of clients, from their batches to the evaluation and the exported model",
    "privacy/test_runs": "runs with privacy, from the section to the files",
    "slurm/test_faults": "faults of nodes, in real jobs",
    "slurm/test_image": "the recipe of an image, slurm/fedray.def",
    "slurm/test_jobs": "real jobs",
    "slurm/test_stop": "fedray stop of real jobs",
    "slurm/test_sweep": "sweeps as job arrays, in real jobs",
    "tasks/test_runs": "tasks of runs, from what a person names to the loss and the record",
    "report/test_browser": "reports in a browser",
    "tracking/test_browser": "TensorBoard in a browser",
}

LONGEST_FILE = 400
LONGER: set[str] = set()  # files that may pass it, each for a reason given here
LONGEST_LAUNCHER = 39


@cache
def parsed(text: str) -> ast.Module:
    """Return the tree of a file, which several rules read and none changes."""
    return ast.parse(text)


def top(path: Path, package: Path) -> str:
    """Return the entry of the order that a file belongs to: ``data`` for ``fedray/data/spec.py``."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def imports(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything a file imports, at its top or in a function, relative or not."""
    inside = [package.name, *path.relative_to(package).parent.parts]
    for node in ast.walk(parsed(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            start = inside[: len(inside) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def fedray_module(name: str, package: Path) -> str | None:
    """Return the entry of the order that a dotted name lies in; ``from fedray import FedAvg`` is ``__init__``'s."""
    first, *rest = name.split(".")
    if first != package.name:
        return None
    if rest and ((package / rest[0]).is_dir() or (package / f"{rest[0]}.py").is_file()):
        return rest[0]
    return "__init__"


def breaches(package: Path) -> list[str]:
    """List what breaks the order: entries without a place, imports that go up, Ray or processes where they may not."""
    found = []
    for path in sorted(package.rglob("*.py")):
        here = top(path, package)
        if here not in RANK:
            found.append(f"{path.relative_to(package)}: {here!r} has no place; enter it in tests/test_structure.py")
            continue
        for line, name in imports(path, package):
            place = f"{path.relative_to(package)}:{line}"
            module = fedray_module(name, package)
            if module is not None and RANK.get(module, -1) > RANK[here] and name != "fedray.__version__":
                found.append(f"{place}: {here} imports {name}, which stands above it")
            if name.split(".")[0] == "ray" and here != "cluster":
                found.append(f"{place}: only {package.name}/cluster imports ray")
            if RANK[here] < RANK["cluster"] and any(f"{name}.".startswith(f"{start}.") for start in STARTS_PROCESSES):
                found.append(f"{place}: {name} starts processes, which is for {package.name}/cluster and above")
    return found


def module_of(name: str, package: Path, listed: dict[Path, list[str]]) -> Path | None:
    """Return the file that a dotted name is defined in; what an ``__init__`` hands on is looked up there."""
    first, *rest = name.split(".")
    if first != package.name:
        return None
    folder = package
    for position, part in enumerate(rest):
        if (folder / f"{part}.py").is_file():
            return folder / f"{part}.py"
        if (folder / part).is_dir():
            folder = folder / part
            continue
        if position == len(rest) - 1:
            for handed_on in listed.get(folder / "__init__.py", []):
                if handed_on.endswith(f".{part}") and handed_on != name:
                    return module_of(handed_on, package, listed)
        break
    return folder / "__init__.py"


def circles(package: Path) -> list[str]:
    """List the modules that import themselves by way of others, whichever way round."""
    listed = {path: [name for _, name in imports(path, package)] for path in sorted(package.rglob("*.py"))}
    after = {
        path: {module_of(name, package, listed) for name in names} - {None, path} for path, names in listed.items()
    }
    found = []
    for path in listed:
        seen: set[Path | None] = set()
        ahead = list(after[path])
        while ahead:
            step = ahead.pop()
            if step not in seen and step is not None:
                seen.add(step)
                ahead += after[step]
        if path in seen:
            found.append(str(path.relative_to(package)))
    return found


def loose(package: Path) -> list[str]:
    """List the modules at the top of the package, beside ``__init__`` and ``__main__``."""
    return sorted(path.stem for path in package.glob("*.py") if not path.stem.startswith("__"))


def bare_folders(package: Path) -> list[str]:
    """Folders with modules but no ``__init__.py``: their modules can be imported twice, and registered twice."""
    folders = {path.parent for path in package.rglob("*.py")}
    return [str(folder.relative_to(package)) for folder in sorted(folders) if not (folder / "__init__.py").is_file()]


def undocumented(path: Path) -> Iterator[str]:
    """The public names of a file, and the file itself, that have no docstring."""
    tree = parsed(path.read_text())
    if tree.body and ast.get_docstring(tree) is None:
        yield str(path)
    for node in tree.body:
        if (
            isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and not node.name.startswith("_")
            and ast.get_docstring(node) is None
        ):
            yield f"{path}:{node.lineno} {node.name}"


def docstrings(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, kind (``function``, or ``thing``: a module, class, property or field) and text of every docstring."""

    def of(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
        for statement in body:
            if (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
            ):
                yield statement.lineno, inspect.cleandoc(statement.value.value)

    for node in ast.walk(parsed(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            noun = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
            for line, text in of(node.body):
                yield line, "thing" if noun else "function", text
        elif isinstance(node, ast.Module | ast.ClassDef):
            for line, text in of(node.body):
                yield line, "thing", text


def headless(text: str) -> bool:
    """True if a docstring, or what it says of an argument, a result or an error, begins with What, Whether, How..."""
    entries = r"(?m)^ +\*{0,2}\w+(?:, \w+)*: (.+)$|^(?:Returns|Yields):\n +(.+)$"
    said = [text, *("".join(entry.groups("")) for entry in re.finditer(entries, text))]
    return any(re.match(HEADLESS, one, flags=re.IGNORECASE) for one in said)


def misworded(package: Path) -> list[str]:
    """List docstrings that are headless, those of functions that begin with no verb, and those of things that do."""
    known = [
        (f"{path.relative_to(package)}:{line} {text.splitlines()[0]}", kind, text.split()[0].rstrip(".,:;"), text)
        for path in sorted(package.rglob("*.py"))
        for line, kind, text in docstrings(path)
    ]
    verbs = {word for _, kind, word, _ in known if kind == "function"}
    found = []
    for place, kind, word, text in known:
        if headless(text):
            found.append(f"{place}: begins with a question word, or says so of an argument")
        elif kind == "function" and (
            not re.fullmatch("[A-Z][a-z]+", word) or word in NO_VERBS.split() or re.search("[^s]s$|tion$", word)
        ):
            found.append(f"{place}: a function's begins with a verb, as in 'Return the ...'")
        elif kind == "thing" and (word in verbs or re.match(r"[A-Z][a-z]+s (the|an?|one|its|this|each|what)\b", text)):
            found.append(f"{place}: a noun phrase, as in 'The rounds of a plan'")
    return found


def too_long(folder: Path, limit: int) -> list[str]:
    """Files of more than ``limit`` lines."""
    counts = {path: len(path.read_text().splitlines()) for path in sorted(folder.rglob("*.py"))}
    return [f"{path.relative_to(folder)}: {count} lines" for path, count in counts.items() if count > limit]


def has_code(path: Path) -> bool:
    """Return whether a file does more than import, name what it hands on, and say so."""

    def hands_on(node: ast.stmt) -> bool:
        if isinstance(node, ast.Import | ast.ImportFrom):
            return True
        if isinstance(node, ast.Expr):
            return isinstance(node.value, ast.Constant)
        return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]

    return not all(map(hands_on, parsed(path.read_text()).body))


def modules_with_code(package: Path) -> set[str]:
    """Return the modules that do something, ``data/csv``; a folder whose ``__init__`` does is one, ``data``."""
    found = {path.relative_to(package).with_suffix("") for path in package.rglob("*.py") if has_code(path)}
    return {str(name.parent if name.name == "__init__" and name.parent.name else name) for name in found}


def mirror_of(module: str) -> str:
    """Return the test file of a module: of ``data/csv`` it is ``data/test_csv``."""
    folder, _, name = module.rpartition("/")
    return f"{folder}/test_{name.lstrip('_')}".lstrip("/")


def unmirrored(package: Path, tests: Path) -> list[str]:
    """List modules without their test file, and test files without their module."""
    there = {str(path.relative_to(tests).with_suffix("")) for path in tests.rglob("test_*.py")}
    every = {str(path.relative_to(package).with_suffix("")).removesuffix("/__init__") for path in package.rglob("*.py")}
    wanted = {mirror_of(module): module for module in modules_with_code(package) - set(UNTESTED)}
    alone = there - {mirror_of(module) for module in every} - {name for name in there if across(name)}
    return [
        *(f"fedray/{module}.py has no tests/{test}.py" for test, module in sorted(wanted.items()) if test not in there),
        *(f"tests/{name}.py is of no module of its name" for name in sorted(alone)),
    ]


def across(name: str) -> bool:
    """Return whether a test file is on the list of those that are of no single module."""
    return name in ACROSS or name.partition("/")[0] in ACROSS


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


def test_imports_go_down_and_ray_stays_in_its_folder() -> None:
    assert breaches(ROOT / "fedray") == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles(ROOT / "fedray") == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    package = tmp_path / "fedray"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "data" / "__init__.py").write_text("from fedray.data.federated import FederatedData\n")
    (package / "data" / "federated.py").write_text("def f():\n    from fedray.data.arrays import load\n")
    (package / "data" / "arrays.py").write_text("from fedray.data.spec import Spec\n")
    (package / "data" / "spec.py").write_text("")
    assert circles(package) == []
    (package / "data" / "arrays.py").write_text("from fedray.data import FederatedData\n")
    assert circles(package) == ["data/arrays.py", "data/federated.py"]


def test_the_top_of_the_package_is_seen_at_a_glance() -> None:
    assert len(loose(ROOT / "fedray")) <= LOOSE_MODULES


def test_contributing_shows_the_order() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## The house")[2].partition("\n## ")[0]
    shown = [
        name
        for row in re.findall(r"^\| (`[^|]*) \|", section, flags=re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ]
    assert shown == [name for name in RANK if not name.startswith("__")]


def test_the_architecture_names_files_that_are_there_and_few_words() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = re.findall(r"`(fedray/[^`]*)`", text)
    assert len(named) > 40
    assert [name for name in named if not (ROOT / name).exists()] == []
    glossary = re.findall(r"^\| ([a-z ]+) \| \S", text.partition("## Glossary")[2], flags=re.MULTILINE)[1:]
    assert glossary == sorted(set(glossary))
    assert 20 < len(glossary) <= 30
    for page in ("README.md", "CONTRIBUTING.md"):
        assert "(docs/architecture.md)" in (ROOT / page).read_text()


def test_the_changelog_says_where_modules_of_before_are() -> None:
    table = (ROOT / "CHANGELOG.md").read_text().partition("| was `fedray.` | is in |\n")[2].partition("\n\n")[0]
    now = [
        f"{folder}.{name.strip('` ').removeprefix('also `')}"
        for old, folder in re.findall(r"^ +\| (.+) \| `([a-z.]+)` \|$", table, flags=re.MULTILINE)
        for module, renamed in re.findall(r"`(?:ray\.)?(\w+)`(?: \(now ([^)]+)\))?", old)
        for name in (renamed or module).split(",")
    ]
    assert len(now) > 50
    there = {name: (ROOT / name.replace(".", "/")) for name in now}
    assert [name for name, path in there.items() if not (path.is_dir() or path.with_suffix(".py").is_file())] == []


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("core/rng.py", "from fedray.data.spec import DataSpec", "core imports fedray.data.spec.DataSpec"),
        ("data/csv.py", "def f():\n  from ..algorithms import FedAvg", "data imports fedray.algorithms.FedAvg"),
        ("run/loop.py", "from .. import cli", "run imports fedray.cli"),
        ("run/loop.py", "from fedray import FedAvg", "run imports fedray.FedAvg"),
        ("run/loop.py", "import ray", "only fedray/cluster imports ray"),
        ("cli/common.py", "from ray.util import state", "only fedray/cluster imports ray"),
        ("run/executor.py", "from subprocess import run", "subprocess.run starts processes"),
        ("oddity.py", "", "'oddity' has no place"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, file: str, text: str, complaint: str) -> None:
    package = tmp_path / "fedray"
    for name in ("__init__.py", "cli.py", "algorithms/__init__.py", "data/__init__.py", "data/spec.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    assert breaches(package) == []
    (package / file).parent.mkdir(exist_ok=True)
    (package / file).write_text(text)
    found = breaches(package)
    assert len(found) == 1
    assert complaint in found[0]


def test_down_and_sideways_are_allowed(tmp_path: Path) -> None:
    package = tmp_path / "fedray"
    for name in (
        "__init__.py",
        "core/rng.py",
        "run/loop.py",
        "run/plan.py",
        "cluster/__init__.py",
        "cluster/workers.py",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    (package / "cluster" / "driver.py").write_text(
        "import ray\nfrom fedray.run.loop import go\nfrom . import workers\n"
    )
    (package / "run" / "loop.py").write_text(
        "from fedray.run.plan import Plan\nfrom fedray.core import rng\nimport rayon\n"
    )
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


def test_functions_are_verbs_and_all_else_is_nouns() -> None:
    assert misworded(ROOT / "fedray") == []


def test_no_docstring_elsewhere_is_headless() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {text.splitlines()[0]}"
        for folder in ("benchmarks", "docs", "launch")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, _, text in docstrings(path)
        if re.match(HEADLESS, text, flags=re.IGNORECASE)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("def f():\n    'Return what a worker does.'", True),
        ("def f():\n    'What a worker does.'", False),
        ("def f():\n    'The work.'", False),
        ("def f():\n    '``[n]`` rows.'", False),
        ("def f():\n    'Rows of a table.'", False),
        ('def f():\n    """Return it.\n\n    Args:\n        name: how it is called.\n    """', False),
        ('def f():\n    """Return it.\n\n    Returns:\n        What there is.\n    """', False),
        ("class C:\n    'A worker.'\n    @property\n    def size(self):\n        'The number of rows.'", True),
        ("class C:\n    'Runs the rounds.'", False),
        ("class C:\n    'A worker.'\n    size: int\n    'How many rows.'", False),
        ("class C:\n    'Train clients.'\ndef f():\n    'Train.'", False),
    ],
)
def test_a_misworded_docstring_is_found(tmp_path: Path, text: str, right: bool) -> None:
    (tmp_path / "a.py").write_text(text)
    assert (misworded(tmp_path) == []) is right


def test_files_stay_readable() -> None:
    names = {line.partition(":")[0] for line in too_long(ROOT / "fedray", LONGEST_FILE)}
    assert names - LONGER == set()
    assert LONGER - names == set(), "no longer too long: take them off the list"


def test_tests_mirror_the_package() -> None:
    assert unmirrored(ROOT / "fedray", ROOT / "tests") == []


def test_the_lists_name_what_is_there_and_has_no_other_place() -> None:
    names = {str(path.relative_to(ROOT / "tests").with_suffix("")) for path in (ROOT / "tests").rglob("test_*.py")}
    assert sorted(name for name in ACROSS if not any(f"{one}/".startswith(f"{name}/") for one in names)) == []
    there = modules_with_code(ROOT / "fedray")
    for module in UNTESTED:
        assert module in there
        assert mirror_of(module) not in names, "tested by now: take it off the list"


def test_a_module_and_a_test_that_miss_each_other_are_found(tmp_path: Path) -> None:
    package, tests = tmp_path / "fedray", tmp_path / "tests"
    for name, text in {
        "__init__": "__version__ = '1'",
        "data/__init__": "'Data.'\nfrom fedray.data.csv import read\n__all__ = ['read']",
        "data/csv": "def read(): ...",
        "data/tables/__init__": "def load(): ...",
        "local/_eager": "x = 1",
    }.items():
        (package / f"{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").write_text(text)
    for name in ("data/test_csv", "data/test_tables", "local/test_eager", "laws/test_bits", "data/test_old"):
        (tests / f"{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (tests / f"{name}.py").touch()
    assert unmirrored(package, tests) == ["tests/data/test_old.py is of no module of its name"]
    (tests / "data" / "test_csv.py").unlink()
    assert unmirrored(package, tests)[0] == "fedray/data/csv.py has no tests/data/test_csv.py"


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


def test_no_page_has_what_a_merge_has_left_open() -> None:
    pages = [*ROOT.glob("*.md"), *(page for folder in ("docs", "benchmarks") for page in (ROOT / folder).rglob("*.md"))]
    marks = re.compile(r"^(<{7}|>{7}) ", flags=re.MULTILINE)
    assert [str(page.relative_to(ROOT)) for page in sorted(pages) if marks.search(page.read_text())] == []
