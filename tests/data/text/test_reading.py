"""From files of text to examples of clients: targets, lengths, clients, and what is said of it all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedray
from fedray import FederatedData, Ragged
from fedray.core.errors import ConfigError
from fedray.data.text import reading
from fedray.data.text.tokenizers import Bytes

PAIR = {"prompt": "q", "completion": "a"}
IGNORED = 257

Write = Callable[..., str]


@pytest.fixture
def put(tmp_path: Path) -> Write:
    """Write rows into a file of a folder; give its path."""

    def write(name: str, *rows: dict[str, Any]) -> str:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(file)

    return write


def texts(name: str, *rows: str) -> list[dict[str, str]]:
    return [{"who": name, "text": row} for row in rows]


def words(data: FederatedData, client: int) -> list[str]:
    """The tokens of a client's examples, as text, with | for ends and padding."""
    x, _ = data.rows(np.array([client])).take(np.arange(data.sizes[client])[None])
    return ["".join(chr(one) if one < 256 else "|" for one in row) for row in x[0].tolist()]


def test_targets_are_what_is_learnt_and_all_else_is_padding(put: Write) -> None:
    file = put("ann.jsonl", {"q": "ab", "a": "cd"}, {"q": "e", "a": "f"})
    data = FederatedData.from_text(file, tokenizer="bytes", format=PAIR)
    assert (data.spec.shape, data.spec.vocabulary, data.spec.outputs, data.spec.padding) == ((5,), 257, 257, IGNORED)
    x, y = data.rows(np.array([0])).take(np.array([[0, 1]]))
    assert x[0].tolist() == [[97, 98, 99, 100, 256], [101, 102, 256, 256, 256]]
    assert y[0].tolist() == [[IGNORED, IGNORED, 99, 100, 256], [IGNORED, 102, 256, IGNORED, IGNORED]]
    assert data.positions(np.array([0]), IGNORED, 1).tolist() == [5]
    assert data.label_counts()[0, [97, 99, 102, 256]].tolist() == [0, 1, 1, 2]


def test_a_batch_is_as_long_as_its_own_longest_row_up_to_the_next_multiple_of_8(put: Write) -> None:
    data = FederatedData.from_text(
        put("ann.jsonl", *texts("", "x" * 3, "x" * 11, "x" * 40)), tokenizer="bytes", max_length=36
    )
    rows = data.rows(np.array([0]))
    lengths = [rows.take(np.array([places]))[0].shape[2] for places in ([0], [0, 1], [0, 2])]
    assert lengths == [8, 16, 36]
    x, y = rows.take(np.array([[0, 1]]))
    assert torch.equal(x[y != IGNORED], y[y != IGNORED])
    assert data.notes[0] == (
        "inputs: sequences of up to 36 values, padded to multiples of 8 by the longest of each batch, with 256"
    )
    assert data.notes[1] == "text, training: 3 rows, 57 tokens, 54 of them targets; 1 cut to 36 tokens"


def test_each_file_is_a_client(put: Write, tmp_path: Path) -> None:
    for name in ("bob", "ann"):
        put(f"train/{name}.jsonl", *texts(name, f"{name} one", f"{name} two"))
    put("test/ann.jsonl", *texts("ann", "held"))
    put("test/eve.jsonl", *texts("eve", "nobody's"))
    data = FederatedData.from_text(str(tmp_path / "train"), tokenizer="bytes", test=str(tmp_path / "test"))
    assert [data.client_id(0), data.client_id(1)] == ["ann", "bob"]
    assert words(data, 1) == ["bob one|", "bob two|"]
    assert data.test is not None
    assert data.test.clients is not None
    assert data.test.clients.tolist() == [0, -1]
    alone = FederatedData.from_text(
        f"{tmp_path}/train/*.jsonl", tokenizer="bytes", test={"bob": f"{tmp_path}/test/eve.jsonl"}
    )
    assert alone.test is not None
    assert alone.test.clients is not None
    assert alone.test.clients.tolist() == [1]


