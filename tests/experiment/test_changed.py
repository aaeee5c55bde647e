"""The training data as they are now have the fingerprint that a run of them keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.config.layers import load_layers
from fedray.experiment.build import Config
from fedray.experiment.changed import fingerprint, of_files
from fedray.run.origin import changes

SMALL = """\
seed: 3
model: {name: mlp, hidden: [5]}
local: {batch_size: 5, optimizer: {name: sgd, lr: 0.1}}
rounds: 1
cluster: {name: inline}
"""
DATA = {
    "tables": "{name: csv, train: [a.csv, b.csv], ids: [a, b], target: ill, holdout: 0.25}",
    "one table": "{name: csv, train: [a.csv], target: ill, partition: {name: iid, clients: 3}}",
    "silos": "{name: silos, target: ill, silos: {a: {node_label: x=a, path: a.csv}, b: {node_label: x=b, path: b.csv}}"
    "}",
    "made": "{name: synthetic, clients: 4, examples: 12, features: 6, classes: 3}",
}


@pytest.mark.parametrize("kind", DATA)
def test_it_is_that_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path(f"{name}.csv").write_text("dose,ill\n" + "".join(f"{n},{'no' if n % 3 else 'yes'}\n" for n in range(12)))
    Path("small.yaml").write_text(f"{SMALL}data: {DATA[kind]}\n")
    config = Config.bind("small", *load_layers(Path("small.yaml")))
    now = fingerprint(config)
    assert now == config.plan().task.data.fingerprint()
    if kind == "made":
        return
    Path("a.csv").write_text("dose,ill\n1,yes\n2,no\n3,no\n4,yes\n")
    assert changes(now, fingerprint(config)) == f"changed: {next(iter(now))}"


def test_a_file_that_is_gone_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("dose,ill\n1,yes\n")
    Path("small.yaml").write_text(f"{SMALL}data: {DATA['tables']}\n")
    source = Config.bind("small", *load_layers(Path("small.yaml"))).data
    assert [*of_files(source)] == ["a"]
