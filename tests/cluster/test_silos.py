"""Silos on two Ray nodes, each with files that the other, and the process that starts the run, cannot see."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedray.cli import main
from fedray.cluster.place.sites import RaySites
from fedray.config.layers import to_yaml
from fedray.core.errors import ConfigError
from fedray.core.record import VIEWS, RoundRecord
from fedray.data import ClientData
from fedray.data.sites import SiteData
from fedray.experiment.build import Config
from fedray.rundir.client_table import read_clients
from fedray.rundir.folder import RunFolder
from tests.faults.nodes import Nodes, eventually, fault

pytestmark = pytest.mark.slow

ROWS = {"alpha": 23, "beta": 31, "gamma": 12, "delta": 17}
SILOS: dict[str, dict[str, Any]] = {
    "alpha": {"node_label": "site=a", "path": "$SITE_DATA/alpha.csv"},
    "beta": {"node_resource": "hospital_b", "path": "$SITE_DATA/beta.csv"},
    "gamma": {"node_label": "site=b", "path": "$SITE_DATA/gamma.csv", "cpus": 2},
}
HOME = {"alpha": "a", "beta": "b", "gamma": "b"}


@dataclass(frozen=True)
class Place:
    """Two nodes and their folders."""

    nodes: Nodes
    root: Path

    def folder(self, site: str) -> Path:
        return self.root / site


THEIRS = {"name": "torchmetrics.classification.MulticlassF1Score", "num_classes": 2, "label": "theirs"}


def table(name: str) -> str:
    draw = np.random.default_rng(ROWS.get(name, 0))
    rows = draw.standard_normal((ROWS.get(name, 9), 3)) * [1.0, 20.0, 0.1] + [5.0, -3.0, 0.0]
    lines = [
        ",".join(map(repr, row)) + f",{'xy'[i % 2]},{'no' if row[0] > 5 else 'yes'}"
        for i, row in enumerate(rows.tolist())
    ]
    return "u,v,w,ward,y\n" + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """``SITE_DATA`` means another folder on each node, and nothing in this process."""
    root = tmp_path_factory.mktemp("sites")
    for name, site in HOME.items():
        (root / site).mkdir(exist_ok=True)
        (root / site / f"{name}.csv").write_text(table(name))
    (root / "c").mkdir()
    (root / "c" / "delta.csv").write_text(table("delta"))
    (root / "test.csv").write_text(table("test"))
    assert "SITE_DATA" not in os.environ
    nodes = Nodes()
    try:
        nodes.add("head", 2, labels={"site": "a"}, env_vars={"SITE_DATA": str(root / "a")})
        resources = {"hospital_b": 1.0}
        nodes.add("second", 4, labels={"site": "b"}, resources=resources, env_vars={"SITE_DATA": str(root / "b")})
        with nodes.connected():
            yield Place(nodes, root)
            nodes.all_gone("ray::WorkerActor", "ray::NodeActor", "ray::DriverActor", "ray::_SiteActor")
    finally:
        nodes.close()


def config(place: Place, silos: dict[str, Any], **sections: Any) -> dict[str, Any]:
    data = {"name": "silos", "silos": silos, "test": str(place.root / "test.csv"), "target": "y"}
    return {
        "seed": 5,
        "data": {**data, "categorical": ["ward"], "holdout": 0.25},
        "model": {"name": "mlp", "hidden": [6]},
        "local": {"epochs": 2, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.1}},
        "rounds": 3,
        "cluster": {"name": "ray", "workers": 1, "start_timeout": 60.0},
        "evaluate": {"clients_every": 1},
        "metrics": ["accuracy", {"name": "f1", "average": "macro"}, THEIRS],
        "tracking": [],
        **sections,
    }


def run(content: dict[str, Any], folder: Path) -> list[RoundRecord]:
    return list(Config.bind("silos", content, content).experiment(RunFolder(folder)).records())


def same(records: Sequence[RoundRecord], others: Sequence[RoundRecord]) -> None:
    assert [r.model_sha256 for r in records] == [r.model_sha256 for r in others]
    assert len({r.model_sha256 for r in records}) == len(records) == 3
    for record, other in zip(records, others, strict=True):
        assert record.train == other.train
        assert record.test == pytest.approx(other.test, rel=1e-6)
        for name, values in record.clients_test.items():
            # A deviation is a difference of like numbers, where rounding of losses counts for more.
            assert values == pytest.approx(other.clients_test[name], rel=1e-6, abs=1e-7)


def test_the_bits_are_those_of_one_machine_that_has_all_files(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Gamma's own worker dies of its block, which it has folded: it is replaced, and what others did stays.
    place.nodes.plan(second=[fault("worker.folded", 2, block=2)])
    there = run(config(place, SILOS), tmp_path / "ray")
    assert place.nodes.to_come() == []
    assert [record.usage["retries"] for record in there] == [0, 1, 0]
    assert {record.usage["nodes"] for record in there} == {2}
    assert {record.workers for record in there} == {3}, "one on each node, and gamma's own"
    assert all(record.clients == {"sampled": 3, "ok": 3, "failed": 0} for record in there)
    together = tmp_path / "together"
    for site in "ab":
        shutil.copytree(place.folder(site), together, dirs_exist_ok=True)
    pooled = {"name": "csv", "train": [str(together / f"{name}.csv") for name in SILOS], "holdout": 0.25}
    rest = {"test": str(place.root / "test.csv"), "target": "y", "categorical": ["ward"]}
    as_csv = config(place, {}, data=pooled | rest, cluster={"name": "inline"})
    as_csv["local"]["stack"] = "off"
    same(there, run(as_csv, tmp_path / "csv"))
    monkeypatch.setenv("SITE_DATA", str(together))
    same(there, run(config(place, SILOS, cluster={"name": "inline"}), tmp_path / "inline"))


def test_silos_with_workers_of_several_ranks_one_and_none_are_one_federation(place: Place, tmp_path: Path) -> None:
    """The bits of each round are the same when a worker of two ranks dies, and those of one process up to rounding."""
    place.nodes.plan()
    mixed = SILOS | {"gamma": SILOS["gamma"] | {"cpus": 1, "ranks": 2}}
    quiet = run(config(place, mixed), tmp_path / "quiet")
    kinds = quiet[0].usage["hardware"]
    assert len(kinds) == 2
    assert sum(kind.endswith(", 2 ranks") for kind in kinds) == 1, "gamma's alone"
    place.nodes.plan(second=[fault("worker.folded", 2, block=2)])
    again = run(config(place, mixed), tmp_path / "again")
    assert place.nodes.to_come() == []
    same(again, quiet)
    alone = run(config(place, SILOS), tmp_path / "alone")
    assert alone[-1].model_sha256 != quiet[-1].model_sha256
    for record, other in zip(quiet, alone, strict=True):
        assert record.train["loss"] == pytest.approx(other.train["loss"], rel=1e-4)
        assert record.test == pytest.approx(other.test, rel=1e-4)


def test_what_ranks_cannot_train_is_refused_by_the_silo_that_has_them(place: Place, tmp_path: Path) -> None:
    place.nodes.plan()
    mixed = SILOS | {"gamma": SILOS["gamma"] | {"cpus": 1, "ranks": 2}}
    with pytest.raises(ConfigError, match=r"^silo 'gamma': ranks=2: clients keep .*; set it to 1"):
        run(config(place, mixed, algorithm={"name": "scaffold"}), tmp_path / "run")


@pytest.mark.parametrize("algorithm", ["ditto", "mime"])
def test_surveys_and_views_are_those_of_one_machine_too(
    algorithm: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On test sets of the silos' own, which stay there; a worker of the second node dies after a survey, or a block."""
    for name in ("alpha", "gamma"):
        (place.folder(HOME[name]) / f"{name}_test.csv").write_text(table(f"{name}_test"))
    place.nodes.plan(second=[fault("worker.folded", 2, block=2)])
    own = {name: silo | {"test": f"$SITE_DATA/{name}_test.csv"} for name, silo in SILOS.items() if name != "beta"}
    content = config(place, SILOS | own, algorithm={"name": algorithm})
    content["data"]["holdout"] = 0.0
    content["evaluate"] = {"clients_every": 1, "finetune": {"epochs": 1}}
    there = run(content, tmp_path / "ray")
    assert place.nodes.to_come() == []
    assert sum(record.usage["retries"] for record in there) == 1
    for site in "ab":
        shutil.copytree(place.folder(site), tmp_path / "together", dirs_exist_ok=True)
    monkeypatch.setenv("SITE_DATA", str(tmp_path / "together"))
    inline = run({**content, "cluster": {"name": "inline"}}, tmp_path / "inline")
    same(there, inline)
    for record, other in zip(there, inline, strict=True):
        assert record.evaluated == other.evaluated
        assert (record.evaluated["clients"], record.evaluated["without"]) == (2, 1)
        for section in VIEWS.values():
            for name, values in getattr(record, section).items():
                assert values == pytest.approx(getattr(other, section)[name], rel=1e-6)
    assert there[-1].clients_finetuned
    assert bool(there[-1].clients_personal) == (algorithm != "mime")
    assert {row["client"] for row in read_clients(tmp_path / "ray").to_pylist() if row["view"] != "train"} == {
        "alpha",
        "gamma",
    }


