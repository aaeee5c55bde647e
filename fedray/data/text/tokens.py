"""The tokens of a file, which of them are learnt, and what its rows say beside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError
from fedray.data.text.files import Row, rows_in
from fedray.data.text.formats import Format, Span
from fedray.data.text.tokenizers import Chat, Encoded, Tokenizer

_AT_ONCE = 1024
"""Rows that are tokenised by one call, which goes over cores."""


@dataclass(frozen=True)
class Tokens:
    """The rows of a file as tokens, none of them cut.

    Args:
        ids: of all rows, one behind the other, uint32 ``[M]``.
        learnt: True for those that are targets, bool ``[M]``.
        offsets: the places at which each row begins, and the last one ends, int64 ``[N + 1]``.
        beside: other columns of the rows, as text ``[N]``.
        vocabulary: the number of tokens that the tokenizer knows.
        end: the token that ends a text; -1: there is none.
        pad: the token that stands behind a text; -1: there is none.
    """

    ids: NDArray[np.uint32]
    learnt: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    beside: dict[str, NDArray[np.str_]]
    vocabulary: int
    end: int
    pad: int

    def __len__(self) -> int:
        return len(self.offsets) - 1


def tokens_of(file: Path, form: Format, tokenizer: Tokenizer, beside: Sequence[str] = ()) -> Tokens:
    """Return a file's rows as tokens.

    Plain text, and a completion, end with the tokenizer's end-of-sequence token, where it has one; a chat is as its
    template writes it.  Prompt and completion are tokenised as one text, and a token is learnt that has a character of
    the completion.

    Args:
        file: the file.
        form: the text of a row, and the part of it that is learnt.
        tokenizer: the tokenizer.
        beside: further columns that are wanted.

    Raises:
        ConfigError: with the row, for what the file lacks.
    """
    columns = tuple(dict.fromkeys((*form.columns, *beside)))
    return tokens_in(rows_in(file, columns), str(file), form, tokenizer, beside)


def tokens_in(
    rows: Iterator[Row],
    where: str,
    form: Format,
    tokenizer: Tokenizer,
    beside: Sequence[str] = (),
    trains: bool = True,
) -> Tokens:
    """Return rows as tokens, see :func:`tokens_of`.

    Args:
        rows: the rows, each with the columns that are needed.
        where: their place, for errors.
        form: as for a file; so are the rest.
        tokenizer: the tokenizer.
        beside: further columns that are wanted.
        trains: of each row something is learnt; False: of a chat without an answer nothing is, as in a prediction.

    Raises:
        ConfigError: with the row, for what it lacks.
    """
    chat = Chat(tokenizer, form.chat_template, trains) if form.messages is not None else None
    end = tokenizer.end
    ids: list[NDArray[Any]] = []
    learnt: list[NDArray[Any]] = []
    said: dict[str, list[str]] = {name: [] for name in beside}
    for texts, spans, some in _pieces(where, form, chat, rows):
        for name in beside:
            said[name] += [str(row[name]) for row in some]
        for text, span, found in zip(texts, spans, tokenizer.encode(texts, special=chat is None), strict=True):
            own, mask = found.ids, _within(found, text, span, end if chat is None else None)
            if chat is None and end is not None and not (len(own) and own[-1] == end):
                own, mask = np.append(own, end), np.append(mask, True)
            ids.append(own)
            learnt.append(mask)
    return Tokens(
        np.concatenate(ids).astype(np.uint32),
        np.concatenate(learnt).astype(np.bool_),
        np.cumsum([0, *map(len, ids)], dtype=np.int64),
        {name: np.asarray(values, dtype=np.str_) for name, values in said.items()},
        tokenizer.vocabulary,
        -1 if end is None else end,
        -1 if tokenizer.pad is None else tokenizer.pad,
    )


def closing(tokenizer: Tokenizer) -> int:
    """Return the number of tokens that stand behind each text: of the tokenizer, and the one that ends a text.

    >>> from fedray.data.text.tokenizers import Bytes
    >>> closing(Bytes())
    1
    """
    found = tokenizer.encode(["a"], special=True)[0]
    own = len(found.ids) - 1 - int(np.flatnonzero(found.ends[:, 1])[-1])
    return own + int(tokenizer.end is not None and found.ids[-1] != tokenizer.end)


def _pieces(
    place: str, form: Format, chat: Chat | None, rows: Iterator[Row]
) -> Iterator[tuple[list[str], list[list[Span]], list[Row]]]:
    """Yield texts, where in each stands what is learnt, and their rows, some at once."""
    done = 0
    while some := list(islice(rows, _AT_ONCE)):
        texts, spans = [], []
        for number, row in enumerate(some, start=done + 1):
            where = f"{place}, row {number}"
            if chat is not None:
                messages = form.chat(row, where)
                if chat.trains:
                    form.check_learnt(messages, where)
                text, span = chat.rendered(messages, where, form.completion_only_loss)
            else:
                prompt, rest = form.pair(row, where)
                text = prompt + rest
                span = [(len(prompt) if form.completion_only_loss else 0, len(text))]
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ConfigError(f"{where}: {error.object[error.start]!r} is half of a character") from None
            texts.append(text)
            spans.append(span)
        yield texts, spans, some
        done += len(some)


def _within(found: Encoded, text: str, spans: Sequence[Span], end: int | None) -> NDArray[np.bool_]:
    """Return which tokens have a character of a span; one that ends the text and was added to it does if its last has.

    >>> _within(Encoded(np.arange(3), np.array([[0, 2], [2, 5], [0, 0]])), "ab cd", [(3, 5)], 2)
    array([False,  True,  True])
    """
    start, stop = found.ends[:, 0], found.ends[:, 1]
    mask = np.zeros(len(found.ids), dtype=np.bool_)
    for low, high in spans:
        mask |= (start < high) & (stop > low) & (stop > start)
    if end is not None and len(mask) and found.ids[-1] == end and stop[-1] == 0:
        mask[-1] = any(high == len(text) for _, high in spans)
    return mask
