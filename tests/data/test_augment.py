"""Augmentation of batches: its arithmetic, its draws, what is learnt, and where evaluations have it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import Dataset

import fedray
from fedray.config.registry import bind_part
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.data.augment import Augmentation, Crop, Flip, Normalize, augmentations
from fedray.data.augment_chain import Augment, fit
from fedray.data.spec import DataSpec
from fedray.experiment.build import Config
from fedray.experiment.evaluate import evaluate_run
from fedray.experiment.export import export_model
from fedray.local.clients import Clients
from fedray.local.program import ClientProgram
from fedray.local.step import Step
from fedray.rundir.folder import RunFolder
from tests.helpers import class_problem, local_task, relative, train

PICTURES = Augment((Flip(), Crop(padding=1), Normalize([0.1, 0.2], [0.5, 2.0])))


@given(st.integers(1, 3), st.integers(2, 5), st.integers(2, 5), st.integers(1, 3), st.integers(0, 1000))
def test_a_crop_is_a_piece_of_the_padded_picture(channels: int, height: int, width: int, pad: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x, u = draw.standard_normal((4, channels, height, width)).astype("f4"), draw.random((4, 2)).astype("f4")
    found = Crop(padding=pad, fill=7.0)(torch.from_numpy(x), torch.from_numpy(u)).numpy()
    for picture, (a, b), cut in zip(x, u, found, strict=True):
        top, left = int(a * (2 * pad + 1)), int(b * (2 * pad + 1))
        padded = np.pad(picture, [(0, 0), (pad, pad), (pad, pad)], constant_values=7.0)
        assert np.array_equal(cut, padded[:, top : top + height, left : left + width])
    one = Crop(padding=pad, fill=7.0)(torch.from_numpy(x[:, 0]), torch.from_numpy(u)).numpy()
    assert np.array_equal(one, found[:, 0])


def test_half_of_the_pictures_are_mirrored() -> None:
    x, keys = torch.arange(4.0).view(1, 1, 1, 1, 4).expand(50, 40, 1, 1, 4), torch.arange(50)
    found = Augment((Flip(),)).training(x, keys, seed=3, round=2, step=1)
    mirrored = found[..., 0] == 3.0
    assert torch.equal(found[mirrored.flatten(1)], x.flip(-1)[mirrored.flatten(1)])
    assert 0.45 < mirrored.float().mean() < 0.55
    assert Flip(p=0.0)(x[0], torch.zeros(40, 1)).equal(x[0])


def test_a_draw_is_named_by_seed_round_client_and_step_whoever_stands_beside() -> None:
    x, keys = torch.randn(3, 4, 2, 6, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([5, 9, 2**40])
    whole = PICTURES.training(x, keys, 3, 2, 1)
    assert torch.equal(PICTURES.training(x[1:2], keys[1:2], 3, 2, 1)[0], whole[1])
    assert torch.equal(PICTURES.training(x[:, :2], keys, 3, 2, 1), whole[:, :2])
    for seed, round, step in ((4, 2, 1), (3, 3, 1), (3, 2, 2)):
        assert not torch.equal(PICTURES.training(x, keys, seed, round, step), whole)
    same = PICTURES.training(x[:1].expand(3, 4, 2, 6, 6), keys, 3, 2, 1)
    assert not torch.equal(same[0], same[1])


@pytest.mark.parametrize("shape", [(2, 5, 5), (5, 4), (6,)])
def test_what_is_learnt_is_the_mean_and_deviation_of_all_training_examples(shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(1)
    x = (
        1000.0 + draw.standard_normal((40, *shape)) * draw.uniform(1, 3, (1, shape[0], *[1] * (len(shape) - 1)))
    ).astype("f4")
    data = FederatedData.from_arrays(x, np.arange(40) % 2, np.arange(40) % 3).with_holdout(0.3, 1)
    rows = np.concatenate([data.rows(np.array([c])).take(np.arange(data.sizes[c])[None])[0][0] for c in range(3)])
    axes = {3: (0, 2, 3), 2: (0, 1, 2), 1: (0,)}[len(shape)]
    (part,) = fit(data.with_augment(["normalize"])).parts
    assert isinstance(part, Normalize)
    assert part.mean == pytest.approx(np.atleast_1d(rows.astype("f8").mean(axis=axes)), rel=1e-12)
    assert part.std == pytest.approx(np.atleast_1d(rows.astype("f8").std(axis=axes)), rel=1e-9)
    again = fit(data.with_augment(["normalize"]), [{"name": "normalize", "mean": [1.0], "std": [2.0]}])
    assert again.parts == (Normalize([1.0], [2.0]),)
    given = fit(data.with_augment([Normalize([3.0], [4.0])]), [{"name": "normalize", "mean": [1.0], "std": [2.0]}])
    assert given.parts == (Normalize([3.0], [4.0]),)


def test_a_channel_that_never_changes_is_centred() -> None:
    x = np.stack([np.arange(6.0), np.full(6, 5.0)], axis=1).astype("f4")
    chain = fit(FederatedData.from_arrays(x, np.arange(6) % 2, np.arange(6) % 2).with_augment([Normalize()]))
    assert chain.fixed(torch.from_numpy(x))[:, 1].tolist() == [0.0] * 6


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ("flip", r"data\.augment: a list is needed"),
        (["flop"], r"data\.augment\[0\]\.name: unknown augmentation 'flop' \(did you mean 'flip'\?\)"),
        ([{"name": "crop", "padding": 0}], r"data\.augment\[0\]: padding=0: it must be at least 1 pixel"),
        (["normalize", {"name": "normalize", "mean": [0.0]}], r"data\.augment\[1\]: mean and std belong together"),
        (
            [{"name": "normalize", "mean": [0.0], "std": [0.0]}],
            r"data\.augment\[0\]: std=\[0\.0\]: each must be above 0",
        ),
        (["flip"], r"data\.augment\[0\]: it needs pictures"),
        ([Normalize([1.0] * 4, [1.0] * 4)], r"data\.augment\[0\]: mean: inputs \(6,\) need 6 numbers, or one for all"),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(augment: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        fit(class_problem().data.with_augment(augment))


def test_tokens_have_no_values_to_change() -> None:
    data = class_problem(vocabulary=9).data.with_augment(["normalize"])
    with pytest.raises(ConfigError, match=r"^data\.augment\[0\]: inputs are tokens"):
        fit(data)


@dataclass(frozen=True)
class Louder(Augmentation):
    """One's own, with a draw for each example."""

    most: float = 2.0

    def draws(self, shape: tuple[int, ...]) -> int:
        return 1

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        return x * (1 + (self.most - 1) * u.view(-1, *[1] * (x.dim() - 1)))


