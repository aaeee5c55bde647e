"""Checkpoints of format 1: runs go on from them with the same bits, or are refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import fedray
from fedray.core.errors import ConfigError
from fedray.core.hardware import machine
from fedray.core.layout import Layout
from fedray.core.regions import Regions
from fedray.run.earlier import upgraded
from fedray.rundir import checkpoint
from tests.helpers import unpack
from tests.rundir.regions_before import ALGORITHMS, data, model

BEFORE = Path(__file__).resolve().parents[1] / "rundir" / "regions_before.tar.gz"
"""Two rounds of each run by the fedray of 86cdb20, with its models after four, see ``regions_before.py``."""


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_run_goes_on_with_the_same_bits(name: str, tmp_path: Path) -> None:
    unpack(BEFORE, tmp_path)
    options = {"buffers": "local"} if name == "own-buffers" else {}
    args = fedray.TrainArgs(
        rounds=4,
        epochs=2,
        batch_size=4,
        optimizer={"name": "sgd", "lr": 0.1},
        checkpoint_every=2,
        keep=1,
        seed=3,
        **options,  # type: ignore[arg-type]
    )
    fedray.train(
        model(name),
        data(),
        args,
        algorithm=ALGORITHMS[name],
        cluster="inline",
        run_dir=tmp_path / name,
        resume=True,
        progress=False,
    )
    found, expected = load_file(tmp_path / name / "model.safetensors"), load_file(tmp_path / f"{name}.safetensors")
    there = json.loads((tmp_path / name / "summary.json").read_text())["machine"] == machine()
    intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else False
    assert found.keys() == expected.keys()
    for tensor_name, tensor in expected.items():
        assert torch.allclose(found[tensor_name].float(), tensor.float(), atol=1e-5), tensor_name
        if there and intel:
            assert torch.equal(found[tensor_name], tensor), tensor_name
    saved = checkpoint.newest(tmp_path / name / "checkpoints")
    assert saved is not None
    assert saved.state["format"] == checkpoint.FORMAT


def test_what_cannot_go_on_is_refused_with_the_version_that_can(tmp_path: Path) -> None:
    unpack(BEFORE, tmp_path)
    saved = checkpoint.newest(tmp_path / "frozen" / "checkpoints")
    assert saved is not None
    layout = Layout.of(nn.Linear(2, 1))
    with pytest.raises(ConfigError, match=r"^the checkpoint is of format 1, .*finish this one with fedray 0\.1"):
        upgraded(saved, layout, "moon")
    own = {**saved.state, "keeps": {"clients": ["buffers[9]"]}}
    with pytest.raises(ConfigError, match=r"without frozen parameters beside local\.buffers=local"):
        upgraded(replace(saved, state=own), layout, "fedavg")
    present = replace(saved, state={**saved.state, "format": checkpoint.FORMAT})
    assert upgraded(present, layout, "moon") is present


def test_what_is_frozen_leaves_the_vector(tmp_path: Path) -> None:
    unpack(BEFORE, tmp_path)
    saved = checkpoint.newest(tmp_path / "frozen" / "checkpoints")
    assert saved is not None
    module = model("frozen").model_fn()  # type: ignore[operator]
    regions = Regions()
    layout = Layout.of(regions.freeze(module), regions)
    vector = upgraded(saved, layout, "fedavg").tensors["model"]
    assert len(vector) == layout.size < len(saved.tensors["model"])
