"""Images in channels-last order: the same training up to rounding, and left out where a model does not run so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fedray
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.local.memory_format import decide_format
from fedray.local.private import ExamplePrivacy
from fedray.local.task import LocalTask, MemoryFormat
from fedray.models.resnet import ResNet18GN
from tests.helpers import class_problem, local_task, relative, train

SIZES = (7, 3, 12)


def cnn(channels: int = 3, *last: nn.Module) -> nn.Module:
    """Two convolutions, a pool and a layer on ``[channels, 10, 10]``."""
    layers = nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3)
    return nn.Sequential(*layers, *(last or (nn.Flatten(),)), nn.Linear(4 * 9, 3))


class Viewing(nn.Module):
    """What raises where an image does not lie in memory row by row."""

    def forward(self, x: Tensor) -> Tensor:
        """Flatten a batch."""
        return x.view(len(x), -1)


class Raw(nn.Module):
    """What reads memory as it lies, and is silent about it."""

    def forward(self, x: Tensor) -> Tensor:
        """Flatten a batch."""
        return x.as_strided((len(x), x[0].numel()), (x[0].numel(), 1))


def decided(
    model_fn: Callable[[], nn.Module], wanted: str = "auto", stack: Any = "off", channels: int = 3, **fields: Any
) -> LocalTask:
    """A task whose memory format is decided for CPUs."""
    args = LocalSection(1, 8, memory_format=wanted)  # type: ignore[arg-type]
    problem = class_problem(SIZES, (channels, 10, 10), 3, model_fn)
    task = replace(local_task(problem, args=args, stack=stack), **fields)
    return replace(task, format=decide_format(task, "cpu"))


@pytest.mark.parametrize("channels", [1, 3])
def test_clients_train_as_with_contiguous_images_up_to_rounding(channels: int) -> None:
    """Dropout draws the same masks, whose places are those of the image and not of memory."""
    task = decided(lambda: cnn(channels), channels=channels)
    assert task.format.channels_last
    assert "channels_last: convolutions read and write" in task.format.reason
    assert f"memory format: {task.format.reason}" in task.notes
    moved = train(task, range(3)).parts["delta"]
    plain = train(replace(task, format=MemoryFormat()), range(3)).parts["delta"]
    assert relative(moved, plain) < 1e-5
    assert float(plain.abs().max()) > 1e-3
    again = train(task, range(3)).parts["delta"]
    assert torch.equal(again, moved)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(3), nn.BatchNorm2d(4)])
@pytest.mark.parametrize("gradients", [False, True])
def test_images_and_their_gradients_are_in_channels_last_order(layer: nn.Module, gradients: bool) -> None:
    """Gradients, too, which a reshape hands back in the other order; an error tells, as what hooks note is put back."""
    judging = False

    def check(image: Tensor) -> None:
        if judging and not image.is_contiguous(memory_format=torch.channels_last):
            raise ValueError("the usual order")

    def look(part: nn.Module, args: Any, out: Tensor) -> None:
        if not gradients:
            check(out)
        elif out.requires_grad:
            out.register_hook(check)

    def build() -> nn.Module:
        layers = nn.Conv2d(3, 4, 3), copy.deepcopy(layer)
        for part in layers:
            part.register_forward_hook(look)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(layer(torch.zeros(2, 4, 8, 8))[0].numel(), 3))

    task = decided(build)
    assert task.format.channels_last
    judging = True
    assert train(task, range(3)).parts["delta"].isfinite().all()
    with pytest.raises(ValueError, match="the usual order"):
        train(replace(task, format=MemoryFormat()), range(3))


@pytest.mark.parametrize(
    ("last", "words"),
    [(Viewing, "does not run with channels-last inputs"), (Raw, "gives something else with channels-last inputs")],
)
def test_a_model_that_looks_at_memory_stays_contiguous(last: type[nn.Module], words: str) -> None:
    task = decided(lambda: cnn(3, last()))
    assert not task.format.channels_last
    assert task.format.reason.startswith("contiguous: ")
    assert words in task.format.reason
    assert train(task, range(3)).parts["delta"].isfinite().all()
    with pytest.raises(ConfigError, match=f"local.memory_format=channels_last: .*{words}"):
        decided(lambda: cnn(3, last()), "channels_last")


def test_what_would_gain_nothing_stays_contiguous_unless_asked() -> None:
    heavy = lambda: ResNet18GN(width=32).build(DataSpec(shape=(3, 10, 10), outputs=3))  # noqa: E731
    task = decided(heavy)
    assert not task.format.channels_last
    assert "for each of their weights" in task.format.reason
    assert decided(heavy, "channels_last").format == MemoryFormat(True, "channels_last, as the config says")


def test_other_models_and_other_ways_to_step() -> None:
    flat = lambda: nn.Sequential(nn.Flatten(), nn.Linear(300, 3))  # noqa: E731
    assert decided(flat).format == MemoryFormat()
    with pytest.raises(ConfigError, match="no input is an image"):
        decided(flat, "channels_last")
    small = lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(128, 3))  # noqa: E731
    stacked = decided(small, stack=3)
    assert stacked.stacking.stacked
    assert stacked.format == MemoryFormat()
    with pytest.raises(ConfigError, match=r"clients step together.*local\.stack: off"):
        decided(small, "channels_last", stack=3)
    assert "vmap" in decided(small, private=ExamplePrivacy()).format.reason
    assert decided(small, "contiguous").format == MemoryFormat()
    task = decided(small)
    assert task.format.channels_last
    assert "on a GPU" in decide_format(task, "cuda").reason


def test_same_bits_with_any_workers_and_after_a_resume(tmp_path: Any) -> None:
    """What is saved is as it was: contiguous."""
    problem = class_problem((16,) * 6, (3, 10, 10), 3, cnn)

    def run(name: str, rounds: int = 3, resume: bool = False, cluster: Any = "inline") -> fedray.Result:
        return fedray.train(
            fedray.FederatedModel(cnn, fedray.optim.SGD(lr=0.1), nn.functional.cross_entropy),
            problem.data,
            fedray.TrainArgs(rounds=rounds, batch_size=8, stack="off", checkpoint_every=1, tracking=[]),
            cluster=cluster,
            run_dir=tmp_path / name,
            resume=resume,
            progress=False,
        )

    whole = run("whole")
    assert "memory format: channels_last" in (tmp_path / "whole" / "log.txt").read_text()
    run("stopped", rounds=2)
    again = run("stopped", resume=True)
    hashes = [record.model_sha256 for record in whole.history]
    assert [record.model_sha256 for record in again.history][-1] == hashes[-1]
    assert all(tensor.is_contiguous() for tensor in whole.model.state_dict().values())
    assert len(set(hashes)) == 3
