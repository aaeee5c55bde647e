"""Bad input gets one clear error on stderr, exit status 2, and nothing is started."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.command import SMALL, Cli

HOSPITALS = """\
data: {name: csv, train: [a.csv, b.csv], test: test.csv, target: y}
model: {name: logistic}
local: {optimizer: {name: sgd, lr: 0.1}}
rounds: 2
cluster: {name: inline}
tracking: []
"""
GOOD = {"a.csv": "u,v,y\n1,2,no\n3,4,yes\n", "b.csv": "u,v,y\n5,6,no\n7,8,yes\n", "test.csv": "u,v,y\n1,1,no\n"}


def nothing_started(folder: Path) -> bool:
    return not (folder / "out").exists() and not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        # unknown keys, with the nearest known one
        (["local.epoch=2"], ["local.epoch: unknown key", "did you mean 'epochs'?"]),
        (["round=3"], ["round: unknown key", "did you mean 'rounds'?"]),
        (["model.hiden=[3]"], ["model.hiden: unknown key", "did you mean 'hidden'?"]),
        (["local.optimizer.rl=1"], ["local.optimizer.rl: unknown key", "lr"]),
        (["algorithm=fedprx"], ["algorithm.name: unknown algorithm 'fedprx'", "did you mean 'fedprox'?"]),
        (["transforms=[{name: clp}]"], ["transforms[0].name", "did you mean 'clip'?"]),
        (["data.partition={name: iid}"], ["data.partition: these data have their clients", "got {'name': 'iid'}"]),
        # wrong types and values
        (["rounds=many"], ["rounds", "many"]),
        (["rounds=0"], ["rounds=0", "at least 1"]),
        (
            ["model.hidden=[5, 100000000000000000000000]"],
            ["model: hidden[1]=100000000000000000000000: it must be ", "64 bits"],
        ),
        (["model.hidden=[[5]]"], ["model.hidden[0]: expected a whole number, got [5]"]),
        (
            ["checkpoint.every=99999999999999999999"],
            ["checkpoint: every=99999999999999999999: it must be from", "64 bits"],
        ),
        (["rounds=10000001"], ["rounds=10000001: it must be at most 10000000"]),
        (["local.optimizer.lr=1e300"], ["local.optimizer: lr=1e+300: it must be a finite number of at most 1e+30"]),
        (["data.heterogeneity=1e300"], ["data: heterogeneity: must be at least 0 and at most 1e+06, got 1e+300"]),
        ([f"run.dir={'a' * 300}"], ["run.dir: aaa", "cannot be written: File name too long"]),
        (["rounds=null"], ["rounds: expected a whole number, got null"]),
        ([f"rounds=1{'0' * 5000}"], ["rounds=1000", "Exceeds the limit"]),
        ([f"rounds=0x{'f' * 5000}"], ["rounds: a whole number of 20,000 bits; the longest have 64"]),
        ([f"rounds={'[' * 400}{']' * 400}"], ["rounds=[[["]),
        (["evaluate.before=3"], ["evaluate.before: expected true or false, got 3"]),
        (["local.optimizer.lr=fast"], ["local.optimizer.lr", "fast"]),
        (["local.optimizer.lr=-1"], ["lr=-1", "above 0"]),
        (["local.batch_size=big"], ["batch_size=big", "at least 1, or full"]),
        (["local.precision=fp8"], ["local.precision", "fp8"]),
        (["local.stack=0"], ["local: stack=0: it must be auto, off, at least 1, lanes, or lanes:8"]),
        (["local.stack=on"], ["local: stack=True: it must be auto, off, at least 1, lanes, or lanes:8"]),
        (["local.epochs=99999999999999999999"], ["local: epochs=99999999999999999999: it must be at most 1000000000"]),
        (["worker.gpus=99999999999999999999"], ["worker: gpus=1e+20: it must be from 0 to 10000"]),
        (["worker.threads=99999999999999999999"], ["worker: threads=99999999999999999999: it must be from 1 to 10000"]),
        (["driver.gpus=.inf"], ["driver: gpus=inf: it must be from 0 to 10000"]),
        (["local.batch_size='8'"], ["local: batch_size='8': it must be at least 1, or full"]),
        (["cluster.workers=0"], ["workers=0", "at least 1, or auto"]),
        (["evaluate.every=-1"], ["evaluate: every=-1", "at least 0"]),
        (["failures.min_share=2"], ["min_share=2", "from 0 to 1"]),
        (["failures.left_out={0: [1]}"], ["failures: left_out: rounds count from 1, got 0"]),
        (["failures.left_out={2: [hospital]}"], ["failures.left_out.2: no client 'hospital'", "there are 8"]),
        (["data=[1]"], ["data.name: a data source is needed", "known: "]),
        (["data={name: csv, train: a.csv, target: y}"], ["data.train: expected a list, got 'a.csv'"]),
        (["data={name: digits, partition: iid}"], ["data.partition: expected a section with keys, got 'iid'"]),
        (["local=3"], ["local: expected a section with keys, got 3"]),
        (["transforms={name: clip}"], ["transforms: expected a list"]),
        (["sampler.rate=0.5"], ["sampler.rate: unknown key"]),
        (["sampler={name: uniform}"], ["sampler.clients: a value is needed"]),
        (
            ["run.dir=${oc.env:FEDRAY_NOT_SET}"],
            ["run.dir: the environment has no FEDRAY_NOT_SET; set it, or", "${oc.env:FEDRAY_NOT_SET,VALUE}"],
        ),
        (
            ["data={name: csv, target: y}", "data.train=*.csv"],
            ["data.train: expected a list, got '*.csv' (write ['*.csv'])"],
        ),
        (["data.train=[*.csv]"], ["'data.train=[*.csv]': YAML reads the * of *.csv as an alias; write 'data.train="]),
        (["server={name: adm}"], ["server.name: unknown server optimizer 'adm' (did you mean 'adam'?)"]),
        (["server.beta3=0.5"], ["server.beta3: unknown key; allowed: lr, lr_schedule"]),
        (["server={name: adam, lr: 0}"], ["server: lr=0.0: it must be above 0"]),
        (["server=adam", "algorithm={name: feddyn}"], ["server: feddyn moves the model itself", "leave it out"]),
        (["server=adam", "algorithm={name: fedadam}"], ["server: fedadam is an algorithm with a server optimizer"]),
        (
            ["server.lr=0.5", "algorithm={name: scaffold, server_lr: 0.5}"],
            ["server.lr=0.5 and algorithm.server_lr=0.5: they are two words for the same; leave out"],
        ),
        (["server.lr_schedule={name: cosin}"], ["server.lr_schedule.name: unknown", "did you mean 'cosine'"]),
        (["server.lr_schedule={name: step, gamma: 0.5}"], ["server.lr_schedule.step_size: a value is needed"]),
        (
            ["server.lr_schedule={name: linear, total_iters: 1}", "rounds=3"],
            ["server.lr_schedule: the learning rate of round 2 of 3 would be 0.0"],
        ),
        (["optimizer=adam"], ["optimizer: unknown key (write local.optimizer)"]),
        (["gpus=1"], ["gpus: unknown key (write worker.gpus or driver.gpus)"]),
        (["model=mynet.Net"], ["model.name: unknown model 'mynet.Net'", "for your own: mynet:Net"]),
        (["rounds"], ["'rounds'", "key=value"]),
        # impossible combinations
        (["algorithm={name: scaffold, weight: examples}"], ["algorithm.weight", "scaffold", "uniform or auto"]),
        (["transforms=[{name: gaussian}]"], ["transforms[0]", "clip before it"]),
        (
            ["algorithm=fednova", "transforms=[{name: clip}, {name: gaussian}]"],
            ["transforms", "gaussian", "fednova also sends tau"],
        ),
        (["sampler={name: uniform, clients: 9}"], ["sampler", "clients=9", "only 8 clients"]),
        (["sampler={name: weighted, clients: 0}"], ["sampler", "at least 1 client"]),
        (["data={name: digits}", "model=lstm"], ["model.name: lstm needs token sequences"]),
        (["data={name: digits, partition: {name: iid, clients: 2000}}"], ["partition.clients", "cannot give 2000"]),
        (
            ["data=digits", "evaluate.clients_every=3"],
            ["evaluate.clients_every: no client has held-out", "holdout=0.2"],
        ),
        (["local.loss=mse"], ["local.loss", "does not fit the model's output"]),
        (
            ["data.classes=2", "task=binary", "local.loss=cross_entropy"],
            ["local.loss: cross-entropy", "the model gives (2, 1) for targets (2,)", "that of task: binary"],
        ),
        # GPUs that nobody can have
        (["worker.gpus=1.5"], ["worker: gpus=1.5: above 1 it must be a whole number"]),
        (["driver.gpus=2.25"], ["driver: gpus=2.25: above 1 it must be a whole number"]),
        (["driver.gpus=64"], ["driver.gpus", "64"]),
        (["worker.gpus=64"], ["worker.gpus", "64", f"this machine has {torch.cuda.device_count()}"]),
    ],
)
def test_a_bad_config_is_refused(cli: Cli, small: Path, overrides: list[str], words: list[str]) -> None:
    cli("run", small, "run.dir=out", *overrides).refused(*words)
    assert nothing_started(small.parent)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rounds: [1,\n", ["bad.yaml", "not valid YAML", "line 2"]),
        ("just words\n", ["bad.yaml: expected a mapping of sections at the top", "this is text without keys"]),
        ("- 1\n", ["bad.yaml", "mapping"]),
        ("base: nowhere.yaml\n", ["nowhere.yaml: no such config file, which is a base of bad.yaml"]),
        ("base: bad.yaml\n", ["bad.yaml", "include itself"]),
        ("base: 3\n", ["base: expected a config file, or a list of such, in bad.yaml, got 3"]),
        ("base: [null]\n", ["base: expected a config file, or a list of such, in bad.yaml, got [None]"]),
        ("model: mlp\n", ["data: a value is needed"]),
        (f"rounds: 1{'0' * 5000}\n", ["bad.yaml: not valid YAML: Exceeds the limit"]),
        (f"rounds: {'[' * 400}{']' * 400}\n", ["bad.yaml: not valid YAML: lists and sections lie too deep"]),
    ],
)
def test_a_bad_file_is_refused(cli: Cli, small: Path, text: str, words: list[str]) -> None:
    (small.parent / "bad.yaml").write_text(text)
    for command in ("run", "config", "plan"):
        cli(command, "bad.yaml").refused(*words)
    assert nothing_started(small.parent)


def test_a_table_that_lies_beside_a_config_elsewhere_is_not_taken_unsaid(cli: Cli, small: Path) -> None:
    """By whichever command; ``base:`` is relative to the file that has it, and a path of the current folder works."""
    far = small.parent / "far"
    far.mkdir()
    for name, text in {**GOOD, "study.yaml": HOSPITALS, "based.yaml": "base: study.yaml\n"}.items():
        (far / name).write_text(text)
    for command in (
        ["run"],
        ["plan"],
        ["data"],
        ["config"],
        ["slurm", "--print"],
        ["sweep", "seed=1,2"],
        ["sweep", "seed=1,2", "--slurm", "--print"],
        ["submit", "--address", "http://nobody:1"],
    ):
        cli(command[0], "far/based.yaml", *command[1:]).refused(
            f"data.train: a.csv is not in the current folder, {small.parent}, but beside the config, in far",
            "write far/a.csv, or run the command in far",
        )
    assert nothing_started(small.parent)
    train, test = "data.train=[far/a.csv, far/b.csv]", "data.test=far/test.csv"
    assert cli("plan", "far/based.yaml", train, test).status == 0


ROWS = "age,sex,disease\n" + "63,1,140\n" * 200


def test_no_row_of_a_table_that_stands_in_the_place_of_a_config_is_told(cli: Cli, small: Path) -> None:
    for name, text in (
        ("va.csv", ROWS),
        ("va.txt", ROWS),
        ("va.csv", "name: age\n" + "Anna M: 63\n" * 9),
        ("va.txt", "- 63,1,140\n" * 9),
        ("va.txt", "Anna M, 63: 140\n" + ROWS),
        ("va.txt", ROWS.replace(",", " ") * 9 + ": 1\n"),
    ):
        (small.parent / name).write_text(text)
        for command in (["run"], ["plan"], ["data"], ["config"], ["compare"], ["sweep", "seed=1,2"]):
            outcome = cli(command[0], name, *command[1:])
            outcome.refused(name)
            assert "63" not in outcome.err
    assert nothing_started(small.parent)


@pytest.mark.parametrize(
    "override",
    [
        f"data.{'k' * 500}=1",
        f"{'k' * 500}=1",
        f"rounds='{'v' * 500}'",
        f"data={{name: {'v' * 500}}}",
        f"data=[{'v, ' * 500}v]",
        f"local={'v' * 500}",
        f"local.batch_size={'v' * 500}",
        f"cluster.workers=[{'v, ' * 500}v]",
        f"{'v' * 500}",
        f"data={{name: parquet, path: none, target: y, pictures: {{x: {{{'k' * 500}: 1}}}}}}",
        f"data={{name: parquet, path: none, target: y, ragged: {{x: [{'v, ' * 500}v]}}}}",
        f"local.loss={{name: 'torch.nn:MSELoss', {'k' * 500}: 1}}",
    ],
)
def test_little_is_quoted_of_what_a_config_says_wrongly(cli: Cli, small: Path, override: str) -> None:
    outcome = cli("plan", small, override)
    outcome.refused()
    assert "k" * 61 not in outcome.err
    assert "v" * 61 not in outcome.err
    assert "v, " * 21 not in outcome.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["data.classes=[no, yes]"],
            'data.classes: YAML reads bare yes, no, on and off as booleans; write ["no", "yes"]',
        ),
        (["data.ignore=[on]"], 'data.ignore: YAML reads bare yes, no, on and off as booleans; write ["yes"]'),
        (["data.target=no"], 'data.target: YAML reads bare yes, no, on and off as booleans; write "no"'),
        (["data.missing={u: no}"], "data.missing.u: YAML reads bare yes"),
        (["data.missing={no: 0}"], "data.missing: YAML reads bare yes"),
        (["data.categorical=[no]"], "data.categorical: YAML reads bare yes"),
        (["data.categorical={u: [no, yes]}"], "data.categorical.u: YAML reads bare yes"),
        (
            ["data.ordinal={u: [no, maybe, yes]}"],
            'data.ordinal.u: YAML reads bare yes, no, on and off as booleans; write ["no"',
        ),
        (
            ["metrics=[{name: f1, positive: yes}]"],
            'positive: YAML reads bare yes, no, on and off as booleans; write "yes"',
        ),
        (["failures.left_out={1: [no]}"], "failures.left_out.1: YAML reads bare yes"),
    ],
)
def test_a_word_that_yaml_makes_a_boolean_of_is_no_name(cli: Cli, small: Path, options: list[str], words: str) -> None:
    for name, text in {**GOOD, "tables.yaml": HOSPITALS}.items():
        (small.parent / name).write_text(text)
    for command in ("run", *(() if "metrics" in options[0] else ("data",))):
        cli(command, "tables.yaml", *options).refused(words)
    assert nothing_started(small.parent)


def test_a_missing_config_is_named(cli: Cli, small: Path) -> None:
    cli("run", "smal.yaml").refused("smal.yaml: no such config file (did you mean 'small.yaml'?)")
    cli("run", small.parent).refused(str(small.parent), "cannot be read")


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("b.csv", None, ["b.csv does not exist"]),
        ("test.csv", None, ["test.csv does not exist"]),
        ("b.csv", "5,6,no\n7,8,yes\n", ["b.csv", "no target column 'y'", "is the header missing?"]),
        ("b.csv", "u#v#y\n5#6#no\n", ["no target column 'y'", "u#v#y; if columns are separated by another character"]),
        (
            "b.csv",
            "u;v;y\n1.234;6;no\n",
            ["b.csv, column 'u': '1.234' may be a number of thousands", "csv: {decimal: "],
        ),
        ("b.csv", "u,v,z\n5,6,no\n", ["b.csv", "no target column 'y'", "its columns: u, v, z"]),
        ("b.csv", "u,v,y\n5,6,no\n7,yes\n", ["b.csv, line 3: 2 cells", "3 columns"]),
        ("b.csv", "u,v,y\n5,6,no\n7,high,yes\n", ["b.csv, line 3, column 'v'", "'high' is not a number"]),
        ("b.csv", "u,v,y\n", ["b.csv", "no rows"]),
        ("b.csv", "", ["b.csv", "header"]),
        ("test.csv", "u,v,y\n1,1,maybe\n", ["test.csv, line 2, column 'y'", "'maybe'", "no, yes"]),
    ],
)
def test_a_bad_table_is_refused(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str | None, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hospitals.yaml").write_text(HOSPITALS)
    for name, content in (GOOD | {file: text}).items():
        if content is not None:
            (tmp_path / name).write_text(content)
    for command in ("run", "plan"):
        cli(command, "hospitals.yaml").refused(*words)
    assert nothing_started(tmp_path)


def test_a_class_that_one_silo_has_and_the_declared_ones_lack(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hospitals.yaml").write_text(HOSPITALS)
    for name, content in (GOOD | {"b.csv": "u,v,y\n5,6,no\n7,8,perhaps\n"}).items():
        (tmp_path / name).write_text(content)
    cli("run", "hospitals.yaml", "data.classes=['no', 'yes']", "run.dir=out").refused(
        "b.csv, line 3, column 'y'", "'perhaps'"
    )
    assert nothing_started(tmp_path)


def test_a_folder_that_holds_a_run_is_left_alone(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=out").status == 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    cli("run", small, "run.dir=out", "rounds=9").refused("run.dir: out already holds a run", "fedray resume out")
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_made_is_named(cli: Cli, small: Path) -> None:
    # A file in the way: permissions would not stop a test that runs as root.
    cli("run", small, f"run.dir={small}/out").refused("run.dir", "cannot be written")


MODELS = """\
import torch
from torch import nn

