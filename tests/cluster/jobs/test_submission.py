"""Which files go to a cluster, and the command that runs there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedray.cluster.jobs.submission
from fedray.cluster.jobs.submission import Package, command
from fedray.config.layers import ConfigFile, load_layers
from fedray.core.errors import ConfigError

CONFIG = """\
base: [base/one.yaml]
data: {name: csv, train: [data/a.csv, data/b.csv], target: data}
model: mlp
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with what a config needs and much that it does not."""
    folder = tmp_path / "work"
    files = {
        "configs/x.yaml": CONFIG,
        "configs/base/one.yaml": "base: two.yaml\nrounds: 2\n",
        "configs/base/two.yaml": "seed: 1\n",
        "configs/other.yaml": "",
        "data/a.csv": "a\n1\n",
        "data/b.csv": "a\n2\n",
        "data/c.csv": "a\n3\n",
        "nets/__init__.py": "",
        "nets/weights.json": "{}",
        "nets/__pycache__/x.pyc": "",
        "helper.py": "",
        "runs/x/model.py": "",
        ".git/hook.py": "",
        "venv/pyvenv.cfg": "",
        "venv/lib.py": "",
        "../outside.csv": "a\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    return folder


def names(root: Path, *overrides: str) -> set[str]:
    return {path.as_posix() for path in Package.of(ConfigFile.read(Path("configs/x.yaml")), overrides, root).files}


LAYERS = {"configs/x.yaml", "configs/base/one.yaml", "configs/base/two.yaml"}


def test_the_config_its_bases_and_its_data(root: Path) -> None:
    tables = {"data/a.csv", "data/b.csv"}
    assert names(root, "data.test=data/c.csv", "data.target=y") == LAYERS | tables | {"data/c.csv"}
    assert names(root, "data={name: csv, train: [/far/a.csv, missing.csv], target: y}") == LAYERS
    assert names(root, "data={name: folder, path: data}") == LAYERS | tables | {"data/c.csv"}


def test_a_silos_rows_stay_where_they_are(root: Path) -> None:
    (root / "silos.yaml").write_text(
        "data: {name: silos, target: y, silos: {a: {node_label: site=a, path: a.csv}}}\nmodel: logistic\n"
    )
    (root / "a.csv").write_text("u,y\n1,no\n")
    assert Package.of(ConfigFile.read(Path("silos.yaml")), [], root).files == (Path("silos.yaml"),)


def test_a_file_outside_the_folder_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"^data.test: \.\./outside.csv lies outside the working directory"):
        names(root, "data.test=../outside.csv")
    Path("configs/base/two.yaml").write_text("base: ../../../outside.yaml\n")
    Path("../outside.yaml").write_text("seed: 2\n")
    with pytest.raises(ConfigError, match=r"config: .*lies outside"):
        names(root, "data=digits")


def test_a_link_is_followed(root: Path) -> None:
    Path("data/here.csv").symlink_to("../../outside.csv")
    package = Package.of(
        ConfigFile.read(Path("configs/x.yaml")), ["data={name: csv, train: [data/here.csv], target: y}"], root
    )
    assert zipfile.ZipFile(io.BytesIO(package.archive())).read("data/here.csv") == b"a\n"


def test_a_model_of_ones_own_takes_the_code_along(root: Path) -> None:
    assert names(root, "data=digits", "model=nets.deep:build") == LAYERS | {
        "nets/__init__.py",
        "nets/weights.json",
        "helper.py",
    }
    assert names(root, "data=digits", "model={name: 'helper:build', width: 3}") == LAYERS | {
        "nets/__init__.py",
        "helper.py",
    }
    assert names(root, "data=digits", "model=installed.elsewhere:build") == LAYERS


@pytest.mark.parametrize(
    "named",
    [
        "local.loss=nets.deep:build",
        "local.optimizer={name: 'nets.deep:build', lr: 0.1}",
        "transforms=['nets.deep:build']",
        "data.partition={name: 'nets.deep:build'}",
    ],
)
def test_a_part_of_any_kind_of_ones_own_takes_the_code_along(root: Path, named: str) -> None:
    assert names(root, "data=digits", named) == names(root, "data=digits", "model=nets.deep:build")


def test_the_same_files_make_the_same_archive(root: Path) -> None:
    package = Package.of(ConfigFile.read(Path("configs/x.yaml")), ["data={name: folder, path: data}"], root)
    first = package.archive()
    os.utime("data/a.csv", (0, 0))
    assert package.archive() == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert set(archive.namelist()) == {path.as_posix() for path in package.files}
        assert archive.read("data/b.csv") == b"a\n2\n"


def test_too_large_names_the_largest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data/a.csv").write_bytes(os.urandom(3000))
    monkeypatch.setattr(fedray.cluster.jobs.submission, "LIMIT", 2000)
    with pytest.raises(ConfigError) as caught:
        Package.of(ConfigFile.read(Path("configs/x.yaml")), ["data={name: folder, path: data}"], root).archive()
    assert "the largest are data/a.csv (3.0 kB)" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3


SHOW = "#!/bin/sh\nexec " + sys.executable + " -c 'import json, sys; print(json.dumps(sys.argv[1:]))' \"$@\"\n"
# No NUL and no surrogates in the arguments of a process.
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that prints its arguments as JSON."""
    program = tmp_path_factory.mktemp("a b") / "show 'me"
    program.write_text(SHOW)
    program.chmod(0o755)
    return str(program)


def arguments(line: str, home: str) -> list[str]:
    """What the shell makes of a command."""
    ran = subprocess.run(["/bin/sh", "-c", line], env={"HOME": home}, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("home", ["/home/me", "/home/a b: [c]"])
@pytest.mark.parametrize("run_dir", ["runs/x", "/shared/x", "it's/a # run: {1}", "/$HOME/`x`"])
def test_the_shell_hands_over_what_was_meant(show: str, home: str, run_dir: str, tmp_path: Path) -> None:
    words = ["a b.yaml", "model.hidden=[64, 32]", "data.target=it's $x; `y`", 'x="q"']
    got = arguments(command("run", words, Path(run_dir), show), home)
    assert got[:3] == ["-m", "fedray", "run"]
    assert got[3:-1] == words
    (tmp_path / "empty.yaml").write_text("{}")
    whole = run_dir if run_dir.startswith("/") else f"{home}/{run_dir}"
    assert load_layers(tmp_path / "empty.yaml", got[-1:])[1] == {"run": {"dir": whole}}
    got = arguments(command("resume", words[1:], Path(run_dir), show), home)
    assert got == ["-m", "fedray", "resume", whole, *words[1:]]


@given(words=st.lists(WORDS, max_size=3))
def test_any_words_reach_the_run(show: str, words: list[str]) -> None:
    assert arguments(command("run", words, Path("/x"), show), "/h")[3:-1] == words


def test_a_path_that_yaml_would_read_otherwise_is_refused() -> None:
    with pytest.raises(ConfigError, match="quote"):
        command("run", [], Path('a"b'))