def test_ones_own_is_named_by_its_path(tmp_path: Path) -> None:
    part = bind_part(augmentations, {"name": "tests.data.test_augment:Louder", "most": 3.0}, "data.augment[0]")
    (made,) = fit(class_problem().data.with_augment([part])).parts
    assert type(made).__name__ == "Louder"
    assert vars(made) == {"most": 3.0}


PROBLEM = class_problem((7, 4, 9), (2, 4, 4))


class Own(ClientProgram):
    """Two fits and a fresh batch, each with draws of its own."""

    def client(self, c: Clients) -> None:
        c.fit(gradient=lambda step, grad: grad.add_(step.gradient(batch=step.fresh_batch())))
        c.fit(epochs=1)
        c.send("loss", c.losses())


def test_stacked_is_alone_and_differs_from_none() -> None:
    args = LocalSection({"name": "uniform", "low": 1, "high": 3}, 3)
    tasks = [local_task(PROBLEM, stack=s, args=args, program=Own(), augment=PICTURES) for s in (3, "off")]
    stacked, alone = (train(task, [2, 0, 1]) for task in tasks)
    plain = train(replace(tasks[0], augment=Augment()), [2, 0, 1])
    for name, part in alone.parts.items():
        assert relative(stacked.parts[name], part) <= 1e-5
        assert relative(plain.parts[name], part) > 1e-2


