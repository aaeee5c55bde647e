"""README and docs: their commands parse and run, their configs load, their Python works.

Nothing on these pages is skipped in silence: what is not run here stands below, with its reason.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import itertools
import json
import re
import runpy
import shlex
import shutil
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import yaml

import fedray
from docs.animate import TARGET, svg
from docs.generate import pages
from fedray.cli import main
from fedray.cli.app import app
from fedray.config.layers import load_layers, overlay
from fedray.core.record import RoundRecord
from fedray.data.encoding.saved import load_encoding
from fedray.data.tables.hospitals import write_hospitals
from fedray.experiment.build import Config
from fedray.experiment.status import Driver, Status
from fedray.sweep import split_values
from fedray.sweep.space import Choice, Range, ranged

ROOT = Path(__file__).resolve().parent.parent
# house.md and contract.md tell of what is not there yet; index.md and api.md are for `make docs` alone.
OTHER_PAGES = ("house", "contract", "index", "api")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(set((ROOT / "docs").glob("*.md")) - {ROOT / f"docs/{name}.md" for name in OTHER_PAGES}),
]

# What the languages of fences mean here; another one needs a test, or a line.
LANGUAGES = {"bash", "console", "python", "yaml", "json", "text"}
# Commands of others: they are not ours to test.
OTHERS = {"cat", "cd", "git", "pip", "ray", "sbatch", "scancel", "source", "tensorboard"}

# Words that make a command quick, or let it run on any machine.
ALSO = {
    "attack": ["rounds=1"],
    "run": ["cluster.name=inline", "rounds=3"],
    "resume": ["rounds=5"],
    "compare": ["cluster.name=inline", "rounds=2", "--quiet"],
    "slurm": ["--print"],
    "sweep --slurm": ["--print"],
}
NOT_RUN = {
    "submit": "needs a Ray cluster; tests/cluster/jobs and tests/cli/test_jobs.py have one",
    "tune": "some ten runs; tests/cli/test_tuning.py has those of a small config",
    "sweep": "six runs; tests/cli/test_many.py has a small one",
}
# Other exit statuses than 0 that are right here.
STATUS = {
    "diff": {1},  # of runs that differ
    "doctor": {0, 1},  # this machine may have an error
    "stop": {2},  # the run before it on the page has ended
}


@dataclass(frozen=True)
class Snippet:
    """A fenced part of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def snippets(*languages: str) -> list[Snippet]:
    """The fenced parts of all pages, in these languages or in all."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            found += [Snippet(page, line, match[1], match[2])]
    return [snippet for snippet in found if not languages or snippet.language in languages]


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a script by their words, without comments, settings of the environment, and what ``&&`` joins."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split(" && "):
            words = shlex.split(part.replace("<this repository>", "THIS_REPOSITORY"), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                yield words


def of_fedray(words: list[str]) -> list[str] | None:
    """The arguments of ``fedray`` in a command, also in one that another program is given; None: it has none."""
    if "--" in words:
        return of_fedray(words[words.index("--") + 1 :])
    if words[:3] == ["python", "-m", "fedray"]:
        return words[3:]
    return words[1:] if words[0] == "fedray" else None


def shown() -> list[tuple[str, list[str]]]:
    """Every command of fedray on the pages, in fences and within text, with its place."""
    found = []
    for snippet in snippets("bash", "console"):
        text = snippet.text
        if snippet.language == "console":
            text = "".join(f"{line[2:]}\n" for line in text.splitlines() if line.startswith("$ "))
        found += [(str(snippet), words) for command in commands(text) if (words := of_fedray(command)) is not None]
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for code in re.findall(r"`((?:[A-Z_]+=\S+ |python -m )*fedray [^`]+)`", text):
            for command in commands(" ".join(code.split())):
                if (words := of_fedray(command)) is not None:
                    found.append((page.name, words))
    return found


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory but for the configs, the tables and the config that the README speaks of."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    hospitals, _ = write_hospitals(tmp_path)
    for name, path in zip("ab", hospitals, strict=False):
        shutil.copy(path, tmp_path / f"{name}.csv")
    (diagnosis,) = (snippet for snippet in snippets("yaml") if snippet.text.startswith("# diagnosis.yaml"))
    (tmp_path / "diagnosis.yaml").write_text(diagnosis.text)
    write_own_files(tmp_path, monkeypatch)
    for snippet in snippets("yaml", "python"):  # these pages name their files
        if snippet.page.name in ("walkthroughs.md", "between-rounds.md", "large.md") and (
            found := re.match(r"# (\w+\.\w+)\n", snippet.text)
        ):
            (tmp_path / found[1]).write_text(snippet.text)
            monkeypatch.delitem(sys.modules, found[1].removesuffix(".py"), raising=False)
    for snippet in snippets("text"):
        if found := re.match(r"\$ cat (\S+/config\.json)\n", snippet.text):
            (tmp_path / found[1]).parent.mkdir()
            (tmp_path / found[1]).write_text(snippet.text[found.end() :])
    return tmp_path


def write_own_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write the files that the page on algorithms prints, one for each kind of part; their names."""
    page = [snippet for snippet in snippets("python") if snippet.page.name == "write-your-own.md"]
    files = {found[1]: snippet.text for snippet in page if (found := re.match(r"# (my_\w+\.py)\n", snippet.text))}
    monkeypatch.syspath_prepend(folder)
    for name, text in files.items():
        (folder / name).write_text(text)
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    return list(files)


