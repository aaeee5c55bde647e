"""The source of text: its keys, and the tokenizer of the model beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.data.sources.text import Text
from fedray.models import HuggingFace
from tests.data.reading import load

QUESTIONS = str(Path(__file__).parents[1] / "text" / "questions.jsonl")
FORMAT = {"prompt": "### Q: {question}\n### A: ", "completion": "answer"}


def test_a_config_says_files_columns_and_clients() -> None:
    data = load(
        name="text", train=QUESTIONS, tokenizer="bytes", format=FORMAT, clients={"column": "author"}, max_length=48
    )
    assert [data.client_id(client) for client in range(3)] == ["ann", "bob", "cleo"]
    assert data.sizes.tolist() == [4, 3, 3]
    assert data.spec.shape == (48,)
    split = load(
        name="text", train=QUESTIONS, tokenizer="bytes", format="answer", partition={"name": "iid", "clients": 5}
    )
    assert split.sizes.tolist() == [2] * 5


def test_the_tokenizer_is_that_of_the_model_where_none_is_named() -> None:
    model = HuggingFace("models/tiny")
    assert Text(train="a.jsonl").beside(model).tokenizer == "models/tiny"
    assert Text(train="a.jsonl", tokenizer="bytes").beside(model).tokenizer == "bytes"
    with pytest.raises(ConfigError, match="tokenizer: the model has no folder with one of its own"):
        load(name="text", train="a.jsonl")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clients": "author"}, r"data: clients: file, or {column: NAME} is needed"),
        ({"partition": {"name": "iid", "client": 3}}, r"data\.partition\.client"),
        ({"maxlength": 8}, "did you mean 'max_length'"),
    ],
)
def test_keys_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(name="text", train="a.jsonl", tokenizer="bytes", **options)