def narrow(spec):
    return nn.Linear(spec.shape[0], 2)

def sequence(spec):
    return nn.Sequential(nn.Linear(spec.shape[0], 3), nn.Unflatten(1, (3, 1)))

def pair(spec):
    class Pair(nn.Linear):
        def forward(self, x):
            return super().forward(x), 1
    return Pair(spec.shape[0], 3)

def wrong_input(spec):
    return nn.Linear(spec.shape[0] + 1, 3)

def frozen(spec):
    return nn.Linear(spec.shape[0], 3).requires_grad_(False)

def half(spec):
    return nn.Linear(spec.shape[0], 3).half()

def raising(spec):
    raise RuntimeError("no weights here")

def other(spec):
    return "a model"
"""


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("narrow", ["model", "2 outputs for 3 classes"]),
        ("sequence", ["local.loss", "does not fit the model's output (2, 3, 1)"]),
        ("pair", ["model: it gives tuple; a tensor is needed, or an object with a tensor .logits"]),
        ("wrong_input", ["model", "does not take the data", "(2, 6)"]),
        ("frozen", ["model", "nothing to train"]),
        ("half", ["model", "weight is torch.float16", ".float()"]),
        ("raising", ["model", "no weights here"]),
        ("other", ["model.name", "must return a torch.nn.Module", "str"]),
        ("narow", ["model.name", "has no 'narow'", "did you mean 'narrow'?"]),
    ],
)
def test_a_model_that_does_not_fit_is_refused(cli: Cli, small: Path, factory: str, words: list[str]) -> None:
    # A name of its own: modules stay imported, and another folder's would be in the way.
    module = f"bad_models_{small.parent.name}".replace("-", "_")
    (small.parent / f"{module}.py").write_text(MODELS)
    (small.parent / "user.yaml").write_text(SMALL.replace("{name: mlp, hidden: [5]}", f"{module}:{factory}"))
    cli("run", "user.yaml", "run.dir=out").refused(*words)
    assert nothing_started(small.parent)


def test_a_cluster_that_nobody_answers_for(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    cli("run", small, "cluster.name=ray", f"run.dir={small.parent / 'out'}").refused("RAY_ADDRESS", "127.0.0.1:1")
    assert nothing_started(small.parent)


def test_a_run_from_python_goes_on_there(cli: Cli, small: Path) -> None:
    folder = small.parent / "out"
    folder.mkdir()
    (folder / "config.yaml").write_text("python:\n  rounds: 4\nalgorithm:\n  name: fedavg\n")
    for command in (
        ["resume", "out"],
        ["evaluate", "out"],
        ["run", "out/config.yaml"],
    ):
        cli(*command).refused("this run was started from Python", "fedray.train(..., run_dir=..., resume=True)")
    cli("run", small, "run.dir=out").refused("already holds a run", "fedray.train(..., run_dir='out', resume=True)")


@pytest.mark.parametrize("name", ["config.yaml", "summary.json"])
def test_a_damaged_file_of_a_run_folder_is_named_by_all_commands(cli: Cli, small: Path, name: str) -> None:
    assert cli("run", small, "run.dir=out", "-q").status == 0
    Path("out", name).write_bytes(b"\xff\xfe")
    for command in ("resume", "evaluate", "report", "status", "verify", "debug", "logs", "stop"):
        cli(command, "out").refused(f"out/{name} is damaged: ", "put back a copy of it")
    cli("diff", "out", "out").refused(f"out/{name} is damaged: ")
    assert f"out/{name} is damaged" in cli("runs", ".").out


def test_a_manifest_that_is_none_is_that_of_no_checkpoint(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=out", "-q").status == 0
    for path in Path("out", "checkpoints").glob("*/manifest.json"):
        path.write_text("[]")
    cli("evaluate", "out").refused("none of the 1 checkpoints is whole")
    assert cli("status", "out").status == 0


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1", "soon"])
def test_a_pace_is_some_seconds(cli: Cli, small: Path, seconds: str) -> None:
    for command in ("status", "runs"):
        outcome = cli(command, ".", "--every", seconds)
        assert outcome.status == 2
        assert f"{seconds!r} is no number of seconds from 0.1 to 86400" in outcome.err
