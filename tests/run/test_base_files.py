"""The base of a run's model in files of its own: named in the run's folder, never written there, and never mistaken."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import fedray
from fedray.core.errors import ConfigError
from fedray.models.shared import read_from
from fedray.run import base_files
from fedray.run.base_files import BaseFiles, file_sha256
from tests.run.test_models import Headed, data


class Read:
    """Builds a body from a folder, with a bias that the folder does not have, and a head."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> nn.Module:
        module = Headed()
        module.body.weight.data = load_file(self.folder / "part.safetensors")["weight"]
        return read_from(module, self.folder)


def written(folder: Path, scale: float = 1.0) -> Path:
    """Write a base, with a second tensor of the same shape and a file that is none."""
    folder.mkdir(exist_ok=True)
    weight = scale * torch.linspace(-1.0, 1.0, 24).view(6, 4).bfloat16()
    save_file({"weight": weight, "another.weight": 2.0 * weight}, folder / "part.safetensors")
    (folder / "broken.safetensors").write_bytes(b"no tensors")
    return folder


def trained(run_dir: Path, base: Path, rounds: int = 2, resume: bool = False) -> fedray.Result:
    model = fedray.FederatedModel(Read(base), frozen=["body"])
    args = fedray.TrainArgs(rounds=rounds, optimizer={"name": "sgd", "lr": 0.5}, checkpoint_every=1, tracking=[])
    return fedray.train(model, data(), args, cluster="inline", run_dir=run_dir, progress=False, resume=resume)


def said(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "base.json").read_text())
    return found


def test_what_the_base_has_is_named_and_the_rest_is_written(tmp_path: Path) -> None:
    base, run = written(tmp_path / "base"), tmp_path / "run"
    result = trained(run, base)
    assert load_file(run / "frozen.safetensors").keys() == {"body.bias"}
    content = said(run)
    assert content["path"] == str(base)
    assert content["files"] == {
        "part.safetensors": hashlib.sha256((base / "part.safetensors").read_bytes()).hexdigest()
    }
    place = {"file": "part.safetensors", "key": "weight", "dtype": "torch.bfloat16", "shape": [6, 4]}
    assert content["places"] == {"body.weight": place}
    whole = load_file(run / "model.safetensors")
    assert whole.keys() == Headed().state_dict().keys()
    assert all(torch.equal(whole[name], tensor) for name, tensor in result.model.state_dict().items())


def test_a_resume_has_the_same_bits_and_does_not_read_the_base_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = written(tmp_path / "base")
    whole = trained(tmp_path / "whole", base, 3)
    trained(tmp_path / "run", base, 2)

    def never(*args: object) -> str:
        raise AssertionError("the base is read again")

    monkeypatch.setattr(base_files, "_same_bytes", never)
    monkeypatch.setattr(hashlib, "file_digest", never)
    saved = BaseFiles.read(tmp_path / "run")
    assert saved is not None
    assert saved.changed() is None
    monkeypatch.undo()
    again = trained(tmp_path / "run", base, 3, resume=True)
    assert [r.model_sha256 for r in again.history] == [r.model_sha256 for r in whole.history]


def test_another_base_in_the_same_place_is_refused(tmp_path: Path) -> None:
    base, run = written(tmp_path / "base"), tmp_path / "run"
    trained(run, base)
    written(base, scale=3.0)
    with pytest.raises(ConfigError, match=r"^model: what is frozen in it is not what it was"):
        trained(run, base, 3, resume=True)
    found = BaseFiles.read(run)
    assert found is not None
    with pytest.raises(ConfigError, match=r"part\.safetensors: the base of the run's model is not what it was"):
        found.load(["body.weight"])
    (base / "part.safetensors").unlink()
    with pytest.raises(
        ConfigError, match=r"part\.safetensors: the base of the run's model cannot be read .*: put it back"
    ):
        found.load(["body.weight"])


def test_a_fingerprint_is_known_of_the_same_files_and_kinds_alone(tmp_path: Path) -> None:
    base = written(tmp_path / "base")
    tensors = {"body.weight": load_file(base / "part.safetensors")["weight"]}
    found = BaseFiles(**{**vars(BaseFiles.of(base, tensors)), "fingerprint": "known"})
    found.write(tmp_path)
    read = BaseFiles.read(tmp_path)
    assert read == found
    assert read.fingerprint_of(base, tensors, None) == "known"
    assert read.fingerprint_of(base, tensors, "another rest") is None
    assert read.fingerprint_of(tmp_path / "elsewhere", tensors, None) is None
    assert read.fingerprint_of(base, {"body.weight": tensors["body.weight"].float()}, None) is None
    assert read.fingerprint_of(base, {}, None) is None
    other = BaseFiles(**{**vars(found), "packages": {"torch": "0.1"}})
    assert other.fingerprint_of(base, tensors, None) is None
    written(base, scale=3.0)
    assert read.fingerprint_of(base, tensors, None) is None


def test_the_hash_of_a_file_is_that_of_its_bytes_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    for content in (b"one", b"two", b"another"):
        file.write_bytes(content)
        for _ in range(2):
            assert file_sha256(file) == hashlib.sha256(content).hexdigest()
    monkeypatch.setenv("FEDRAY_CACHE", "/dev/null/nowhere")
    assert file_sha256(file) == hashlib.sha256(b"another").hexdigest()


def test_a_note_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "base.json").write_text("{")
    with pytest.raises(ConfigError, match=r"base\.json: the base of the model cannot be read"):
        BaseFiles.read(tmp_path)


def test_two_tensors_of_the_same_bytes_are_read_to_two_places(tmp_path: Path) -> None:
    save_file({"bias": torch.zeros(3)}, tmp_path / "part.safetensors")
    found = BaseFiles.of(tmp_path, {"one.bias": torch.zeros(3), "other.bias": torch.zeros(3)}).load(
        ["one.bias", "other.bias"]
    )
    save_file(found, tmp_path / "again.safetensors")  # which takes no memory twice
    assert load_file(tmp_path / "again.safetensors").keys() == {"one.bias", "other.bias"}
