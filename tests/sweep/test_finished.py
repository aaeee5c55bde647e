"""Finished runs that are not run again: one line says of which code or data they are not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedray.config.layers import load_layers
from fedray.core.errors import ConfigError
from fedray.experiment.build import Config
from fedray.rundir.folder import RunFolder
from fedray.sweep.finished import check_same, differing, warn_of_changes

SMALL = """\
seed: 3
data: {name: csv, train: [a.csv, b.csv], ids: [a, b], target: ill, holdout: 0.25}
model: {name: "finished_net:net"}
local: {batch_size: 5, optimizer: {name: sgd, lr: 0.1}}
rounds: 1
cluster: {name: inline}
tracking: []
"""
ROWS = "".join(f"{n},{'no' if n % 3 else 'yes'}\n" for n in range(12))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[RunFolder, Config]]:
    """Two finished runs, of two seeds, and one that has not begun."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "finished_net", raising=False)
    Path("finished_net.py").write_text("from torch import nn\ndef net():\n    return nn.Linear(1, 2)\n")
    Path("small.yaml").write_text(SMALL)
    for name in "ab":
        Path(f"{name}.csv").write_text(f"dose,ill\n{ROWS}")
    found = []
    for seed in (1, 2, 3):
        config = Config.bind("small", *load_layers(Path("small.yaml"), [f"seed={seed}"]))
        found.append((RunFolder(Path(f"all/seed={seed}")), config))
    for folder, config in found[:2]:
        list(config.experiment(folder).records())
    return found


def test_all_runs_of_a_kind_are_told_in_one_line(
    runs: list[tuple[RunFolder, Config]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    warn_of_changes(runs)
    assert caplog.messages == []
    Path("b.csv").write_text(f"dose,ill\n{ROWS[:-6]}")
    warn_of_changes(runs)
    data = "the training data are not those that they were trained on (changed: b)"
    keep = "finished runs keep their figures, but"
    rest = "seed=1, seed=2; delete them, or take another --dir, for others"
    assert caplog.messages == [f"all: {keep} {data}: {rest}"]
    caplog.clear()
    net = Path("finished_net.py")
    net.write_text(net.read_text() + "# the same, in other words\n")
    warn_of_changes(runs)
    code = "your own code is not that of round 1 (changed: finished_net.py)"
    assert caplog.messages == [f"all: {keep} {code}; {data}: {rest}"]
    caplog.clear()
    warn_of_changes(runs, data=False)
    assert caplog.messages == [f"all: {keep} {code}: {rest}"]


def test_data_that_cannot_be_read_any_more_are_no_error(
    runs: list[tuple[RunFolder, Config]], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(config: Config) -> None:
        raise ConfigError("data.train: a.csv does not exist\ncorrect it")

    monkeypatch.setattr("fedray.sweep.finished.fingerprint", gone)
    warn_of_changes(runs)
    assert "but their training data cannot be read now: data.train: a.csv does not exist: seed=1," in caplog.text


def test_a_run_of_another_config_is_named_by_the_key_that_differs(runs: list[tuple[RunFolder, Config]]) -> None:
    folder, config = runs[0]
    check_same(folder, config, "the sweep")
    check_same(runs[2][0], config, "the sweep")  # nothing is there
    elsewhere = Config.bind("small", *load_layers(Path("small.yaml"), ["seed=1", "tracking=[csv]"]))
    assert list(differing(folder, elsewhere)) == []  # what is kept of it is no part of the result
    other = Config.bind("small", *load_layers(Path("small.yaml"), ["seed=1", "rounds=2"]))
    assert list(differing(folder, other)) == [("rounds", 1, 2)]
    with pytest.raises(ConfigError, match=r"^rounds: all/seed=1 holds a run with 1, the sweep wants 2;\n"):
        check_same(folder, other, "the sweep")
    with pytest.raises(ConfigError, match=r"all/seed=1/within: it lies within that of another run"):
        check_same(RunFolder(folder.path / "within"), config, "the sweep")
