"""Sequences of different lengths: the bits of arrays padded before, in the memory of what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import fedray
from fedray import Ragged
from fedray.core.errors import ConfigError
from fedray.data.columns.contiguous import open_mapped
from fedray.data.columns.inputs import joined
from fedray.data.columns.ragged import dense, level

DRAW = np.random.default_rng(0)
COUNTS = DRAW.integers(1, 10, 45)
COUNTS[7] = 12
WORDS = [DRAW.integers(1, 20, count) for count in COUNTS]
TAGS = [word % 3 for word in WORDS]
Y = DRAW.integers(0, 3, 45)
CLIENTS = np.repeat(["a", "b", "c"], [20, 15, 10])


def padded(rows: list[Any], length: int = 12, pad: int = 0) -> np.ndarray[Any, Any]:
    found = np.full((len(rows), length), pad)
    for place, row in enumerate(rows):
        found[place, : len(row)] = row
    return found


class Tagger(nn.Module):
    """Says a class of each token, or of the mean of those that there are."""

    def __init__(self, each: bool, classes: int = 3) -> None:
        super().__init__()
        self.embed, self.head, self.each = nn.Embedding(20, 6, padding_idx=0), nn.Linear(6, classes), each

    def forward(self, words: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.embed(words).tanh()
        there = (words > 0) if mask is None else mask
        return self.head(x if self.each else (x * there[..., None]).sum(dim=1) / there.sum(dim=1, keepdim=True))  # type: ignore[no-any-return]


def run(folder: Path, x: Any, y: Any, each: bool, task: Any = None, stack: str = "auto", **options: Any) -> Any:
    data = fedray.FederatedData.from_arrays(x, y, CLIENTS, test=(x, y)).with_holdout(0.2, 1)
    classes = 20 if "causal_lm" in str(task) else 3
    model = fedray.FederatedModel(lambda: Tagger(each, classes), lambda p: torch.optim.SGD(p, lr=0.5), task=task)
    args = fedray.TrainArgs(rounds=2, batch_size=7, evaluate_clients_every=2, stack=stack, **options)
    return fedray.train(model, data, args, cluster="inline", run_dir=folder, progress=False)


def same(first: Any, second: Any) -> bool:
    return bool(first.history[-1].model_sha256 == second.history[-1].model_sha256)


def parameters(result: Any) -> Tensor:
    return torch.cat([one.flatten() for one in result.model.state_dict().values()])


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tmp_path_factory.mktemp("run") / "ragged", Ragged.of(WORDS), Y, each=False)


def test_a_run_has_the_bits_of_one_on_arrays_that_were_padded_before(stacked: Any, tmp_path: Path) -> None:
    assert same(stacked, run(tmp_path / "padded", padded(WORDS), Y, each=False))
    assert "sequences of up to 12 values, padded to 12 with 0" in (stacked.run_dir / "log.txt").read_text()


def test_stacked_and_one_by_one_train_alike(stacked: Any, tmp_path: Path) -> None:
    alone = run(tmp_path / "alone", Ragged.of(WORDS), Y, each=False, stack="off")
    torch.testing.assert_close(parameters(stacked), parameters(alone))


def test_more_padding_changes_rounding_alone(stacked: Any, tmp_path: Path) -> None:
    longer = run(tmp_path / "longer", Ragged.of(WORDS, length=30), Y, each=False)
    torch.testing.assert_close(parameters(stacked), parameters(longer))
    assert longer.history[-1].test == pytest.approx(stacked.history[-1].test, abs=1e-5)


def test_a_mask_and_lengths_are_columns_that_the_model_is_called_with(stacked: Any, tmp_path: Path) -> None:
    masked = run(tmp_path / "masked", {"words": Ragged.of(WORDS, mask="mask")}, Y, each=False)
    torch.testing.assert_close(parameters(stacked), parameters(masked))
    several = fedray.FederatedData.from_arrays({"w": Ragged.of(WORDS, mask="m", lengths="n")}, Y, CLIENTS)
    x, _ = several.rows(np.array([1])).take(np.arange(15)[None])
    assert torch.equal(x["m"].sum(dim=2), x["n"])
    assert torch.equal(x["n"][0], torch.from_numpy(COUNTS[20:35]))
    assert torch.equal(x["m"], (x["w"] > 0).long())


@pytest.mark.parametrize("task", ["token_classification", "causal_lm"])
def test_padding_of_targets_counts_nowhere(task: str, tmp_path: Path) -> None:
    y, ignored, rows = (Ragged.of(TAGS), 3, TAGS) if task == "token_classification" else (None, 20, WORDS)
    ragged = run(tmp_path / "ragged", Ragged.of(WORDS), y, True, task)
    before = run(
        tmp_path / "padded", padded(WORDS), padded(rows, pad=ignored), True, {"name": task, "ignore_index": ignored}
    )
    longer = run(tmp_path / "longer", Ragged.of(WORDS, length=30), y, True, task)
    assert same(ragged, before)
    assert ragged.history[-1].test == before.history[-1].test
    torch.testing.assert_close(parameters(ragged), parameters(longer))
    assert longer.history[-1].test == pytest.approx(ragged.history[-1].test, abs=1e-5)
    assert fedray.load(ragged.run_dir, model=lambda: Tagger(True, 20 if y is None else 3)).predict(
        Ragged.of(WORDS[:3])
    ).predicted.shape == (3, 12)


def test_what_is_done_to_rows_is_what_is_done_to_padded_ones(tmp_path: Path) -> None:
    whole = padded(WORDS)
    order = DRAW.permutation(45)
    data = fedray.FederatedData.from_arrays(Ragged.of([WORDS[place] for place in order]), Y[order], CLIENTS[order])
    want = fedray.FederatedData.from_arrays(whole[order], Y[order], CLIENTS[order])
    clients, rows = np.array([2, 0]), np.array([[0, 1, 50], [3, 0, 2]])
    for kept in (data, open_mapped(data._write(tmp_path))):
        for got, right in ((kept, want), (kept.with_holdout(0.3, 1), want.with_holdout(0.3, 1))):
            for one, other in zip(got.rows(clients).take(rows), right.rows(clients).take(rows), strict=True):
                assert torch.equal(one, other)
            assert torch.equal(got.holdout(clients)[0], right.holdout(clients)[0])
    assert data.nbytes < want.nbytes
    assert data.fingerprint() != want.fingerprint()
    assert open_mapped(data._write(tmp_path)).fingerprint() == data.fingerprint()


def test_classes_of_values_are_counted_without_padding() -> None:
    data = fedray.FederatedData.from_arrays(Ragged.of(WORDS), Ragged.of(TAGS), CLIENTS).with_holdout(0.2, 1)
    found = [np.bincount(data.targets(client)[data.targets(client) < 3], minlength=3) for client in range(3)]
    assert (data.spec.outputs, data.spec.padding) == (3, 3)
    assert data.label_counts().tolist() == np.stack(found).tolist()
    assert data.positions(np.arange(3), ignored=3).tolist() == [counts.sum() for counts in found]


@given(st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=6), st.data())
def test_rows_are_those_of_the_padded_array(rows: list[list[int]], more: st.DataObject) -> None:
    offsets = np.cumsum([0, *map(len, rows)])
    ragged = Ragged(np.array([value for row in rows for value in row], dtype=np.int64), offsets)
    whole = padded(rows, max(1, *map(len, rows), 1))
    assert (ragged.dense() == whole).all()
    chosen = np.array(more.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)), dtype=np.int64)
    start, stop = sorted((more.draw(st.integers(0, len(rows))), more.draw(st.integers(0, len(rows)))))
    tensors = ragged.tensors()
    for kept, take in ((ragged, chosen), (tensors, torch.from_numpy(chosen))):
        assert np.array_equal(dense(kept[take]), whole[chosen])
        assert np.array_equal(dense(kept[start:stop]), whole[start:stop])
        assert np.array_equal(dense(joined([kept[start:stop], kept])), np.concatenate([whole[start:stop], whole]))


def test_a_test_set_may_be_longer() -> None:
    longest = [np.arange(1, 16)]
    data = fedray.FederatedData.from_arrays(Ragged.of(WORDS), Y, CLIENTS, test=(Ragged.of(longest), [0]))
    assert data.spec.shape == (15,)
    assert data.rows(np.array([0])).take(np.array([[0]]))[0].shape == (1, 1, 15)


def test_columns_and_targets_of_one_length_may_have_a_test_set() -> None:
    columns, tags = {"words": Ragged.of(WORDS), "age": Y[:, None] * 1.0}, Ragged.of(TAGS)
    data = fedray.FederatedData.from_arrays(columns, tags, CLIENTS, test=(columns, tags))
    x, y = data.test.slice(0, 45)  # type: ignore[union-attr]
    assert np.array_equal(x["words"], padded(WORDS))
    assert np.array_equal(y, padded(TAGS, pad=3))


def test_longer_sequences_are_cut_to_the_length_with_their_targets() -> None:
    data = fedray.FederatedData.from_arrays(Ragged.of(WORDS, length=4), Ragged.of(TAGS), CLIENTS)
    x, y = data.rows(np.array([0])).take(np.arange(20)[None])
    assert np.array_equal(x[0], padded([word[:4] for word in WORDS[:20]], 4))
    assert np.array_equal(y[0], padded([tag[:4] for tag in TAGS[:20]], 4, pad=3))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Ragged([1, 2], [0, 3]), "from 0 to the number of values, 2; they go from 0 to 3"),
        (lambda: Ragged([1, 2], [0, 2, 1, 2]), "and fall between"),
        (lambda: Ragged([1, 2], [0.0, 2.0]), "offsets .* of whole numbers"),
        (lambda: Ragged([1, 2], [0, 2], length=0), "a whole number from 1"),
        (lambda: Ragged.of([[], []]), "no sequence with a value"),
        (lambda: fedray.FederatedData.from_arrays(Ragged.of(WORDS, mask="m"), Y, CLIENTS), "one with a name"),
        (lambda: fedray.FederatedData.from_arrays({"m": Ragged.of(WORDS, mask="m")}, Y, CLIENTS), "choose another"),
        (lambda: fedray.FederatedData.from_arrays(Ragged.of(WORDS), Ragged.of([[0.5]] * 45), CLIENTS), "are classes"),
    ],
)
def test_what_cannot_be_is_said(make: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (None, "say task: token_classification, task: causal_lm, or task: seq2seq_lm"),
        ("classification", "no place for targets of different lengths"),
        ({"name": "token_classification", "ignore_index": 1}, r"padded with 3.*pad=1"),
    ],
)
def test_a_task_that_does_not_know_padding_is_refused(task: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        run(tmp_path / "run", Ragged.of(WORDS), Ragged.of(TAGS), True, task)


def test_columns_are_padded_each_to_its_own_length() -> None:
    assert [one.length for one in level(Ragged.of([[1]]), Ragged.of([[1, 2]], length=5))] == [5, 5]
    short = {"a": Ragged.of(WORDS), "b": Ragged.of([[1.0, 2.0]] * 45, pad=-1)}
    data = fedray.FederatedData.from_arrays(short, Y, CLIENTS, test=(short, Y))
    assert [column.shape for column in data.spec.columns] == [(12,), (2,)]


def test_batches_of_a_multiple_are_as_long_as_they_must_and_give_what_longer_ones_do(tmp_path: Path) -> None:
    words = Ragged.of(WORDS, multiple=4)
    x = words.tensors()
    assert [x.padded(torch.tensor([place])).shape[1] for place in (0, 7)] == [-(-COUNTS[0] // 4) * 4, 12]
    with pytest.raises(ConfigError, match="multiple=0: a whole number from 1"):
        Ragged.of(WORDS, multiple=0)
    options: dict[str, Any] = {"each": True, "task": "token_classification", "stack": "off"}
    short = run(tmp_path / "short", words, Ragged.of(TAGS), **options)  # targets follow
    long = run(tmp_path / "long", Ragged.of(WORDS), Ragged.of(TAGS), **options)
    torch.testing.assert_close(parameters(short), parameters(long), atol=1e-6, rtol=0)
    assert short.history[-1].test["loss"] == pytest.approx(long.history[-1].test["loss"], abs=1e-6)


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
@given(st.lists(st.lists(st.tuples(st.integers(0, 40_000), st.booleans()), max_size=5), min_size=1), st.data())
def test_targets_that_are_values_of_others_are_those_values_or_padding(
    kind: Any, rows: list[list[tuple[int, bool]]], more: st.DataObject
) -> None:
    flat = [one for row in rows for one in row]
    ends = np.cumsum([0, *map(len, rows)])
    tokens = Ragged(np.array([value for value, _ in flat], dtype=kind), ends, pad=1, multiple=2)
    own = tokens.only(np.array([known for _, known in flat], dtype=bool), pad=50_000)
    places = np.array(more.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=5)))
    expected = [[value if known else 50_000 for value, known in rows[place]] for place in places]
    for found in (own[places], own.tensors()[torch.from_numpy(places)], joined([own[places[:1]], own[places[1:]]])):
        full = np.asarray(found.dense())
        assert full.dtype == np.int64
        assert all(line[: len(row)].tolist() == row for line, row in zip(full, expected, strict=True))
        assert all((line[len(row) :] == 50_000).all() for line, row in zip(full, expected, strict=True))
        assert np.concatenate(list(found.pieces(0, found.size))).tolist() == [
            value for row in expected for value in row
        ]
    half = own[: len(rows) // 2]
    assert len(half) == len(rows) // 2
    assert half.size == ends[len(rows) // 2]
