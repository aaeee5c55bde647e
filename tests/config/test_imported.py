"""``module:name`` for every kind of part: imported from the working directory, by one mechanism, from both faces."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fedray
from fedray.algorithms.base import algorithms
from fedray.config.imported import Imported, imported_in, made
from fedray.config.registry import bind_part, dump
from fedray.experiment.build import Config
from fedray.local.losses import losses
from fedray.optim import optimizers
from fedray.rundir.folder import RunFolder
from fedray.sampling import samplers

MINE = '''
from dataclasses import dataclass
import numpy as np
import torch
from torch import nn
import fedray
from fedray import parts

def data(clients, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((12 * clients, 4)).astype("f4")
    y = (x.sum(axis=1) > 0).astype("i8")
    return fedray.FederatedData.from_arrays(x, y, np.repeat(np.arange(clients), 12), test=(x, y))

def net(spec):
    return nn.Linear(spec.shape[0], spec.outputs)

def loss(output, target, smooth=0.0):
    return nn.functional.cross_entropy(output, target, label_smoothing=smooth)

def optimizer(params, lr, momentum=0.0):
    return torch.optim.SGD(params, lr=lr, momentum=momentum)

@dataclass(frozen=True)
class FirstClients(parts.Sampler):
    """The first ones."""
    clients: int = 1
    def cohort(self, sizes, seed, round):
        return np.arange(self.clients)
    def expected(self, sizes):
        return float(self.clients)

def sampler(clients):
    from helper import double
    return FirstClients(double(clients))

@dataclass(frozen=True)
class Halves(parts.Transform):
    """Half of each update."""
    def on_clients(self, update):
        update.parts["delta"].mul_(0.5)

class Own(fedray.Mean):
    """A mean by another name."""

@dataclass(frozen=True)
class Average(fedray.FedAvg):
    """FedAvg by another name."""

@dataclass(frozen=True)
class Steps(parts.ServerOptimizer):
    """Plain steps by another name."""
    def step(self, params, delta, lr, state, layout):
        params.add_(delta * lr)

class EvenOdd:
    def __init__(self, clients):
        self.clients = clients
    def assign(self, labels, seed):
        return np.arange(len(labels)) % self.clients

def nothing(*arguments, **options):
    pass
'''
PARTS: dict[str, Any] = {
    "data": {"name": "mine:data", "clients": 5},
    "model": "mine:net",
    "sampler": {"name": "mine:sampler", "clients": 2},
    "transforms": ["mine:Halves"],
    "aggregator": "mine:Own",
    "algorithm": "mine:Average",
    "server": {"name": "mine:Steps", "lr": 0.5, "lr_schedule": {"name": "step", "step_size": 1, "gamma": 0.5}},
}
LOCAL = {"loss": {"name": "mine:loss", "smooth": 0.1}, "optimizer": {"name": "mine:optimizer", "lr": 0.2}}
REST = {"rounds": 2, "cluster": {"name": "inline"}, "tracking": []}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the user's module, which is gone from ``sys.modules`` afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("def double(number):\n    return 2 * number\n")
    yield tmp_path
    for name in ("mine", "helper"):
        sys.modules.pop(name, None)


def run(config: Config, folder: Path) -> list[Any]:
    return [record.model_sha256 for record in config.experiment(RunFolder(folder)).records()]


def test_a_run_of_which_every_part_is_ones_own(here: Path) -> None:
    content = {**PARTS, "local": LOCAL, **REST}
    config = Config.bind("own", content, content)
    hashes = run(config, here / "run")
    log = (here / "run" / "log.txt").read_text()
    for key, name in (("data", "data"), ("local.loss", "loss"), ("transforms[0]", "Halves"), ("sampler", "sampler")):
        assert f"{key}: mine:{name} is code of your own, imported from {here / 'mine.py'}" in log
    again = Config.load(here / "run" / "config.yaml")
    assert again.to_yaml() == config.to_yaml()
    assert run(again, here / "again") == hashes
    named = fedray.train(
        fedray.FederatedModel("mine:net", LOCAL["optimizer"], LOCAL["loss"]),
        PARTS["data"],
        fedray.TrainArgs(rounds=2, tracking=[]),
        **{name: PARTS[name] for name in ("sampler", "transforms", "aggregator", "algorithm", "server")},
        cluster="inline",
        run_dir=here / "python",
        progress=False,
    )
    assert [record.model_sha256 for record in named.history] == hashes


def test_ones_own_is_what_the_same_of_fedray_is(here: Path) -> None:
    """Every part replaced by the registered one of the same meaning, one after the other."""
    same = {
        "algorithm": "fedavg",
        "server": {**PARTS["server"], "name": "sgd"},
        "aggregator": "mean",
        "local": {"loss": LOCAL["loss"], "optimizer": {"name": "sgd", "lr": 0.2}},
    }
    own = {**PARTS, "local": LOCAL, **REST}
    expected = run(Config.bind("own", own, own), here / "own")
    for key, part in same.items():
        other = {**own, key: part}
        assert run(Config.bind("x", other, other), here / key.replace(".", "-")) == expected, key


def test_a_partitioner_of_ones_own(here: Path) -> None:
    partition = {"name": "mine:EvenOdd", "clients": 3}
    content = {"data": {"name": "digits", "flat": True, "partition": partition}, "model": "logistic", **REST}
    config = Config.bind("x", content, content)
    assert len(config.plan().task.data) == 3
    run(config, here / "run")
    assert "data: mine:EvenOdd is code of your own, imported from" in (here / "run" / "log.txt").read_text()


@pytest.mark.parametrize("key", [*PARTS, "local.loss", "local.optimizer"])
def test_nothing_is_called_before_the_run_is_built_and_nothing_is_no_part(key: str, here: Path) -> None:
    own: dict[str, Any] = {**PARTS, "local": dict(LOCAL), **REST}
    section, _, option = key.partition(".")
    if option:
        own[section][option] = "mine:nothing"
    else:
        own[section] = ["mine:nothing"] if section == "transforms" else "mine:nothing"
    config = Config.bind("x", own, own)
    with pytest.raises(fedray.ConfigError, match=r"nothing must return a|^optimizer: |^local\.loss: ") as caught:
        run(config, here / "run")
    assert "\n" not in str(caught.value)
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("registry", "node", "message"),
    [
        (samplers, {"name": "mine:FirstClients", "client": 2}, r"^p\.client: unknown key \(did you mean 'clients'\?\)"),
        (samplers, {"name": "mine:FirstClients", "clients": "all"}, r"^p\.clients: .*all"),
        (samplers, {"name": "mine:sampler", "client": 2}, r"^p\.client: mine:sampler has no such parameter \(did you"),
        (samplers, "mine:sampler", r"^p\.clients: a value is needed by mine:sampler"),
        (samplers, "mine:Sampler", r"^p\.name: module 'mine' has no 'Sampler' \(did you mean 'sampler'\?\)"),
        (samplers, "mine.FirstClients", r"unknown sampler 'mine\.FirstClients'; known: .*own: mine:FirstClients$"),
        (optimizers, {"name": "mine:optimizer", "momentum": 0.9}, r"^p\.lr: a value is needed by mine:optimizer"),
        (losses, {"name": "mine:loss", "smoth": 1}, r"^p\.smoth: mine:loss has no such .*; allowed: smooth$"),
        (losses, {"name": "mse", "smooth": 1}, r"^p\.smooth: unknown key; mse takes no options$"),
    ],
)
def test_mistakes_are_found_without_calling_it(registry: Any, node: Any, message: str) -> None:
    with pytest.raises(fedray.ConfigError, match=message):
        bind_part(registry, node, "p")


def test_a_function_pickles_by_its_name_to_a_process_in_another_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = made(bind_part(losses, LOCAL["loss"], "local.loss"))
    output, target = torch.randn(3, 2), torch.tensor([0, 1, 1])
    expected = nn.functional.cross_entropy(output, target, label_smoothing=0.1)
    assert part(output, target) == expected
    packed = pickle.dumps(part)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    del sys.modules["mine"]
    assert pickle.loads(packed) == part
    assert pickle.loads(packed)(output, target) == expected


def test_classes_of_torch_need_no_code_of_ones_own() -> None:
    loss = made(bind_part(losses, {"name": "torch.nn:CrossEntropyLoss", "label_smoothing": 0.1}, "local.loss"))
    output, target = torch.randn(3, 2), torch.tensor([0, 1, 1])
    assert loss(output, target) == nn.functional.cross_entropy(output, target, label_smoothing=0.1)
    nadam = made(bind_part(optimizers, {"name": "torch.optim:NAdam", "lr": 0.3}, "local.optimizer"))
    assert nadam([torch.zeros(2, requires_grad=True)]).param_groups[0]["lr"] == 0.3


def test_those_in_a_part_are_found_wherever_they_are() -> None:
    sources = bind_part(samplers, {"name": "mine:sampler", "clients": 2}, "sampler")
    assert [part.name for part in imported_in([sources, {"a": {"name": "x:y", "b": [{"name": "u:v"}]}}])] == [
        "mine:sampler",
        "x:y",
        "u:v",
    ]
    assert dump(sources) == {"name": "mine:sampler", "clients": 2}
    assert isinstance(sources, Imported)


@pytest.mark.parametrize(
    ("kind", "base", "missing"),
    [("sampler", "Sampler", "cohort, expected"), ("aggregator", "Aggregator", "add, finish, merge, zero")],
)
def test_a_part_that_lacks_a_method_is_named_before_anything_starts(
    kind: str, base: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"unfinished_{kind}.py").write_text(
        f"import fedray.parts\n\n\nclass Own(fedray.parts.{base}):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    data = fedray.FederatedData.from_arrays([[0.0], [1.0]], [0, 1], [0, 1])
    given: Any = {kind: f"unfinished_{kind}:Own"}
    with pytest.raises(fedray.ConfigError, match=rf"^{kind}: unfinished_{kind}:Own failed: TypeError: .* {missing}"):
        fedray.train(fedray.FederatedModel("logistic"), data, cluster="inline", run_dir=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_an_algorithm_that_raises_is_named_with_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_rule.py").write_text(
        "import fedray.parts\n\n\nclass Own(fedray.parts.Algorithm):\n"
        "    def server(self):\n        raise KeyError('mu')\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fedray.ConfigError, match=r"^algorithm: broken_rule:Own failed: KeyError: 'mu' \(.*py:6\)$"):
        bind_part(algorithms, "broken_rule:Own", "algorithm")
