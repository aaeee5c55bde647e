"""What is frozen in a model: written once, exported with it, and the same when a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import fedray
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.run.models import fingerprint, frozen_in, load_tensors
from fedray.rundir import checkpoint


class Headed(nn.Module):
    """A body in bfloat16, never trained, and a head."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 6).bfloat16(), nn.Linear(6, 2)
        self.body.weight.data.mul_(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.tanh(self.body(x.bfloat16()).float()))
        return out


def data() -> fedray.FederatedData:
    x = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
    return fedray.FederatedData.from_arrays(x, (x[:, 0] > 0).long(), clients=[i % 3 for i in range(24)])


def trained(run_dir: Path, rounds: int, scale: float = 1.0, resume: bool = False) -> fedray.Result:
    model = fedray.FederatedModel(lambda: Headed(scale), frozen=["body"])
    args = fedray.TrainArgs(rounds=rounds, optimizer={"name": "sgd", "lr": 0.5}, checkpoint_every=1)
    return fedray.train(model, data(), args, cluster="inline", run_dir=run_dir, progress=False, resume=resume)


def test_bytes_checkpoints_and_the_vector_of_a_head_on_a_frozen_body_are_the_heads(tmp_path: Path) -> None:
    result = trained(tmp_path / "run", 2)
    saved = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert saved is not None
    head = 6 * 2 + 2
    assert saved.tensors["model"].shape == (head,)
    record = result.history[-1]
    assert (record.bytes["up"], record.bytes["down"]) == (3 * 4 * head, 3 * 4 * head)
    exported = load_file(tmp_path / "run" / "model.safetensors")
    assert exported.keys() == Headed().state_dict().keys()
    assert exported["body.weight"].dtype == torch.bfloat16
    assert all(torch.equal(exported[name], tensor) for name, tensor in result.model.state_dict().items())
    assert not torch.equal(exported["head.weight"], torch.zeros(2, 6))


def test_a_run_goes_on_with_the_same_frozen_tensors_alone(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", 4)
    trained(tmp_path / "run", 2)
    again = trained(tmp_path / "run", 4, resume=True)
    assert [r.model_sha256 for r in again.history] == [r.model_sha256 for r in whole.history]
    with pytest.raises(ConfigError, match=r"^model: what is frozen in it is not what it was"):
        trained(tmp_path / "run", 6, scale=2.0, resume=True)


def test_a_fingerprint_is_of_names_types_shapes_and_values() -> None:
    ones = {"a": torch.ones(2)}
    others = [{"b": torch.ones(2)}, {"a": torch.ones(2, 1)}, {"a": torch.ones(2).int()}, {"a": torch.zeros(2)}]
    assert len({fingerprint(one) for one in [ones, *others]}) == 5
    assert fingerprint({}) is None


def test_frozen_tensors_that_are_gone_are_said(tmp_path: Path) -> None:
    trained(tmp_path / "run", 1)
    (tmp_path / "run" / "frozen.safetensors").unlink()
    from fedray.run.snapshot import layout_of

    saved = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert saved is not None
    with pytest.raises(ConfigError, match="the frozen tensors of the model cannot be read"):
        frozen_in(tmp_path / "run", layout_of(saved))


class Scaled(nn.Linear):
    """A layer that saves a scale beside its parameters, as quantized layers do, and cannot be given one."""

    def __init__(self, scale: float) -> None:
        super().__init__(2, 1)
        self.scale = torch.tensor(scale)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}scale"] = self.scale


def test_what_a_module_saves_beside_its_parameters_is_frozen_and_has_to_be_the_same() -> None:
    one, same, other = nn.Sequential(Scaled(2.0)), nn.Sequential(Scaled(2.0)), nn.Sequential(Scaled(3.0))
    layout = Layout.of(one)
    assert layout.frozen == ("0.scale",)
    vector = layout.pack(one.state_dict())
    saved = layout.state_dict(vector, layout.frozen_of(one))
    load_tensors(same, saved)
    assert torch.equal(same.state_dict()["0.weight"], one.state_dict()["0.weight"])
    with pytest.raises(ConfigError, match=r"0\.scale cannot be put into the model"):
        load_tensors(other, saved)
    with pytest.raises(RuntimeError, match="bias"):
        load_tensors(same, {name: tensor for name, tensor in saved.items() if name != "0.bias"})
