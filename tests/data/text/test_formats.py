"""Formats: by name, by the columns, and templates of columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.data.text.formats import Format, Template

HERE = Path("rows.jsonl")


def test_braces_hold_columns_and_may_be_written() -> None:
    template = Template("{{{a}}}: {b c}{a}")
    assert template.columns == ("a", "b c")
    assert template.filled({"a": 1, "b c": "x"}, "row 1") == "{1}: x1"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{a", "expected '}'"),
        ("{}", "braces hold the name of a column"),
        ("{a!r}", "nothing else"),
        ("", "name a column"),
    ],
)
def test_templates_that_are_none(said: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Template(said)


@pytest.mark.parametrize(
    ("said", "there", "found"),
    [
        (None, ["id", "text"], Format(text="text")),
        (None, ["prompt", "completion"], Format(prompt="prompt", completion="completion")),
        (None, ["messages"], Format(messages="messages")),
        ("body", ["body"], Format(text="body")),
        ({"completion_only_loss": False}, ["messages"], Format(messages="messages", completion_only_loss=False)),
        ({"prompt": "Q: {q}", "completion": "a"}, ["q", "a"], Format(prompt="Q: {q}", completion="a")),
    ],
)
def test_a_format_is_said_or_found(said: Any, there: list[str], found: Format) -> None:
    assert Format.of(said, there, HERE) == found


@pytest.mark.parametrize(
    ("said", "there", "message"),
    [
        (None, ["question", "answer"], r"data\.format: rows\.jsonl has the columns question, answer; say which"),
        (None, ["text", "messages"], "say which are what"),
        ({"prompt": "q"}, ["q"], "say text, or prompt and completion, or messages, and no two of these; got prompt"),
        ({"text": "a", "messages": "b"}, ["a"], "got text, messages"),
        ({"text": "a", "chat_template": "{}"}, ["a"], "chat_template: it is for messages"),
        ({"text": "a", "completion_only_loss": False}, ["a"], "of text all is learnt"),
        ({"text": "a", "template": "b"}, ["a"], "template"),
        (["text"], ["text"], r"expected a column, or a section such as \{text: body\}, got \['text'\]"),
    ],
)
def test_formats_that_make_no_sense(said: Any, there: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Format.of(said, there, HERE)


def test_rows_that_say_nothing() -> None:
    pair = Format(prompt="q", completion="a")
    with pytest.raises(ConfigError, match="row 1: the prompt is empty"):
        pair.pair({"q": " ", "a": "x"}, "row 1")
    with pytest.raises(ConfigError, match="row 1: the completion is empty"):
        pair.pair({"q": "x", "a": ""}, "row 1")
    with pytest.raises(ConfigError, match="row 1: the text is empty"):
        Format(text="t").pair({"t": ""}, "row 1")
    with pytest.raises(ConfigError, match="column 't' is no text, but list; messages of a chat are format"):
        Format(text="t").pair({"t": [1]}, "row 1")


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "is a list of messages, and is not empty"),
        ("hi", "is a list of messages"),
        ([{"role": "user"}], 'a message is {"role": ..., "content": ...}'),
    ],
)
def test_chats_that_are_none(messages: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Format(messages="m").chat({"m": messages}, "row 1")


def test_of_a_chat_something_is_learnt() -> None:
    user, own = ({"role": role, "content": "hi"} for role in ("user", "assistant"))
    with pytest.raises(ConfigError, match=r"row 1: no message is an assistant's.*format\.completion_only_loss: false"):
        Format(messages="m").check_learnt([user], "row 1")
    Format(messages="m").check_learnt([user, own], "row 1")
    Format(messages="m", completion_only_loss=False).check_learnt([user], "row 1")


def test_fields_that_a_message_lacks_are_not_said() -> None:
    said = [{"role": "assistant", "content": "hi", "tool_calls": None}]
    assert Format(messages="m").chat({"m": said}, "row 1") == [{"role": "assistant", "content": "hi"}]
