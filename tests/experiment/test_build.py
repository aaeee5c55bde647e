"""From a config to a run: what is written down is what was meant, and what cannot be is refused before the start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
import yaml

from fedray.algorithms import FedAvg
from fedray.config.binding import options_of
from fedray.core.errors import ConfigError
from fedray.core.messages import Aggregate
from fedray.data.sources.shipped import Synthetic
from fedray.data.spec import DataSpec
from fedray.experiment.build import Config
from fedray.local.losses import losses
from fedray.optim import Cosine, LRSchedule
from fedray.rundir.folder import RunFolder
from fedray.server import SGD, Adam, Server, server_optimizers
from fedray.tasks import task_of
from tests.cli.command import SMALL


def bound(**changes: Any) -> Config:
    """The small config with other values at the top."""
    content = {**yaml.safe_load(SMALL), **changes}
    return Config.bind("small", content, content)


def from_python(**changes: Any) -> Config:
    """The small config with objects at the top, of which no person has written a text."""
    return Config.bind("small", {}, {**yaml.safe_load(SMALL), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transforms": "clip"}, r"^transforms: expected a list|^transforms: a list is needed"),
        ({"transforms": [{"name": "clip"}, {"name": "gausian"}]}, r"^transforms\[1\]\.name: .*did you mean 'gaussian'"),
        ({"data": object()}, r"^data: a fedray\.FederatedData is needed"),
        ({"local": {"optimizer": 3}}, r"^local\.optimizer"),
        ({"local": {"loss": [1]}}, r"^local\.loss"),
    ],
)
def test_a_wrong_part_is_named_by_its_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bound(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"failures": {"block_timeout": 5}}, r"^failures\.block_timeout: with cluster\.name=inline there is no worker"),
        (
            {"data": "digits", "evaluate": {"clients_every": 1}},
            r"^evaluate\.clients_every: no client has held-out",
        ),
        (
            {"evaluate": {"before": True, "every": 0}},
            r"^evaluate\.before: there is nothing to evaluate before training",
        ),
        ({"sampler": {"name": "uniform", "clients": 9}}, "9"),
        (
            {"failures": {"left_out": {2: ["77"]}}},
            r"^failures\.left_out\.2: no client '77'.*there are 8, the first is '0'",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_by_the_plan(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bound(**changes).plan()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"algorithm": "???"}, "algorithm"),
        ({"rounds": "???"}, "rounds"),
        ({"algorithm": {"name": "fedprox", "mu": "???"}}, "algorithm.mu"),
        ({"local": {"batch_size": "???"}}, "local.batch_size"),
    ],
)
def test_a_value_that_is_marked_as_missing_is_not_the_default(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}: a value is needed"):
        bound(**changes)


def test_data_that_memory_is_too_short_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> NoReturn:
        raise MemoryError("Unable to allocate 112. GiB")

    monkeypatch.setattr(Synthetic, "read", short)
    with pytest.raises(ConfigError, match=r"^data: memory is too short for them .*112. GiB.*; take fewer"):
        bound().plan()


def test_a_folder_that_holds_a_run_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.claim("seed: 7\n")
    config = bound(data={"name": "csv", "train": ["nowhere.csv"], "target": "y"})
    with pytest.raises(ConfigError, match=r"^run\.dir: .* already holds a run"):
        config.experiment(folder)
    with pytest.raises(ConfigError, match=r"nowhere\.csv"):
        config.experiment(RunFolder(tmp_path / "other"))


def test_a_plan_tries_the_servers_step() -> None:
    class Deaf(FedAvg):
        def step(self, s: Server, total: Aggregate) -> None:
            s.move(total["deltas"])

    with pytest.raises(ConfigError, match=r"^algorithm: the server's step of Deaf fails: KeyError: 'deltas'$"):
        from_python(algorithm=Deaf()).plan()


def test_a_plan_leaves_no_trace_and_is_the_same_again() -> None:
    config, before = bound(), torch.get_rng_state()
    first, again = config.plan(), config.plan()
    assert torch.equal(torch.get_rng_state(), before)
    assert first.task.stacking == again.task.stacking
    vectors = [plan.layout.pack(dict(plan.task.model_fn().state_dict())) for plan in (first, again)]
    assert torch.equal(*vectors)


def test_clients_that_are_left_out_are_known_by_their_index() -> None:
    plan = bound(failures={"left_out": {2: ["7", "0"]}}).plan()
    assert plan.left_out == {2: frozenset({0, 7})}


def test_the_run_folder_is_the_one_that_is_named_or_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bound(run={"dir": "mine"}).run_folder() == RunFolder(Path("mine"))
    assert bound().run_folder().path.parent.parent == Path("runs")


def test_the_loss_is_that_of_the_task_unless_the_config_names_one() -> None:
    spec = DataSpec((6,), 1, "regression")
    assert bound().loss_fn(task_of(spec)) is losses["mse"]
    assert bound(local={"loss": "cross_entropy"}).loss_fn(task_of(spec)) is losses["cross_entropy"]


SERVERS = [(name, option) for name, kind in server_optimizers.items() for option in options_of(kind)]
OTHER = {"lr": 0.02, "lr_schedule": {"name": "cosine", "T_max": 5, "eta_min": 0.01, "warmup": 2}, "nesterov": True}


@pytest.mark.parametrize(("name", "option"), SERVERS, ids=[".".join(pair) for pair in SERVERS])
@pytest.mark.one_in(4)
def test_an_option_of_a_server_optimizer_is_said_in_a_file_and_in_python(
    name: str, option: str, tmp_path: Path
) -> None:
    value = "torch" if option == "variant" else OTHER.get(option, 0.25)
    file = bound(server={"name": name, option: value})
    python = from_python(server=server_optimizers[name](**{option: value}))
    assert file.server == python.server != server_optimizers[name]()
    text = python.to_yaml()
    written = yaml.safe_load(text)
    assert written["server"][option] == value
    assert written == yaml.safe_load(file.to_yaml())
    (tmp_path / "again.yaml").write_text(text)
    assert Config.load(tmp_path / "again.yaml").to_yaml() == text


@pytest.mark.parametrize("name", server_optimizers)
def test_a_plan_has_the_server_optimizer_of_a_file_and_of_python(name: str) -> None:
    option = "lr"
    file = bound(server={"name": name, option: OTHER[option]})
    python = from_python(server=server_optimizers[name](**{option: OTHER[option]}))
    assert file.plan().algorithm.server == python.plan().algorithm.server == file.server


def test_a_schedule_made_in_python_is_written_by_its_name_and_one_of_its_own_is_described() -> None:
    @dataclass(frozen=True)
    class Mine(LRSchedule):
        def at(self, lr: float, t: int, rounds: int) -> float:
            return lr / (1 + t)

    named = yaml.safe_load(from_python(server=Adam(lr_schedule=Cosine(T_max=5))).to_yaml())["server"]
    assert named["lr_schedule"] == {"name": "cosine", "T_max": 5, "eta_min": 0.0, "warmup": 0}
    config = from_python(server=Adam(lr=0.5, lr_schedule=Mine()))
    written = yaml.safe_load(config.to_yaml())
    assert written["python"]["server.lr_schedule"].endswith("Mine")
    assert written["server"]["lr"] == 0.5
    assert [config.plan().server_rate.of(round) for round in (1, 2)] == [0.5, 0.25]


def test_a_config_without_a_server_section_has_none() -> None:
    assert "server" not in yaml.safe_load(bound().to_yaml())
    assert bound(server={"lr": 0.5}).plan().algorithm.server == SGD(0.5)
    assert bound(algorithm={"name": "scaffold", "server_lr": 0.5}).plan().algorithm.server == SGD(0.5)


def test_code_of_ones_own_is_told_in_the_log(tmp_path: Path) -> None:
    config = bound(model={"name": "torch.nn:Linear", "in_features": 6, "out_features": 3})
    run = config.experiment(RunFolder(tmp_path / "run")).run
    (told,) = [note for note in run.notes if "code of your own" in note]
    assert told.startswith("model: torch.nn:Linear is code of your own, imported from ")


@pytest.mark.parametrize("name", [3, "3"])
def test_a_client_without_a_name_is_known_by_its_number_and_written_out(name: int | str, tmp_path: Path) -> None:
    """As YAML reads it, in quotes or not."""
    (tmp_path / "a.yaml").write_text(SMALL + yaml.safe_dump({"failures": {"dropout": 0.1}}))
    config = Config.load(tmp_path / "a.yaml", [f"local.by_client={{{name!r}: {{steps: 2}}}}"])
    (tmp_path / "b.yaml").write_text(config.to_yaml())
    again = Config.load(tmp_path / "b.yaml")
    assert again.local.own["3"].steps == config.local.own["3"].steps == 2
    assert config.plan().steps(1, np.array([2, 3]))[1] == 2
    with pytest.raises(ConfigError, match=r"^local\.by_client: no client '33'.*there are 8"):
        bound(local={"by_client": {33: {"steps": 1}}}).plan()
