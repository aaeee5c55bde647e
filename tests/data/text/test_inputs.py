"""Prompts and what answers them as the columns of an encoder and a decoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedray
from fedray import FederatedData
from fedray.core.errors import ConfigError

PAIR = {"prompt": "{q}?", "completion": "a"}
ROWS = [
    {"who": "ann", "q": "abcd", "a": "e"},
    {"who": "bob", "q": "f", "a": "ghi"},
    {"who": "ann", "q": "j", "a": "kl"},
]
END, NONE = 256, 257


def read(folder: Path, rows: list[dict[str, Any]] = ROWS, **options: Any) -> FederatedData:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    said = {"tokenizer": "bytes", "format": PAIR, "clients": {"column": "who"}, "pairs": True, **options}
    return FederatedData.from_text(file, **said)


def test_a_prompt_is_read_beside_a_mask_and_its_completion_is_input_and_target(tmp_path: Path) -> None:
    data = read(tmp_path, test=tmp_path / "rows.jsonl")
    assert data.spec.inputs == "labels 4 tokens of 257, input_ids 6 tokens of 257, attention_mask 6 tokens of 2"
    assert (data.spec.outputs, data.spec.padding) == (257, NONE)
    x, y = data.rows(np.array([0])).take(np.array([[0, 1]]))
    assert x["input_ids"][0].tolist() == [[*b"abcd?", END], [*b"j?", END, END, END, END]]
    assert x["attention_mask"][0].tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0]]
    assert x["labels"][0].tolist() == [[*b"e", END, END, END], [*b"kl", END, END]]
    assert y[0].tolist() == [[*b"e", END, NONE, NONE], [*b"kl", END, NONE]]
    assert data.positions(np.array([0, 1]), NONE, 0).tolist() == [5, 4], "what a client weighs by tokens"
    assert data.notes[-3:-1] == (
        "text, training prompts: 3 rows, 12 tokens",
        "text, test prompts: 3 rows, 12 tokens",
    )
    shared = data.share(tmp_path / "shared")
    again, targets = shared.rows(np.array([0])).take(np.array([[0, 1]]))
    assert all(again[name].equal(x[name]) for name in x)
    assert targets.equal(y)


def test_each_of_the_two_is_cut_and_keeps_what_ends_it(tmp_path: Path) -> None:
    x, y = read(tmp_path, max_length=3).rows(np.array([1])).take(np.array([[0]]))
    assert x["input_ids"][0].tolist() == [[*b"f?", END]]
    assert y[0].tolist() == [[*b"gh", END]]


def test_what_has_no_pairs_is_refused(tmp_path: Path) -> None:
    chat = [{"who": "ann", "messages": [{"role": "user", "content": "Hi"}]}]
    for rows, options, message in (
        (ROWS, {"format": {"text": "q"}}, r"data\.format: with data\.pairs, as task: seq2seq_lm has it, the prompt is"),
        (chat, {"format": None}, r"data\.format: with data\.pairs"),
        (ROWS, {"format": {**PAIR, "completion_only_loss": False}}, "no prompt is said; leave it out"),
        (ROWS, {"packing": "bfd", "max_length": 8}, "a completion answers its own prompt"),
        (ROWS, {"target": "a"}, "with pairs the completion is what is learnt"),
        ([{**ROWS[0], "a": " "}], {}, "row 1: the text is empty"),
    ):
        with pytest.raises(ConfigError, match=message):
            read(tmp_path, rows, **options)


def test_the_task_says_that_text_is_pairs() -> None:
    from fedray.data.sources.text import Text
    from fedray.tasks import CausalLM, Seq2SeqLM

    model = fedray.FederatedModel("decoder")
    assert Text(train="a.jsonl").beside(model, Seq2SeqLM()).pairs
    assert not Text(train="a.jsonl").beside(model, CausalLM()).pairs
    assert not Text(train="a.jsonl").beside(model).pairs