def test_a_column_says_whose_a_row_is(put: Write) -> None:
    train = put("all.jsonl", *texts("bob", "one"), *texts("ann", "two", "three"), *texts("bob", "four"))
    own = put("own.jsonl", *texts("bob", "held"), *texts("eve", "out"))
    for clients in ({"clients": {"column": "who"}}, {"partitioner": {"name": "column", "column": "who"}}):
        data = FederatedData.from_text(train, tokenizer="bytes", test=own, **clients)  # type: ignore[arg-type]
        assert [data.client_id(0), data.client_id(1)] == ["ann", "bob"]
        assert [word.rstrip("|") for word in words(data, 1)] == ["one", "four"]
        assert data.test is not None
        assert data.test.clients is not None
        assert data.test.clients.tolist() == [1, -1]
    central = put("central.jsonl", {"text": "held"})
    data = FederatedData.from_text(train, tokenizer="bytes", test=central, clients={"column": "who"})
    assert data.test is not None
    assert data.test.clients is None


def test_a_partitioner_splits_rows_and_a_column_is_their_class(put: Write) -> None:
    train = put("all.jsonl", *({"text": f"row {n}", "kind": "ab"[n % 2]} for n in range(40)))
    data = FederatedData.from_text(train, tokenizer="bytes", partitioner={"name": "iid", "clients": 4})
    assert data.sizes.tolist() == [10] * 4
    shards = {"name": "shards", "clients": 2, "shards": 1}
    by_kind = FederatedData.from_text(train, tokenizer="bytes", partitioner=shards, label="kind")
    numbers = [{int(word.rstrip("|").split()[1]) % 2 for word in words(by_kind, client)} for client in (0, 1)]
    assert sorted(map(sorted, numbers)) == [[0], [1]]
    with pytest.raises(ConfigError, match=r"shards needs one class per row.*data\.label names the column"):
        FederatedData.from_text(train, tokenizer="bytes", partitioner=shards)


def test_rows_of_a_client_are_packed(put: Write) -> None:
    train = put("all.jsonl", *texts("bob", "one"), *texts("ann", "a", "bc"), *texts("bob", "two", "3"))
    options: dict[str, Any] = {"tokenizer": "bytes", "clients": {"column": "who"}, "packing": True, "max_length": 4}
    data = FederatedData.from_text(train, **options, test=train)
    assert [word[:4] for word in words(data, 1)] == ["one|", "two|", "3|||"]
    assert [word[:4] for word in words(data, 0)] == ["a|bc", "||||"][:1]  # an end alone has nothing before it
    assert "; packed into 5 sequences of up to 4; 1 of them left out, as nothing in it is learnt" in data.notes[1]


def test_rows_whose_prompt_fills_the_length_are_left_out_and_a_client_of_such_is_refused(put: Write) -> None:
    file = put("ann.jsonl", {"q": "long prompt", "a": "x"}, {"q": "q", "a": "a"})
    data = FederatedData.from_text(file, tokenizer="bytes", format=PAIR, max_length=6)
    assert data.sizes.tolist() == [1]
    assert "1 cut to 6 tokens; 1 of them left out, as nothing in it is learnt" in data.notes[1]
    with pytest.raises(ConfigError, match=r"no token of client bob is learnt within max_length=2; a prompt"):
        FederatedData.from_text(
            put("bob.jsonl", {"q": "long prompt", "a": "x"}), tokenizer="bytes", format=PAIR, max_length=2
        )


