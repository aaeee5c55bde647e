"""Prompts as training has seen them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.data.text.formats import Format
from fedray.data.text.prompts import Prompt, prompts_in
from fedray.data.text.tokenizers import Bytes, Pretrained
from tests.data.text.hosted import TEMPLATE, saved

QA = Format(prompt="{question} A: ", completion="answer")


def test_a_prompt_needs_no_completion_and_has_no_end() -> None:
    (found,) = prompts_in([{"question": "é?"}], "rows", QA, Bytes())
    assert bytes(found.ids).decode() == "é? A: "
    with pytest.raises(ConfigError, match="rows, row 2: column 'question' is missing"):
        prompts_in([{"question": "a"}, {"answer": "b"}], "rows", QA, Bytes())
    with pytest.raises(ConfigError, match="rows, row 1: the prompt is empty"):
        prompts_in([{"text": ""}], "rows", Format(text="text"), Bytes())


def test_a_space_that_begins_an_answer_is_no_token_of_the_prompt(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast  # takes seconds

    letters = {letter: number for number, letter in enumerate(["Ġ", "A", ":", "a", "b", "Ġa", "Ġb", "</s>"])}
    bare = Tokenizer(models.BPE(letters, [("Ġ", "a"), ("Ġ", "b")]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    bare.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="</s>").save_pretrained(tmp_path)
    tokenizer = Pretrained(tmp_path)
    (found,) = prompts_in([{"text": "A: "}], "rows", Format(text="text"), tokenizer)
    assert found == Prompt("A: ", (1, 2), " ")
    assert found.completion(tokenizer.decode([6, 3])) == "ba"  # as in "A: ba", of which training has seen "Ġb"
    assert tokenizer.decode([6, 7]) == " b"


def test_a_chat_is_asked_for_what_an_assistant_says_next(tmp_path: Path) -> None:
    tokenizer = Pretrained(saved(tmp_path, TEMPLATE))
    user, own = {"role": "user", "content": "yes ?"}, {"role": "assistant", "content": "no ."}
    form = Format(messages="chat")
    asked, told = prompts_in([{"chat": [user]}, {"chat": [user, own]}], "rows", form, tokenizer)
    assert asked == told
    assert asked.text == "<user> yes ? </s><assistant> "
    with pytest.raises(ConfigError, match="there is no message before the assistant's"):
        prompts_in([{"chat": [own]}], "rows", form, tokenizer)
