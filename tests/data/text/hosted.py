"""Tokenizers of words, built here and saved as Hugging Face's are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = ["what", "is", "two", "and", "three", "four", "five", "yes", "no", *"?.:QA", "user", "assistant", "system"]

TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] + ' </s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)
"""A chat template of one line; it does not say what is learnt."""


def saved(folder: Path, template: str | None = None, **special: Any) -> Path:
    """Write a tokenizer of some words and some tokens of its own into a folder, and return it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast  # takes seconds

    words = ["<unk>", "</s>", "<pad>", "<", ">", *WORDS]
    bare = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>", **special}
    found = PreTrainedTokenizerFast(tokenizer_object=bare, **{k: v for k, v in special.items() if v is not None})
    found.chat_template = template
    found.save_pretrained(folder)
    return folder
