"""Prompts: the tokens after which a language model is to go on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from fedray.core.errors import ConfigError
from fedray.data.text.files import Row, having
from fedray.data.text.formats import Format
from fedray.data.text.tokenizers import Chat, Tokenizer

_LETTER = "a"
"""A letter that stands in for the first one of what is to come."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as tokens.

    Args:
        text: its text.
        ids: its tokens; at least one.
        tail: the white space at its end that is no token of it, but a part of the one to come.
    """

    text: str
    ids: tuple[int, ...]
    tail: str = ""

    def completion(self, said: str) -> str:
        """Return the text that comes behind the prompt's, of the text of the tokens behind its own."""
        return said.removeprefix(self.tail)


def prompts_in(rows: Iterable[Row], where: str, form: Format, tokenizer: Tokenizer) -> list[Prompt]:
    """Return the prompts of rows: of a format with completions the prompt, of text all of it, of a chat its messages.

    A chat that ends with what an assistant says is asked for that.  Tokens are those that training has seen: of ``"A:
    "`` before an answer the space is often a part of the answer's first token, and then none of the prompt's.

    >>> from fedray.data.text.tokenizers import Bytes
    >>> form = Format(prompt="Q: {question} A: ", completion="answer")
    >>> found = prompts_in([{"question": "2 + 2?"}], "rows", form, Bytes())[0]
    >>> found.text, len(found.ids)
    ('Q: 2 + 2? A: ', 13)

    Args:
        rows: the rows; completions need not be there.
        where: their place, for errors.
        form: the format.
        tokenizer: the tokenizer.

    Raises:
        ConfigError: with the row, for what is missing.
    """
    texts = list(_texts(rows, where, form, tokenizer))
    found = list(_prompts(texts, tokenizer, special=form.messages is None))
    for number, prompt in enumerate(found, start=1):
        if not prompt.ids:
            raise ConfigError(f"{where}, row {number}: the prompt is empty; leave the row out")
    return found


def _texts(rows: Iterable[Row], where: str, form: Format, tokenizer: Tokenizer) -> Iterator[str]:
    if form.messages is not None:
        chat = Chat(tokenizer, form.chat_template)
        for number, row in enumerate(having(rows, where, [form.messages]), start=1):
            place = f"{where}, row {number}"
            messages = form.chat(row, place)
            if messages[-1]["role"] == "assistant":
                messages = messages[:-1]
            if not messages:
                raise ConfigError(f"{place}: there is no message before the assistant's; leave the row out")
            yield chat.prompt(messages, place)
        return
    template = form.templates[0]
    for number, row in enumerate(having(rows, where, template.columns), start=1):
        yield template.filled(row, f"{where}, row {number}")


def _prompts(texts: list[str], tokenizer: Tokenizer, special: bool) -> Iterator[Prompt]:
    """Yield texts as prompts, without the one that the tokenizer sets behind a text."""
    open = [text + _LETTER if text != text.rstrip() else text for text in texts]
    for text, longer, found in zip(texts, open, tokenizer.encode(open, special), strict=True):
        ids, ends = found.ids, found.ends
        while len(ids) and ids[-1] == tokenizer.end and ends[-1, 1] == 0:
            ids, ends = ids[:-1], ends[:-1]
        tail = ""
        if longer != text:
            first = int(np.argmax(ends[:, 1] > len(text)))
            ids, tail = ids[:first], text[int(ends[first, 0]) :]
        yield Prompt(text, tuple(ids.tolist()), tail)
