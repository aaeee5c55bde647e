"""A run that goes on says what is not as it was, and one of an earlier fedray goes on with the same bits."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from omegaconf import OmegaConf
from safetensors.torch import load_file

import fedray
from fedray.core.errors import ConfigError
from fedray.core.hardware import machine
from tests.cli.command import Cli, hashes
from tests.data.files.test_pictures import encoded
from tests.helpers import unpack

EARLIER = Path(__file__).resolve().parents[1] / "rundir" / "earlier"
"""Two rounds of a run on tables by the fedray of 56f3766, which wrote neither an encoding nor a fingerprint."""

HASHES = [
    "a40855be08388afce847b77778382d171d1bcd0b691d78cf868fcfa76d135526",
    "9df5ccb370afdf1812c3111cc059283fa2e949ed18b858594e788b9f42e8b803",
    "2049687403dde95700de6b5eaceeb8baa9e90958a6b0e3c431671f6cc6d684cd",
    "82df56b79e83bb09e9e9694aaebc80edbe29d2322dfd68aca4f32123b59eec51",
]
"""That fedray's hashes of four rounds: in a copy of this folder, with ``git worktree add old 56f3766`` and
``PYTHONPATH=old``, by ``python -m fedray run run/config.yaml run.dir=anew rounds=4``, and the same by ``resume run`` to
3 and to 4 rounds.  On an Intel processor: torch's kernels differ by maker as well as by vector instructions."""

ALGORITHMS = EARLIER.with_name("earlier_algorithms.tar.gz")
"""Two rounds of each algorithm that the fedray of 86cdb20 had with a server rule, and its hash of round 4.

Of the same tables, by ``PYTHONPATH=old python -m fedray run c.yaml run.dir=NAME "algorithm={name: NAME}"`` and, of a
copy, ``resume NAME rounds=4``; without log and exported model."""


def computes_as_there() -> bool:
    """True on a machine that gives the bits that these were made with."""
    processor = Path("/proc/cpuinfo")
    there = json.loads((EARLIER / "run/summary.json").read_text())["machine"]
    return there == machine() and processor.exists() and "GenuineIntel" in processor.read_text()


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to work in."""
    shutil.copytree(EARLIER, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return Path("run")


def warnings(run_dir: Path) -> list[str]:
    """Warnings in the log of a run."""
    lines = (run_dir / "log.txt").read_text().splitlines()
    return [line.partition(" WARNING ")[2] for line in lines if " WARNING " in line]


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Call for the different warnings since the last call: one that no file takes is for the terminal."""

    def call() -> list[str]:
        found = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
        caplog.clear()
        return list(dict.fromkeys(found))

    return call


def test_a_run_of_an_earlier_fedray_goes_on_with_the_same_bits(cli: Cli, earlier: Path) -> None:
    assert cli("evaluate", earlier).out.split()[:4] == ["examples", "8", "loss", "0.750507"]
    assert cli("resume", earlier, "rounds=3", "-q").status == 0
    assert cli("resume", earlier, "rounds=4", "-q").status == 0
    log = (earlier / "log.txt").read_text()
    assert log.count("of an earlier fedray: the training data are taken as they are now; the encoding") == 1
    if computes_as_there():
        assert hashes(earlier) == HASHES
        assert warnings(earlier) == []
    assert json.loads((earlier / "encoding.json").read_text())["classes"] == ["no", "yes"]
    assert cli("run", earlier / "config.yaml", "run.dir=anew", "rounds=4", "-q").status == 0
    one, other = (load_file(Path(folder) / "model.safetensors") for folder in (earlier, "anew"))
    assert all(one[name].allclose(other[name], atol=1e-5) for name in one)