def test_every_fence_has_a_language_that_is_tested() -> None:
    assert [str(snippet) for snippet in snippets() if snippet.language not in LANGUAGES] == []
    assert len(snippets("bash")) >= 6
    assert len(shown()) >= 30


def test_pages_that_the_code_dictates_are_as_it_dictates_them() -> None:
    old = [name for name, text in pages().items() if (ROOT / "docs" / name).read_text() != text]
    assert old == [], "run python docs/generate.py"


def test_every_key_of_a_status_is_on_its_page() -> None:
    page, status = (ROOT / "docs" / "files.md").read_text(), Status("x", "runs/x", "running", driver=Driver("a", True))
    told = status.to_json()
    keys = [*told, *told["driver"], *told["totals"], *RoundRecord(1).to_json()]
    assert [key for key in keys if not re.search(rf"^\| `{key}` \| `.*` \| \S", page, re.MULTILINE)] == []


def test_where_a_report_is_first_shown_the_extra_that_it_needs_is_named() -> None:
    shown_in = 0
    for page in PAGES:
        lines = [line for line in page.read_text().splitlines() if re.match(r"fedray report (?!\[)", line)]
        assert not lines or "fedray[report]" in lines[0], page
        shown_in += bool(lines)
    assert shown_in >= 3


def test_programs_are_known_and_targets_are_there() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for snippet in snippets("bash"):
        for words in commands(snippet.text):
            assert words[0] in {*OTHERS, "make"} or of_fedray(words) is not None, f"{snippet}: {words}"
            for extra in re.findall(r"fedray\[(\w+)\]", " ".join(words)):
                assert f"\n{extra} = [" in project, f"{snippet}: {words}"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in PAGES:
        named = re.findall(r"(?:^|^    |`)make ((?:[a-z-]+ ?)+)", page.read_text(), flags=re.MULTILINE)
        assert {target for targets in named for target in targets.split()} <= targets, page


@pytest.mark.parametrize(("place", "words"), [pytest.param(*one, id=f"{one[0]}-{' '.join(one[1])}") for one in shown()])
def test_a_command_has_these_options(place: str, words: list[str]) -> None:
    group: Any = typer.main.get_command(app)
    verb, *rest = words
    command = group.commands[verb]
    if rest:  # `fedray resume` alone is how a text speaks of the command
        command.make_context(verb, list(rest))


