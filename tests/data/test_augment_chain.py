"""Changes of several columns: of each what a chain on it alone does, and of all together."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedray
from fedray.core.errors import ConfigError
from fedray.data.augment import ColumnsAugmentation, Crop, Flip, Normalize
from fedray.data.augment_chain import Augment, OfColumn, chosen, fit, sections
from fedray.data.columns.inputs import InputColumns

DRAW = np.random.default_rng(0)
N = 48
X = {
    "image": DRAW.random((N, 1, 4, 4)).astype("f4"),
    "age": (50 + 10 * DRAW.standard_normal((N, 2))).astype("f4"),
    "ids": DRAW.integers(0, 9, (N, 3)),
}
Y, CLIENTS = (X["age"][:, 0] > 50).astype(int), np.arange(N) % 3
SECTION: dict[str, list[Any]] = {"image": ["flip", {"name": "crop", "padding": 1}], "age": ["normalize"]}


def data(augment: Any = (), x: Any = X) -> fedray.FederatedData:
    return fedray.FederatedData.from_arrays(x, Y, CLIENTS, test=(x, Y)).with_augment(augment)


def columns() -> InputColumns:
    """Batches of two clients."""
    return InputColumns({name: torch.from_numpy(one[:12]).unflatten(0, (2, 6)) for name, one in X.items()})


def test_a_column_is_changed_as_it_is_alone_and_the_others_stay() -> None:
    keys, x = torch.tensor([5, 2**40]), columns()
    for always in ([], ["normalize"]):
        chain = fit(data({**SECTION, "age": always}))
        found = chain.training(x, keys, seed=3, round=2, step=1)
        assert torch.equal(found["image"], fit(data(SECTION["image"], X["image"])).training(x["image"], keys, 3, 2, 1))
        assert torch.equal(found["ids"], x["ids"])
        assert not torch.equal(found["image"], x["image"])
        alone = Augment() if not always else fit(data(always, X["age"]))
        assert torch.equal(found["age"], alone.seen(x["age"]))
        assert torch.equal(chain.seen(x)["image"], x["image"])
        assert torch.equal(chain.seen(x)["age"], found["age"])
    one = chain.training(InputColumns({name: own[1:] for name, own in x.columns.items()}), keys[1:], 3, 2, 1)
    assert torch.equal(one["image"][0], found["image"][1]), "whoever stands beside"


def test_a_config_has_the_same_parts_back() -> None:
    parts = chosen({**SECTION, 0: []})
    assert parts == (OfColumn("image", Flip()), OfColumn("image", Crop(padding=1)), OfColumn("age", Normalize()))
    assert chosen(sections(parts)) == parts
    assert Augment(parts).words == "image: flip, image: crop, age: normalize"
    assert sections(chosen(["flip"])) == [{"name": "flip", "p": 0.5}]


@dataclass(frozen=True)
class Both(ColumnsAugmentation):
    """Mirrors a picture and turns an age with it; or forgets a column."""

    forgets: str = ""

    def draws(self, shape: Any) -> int:
        return len(shape["image"])

    def __call__(self, x: Any, u: Tensor) -> Any:
        changed = {**x, "image": Flip()(x["image"], u), "age": Flip()(x["age"], u)}
        return {name: one for name, one in changed.items() if name != self.forgets}


def test_ones_own_changes_columns_together() -> None:
    x, keys = columns(), torch.tensor([1, 2])
    found = fit(data([Both()])).training(x, keys, 3, 2, 1)
    mirrored = (found["image"] != x["image"]).flatten(2).any(dim=2)
    assert 0 < mirrored.sum() < mirrored.numel()
    assert torch.equal(found["age"], torch.where(mirrored[..., None], x["age"].flip(-1), x["age"]))
    with pytest.raises(ConfigError, match=r"Both must return the columns image, age, ids, got image, age$"):
        Augment((Both("ids"),)).training(x, keys, 3, 2, 1)


@pytest.mark.parametrize(
    ("augment", "x", "message"),
    [
        (["flip"], X, r"augment\[0\]: inputs are several columns; say which it changes, as in \{image: \[flip\]\}"),
        (
            {"imag": ["flip"]},
            X,
            r"imag\[0\]: there is no column 'imag' \(did you mean 'image'\?\); they are image",
        ),
        ({"image": ["flip"]}, X["image"], "inputs are one tensor; give a list without names"),
        ({"ids": ["normalize"]}, X, r"augment\.ids\[0\]: the column holds tokens"),
        ({"image": "flip"}, X, r"augment\.image: a list is needed"),
        ({"image": ["flip", "crap"]}, X, r"augment\.image\[1\]\.name: .*crap"),
        ({"age": ["normalize", "flip"]}, X, r"augment\.age\[1\]: it needs pictures"),
        ({"image": [Both()]}, X, "it changes several columns of inputs together"),
        ([Both()], X["image"], "it changes several columns of inputs together"),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(augment: Any, x: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(data(augment, x))


class Sum(nn.Module):
    """A model of three columns."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.age, self.ids = nn.Linear(16, 2), nn.Linear(2, 2), nn.Embedding(9, 2)

    def forward(self, image: Tensor, age: Tensor, ids: Tensor) -> Tensor:
        found: Tensor = self.image(image.flatten(1)) + self.age(age) + self.ids(ids).sum(dim=1)
        return found


def test_a_run_learns_tells_and_predicts(tmp_path: Path) -> None:
    """Its figures are those of a run on a column that was normalised by hand, up to rounding."""
    mean, std = X["age"].astype("f8").mean(axis=0), X["age"].astype("f8").std(axis=0)
    hand = {**X, "age": ((X["age"] - mean) / std).astype("f4")}

    def run(x: Any, folder: str, augment: Any, rounds: int = 2, **options: Any) -> fedray.Result:
        args = fedray.TrainArgs(rounds=rounds, evaluate_every=1, optimizer={"name": "sgd", "lr": 0.1}, **options)
        given: dict[str, Any] = {"cluster": "inline", "run_dir": tmp_path / folder, "progress": False}
        return fedray.train(fedray.FederatedModel(Sum), data(augment, x), args, **given)

    whole = run(X, "whole", SECTION)
    by_hand = run(hand, "hand", {"image": SECTION["image"]})
    assert whole.history[-1].test["loss"] == pytest.approx(by_hand.history[-1].test["loss"], rel=1e-4)
    told = json.loads((tmp_path / "whole" / "inputs.json").read_text())
    assert told["age"][0]["mean"] == pytest.approx(mean)
    again = {"age": [{**told["age"][0], "mean": [1.0, 2.0]}]}
    assert fit(data(SECTION), again).told == again, "who goes on learns nothing anew"
    alone = run(X, "alone", SECTION, stack="off")
    assert alone.history[-1].test["loss"] == pytest.approx(whole.history[-1].test["loss"], rel=1e-4)
    predicted = fedray.load(tmp_path / "whole", model=Sum).predict(X)
    with torch.no_grad():
        expected = whole.model(**{name: torch.from_numpy(one) for name, one in hand.items()})
    np.testing.assert_allclose(predicted.outputs, expected, atol=1e-4)
