"""The shipped tables are those of scikit-learn, and the synthetic problem is what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from fedray.core.errors import ConfigError
from fedray.data import DataSpec
from fedray.data.sources.shipped import RandomTokens
from tests.data.reading import everything, load


def test_digits_are_split_and_every_row_is_used_once() -> None:
    data = load(name="digits", partition={"name": "dirichlet", "clients": 20, "alpha": 0.3})
    assert data.spec == DataSpec((1, 8, 8), 10, classes=tuple("0123456789"))
    assert data.test is not None
    assert len(data) == 20
    x, _ = everything(data)
    rows = np.sort(np.concatenate([x, data.test.x.numpy()]).reshape(-1, 64), axis=0)
    np.testing.assert_array_equal(rows, np.sort(load_digits().data.astype(np.float32) / 16, axis=0))
    share = np.bincount(data.test.y.numpy()) / np.bincount(load_digits().target)
    np.testing.assert_allclose(share, 0.2, atol=0.01)
    assert load(name="digits", flat=True, test_fraction=0.0).spec.shape == (64,)
    assert load(name="digits", test_fraction=0.0).test is None


def test_breast_cancer_is_standardised_by_its_training_rows() -> None:
    data = load(name="breast_cancer", holdout=0.1)
    x, _ = everything(data)
    held = data.holdout(np.arange(len(data)))[0].numpy()
    joined = np.concatenate([x, held])
    np.testing.assert_allclose(joined.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(joined.std(axis=0), 1, atol=1e-5)
    assert data.spec.classes == ("malignant", "benign")


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "synthetic"])
def test_the_seed_decides(name: str) -> None:
    first, again, other = load(3, name=name), load(3, name=name), load(4, name=name)
    np.testing.assert_array_equal(everything(first)[0], everything(again)[0])
    assert (everything(first)[1] != everything(other)[1]).any()


def test_synthetic_labels_come_from_one_linear_teacher() -> None:
    data = load(name="synthetic", clients=30, examples=40, features=5, classes=3, test=600)
    x, y = everything(data)
    assert (data.spec, len(data)) == (DataSpec((5,), 3), 30)
    assert np.bincount(y).min() > 0
    assert data.test is not None
    # Least squares on one-hot labels finds the linear teacher of h = 0, as it finds no other rule.
    design = np.linalg.lstsq(x, np.eye(3)[y], rcond=None)[0]
    assert (np.argmax(data.test.x.numpy() @ design, axis=1) == data.test.y.numpy()).mean() > 0.9


def test_synthetic_heterogeneity_moves_clients_apart() -> None:
    def spread(knob: float) -> float:
        data = load(name="synthetic", clients=40, examples=50, features=8, classes=4, heterogeneity=knob)
        shares = data.label_counts() / 50
        means = everything(data)[0].reshape(40, 50, 8).mean(axis=1)
        assert means.std(axis=0).mean() == pytest.approx(np.sqrt(knob**2 + 1 / 50), rel=0.15)
        return float(shares.std(axis=0).mean())

    assert spread(0.0) < 0.08 < 0.2 < spread(1.5)


def test_random_tokens_are_their_own_targets_and_have_a_test_set() -> None:
    data = RandomTokens(clients=3, examples=4, length=8, vocabulary=50, test=5).load(seed=2)
    assert (len(data), data.sizes.tolist(), data.spec.vocabulary, data.spec.outputs) == (3, [4, 4, 4], 50, 50)
    x, y = data.rows(np.zeros(1, dtype=np.int64)).take(np.arange(4)[None])
    assert torch.equal(x, y)
    assert data.test is not None
    assert len(data.test) == 5
    with pytest.raises(ConfigError, match="length: must be at least 2, got 1"):
        RandomTokens(length=1)


@pytest.mark.parametrize("name", ["synthetic", "tokens"])
@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"clients": 10**23}, f"clients: must be at most 1000000000, got {10**23}"),
        ({"test": 10**12}, "test: must be at most"),
        ({"clients": 10**6, "examples": 10**6}, "clients=1000000, examples=1000000: .* rows in all"),
    ],
)
def test_numbers_of_rows_that_no_array_has_are_refused(name: str, counts: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(name=name, **counts)