def drawn_from(keys: list[str]) -> list[tuple[str, Range | Choice]]:
    """What the values of each key of a sweep are drawn from."""
    split = ((key, split_values(text, key)) for key, _, text in (one.partition("=") for one in keys))
    return [(key, ranged(key, values) or Choice(tuple(values))) for key, values in split]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        pytest.param(place, words, id=f"{place}-{' '.join(words)}")
        for place, words in shown()
        if ":" in place and words[1:] and words[1].endswith(".yaml")
    ],
)
@pytest.mark.slow
def test_the_keys_of_a_command_are_those_of_a_config(place: str, words: list[str], workplace: Path) -> None:
    verb, name, *rest = words
    path = workplace / name
    assert path.is_file()
    keys = [
        word
        for before, word in itertools.pairwise([name, *rest])
        if before != "--profile" and re.match(r"[a-z_.]+=", word)
    ]
    if verb == "sweep":  # each key has several values
        keys = [f"{key}={value.at(0.5)}" for key, value in drawn_from(keys)]
    Config.bind(path.stem, *load_layers(path, keys))


def fedray_main(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Call the command in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["fedray", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code is None or isinstance(ended.value.code, int)
    return ended.value.code or 0


def has_commands(page: Path) -> bool:
    """Whether a page shows commands of ours."""
    of_page = [snippet for snippet in snippets("bash") if snippet.page == page]
    shown = [words[1] for snippet in of_page for words in commands(snippet.text) if words[0] == "fedray"]
    return not set(shown) <= set(NOT_RUN)


# The page whose commands every change tries; those of the others are slow, a run each.
FIRST = {"start.md"}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[] if page.name in FIRST else pytest.mark.slow)
        for page in PAGES
        if has_commands(page)
    ],
)
def test_the_commands_of_a_page_run_one_after_the_other(
    page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = 0
    if page.name == "cluster.md":  # whose run a Slurm job makes
        assert fedray_main(["run", "configs/digits.yaml", "run.dir=runs/digits", *ALSO["run"]], monkeypatch) == 0
    also = ALSO
    if page.name == "walkthroughs.md":  # as it is printed: the client fails in round 12
        also = {}
        runpy.run_path("tables.py")
    for snippet in snippets("bash"):
        for words in commands(snippet.text) if snippet.page == page else ():
            if words[0] != "fedray":
                continue
            verb, *_ = arguments = words[1:]
            kind = f"{verb} --slurm" if "--slurm" in arguments else verb
            if kind in NOT_RUN and not (verb == "sweep" and page.name == "walkthroughs.md"):
                continue
            status = fedray_main([*arguments, *also.get(kind, [])], monkeypatch)
            assert status in STATUS.get(verb, {0}), (snippet, arguments, capfd.readouterr().err)
            ran += 1
    assert ran >= 3


@pytest.mark.parametrize("snippet", snippets("yaml"), ids=str)
@pytest.mark.one_in(4)
def test_a_config_loads(snippet: Snippet, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_DATA", "/data")
    path = workplace / "configs" / "snippet.yaml"
    sections = yaml.safe_load(snippet.text)
    if "base" not in sections and "model" not in sections:  # a part of a config, to be laid over a whole one
        sections = overlay({"base": ["digits.yaml"]}, sections)
        if "prologue" in sections.get("cluster", {}):
            sections = overlay({"cluster": {"name": "slurm"}}, sections)
    path.write_text(yaml.safe_dump(sections))
    config = Config.bind("snippet", *load_layers(path))
    assert config.to_yaml()


@pytest.mark.parametrize("snippet", snippets("json"), ids=str)
def test_an_encoding_loads(snippet: Snippet) -> None:
    read = load_encoding(json.loads(snippet.text))
    assert read is not None
    assert read.to_json() == json.loads(snippet.text)


def names_of_data(folder: Path) -> dict[str, Any]:
    """What the Python of docs/data.md speaks of."""
    x, y = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    (folder / "silos").mkdir()
    (folder / "femnist").mkdir()
    for name in ("north", "south"):
        np.savez(folder / "silos" / f"{name}.npz", x=x, y=y)
    users = {"users": ["ann"], "user_data": {"ann": {"x": x.tolist(), "y": y.tolist()}}}
    (folder / "femnist" / "all.json").write_text(json.dumps(users))
    return {
        "fedray": fedray,
        "FederatedData": fedray.FederatedData,
        "x": x,
        "y": y,
        "clients": y,
        "ids": y[:, None],
        "age": x[:, :1],
        "x_test": x,
        "y_test": y,
        "dataset": torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y)),
        "partitioner": fedray.IID(clients=3),
        "load": lambda client: (x, y),
    }