@pytest.mark.slow
def test_runs_of_each_algorithm_of_an_earlier_fedray_go_on_with_the_same_bits(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unpack(ALGORITHMS, tmp_path)
    rows = [line.split() for line in Path("expected.txt").read_text().splitlines()]
    assert len(rows) == 14
    for folder, rounds, expected in rows:
        assert cli("resume", folder, f"rounds={rounds}", "-q").status == 0, folder
        if computes_as_there():
            assert hashes(Path(folder))[-1] == expected, folder


def test_changed_training_files_are_named_and_do_not_change_what_the_model_reads(
    cli: Cli, earlier: Path, warned: Callable[[], list[str]]
) -> None:
    assert cli("run", earlier / "config.yaml", "run.dir=new", "-q").status == 0
    before = cli("evaluate", "new")
    assert warned() == []
    encoding = Path("new/encoding.json").read_bytes()
    north = Path("north.csv").read_text().splitlines()
    Path("north.csv").write_text("\n".join([north[0], *(f"9{line}" for line in north[1:])]) + "\n")
    assert cli("evaluate", "new").out == before.out
    (words,) = warned()
    assert words.startswith(
        "the training data are not those that the model was trained on (changed: north); the result"
    )
    assert cli("resume", "new", "rounds=4", "-q").status == 0
    (words,) = warned()
    assert words.startswith("the training data are not those of the checkpoint (changed: north): the rounds from here")
    assert warnings(Path("new")) == [words]
    assert Path("new/encoding.json").read_bytes() == encoding
    Path("north.csv").unlink()
    Path("south.csv").unlink()
    assert cli("evaluate", "new").status == 0
    assert warned() == []
    cli("evaluate", "new", "--data", "nowhere.csv").refused("nowhere.csv does not exist")


def test_other_training_data_of_any_kind_are_noticed(cli: Cli, small: Path, warned: Callable[[], list[str]]) -> None:
    """Rows that are made from the seed: no file, and still a fingerprint."""
    assert cli("run", small, "run.dir=out", "-q").status == 0
    assert cli("resume", "out", "rounds=4", "-q").status == 0
    assert warned() == []
    assert cli("evaluate", "out", "data.heterogeneity=0.7").status == 0
    (words,) = warned()
    assert words.endswith("not those that the model was trained on (changed: 0, 1, 2, 3, 4, 5, 6, 7)")
    assert cli("resume", "out", "rounds=5", "local.optimizer.lr=0.01", "data.heterogeneity=0.7", "-q").status == 0
    data, config = warned()
    assert "the training data are not those of the checkpoint (changed: 0, 1, 2" in data
    changes = "data.heterogeneity: 0.5 -> 0.7, local.optimizer.lr: 0.1 -> 0.01"
    assert config == f"the config is another one from round 5 on: {changes}"
    assert "lr: 0.1" in Path("out/config.yaml").read_text()
    assert "lr: 0.01" in Path("out/config-from-5.yaml").read_text()
    assert cli("resume", "out", "rounds=6", "-q").status == 0
    assert warned() == [], "the newest config is the one to go on with"


def test_an_option_that_is_new_is_no_change_of_the_config(
    cli: Cli, small: Path, warned: Callable[[], list[str]]
) -> None:
    """As if an earlier fedray had written the config, in which some options were not known."""
    clip = "transforms=[{name: clip, norm: 5}]"
    assert cli("run", small, "run.dir=out", "sampler={name: uniform, clients: 4}", clip, "-q").status == 0
    path = Path("out/config.yaml")
    config = OmegaConf.load(path)
    del config.evaluate.batch_size, config.checkpoint, config.local.optimizer.nesterov, config.worker.memory
    path.write_text(OmegaConf.to_yaml(config))
    assert warned() == []
    assert cli("resume", "out", "rounds=4", "-q").status == 0
    assert warned() == []
    path.write_text(OmegaConf.to_yaml(config))
    assert (
        cli("resume", "out", "rounds=5", "evaluate.batch_size=7", "transforms=[{name: clip, norm: 6}]", "-q").status
        == 0
    )
    (words,) = warned()
    assert "evaluate.batch_size: nothing -> 7" in words
    assert "transforms[0].norm: 5 -> 6" in words
    assert "checkpoint" not in words


def test_tables_from_python_go_on_with_the_encoding_of_the_run(earlier: Path) -> None:
    def data(**options: str) -> fedray.FederatedData:
        files = ["north.csv", "south.csv"]
        return fedray.FederatedData.from_csv(files, target="readmitted", categorical=["sex"], **options)  # type: ignore[arg-type]

    def train(data: fedray.FederatedData, rounds: int, resume: bool) -> None:
        from torch import nn

        args = fedray.TrainArgs(rounds=rounds)
        model = fedray.FederatedModel(lambda: nn.Linear(4, 2))
        fedray.train(model, data, args, cluster="inline", run_dir="python", resume=resume, progress=False)

    train(data(), 1, resume=False)
    north = Path("north.csv").read_text()
    Path("north.csv").write_text(north.replace("\n3", "\n93"))
    with pytest.raises(fedray.ConfigError, match="the tables are encoded otherwise"):
        train(data(), 2, resume=True)
    train(data(encoding="python/encoding.json"), 2, resume=True)


SCANS = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4 + 2 + 2, 2)

    def forward(self, scan, age, sex):
        return self.head(torch.cat([scan.flatten(1), age, sex], dim=1))
