"""An export predicts as its run does, wherever it is, and needs no code of the model where it is a program."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import fedray
from fedray.core.errors import ConfigError
from fedray.predict.exported import export, kind_of
from fedray.rundir.folder import RunFolder
from tests.data.files.test_pictures import encoded
from tests.predict.conftest import Trained


@pytest.mark.parametrize(
    ("name", "scaling"),
    [
        ("m.safetensors", False),
        pytest.param("m.pt2", False, marks=pytest.mark.slow),
        pytest.param("m.pt2", True, marks=pytest.mark.slow),
        pytest.param("m.onnx", False, marks=pytest.mark.slow),
        pytest.param("m.onnx", True, marks=pytest.mark.slow),
    ],
)
def test_it_predicts_as_its_run(name: str, scaling: bool, hospitals: Trained, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    written = export(RunFolder(hospitals.folder), tmp_path / "there" / name, scaling=scaling)
    assert [path.name for path in written if "encoding" not in path.name] == [name, f"{name}.json"]
    elsewhere = Path(shutil.move(tmp_path / "there", tmp_path / "elsewhere"))
    wanted = fedray.load(hospitals.folder).predict(hospitals.test)
    found = fedray.load(elsewhere / name).predict(hospitals.test)
    assert np.allclose(found.outputs, wanted.outputs, rtol=1e-4, atol=1e-5)
    assert found.predicted.tolist() == wanted.predicted.tolist()
    assert found.classes == wanted.classes
    if name == "m.safetensors":
        assert np.array_equal(found.outputs, wanted.outputs)


def test_columns_of_parquet_are_read_as_in_training_with_nothing_but_the_export(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (12, 5, 5), dtype=np.uint8)
    rows: dict[str, Any] = {"scan": [encoded(one) for one in pixels], "y": np.arange(12) % 2, "site": ["a", "b"] * 6}
    pyarrow.parquet.write_table(pa.table(rows), tmp_path / "train.parquet")
    data: dict[str, Any] = {"name": "parquet", "path": str(tmp_path / "train.parquet"), "target": "y", "client": "site"}
    data["pictures"] = {"scan": {"mode": "RGB", "size": [4, 4]}}
    model, args = fedray.FederatedModel("logistic"), fedray.TrainArgs(rounds=1)
    place: dict[str, Any] = {"cluster": "inline", "run_dir": tmp_path / "run", "progress": False}
    run = fedray.train(model, data, args, **place).run_dir
    out = tmp_path / "away" / "m.safetensors"
    out.parent.mkdir()
    export(RunFolder(run), out)
    new = out.with_name("new.parquet")
    pyarrow.parquet.write_table(pa.table({"patient": list("pqr"), **{k: v[:3] for k, v in rows.items()}}), new)
    shutil.rmtree(run)
    found = fedray.load(out).predict(new)
    assert list(found.columns()) == ["patient", "y", "site", "predicted", "0", "1"]
    assert found.outputs.shape == (3, 2)


@pytest.mark.slow
def test_a_graph_tells_the_class_of_texts_of_any_length(tmp_path: Path) -> None:
    rows = [{"body": "oh no", "mood": "sad"}, {"body": "yes", "mood": "glad"}, {"body": "a text that is long"}]
    (tmp_path / "ann.jsonl").write_text("\n".join(json.dumps(row) for row in rows[:2]))
    data = fedray.FederatedData.from_text(
        tmp_path / "ann.jsonl", tokenizer="bytes", format="body", target="mood", max_length=24
    )
    model = fedray.FederatedModel({"name": "transformer", "dim": 8, "heads": 2, "layers": 1})
    place: dict[str, Any] = {"cluster": "inline", "run_dir": tmp_path / "run", "progress": False}
    run = fedray.train(model, data, fedray.TrainArgs(rounds=1), **place).run_dir
    wanted = fedray.load(run).predict(rows)
    for name in ("m.pt2", "m.onnx"):
        export(RunFolder(run), tmp_path / name)
        found = fedray.load(tmp_path / name).predict(rows)
        assert np.allclose(found.outputs, wanted.outputs, rtol=1e-4, atol=1e-5)
        assert found.predicted.tolist() == wanted.predicted.tolist()
    # Without fedray: what a tokenizer pads to the longest of its own batch.
    import onnxruntime

    graph = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    ids = np.array([[*b"yes", 256, 256]])
    inputs = {"input_ids": ids, "attention_mask": np.array([[1, 1, 1, 1, 0]])}
    assert np.allclose(graph.run(["output"], inputs)[0], wanted.outputs[1:2], rtol=1e-4, atol=1e-5)


def test_tensors_of_a_run_from_python_need_its_function(tmp_path: Path) -> None:
    x, y = np.eye(4, dtype="f4"), np.arange(4) % 2

    def net() -> nn.Module:
        return nn.Linear(4, 2)

    data = fedray.FederatedData.from_arrays(x, y, [0, 0, 1, 1])
    model, args, folder = fedray.FederatedModel(net), fedray.TrainArgs(rounds=1), tmp_path / "run"
    result = fedray.train(model, data, args, cluster="inline", run_dir=folder, progress=False)
    out = tmp_path / "model.safetensors"
    export(RunFolder(result.run_dir), out)
    with pytest.raises(ConfigError, match="give the function that makes it"):
        fedray.load(out)
    found = fedray.load(out, model=net).predict(x)
    with torch.no_grad():
        assert np.array_equal(found.outputs, result.model(torch.from_numpy(x)).numpy())
    with pytest.raises(ConfigError, match=r"model\.safetensors: these are no tensors of this model"):
        fedray.load(out, model=lambda: nn.Linear(4, 3))
    assert load_file(out).keys() == {"weight", "bias"}


@pytest.mark.parametrize(
    ("out", "to", "message"),
    [
        ("m.bin", None, r"m\.bin: the format is safetensors, so call the file m\.safetensors"),
        ("m.onnx", "safetensors", r"m\.onnx: with --to safetensors call the file m\.safetensors"),
        ("m.onnx", "tensorflow", r"--to tensorflow: there is no such format; there are safetensors"),
    ],
)
def test_other_formats_are_refused(out: str, to: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind_of(Path(out), to)


def test_what_an_export_cannot_do_is_said(hospitals: Trained, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--with-scaling: tensors have no first layer"):
        export(RunFolder(hospitals.folder), tmp_path / "m.safetensors", scaling=True)
    out = tmp_path / "m.safetensors"
    export(RunFolder(hospitals.folder), out)
    with pytest.raises(ConfigError, match="rounds and clients are those of a run folder"):
        fedray.load(out, client="hospital_a")
    beside = tmp_path / "m.safetensors.json"
    content = json.loads(beside.read_text())
    beside.write_text(json.dumps({**content, "format": 9}))
    with pytest.raises(ConfigError, match="not what this fedray writes beside an export"):
        fedray.load(out)
    beside.unlink()
    with pytest.raises(ConfigError, match=r"there is no m\.safetensors\.json beside it"):
        fedray.load(out)