def python_of(name: str) -> str:
    """The Python of a page, as one piece."""
    return "\n".join(snippet.text for snippet in snippets("python") if snippet.page.name == name)


def test_every_snippet_of_python_is_run() -> None:
    assert {snippet.page.name for snippet in snippets("python")} == {
        "README.md",
        "start.md",
        "data.md",
        "between-rounds.md",
        "compression.md",
        "write-your-own.md",
        "results.md",
        "submodels.md",
        "large.md",
        "tasks.md",
        "predictions.md",
        "walkthroughs.md",  # by the commands of the page
    }


def test_the_python_of_the_data_page(workplace: Path) -> None:
    names = names_of_data(workplace)
    for line in python_of("data.md").splitlines():
        made = eval(line.partition("  #")[0], names)
        assert isinstance(made, fedray.FederatedData), line


def test_the_python_of_the_page_on_algorithms(workplace: Path) -> None:
    names: dict[str, Any] = {}
    exec(python_of("write-your-own.md"), names)
    assert [record.round for record in names["result"].history] == [1, 2]


@pytest.mark.parametrize("algorithm", ["my_ditto:Ditto", "my_moon:Moon"])
def test_the_files_of_the_page_on_algorithms_are_run_as_printed(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind of part by ``module:name`` from the working directory."""
    monkeypatch.chdir(tmp_path)
    assert len(write_own_files(tmp_path, monkeypatch)) == 8
    (config,) = (s.text for s in snippets("yaml") if s.page.name == "write-your-own.md" and "my_source" in s.text)
    chosen = yaml.safe_load(config) | {"algorithm": {"name": algorithm}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(chosen))
    assert fedray_main(["run", "mine.yaml", "run.dir=out", "-q"], monkeypatch) == 0
    assert len((tmp_path / "out" / "rounds.txt").read_text().splitlines()) == 3
    records = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert all("chosen" in record["metrics"]["Krum"] for record in records)
    view = "clients_personal" if algorithm == "my_ditto:Ditto" else "clients_test"
    assert records[-1][view]["accuracy"]["mean"] > 0.5


@pytest.mark.parametrize("model", ["net", "fixed"])
def test_functions_of_ones_own_are_run_as_printed(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_own_files(tmp_path, monkeypatch)
    (config,) = (s.text for s in snippets("yaml") if s.page.name == "write-your-own.md" and "my_parts" in s.text)
    (tmp_path / "mine.yaml").write_text(config)
    for least in (0.2, 0.5):
        words = [f"model.name=my_parts:{model}", f"task.least={least}", f"run.dir={least}", "-q"]
        assert fedray_main(["run", "mine.yaml", *words], monkeypatch) == 0
    seen = []
    for least in (0.2, 0.5):
        records = [json.loads(line) for line in (tmp_path / f"{least}/metrics.jsonl").read_text().splitlines()]
        seen.append(records[-1]["clients_test"])
        assert records[-1]["train"]["loss"] < records[0]["train"]["loss"]
        assert 0.5 < seen[-1]["certainty"]["mean"] < 1.0
    assert seen[0]["certainty"] == seen[1]["certainty"]
    assert seen[0]["sensitivity"]["mean"] > seen[1]["sensitivity"]["mean"], "from 0.2 on more are said to be ill"


def test_a_function_holds_the_same_rows_out_in_runs_of_all_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_own_files(tmp_path, monkeypatch)
    (section,) = (s.text for s in snippets("yaml") if s.page.name == "write-your-own.md" and "my_split" in s.text)
    (tmp_path / "mine.yaml").write_text(f"model: {{name: logistic}}\nrounds: 1\n{section}")

    def held(*words: str) -> list[list[float]]:
        data = Config.load(tmp_path / "mine.yaml", words).plan().task.data
        assert data.holdout_sizes.all()
        client = np.zeros(1, dtype=np.int64)
        rows: list[list[float]] = data.holdout(client)[0].reshape(-1, 3).tolist()
        return rows

    assert held("seed=1") == held("seed=2") != held("seed=1", "data.split_seed=2")


def test_what_a_model_may_know_of_its_data_is_on_the_page() -> None:
    page = (ROOT / "docs/write-your-own.md").read_text()
    told = set(
        re.findall(r"^\| `(\w+)` \|", page.partition("| `spec.` | |")[2].partition("```")[0], flags=re.MULTILINE)
    )
    assert told == {field.name for field in dataclasses.fields(fedray.parts.DataSpec)} | {"inputs"}


def test_the_python_of_the_first_five_minutes(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(python_of("start.md"), {})
    assert float(capsys.readouterr().out) > 0.5


def test_the_python_of_the_page_on_compression(workplace: Path) -> None:
    names: dict[str, Any] = {}
    exec(python_of("compression.md"), names)
    codec, values = names["Ternary"](), torch.tensor([[2.0, -2.0, 0.0]])
    assert torch.equal(codec.decode(codec.encode(values, names["Draws"]()), 3), values)


def test_the_python_of_the_page_on_submodels(workplace: Path) -> None:
    names: dict[str, Any] = {}
    exec(python_of("submodels.md"), names)
    sent = names["result"].history[-1].bytes
    assert 0 < sent["up"] < 20 * 4 * 722  # of 20 whole models


def test_the_python_of_the_page_on_tasks(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(python_of("tasks.md"), names)
    shown = capsys.readouterr().out.splitlines()
    binary, of_metrics, last = (line for line in shown if "{" in line)
    assert set(ast.literal_eval(binary)) == {"loss", "accuracy", "auroc", "f1", "sensitivity", "specificity"}
    assert "'counts': " in of_metrics
    assert ast.literal_eval(last).keys() == {"client", "view", "f1", "auroc"}
    assert 0.0 < names["result"].history[-1].test["brier"] < 0.5


def test_the_python_on_text(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(python_of("large.md"), {})
    assert "2 rows" in capsys.readouterr().out


def test_the_python_of_the_page_on_predictions(workplace: Path) -> None:
    config = Config.load(workplace / "diagnosis.yaml", ["rounds=1", "cluster.name=inline", "run.dir=runs/first"])
    list(config.experiment(config.run_folder()).records())
    names: dict[str, Any] = {}
    exec(python_of("predictions.md"), names)
    assert names["found"].to_pandas()["predicted"].isin(["benign", "malignant"]).all()


def test_the_python_of_the_page_on_rounds(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stops: list[bool] = []

    def train(*arguments: Any, **named: Any) -> fedray.Result:
        result = original(*arguments, cluster="inline", progress=False, **named)
        stops.append(result.stopped)
        return result

    original = fedray.train
    monkeypatch.setattr(fedray, "train", train)
    names: dict[str, Any] = {}
    exec(python_of("between-rounds.md"), names)
    assert stops == [True, False]
    assert [record.round for record in names["result"].history] == list(range(1, 51))
    assert "round 1: {" in capsys.readouterr().out
    fails = [fedray.RoundRecord(round, failures=[{"client": "b"}]) for round in (1, 2, 3)]
    warning = names["EarlyWarning"](rounds=3)
    warning.resume(fails[:2])
    assert capsys.readouterr().out == ""
    warning(fails[2])
    assert capsys.readouterr().out == "round 3: b has failed 3 times in a row\n"


def test_the_python_of_the_page_on_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    data = fedray.FederatedData.from_arrays(x, y, np.repeat(["ann", "bob", "cid"], 20)).with_holdout(0.3, 0)
    args = fedray.TrainArgs(rounds=3, evaluate_clients_every=2, evaluate_before=True)
    model = fedray.FederatedModel("logistic")
    result = fedray.train(model, data, args, cluster="inline", run_dir=tmp_path / "run", progress=False)
    names: dict[str, Any] = {"run_dir": result.run_dir}
    exec(python_of("results.md"), names)
    last = names["last"].to_pylist()
    assert names["table"].equals(result.clients())
    frame, reached = names["frame"], names["reached"]
    assert frame["test.accuracy"][frame["test.accuracy"] >= 0.8].index[0] + 1 == reached.round
    assert frame["bytes.up"][: reached.round].sum() + frame["bytes.down"][: reached.round].sum() == reached.bytes
    assert names["again"]["accuracy"] == frame["test.accuracy"].iloc[-1]
    assert [row["round"] for row in last] == [3] * 6
    accuracies = {row["client"]: row["accuracy"] for row in last if row["view"] == "global"}
    assert accuracies[names["worst"].as_py()] == min(accuracies.values())
    text = (ROOT / "docs" / "results.md").read_text()
    there = {path.name + "/" * path.is_dir() for path in result.run_dir.iterdir()} - {"driver.lock"}
    assert {name for name in there if not name.startswith("events.") and f"`{name}`" not in text} == set()


def check_readme(names: dict[str, Any], workplace: Path) -> None:
    """What the README says of the result."""
    result = names["result"]
    assert not result.model.training
    assert [record.round for record in result.history] == list(range(1, 51))
    said = re.findall(r"[\w.*/]+\.(?:jsonl|safetensors|json|txt|log)", python_of("README.md").splitlines()[-1])
    assert said[-1] == "workers/*.log"  # which clients that say nothing do not have
    assert [name for name in said[:-1] if not (result.run_dir / name).is_file()] == []


def test_the_python_of_the_readme_in_this_process(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fedray, "train", functools.partial(fedray.train, cluster="inline", progress=False))
    names: dict[str, Any] = {}
    exec(python_of("README.md"), names)
    check_readme(names, workplace)


@pytest.mark.slow
def test_the_python_of_the_readme_on_ray(workplace: Path) -> None:
    names: dict[str, Any] = {}
    exec(python_of("README.md"), names)
    check_readme(names, workplace)


def test_each_page_has_its_place_in_the_site() -> None:
    listed = (ROOT / "docs/index.md").read_text().split()
    missing = [page.stem for page in (ROOT / "docs").glob("*.md") if page.stem not in listed]
    assert sorted(missing) == ["contract", "day", "house", "index", "large-open", "privacy-open"], (
        "docs/index.md: name it in a toctree"
    )


def test_the_animation_is_a_small_picture_that_needs_nothing_else() -> None:
    said = ["reading data", "x: 2 clients, 5 parameters, for 3 rounds", "rounds   3 of 3  ", "test.accuracy  <0.5>"]
    for text in (TARGET.read_text(), svg(said, [0.1, 0.2, 0.5], {"a": [0.0, 1.0, 1.0]})):
        assert len(text) < 500_000
        picture = ET.fromstring(text)
        assert picture.tag.endswith("svg")
        assert not re.search(r"href|url\((?!#)|<script|/tmp", text)
        assert any(part.tag.endswith("animate") for part in picture.iter())