"""
SCANS_CONFIG = """\
data:
  name: parquet
  path: scans.parquet
  client: site
  target: ill
  encode: [age, sex]
  categorical: [sex]
  missing_values: indicator
  holdout: 0.25
  test: test.parquet
model: scans_net:Net
rounds: 2
cluster: {name: inline}
checkpoint: {every: 1}
"""


def scans(path: str, factor: float = 1.0, rows: int = 24) -> None:
    """Patients with a picture, an age that may be missing, and a sex."""
    pixels = np.random.default_rng(5).integers(0, 255, (rows, 1, 2, 2), dtype=np.uint8)
    age = [None if row % 7 == 3 else factor * (30 + row) for row in range(rows)]
    columns = {"scan": [encoded(one[0]) for one in pixels], "age": age, "sex": ["f", "m"] * (rows // 2)}
    more = {"site": ["a", "a", "b"] * (rows // 3), "ill": [0, 1, 1] * (rows // 3)}
    patient = {"patient": list(map(str, range(rows)))} if path == "new.parquet" else {}
    pyarrow.parquet.write_table(pa.table({**columns, **more, **patient}), path)


def test_columns_encoded_beside_pictures_keep_their_encoding(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scans_net.py").write_text(SCANS)
    Path("c.yaml").write_text(SCANS_CONFIG)
    scans("scans.parquet")
    scans("new.parquet")
    scans("test.parquet")
    assert cli("run", "c.yaml", "run.dir=out", "-q").status == 0
    encoding = Path("out/encoding.json").read_bytes()
    before, predicted = cli("evaluate", "out"), cli("predict", "out", "new.parquet")
    assert before.status == predicted.status == 0, predicted.err
    assert predicted.out.startswith('"site","ill","patient","predicted",')
    Path("away").mkdir()
    assert cli("export", "out", "away/m.safetensors").out.count("away/encoding.json") == 1
    assert json.loads(Path("away/encoding.json").read_bytes()) == json.loads(encoding)
    # Another unit in the training files: a model that is there reads ages as it did.
    scans("scans.parquet", factor=12.0)
    warned()
    assert cli("evaluate", "out").out == before.out
    assert any("not those that the model was trained on" in words for words in warned())
    assert cli("resume", "out", "rounds=3", "-q").status == 0
    assert Path("out/encoding.json").read_bytes() == encoding
    assert cli("resume", "out", "rounds=4", "data.encode=[age]", "data.categorical=null", "-q").status == 2
    shutil.rmtree("out")
    Path("scans.parquet").unlink()
    assert cli("predict", "away/m.safetensors", "new.parquet").out == predicted.out
    loaded = fedray.load("away/m.safetensors")
    rows = pyarrow.parquet.read_table("new.parquet")
    scan = np.random.default_rng(5).integers(0, 255, (24, 1, 2, 2), dtype=np.uint8)
    found = loaded.predict({"scan": scan, "age": rows["age"].to_pylist(), "sex": rows["sex"].to_pylist()})
    assert np.array_equal(found.outputs, loaded.predict("new.parquet").outputs)
    with pytest.raises(ConfigError, match="unknown category 'd'; known: f, m"):
        loaded.predict({"scan": scan[:1], "age": [40.0], "sex": ["d"]})
    with pytest.raises(ConfigError, match="rows: there is no column 'sex'; the model needs scan, age, sex"):
        loaded.predict({"scan": scan[:1], "age": [40.0]})
    with pytest.raises(ConfigError, match=r"so columns by their names are needed: a dict.*this is a ndarray"):
        loaded.predict(scan)
    Path("away/encoding.json").unlink()
    with pytest.raises(ConfigError, match=r"encoded as a table's, and there is no encoding\.json"):
        fedray.load("away/m.safetensors")
