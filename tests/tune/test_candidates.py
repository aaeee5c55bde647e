"""Which knobs are turned, and which values they are given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedray.config.layers import load_layers
from fedray.core.cpus import Cpus
from fedray.experiment.build import Config
from fedray.tune import candidates
from fedray.tune.candidates import kept_as_given, knobs
from tests.cli.command import SMALL


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with four CPUs that have no bfloat16."""
    monkeypatch.setattr(candidates, "usable_cpus", lambda: Cpus(4, "made up"))
    monkeypatch.setattr(candidates, "native_bf16", lambda: False)


def turned(folder: Path, *overrides: str) -> list[list[tuple[str, ...]]]:
    (folder / "c.yaml").write_text(SMALL)
    config = Config.bind("c", *load_layers(folder / "c.yaml", overrides))
    return [[one.changes for one in knob] for knob in knobs(config, config.plan(), overrides)]


THREADS = [("worker.threads=2",), ("worker.threads=4",)]


def test_block_sizes_around_that_of_auto_come_first(tmp_path: Path) -> None:
    """Of a cohort of eight, auto takes blocks of four."""
    stacks, shares = turned(tmp_path)
    assert stacks == [("local.stack=8",), ("local.stack=2",), ("local.stack=off",), ("local.stack=lanes:4",)]
    assert shares == THREADS


def test_where_auto_does_not_stack_what_can_be_is_tried(tmp_path: Path) -> None:
    """The gathered numbers of its convolutions are too many for auto, which is a rule and measures nothing."""
    digits = "data={name: digits, partition: {name: iid, clients: 8}}"
    stacks, _ = turned(tmp_path, "model={name: cnn}", digits, "local.batch_size=64", "cluster.name=inline")
    assert stacks[0] == ("local.stack=2",)
    assert ("local.stack=off",) not in stacks, "that is what auto does"


def test_a_cohort_of_one_has_nothing_to_choose_of(tmp_path: Path) -> None:
    assert turned(tmp_path, "sampler={name: uniform, clients: 1}") == [THREADS]


def test_what_is_given_stays_and_is_told(tmp_path: Path) -> None:
    given = "local.stack=off", "local.precision=fp32", "worker.threads=1"
    assert turned(tmp_path, *given) == []
    config = Config.bind("c", *load_layers(tmp_path / "c.yaml", given))
    assert kept_as_given(config, given) == {"local.stack": "off", "local.precision": "fp32", "worker.threads": 1}
    assert turned(tmp_path, "local.stack=auto", "worker.threads=1")[0][0] == ("local.stack=8",)


def test_bfloat16_is_tried_where_the_processor_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "native_bf16", lambda: True)
    assert turned(tmp_path, "local.stack=off") == [[("local.precision=bf16",)], THREADS]


def test_on_ray_fewer_workers_have_more_threads(tmp_path: Path) -> None:
    fewer = [("worker.cpus=2", "worker.threads=2"), ("worker.cpus=4", "worker.threads=4")]
    assert turned(tmp_path, "local.stack=off", "cluster.name=ray") == [fewer]
    assert turned(tmp_path, "local.stack=off", "cluster.name=ray", "cluster.workers=2") == []


def test_a_one_that_a_file_says_of_workers_is_no_choice(tmp_path: Path) -> None:
    """As files that others build on say it; on the command line it is one."""
    (tmp_path / "c.yaml").write_text(SMALL + "worker: {cpus: 1, threads: 1}\n")
    config = Config.bind("c", *load_layers(tmp_path / "c.yaml"))
    assert kept_as_given(config) == {}
    assert [one.changes for one in candidates._shares(config, ())] == THREADS
    assert [*candidates._shares(config, ["worker.cpus=1"])] == []


def test_workers_share_a_gpu_that_the_config_gives_to_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is bound: no GPU is needed to say what would be tried on one."""
    monkeypatch.setattr(candidates, "_device", lambda config: "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "c.yaml").write_text(SMALL + "worker: {gpus: 1, cpus: 4}\n")

    def shares(*overrides: str) -> list[tuple[str, ...]]:
        config = Config.bind("c", *load_layers(tmp_path / "c.yaml", overrides))
        return [one.changes for one in candidates._shares(config, overrides)]

    assert shares("cluster.name=ray") == [("worker.gpus=0.5",), ("worker.gpus=0.25",)]
    assert shares() == [], "one worker is this process"
    assert shares("cluster.name=ray", "worker.gpus=1") == [], "given on the command line"
    assert shares("cluster.name=ray", "cluster.workers=1") == []
    config = Config.bind("c", *load_layers(tmp_path / "c.yaml", ["cluster.name=ray"]))
    assert kept_as_given(config) == {"worker.cpus": 4}


def test_candidates_are_tried_without_a_trace(tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    turned(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