def test_batches_are_changed_and_evaluations_normalised_alone() -> None:
    chain, seen = Augment((Flip(p=1.0), Normalize([1.0], [2.0]))), list[Tensor]()

    class Look(ClientProgram):
        def client(self, c: Clients) -> None:
            def look(step: Step, grad: Tensor) -> None:
                seen.extend([step.batch.x[0, 0], step.fresh_batch().x[0, 0]])

            c.fit(steps=1, gradient=look)
            seen.append(next(iter(c.scan())).batch.x[0, 0])

    data = FederatedData.from_arrays(np.arange(4.0).reshape(1, 1, 2, 2), [0], [0], spec=DataSpec((1, 2, 2), 2))
    problem = class_problem((1,), (1, 2, 2), 2)
    train(local_task(replace(problem, data=data), stack="off", program=Look(), augment=chain), [0])
    mirrored, plain = [[[0.0, -0.5], [1.0, 0.5]]], [[[-0.5, 0.0], [0.5, 1.0]]]
    assert [one.tolist() for one in seen[-3:]] == [mirrored, mirrored, plain]


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.one_in(2)
def test_a_run_learns_tells_resumes_evaluates_and_exports(after: int, tmp_path: Path) -> None:
    """Its figures are those of a run on inputs that were normalised by hand, up to rounding."""
    draw = np.random.default_rng(1)
    x, y = (7 + 3 * draw.standard_normal((90, 4))).astype("f4"), np.arange(90) % 3
    x[:, 0] += 4.0 * y
    clients = np.arange(60) % 5
    mean, std = x[:60].astype("f8").mean(axis=0), x[:60].astype("f8").std(axis=0)
    hand = ((x - mean) / std).astype("f4")

    def run(x: Any, folder: Path, rounds: int, augment: list[Any], resume: bool = False) -> fedray.Result:
        data = FederatedData.from_arrays(x[:60], y[:60], clients, test=(x[60:], y[60:])).with_augment(augment)
        args = fedray.TrainArgs(rounds=rounds, epochs=2, evaluate_every=1, optimizer={"name": "sgd", "lr": 0.3})
        model = fedray.FederatedModel("logistic")
        return fedray.train(model, data, args, cluster="inline", run_dir=folder, progress=False, resume=resume)

    expected = run(hand, tmp_path / "hand", 3, []).history[-1]
    whole = run(x, tmp_path / "whole", 3, ["normalize"]).history[-1]
    assert whole.test is not None
    assert expected.test is not None
    assert whole.test["loss"] == pytest.approx(expected.test["loss"], rel=1e-4)
    run(x, tmp_path / "parts", after, ["normalize"])
    told = json.loads((tmp_path / "parts" / "inputs.json").read_text())
    assert told[0]["mean"] == pytest.approx(mean)
    assert run(x, tmp_path / "parts", 3, ["normalize"], resume=True).history[-1].model_sha256 == whole.model_sha256
    out = tmp_path / "out" / "model.safetensors"
    out.parent.mkdir()
    assert export_model(RunFolder(tmp_path / "parts"), out) == [out, out.with_name("inputs.json")]
    assert json.loads(out.with_name("inputs.json").read_text()) == told
    assert not (tmp_path / "hand" / "inputs.json").exists()


def test_a_config_has_it_and_its_evaluation_too(tmp_path: Path) -> None:
    data = {
        "name": "digits",
        "partition": {"name": "iid", "clients": 4},
        "augment": [{"name": "crop", "padding": 1}, "normalize"],
    }
    model, args = fedray.FederatedModel("logistic"), fedray.TrainArgs(rounds=1, seed=1)
    result = fedray.train(model, data, args, cluster="inline", run_dir=tmp_path / "run", progress=False)
    config = Config.load(tmp_path / "run" / "config.yaml")
    assert config.augment == (Crop(padding=1), Normalize())
    assert result.history[0].test is not None
    assert evaluate_run(config, RunFolder(tmp_path / "run"), None).numbers["loss"] == result.history[0].test["loss"]


class Noisy(Dataset[Any]):
    """A random transform, drawn whenever it is asked."""

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((3,), float(index)) + self.noise * torch.rand(3), index % 2


def test_a_data_set_with_random_transforms_is_noticed() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    (said,) = FederatedData.from_dataset(Noisy(1.0), {"name": "iid", "clients": 2}).warnings
    assert "other values when it is asked again" in said
    assert not FederatedData.from_dataset(Noisy(0.0), {"name": "iid", "clients": 2}).warnings
    assert not torch.equal(torch.random.get_rng_state(), before)  # reading draws; asking again does not