def test_workers_of_two_sizes_are_one_group_of_their_node(place: Place, tmp_path: Path) -> None:
    """One broadcast to the second node and one accumulator from it, whatever gamma's own worker is."""
    place.nodes.plan()
    content = config(place, SILOS, model={"name": "mlp", "hidden": [20_000]}, rounds=2, evaluate={"every": 0})
    records = run(content, tmp_path / "run")
    assert [(record.usage["nodes"], record.workers) for record in records] == [(2, 3)] * 2
    size = Config.bind("silos", content, content).plan().layout.size
    once = size * 4 + size * 8  # down in float32, back in float64
    assert all(once < record.bytes["network"] < 1.1 * once for record in records)


def test_where_all_workers_are_silos_own_one_of_them_evaluates(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.nodes.plan()
    own = {name: silo | {"cpus": 1} for name, silo in SILOS.items()}
    there = run(config(place, own, worker={"cpus": 8}), tmp_path / "ray")
    assert {record.workers for record in there} == {3}
    for site in "ab":
        shutil.copytree(place.folder(site), tmp_path / "together", dirs_exist_ok=True)
    monkeypatch.setenv("SITE_DATA", str(tmp_path / "together"))
    same(there, run(config(place, own, cluster={"name": "inline"}), tmp_path / "inline"))


def test_a_silo_that_is_lost_is_missing_in_the_evaluation(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node dies before it trains in the second round: the others go on, and are evaluated, and it is told."""
    silos = SILOS | {"delta": {"node_label": "site=c", "path": "$SITE_DATA/delta.csv"}}
    place.nodes.plan(third=[fault("worker.block", 2, "kill_parent")])
    place.nodes.add("third", 1, labels={"site": "c"}, env_vars={"SITE_DATA": str(place.root / "c")})
    drop = {"on_failure": "drop", "min_share": 0.5}
    there = run(config(place, silos, failures=drop), tmp_path / "ray")
    place.nodes.kill("third")
    assert place.nodes.to_come() == []
    # The first round's model is evaluated while the second trains, which the silo did not live to see.
    assert [record.evaluated for record in there] == [{"clients": 3, "missing": 1}] * 3
    assert [record.clients["failed"] for record in there] == [0, 1, 1]
    lines = (tmp_path / "ray" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["evaluated"]["missing"] for line in lines] == [1, 1, 1]
    told = "client 'delta' was not evaluated (worker): no node with site=c is there"
    assert (tmp_path / "ray" / "log.txt").read_text().count(told) == 3
    for name, site in {**HOME, "delta": "c"}.items():
        (tmp_path / f"{name}.csv").write_text((place.folder(site) / f"{name}.csv").read_text())
    monkeypatch.setenv("SITE_DATA", str(tmp_path))
    left_out = drop | {"left_out": {2: ["delta"], 3: ["delta"]}}
    whole = run(config(place, silos, failures=left_out, cluster={"name": "inline"}), tmp_path / "inline")
    assert [record.evaluated for record in whole] == [{"clients": 4, "missing": 0}] * 3
    assert [record.model_sha256 for record in there] == [record.model_sha256 for record in whole]
    for record, other in zip(there, whole, strict=True):
        assert record.clients_test.keys() == other.clients_test.keys()
        assert record.clients_test["loss"]["mean"] != pytest.approx(other.clients_test["loss"]["mean"], rel=1e-6)


def test_a_silos_own_worker_without_room_does_not_take_its_node_with_it(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others hold two of the second node's four CPUs: beta, which the node's worker trains, goes on, gamma fails."""
    place.nodes.plan()
    drop = {"on_failure": "drop", "min_share": 0.5}
    content = config(place, SILOS, failures=drop)
    content["cluster"]["start_timeout"] = 25.0
    with place.nodes.crowded("second"), place.nodes.crowded("second"):
        there = run(content, tmp_path / "ray")
    assert [record.clients for record in there] == [{"sampled": 3, "ok": 2, "failed": 1}] * 3
    assert [record.evaluated for record in there] == [{"clients": 2, "missing": 1}] * 3
    assert {record.usage["nodes"] for record in there} == {2}
    log = (tmp_path / "ray" / "log.txt").read_text()
    assert log.count("silo 'gamma' is without its own worker, of 2 CPUs and 0 GPUs: a worker could not start") == 1
    assert "its own worker could not start on node" in there[0].failures[0]["error"]
    for site in "ab":
        shutil.copytree(place.folder(site), tmp_path / "together", dirs_exist_ok=True)
    monkeypatch.setenv("SITE_DATA", str(tmp_path / "together"))
    left_out = drop | {"left_out": {1: ["gamma"], 2: ["gamma"], 3: ["gamma"]}}
    whole = run(config(place, SILOS, failures=left_out, cluster={"name": "inline"}), tmp_path / "inline")
    assert [record.model_sha256 for record in there] == [record.model_sha256 for record in whole]


def test_no_process_but_a_silos_own_can_read_it(place: Place) -> None:
    content = config(place, SILOS)
    data: ClientData = Config.bind("silos", content, content).plan().task.data
    for client, name in enumerate(SILOS):
        with pytest.raises(ConfigError, match=rf"silo '{name}', on .*the environment has no SITE_DATA here"):
            data.rows(np.array([client]))
    counts = data.label_counts()
    assert counts.sum(axis=1).tolist() == data.sizes.tolist()
    assert (data.sizes + data.holdout_sizes).tolist() == [ROWS[name] for name in SILOS]
    sources = [SiteData("b", "site=b", _Client(data, 0)), SiteData("a", "site=a", _Client(data, 2))]
    with RaySites().opened(sources) as them:
        errors = them.ask([_outcome, _outcome])
    for name, site, error in (("alpha", "b", errors[0]), ("gamma", "a", errors[1])):
        assert f"silo '{name}', on " in error
        assert f"{place.folder(site)}/{name}.csv does not exist" in error


@dataclass(frozen=True)
class _Client:
    data: ClientData
    client: int

    def __call__(self) -> _Client:
        return self


def _outcome(opened: _Client) -> str:
    try:
        opened.data.rows(np.array([opened.client]))
    except ConfigError as error:
        return str(error)
    return "read"


def wrong(silo: str, **changes: Any) -> dict[str, Any]:
    return {**SILOS, silo: {**SILOS[silo], **changes}}


@pytest.mark.parametrize(
    ("silos", "words"),
    [
        (
            wrong("alpha", node_label="site=z"),
            [
                "silo 'alpha': no node",
                "label site=z",
                "(site=a, node:",
                "(site=b, hospital_b, node:",
                "--labels site=z",
            ],
        ),
        (
            {**SILOS, "beta": {"node_resource": "hospital_z", "path": "b.csv"}},
            ["silo 'beta': no node", "the resource hospital_z", "--resources '{\"hospital_z\": 1}'"],
        ),
        (wrong("beta", path="$SITE_DATA/alpha.csv"), ["silo 'beta', on ", "/b/alpha.csv does not exist"]),
        (
            wrong("beta", path="$SITE_DATA/bad.csv"),
            ["silo 'beta', on ", "/b/bad.csv, line 3, column 'w': 'low' is not a number"],
        ),
    ],
)
def test_a_mistake_is_one_clear_error(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    silos: dict[str, Any],
    words: list[str],
) -> None:
    bad = table("beta").splitlines()
    bad[2] = "1,2,low,x,no"
    (place.folder("b") / "bad.csv").write_text("\n".join(bad) + "\n")
    (tmp_path / "silos.yaml").write_text(to_yaml(config(place, silos)))
    arguments = ["fedray", "run", str(tmp_path / "silos.yaml"), f"run.dir={tmp_path / 'out'}"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    error = capfd.readouterr().err
    assert 1 <= len(error.strip().splitlines()) <= 3, error
    assert "Traceback" not in error
    for word in words:
        assert word in error
    assert not (tmp_path / "out").exists()
    eventually(lambda: not place.nodes.processes("ray::_SiteActor"), "nobody is left at the silos")


def test_a_size_that_no_node_has_is_refused(place: Place, tmp_path: Path) -> None:
    content = config(place, wrong("gamma", cpus=64, gpus=1))
    with pytest.raises(ConfigError, match=r"'gamma': .* wants 64 CPUs and 1 GPUs; .*site=b is, .*4 CPUs and 0 GPUs"):
        run(content, tmp_path / "out")
