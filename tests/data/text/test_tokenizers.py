"""Tokenizers from folders, chat templates, and what is said where one is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.data.text.cache import key_of
from fedray.data.text.formats import Format
from fedray.data.text.tokenizers import Bytes, Chat, Pretrained, template_of, tokenizer_of
from fedray.data.text.tokens import Tokens, tokens_of
from tests.data.text.hosted import TEMPLATE, saved

CHAT = [
    {"role": "user", "content": "what is two ?"},
    {"role": "assistant", "content": "yes two ."},
    {"role": "user", "content": "no ?"},
    {"role": "assistant", "content": "no ."},
]


def learnt(folder: Path, tokens: Tokens) -> list[str]:
    known: list[str] = Pretrained(folder).loaded.convert_ids_to_tokens(tokens.ids[tokens.learnt].tolist())
    return known


def rows(folder: Path, *said: dict[str, Any]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in said))
    return file


def test_bytes_are_what_utf8_makes_of_characters() -> None:
    text = "a€😀"
    found = Bytes().encode([text, ""], special=True)
    assert bytes(found[0].ids.tolist()) == text.encode()
    assert found[0].ends.tolist() == [[0, 1], *[[1, 2]] * 3, *[[2, 3]] * 4]
    assert found[1].ends.shape == (0, 2)


def test_a_folder_without_one_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no tokenizer in .*nothing is downloaded, or the word bytes"):
        tokenizer_of(str(tmp_path))


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedray\[llm\]'"):
        _ = tokenizer_of(str(tmp_path)).vocabulary


def test_a_template_is_text_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text("{{ 1 }}")
    assert template_of(str(tmp_path / "chat.jinja")) == template_of("{{ 1 }}") == "{{ 1 }}"
    with pytest.raises(ConfigError, match=r"chat_template: file none\.jinja does not exist"):
        template_of("none.jinja")


@pytest.mark.slow
def test_a_folder_gives_the_tokens_of_its_tokenizer(tmp_path: Path) -> None:
    folder = saved(tmp_path / "words")
    found = Pretrained(folder)
    assert (found.vocabulary, found.end, found.pad) == (22, 1, 2)
    file = rows(tmp_path, {"q": "what is two ?", "a": "two and two"}, {"q": "yes ?", "a": "no"})
    tokens = tokens_of(file, Format(prompt="Q : {q} A : ", completion="a"), found)
    assert learnt(folder, tokens) == ["two", "and", "two", "</s>", "no", "</s>"]
    key = key_of(file, Format(text="q"), found, ())
    (folder / "special_tokens_map.json").write_text("{}")
    assert key_of(file, Format(text="q"), Pretrained(folder), ()) != key


@pytest.mark.slow
def test_a_tokenizer_without_padding_pads_with_its_end_and_one_without_both_has_none(tmp_path: Path) -> None:
    assert Pretrained(saved(tmp_path / "end", pad_token=None)).pad == 1
    none = Pretrained(saved(tmp_path / "none", pad_token=None, eos_token=None))
    assert (none.end, none.pad) == (None, None)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"data\.tokenizer: .*bad cannot be read"):
        _ = Pretrained(tmp_path / "bad").vocabulary


@pytest.mark.slow
def test_of_a_chat_what_assistants_say_is_learnt(tmp_path: Path) -> None:
    folder = saved(tmp_path / "words", TEMPLATE)
    file = rows(tmp_path, {"messages": CHAT})
    tokens = tokens_of(file, Format(messages="messages"), Pretrained(folder))
    expected = ["yes", "two", ".", "</s>", "no", ".", "</s>"]
    assert learnt(folder, tokens) == expected
    marked = (
        "{% for m in messages %}{{ '<' + m['role'] + '> ' }}{% if m['role'] == 'assistant' %}{% generation %}"
        "{{ m['content'] + ' </s>' }}{% endgeneration %}{% else %}{{ m['content'] + ' </s>' }}{% endif %}{% endfor %}"
    )
    form = Format(messages="messages", chat_template=marked)
    other = tokens_of(file, form, Pretrained(folder))
    assert learnt(folder, other) == expected
    assert other.ids.tolist() == tokens.ids.tolist()
    whole = tokens_of(file, Format(messages="messages", completion_only_loss=False), Pretrained(folder))
    assert whole.learnt.all()
    bare = tokens_of(file, Format(messages="messages", chat_template=TEMPLATE), Bytes())
    assert bytes(bare.ids[bare.learnt].tolist()) == b"yes two . </s>no . </s>"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "the tokenizer has no chat template"),
        ("{{ raise_exception('no system') }}", "row 1: the chat template refuses these messages: .*no system"),
        ("{% for m in messages[1:] %}{{ m['content'] }}{% endfor %}{{ messages|length }}", "message 2 in another way"),
    ],
)
def test_templates_that_cannot_be_used(template: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Chat(Bytes(), template).rendered(CHAT, "row 1", only=True)


@pytest.mark.slow
@pytest.mark.parametrize("trains", [True, False])
def test_who_predicts_is_advised_what_a_prediction_takes(trains: bool) -> None:
    instead = "say format.completion_only_loss: false" if trains else "leave the row out"
    template = "{% for m in messages[1:] %}{{ m['content'] }}{% endfor %}{{ messages|length }}"
    with pytest.raises(ConfigError, match=rf"endgeneration %}}, or {instead}$"):
        Chat(Bytes(), template, trains).rendered(CHAT, "row 1", only=True)
