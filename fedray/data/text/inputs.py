"""Sequences of tokens as the inputs and the targets of models, by the names that those of transformers have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedray.data.columns.ragged import Ragged
from fedray.data.columns.small import smallest
from fedray.data.spec import Column, DataSpec
from fedray.data.text.packing import Sequences

IDS, POSITIONS, MASK, LABELS = "input_ids", "position_ids", "attention_mask", "labels"
"""The names of tokens, of their places in rows, of what is no padding, and of the tokens that answer others."""

MULTIPLE = 8
"""Batches are padded to a multiple of it, as tensor cores like it."""


def spec_of(length: int, vocabulary: int, whole: bool) -> DataSpec:
    """Return the specification of sequences of up to a length; ``whole``: rows are packed whole."""
    if not whole:
        return DataSpec((length,), vocabulary, vocabulary=vocabulary, padding=vocabulary)
    columns = Column(IDS, (length,), vocabulary), Column(POSITIONS, (length,), length)
    return DataSpec((), vocabulary, columns=columns, padding=vocabulary)


def learning(rows: Sequences, pad: int, vocabulary: int, length: int) -> tuple[Any, Ragged]:
    """Return tokens, and as targets those that are learnt, with the number behind the last token for all others.

    Args:
        rows: the sequences.
        pad: the token behind them.
        vocabulary: the number of tokens.
        length: the most tokens of one.
    """
    x = Ragged(rows.ids, rows.offsets, pad=pad, multiple=MULTIPLE, length=length)
    y = x.only(rows.learnt, vocabulary)
    if rows.positions is None:
        return x, y
    # A position of 0 says that a row begins: each token of padding is one of its own.
    positions = rows.positions.astype(smallest(length))
    return {IDS: x, POSITIONS: Ragged(positions, rows.offsets, pad=0, multiple=MULTIPLE, length=length)}, y


def masked_columns(length: int, vocabulary: int) -> tuple[Column, Column]:
    """Return the columns of sequences beside a mask."""
    return Column(IDS, (length,), vocabulary), Column(MASK, (length,), 2)


def masked(rows: Sequences, pad: int, length: int) -> dict[str, Ragged]:
    """Return sequences as inputs beside a mask, for models that look both ways.

    Args:
        rows: the sequences.
        pad: the token behind them.
        length: the most tokens of one.
    """
    return {IDS: Ragged(rows.ids, rows.offsets, pad=pad, multiple=MULTIPLE, length=length, mask=MASK)}


def paired(
    prompts: Sequence[Sequences], answers: Sequence[Sequences], pad: int, vocabulary: int
) -> tuple[list[tuple[Any, Ragged]], DataSpec]:
    """Return prompts beside a mask, the answers beside them, which are the targets, too, and their specification.

    >>> def rows(*lengths):
    ...     count = sum(lengths)
    ...     return Sequences(np.arange(count), np.ones(count, bool), np.cumsum([0, *lengths]), np.zeros(2))
    >>> sets, spec = paired([rows(3, 1)], [rows(1, 2)], pad=0, vocabulary=9)
    >>> spec.inputs, sets[0][1].dense()
    ('labels 2 tokens of 9, input_ids 3 tokens of 9, attention_mask 3 tokens of 2', array([[0, 9],
           [1, 2]]))

    Args:
        prompts: those of training, and of a test set.
        answers: the same of what answers them.
        pad: the token behind both.
        vocabulary: the number of tokens, which is the target behind an answer.
    """
    asked, said = (max(1, *(int(np.diff(one.offsets).max()) for one in rows)) for rows in (prompts, answers))
    found = []
    for prompt, answer in zip(prompts, answers, strict=True):
        labels = Ragged(answer.ids, answer.offsets, pad=pad, multiple=MULTIPLE, length=said)
        # Targets lie on the memory of the first column of sequences.
        found.append(({LABELS: labels, **masked(prompt, pad, asked)}, labels.only(answer.learnt, vocabulary)))
    columns = (Column(LABELS, (said,), vocabulary), *masked_columns(asked, vocabulary))
    return found, DataSpec((), vocabulary, columns=columns, padding=vocabulary)