def test_tokens_are_read_the_second_time(put: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDRAY_CACHE", str(tmp_path / "kept"))
    file = put("ann.jsonl", *texts("", "one"))
    first = FederatedData.from_text(file, tokenizer="bytes")
    assert first.notes[-1] == f"text, tokens by bytes: of 1 file made and kept in {tmp_path}/kept/text"
    monkeypatch.setattr(reading, "tokens_of", never)
    again = FederatedData.from_text(file, tokenizer="bytes")
    assert again.notes[-1] == f"text, tokens by bytes: of 1 file read from {tmp_path}/kept/text"
    assert again.fingerprint() == first.fingerprint()


def never(*_: Any) -> None:
    raise AssertionError("they are there")


class Endless(Bytes):
    """Bytes without a token of their own."""

    vocabulary, end, pad = 256, None, None


def test_a_tokenizer_that_lacks_a_token_is_said(put: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDRAY_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(reading, "tokenizer_of", lambda said: Endless(256, None, None))
    file = put("ann.jsonl", *texts("", "one"))
    with pytest.raises(ConfigError, match=r"set tokenizer\.pad_token"):
        FederatedData.from_text(file, tokenizer="bytes")
    with pytest.raises(ConfigError, match=r"set tokenizer\.eos_token"):
        FederatedData.from_text(file, tokenizer="bytes", packing=True, max_length=8)


def test_test_files_by_client_need_clients_that_are_files(put: Write) -> None:
    file = put("all.jsonl", *texts("ann", "one"))
    with pytest.raises(ConfigError, match="test: a file for each client needs clients: file"):
        FederatedData.from_text(file, tokenizer="bytes", test={"ann": file}, clients={"column": "who"})


def twice(data: FederatedData) -> FederatedData:
    """The same rows as they once were held: int64 tokens, and int64 targets beside them."""
    x, y = data._x, data._y
    assert isinstance(x, Ragged)
    assert isinstance(y, Ragged)
    ids, labels = (torch.cat([torch.from_numpy(one) for one in store.pieces(0, store.size)]) for store in (x, y))
    wide, targets = x.changed(values=ids), y.changed(values=labels, known=None)
    return FederatedData(wide, targets, data.sizes, data.spec, ids=data.ids)  # type: ignore[arg-type]


def test_tokens_lie_in_memory_once_in_a_small_type_and_train_to_the_bits_of_int64(put: Write, tmp_path: Path) -> None:
    rows = [{"q": "why?", "a": "as it is so"}, {"q": "and who?", "a": "I"}, {"q": "when", "a": "now"}] * 2
    files = [put(f"{name}.jsonl", *({**row, "q": f"{row['q']}{name}"} for row in rows)) for name in ("ann", "bob")]
    data = FederatedData.from_text(files, tokenizer="bytes", format=PAIR)
    wide = twice(data)
    tokens = data._x.size
    assert data._x.values.dtype == torch.uint16
    assert data._y.values is data._x.values
    assert data.nbytes == 3 * tokens + data._x.offsets.nbytes
    assert wide.nbytes >= 16 * tokens
    assert data.fingerprint() == wide.fingerprint()
    every = np.arange(2)
    for one, other in ((data, wide), (data.with_holdout(0.4, 1), wide.with_holdout(0.4, 1))):
        mapped = one.share(tmp_path)
        assert mapped.fingerprint() == other.fingerprint()
        assert mapped.nbytes == one.nbytes
        order = np.arange(one.sizes.max())[None].repeat(2, axis=0)
        for found in (one, mapped):
            pairs = [*zip(found.rows(every).take(order), other.rows(every).take(order), strict=True)]
            pairs += [*zip(found.holdout(every)[:2], other.holdout(every)[:2], strict=True)]
            assert all(mine.dtype == torch.int64 and torch.equal(mine, theirs) for mine, theirs in pairs)
        assert (one.label_counts() == other.label_counts()).all()
        assert torch.equal(one.targets(1), other.targets(1))
    model = fedray.FederatedModel({"name": "decoder", "dim": 8, "heads": 2, "layers": 1}, task="causal_lm")
    runs = [
        fedray.train(
            model, one, fedray.TrainArgs(rounds=1), cluster="inline", run_dir=tmp_path / str(number), progress=False
        )
        for number, one in enumerate((data, wide))
    ]
    assert runs[0].history[-1].model_sha256 == runs[1].history[-1].model_sha256


def moods(*rows: tuple[str, str]) -> list[dict[str, str]]:
    return [{"text": text, "mood": mood, "who": "ab"[len(text) % 2]} for text, mood in rows]


def test_a_text_has_a_class_and_a_mask_says_what_is_no_padding(put: Write) -> None:
    train = put("all.jsonl", *moods(("oh no", "sad"), ("yes", "glad"), ("a very long text", "glad")))
    test = put("held.jsonl", *moods(("no", "sad")))
    data = FederatedData.from_text(
        train, tokenizer="bytes", target="mood", test=test, clients={"column": "who"}, max_length=10
    )
    spec = data.spec
    assert (spec.task, spec.classes, spec.outputs, spec.padding) == ("classification", ("glad", "sad"), 2, None)
    assert [(one.name, one.shape, one.vocabulary) for one in spec.columns] == [
        ("input_ids", (10,), 257),
        ("attention_mask", (10,), 2),
    ]
    x, y = data.rows(np.array([1])).take(np.array([[0, 1]]))  # of an odd number of letters
    assert y.tolist() == [[1, 0]]
    assert x["input_ids"][0].tolist() == [[*b"oh no", 256, 256, 256], [*b"yes", *[256] * 5]]
    assert x["attention_mask"][0].tolist() == [[1] * 6 + [0] * 2, [1] * 4 + [0] * 4]
    long, _ = data.rows(np.array([0])).take(np.array([[0]]))
    assert long["input_ids"].flatten().tolist() == [*b"a very lo", 256]  # what ends a text stays
    assert data.test is not None
    assert data.test.y.tolist() == [1]
    assert data.notes[-3:-1] == (
        "text, training: 3 rows, 27 tokens; 1 cut to 10 tokens",
        "text, test: 1 row, 3 tokens; 0 cut to 10 tokens",
    )
    assert data.label_counts().tolist() == [[1, 0], [1, 1]]
    assert data.taken is not None
    assert data.taken["text"]["target"] == ["mood"]


def test_a_partitioner_splits_texts_by_their_classes(put: Write) -> None:
    train = put("all.jsonl", *({"text": f"row {n}", "kind": "ab"[n % 2]} for n in range(40)))
    shards = {"name": "shards", "clients": 2, "shards": 1}
    data = FederatedData.from_text(train, tokenizer="bytes", target="kind", partitioner=shards)
    assert sorted(data.label_counts().tolist()) == [[0, 20], [20, 0]]


def test_several_targets_are_numbers(put: Write) -> None:
    train = put("ann.jsonl", {"text": "x", "rude": 1, "loud": 0.5}, {"text": "y", "rude": 0, "loud": 0})
    data = FederatedData.from_text(train, tokenizer="bytes", target=["rude", "loud"])
    assert (data.spec.task, data.spec.outputs) == ("regression", 2)
    assert data.targets(0).tolist() == [[1.0, 0.5], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"q": "x", "a": "y", "mood": "sad"}, {"format": PAIR}, r"data\.format: with data\.target a text is the input"),
        ({"text": "x", "moods": "sad"}, {}, r"row 1: column 'mood' is missing \(did you mean 'moods'\?\)"),
        ({"text": "x", "mood": "sad"}, {"classes": ["glad"]}, "training: 'sad' of column 'mood' is no class"),
    ],
)
def test_texts_without_what_they_need_are_said(
    put: Write, row: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        FederatedData.from_text(put("ann.jsonl", row), tokenizer="bytes", target="mood", **options)


def test_other_processes_have_the_test_set_too(put: Write, tmp_path: Path) -> None:
    """Whose targets are some of its own tokens, and lie in the memory of those."""
    own, test = put("own.jsonl", PAIR, PAIR), put("test.jsonl", PAIR, {"prompt": "why", "completion": "so"})
    data = FederatedData.from_text([own], test=test, tokenizer="bytes")
    shared = data.share(tmp_path / "shared")
    assert data.test is not None
    assert shared.test is not None
    for one, other in zip(data.test.slice(0, 2), shared.test.slice(0, 2), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
