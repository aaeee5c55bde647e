"""Text under a run's model: the perplexity of each row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedray.core.errors import ConfigError, listed
from fedray.data.columns.ragged import Ragged
from fedray.data.text.files import KINDS, columns_in
from fedray.data.text.formats import Format
from fedray.data.text.packing import Sequences, cut
from fedray.data.text.tokenizers import tokenizer_of
from fedray.data.text.tokens import tokens_of
from fedray.predict.predictions import Predictions
from fedray.predict.predictor import Predictor

_AT_ONCE = 8
"""Rows whose logits are held at once."""


def is_text(rows: Path, said: Mapping[str, Any]) -> bool:
    """Tell if a file holds text, for a run whose ``data`` section says so."""
    return said.get("name") == "text" and rows.suffix.lower() in KINDS


def scored(predictor: Predictor, rows: Path, said: Mapping[str, Any]) -> Predictions:
    """Return the perplexity of each row of a file of text: exp of the mean loss of the tokens that are learnt of it.

    Rows are read as the run's were, and cut to its ``max_length``; each is a sequence of its own, also where a run has
    packed them.

    Args:
        predictor: the model of the run.
        rows: the file.
        said: the ``data`` section of the run.

    Returns:
        In ``predicted`` the perplexity, NaN for a row of which nothing is learnt within ``max_length``; in ``rest``
        the number of the ``row``, from 1, and of ``targets``.

    Raises:
        ConfigError: rows that cannot be read so, or tokens that the model does not know.
    """
    there = columns_in(rows)
    try:
        form = Format.of(said.get("format"), there, rows)
    except ConfigError:
        raise ConfigError(
            f"{rows} has the columns {listed(there)}; call them as those are called that the run was trained on: text, "
            "prompt and completion, or messages"
        ) from None
    found = tokens_of(rows, form, tokenizer_of(str(said["tokenizer"])))
    vocabulary = predictor.task.spec.vocabulary
    if found.vocabulary != vocabulary:
        raise ConfigError(
            f"{said['tokenizer']}: the tokenizer knows {found.vocabulary:,} tokens, and the run was trained with "
            f"{vocabulary:,}: it has changed since"
        )
    whole = Sequences(found.ids, found.learnt, found.offsets, np.arange(len(found)))
    limit = said.get("max_length") or predictor.task.spec.shape[0]
    sequences = cut(whole, int(limit))
    parts = list(_losses(predictor, sequences, found.pad))
    total, count = (np.concatenate(one) for one in zip(*parts, strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        perplexity = np.exp(np.where(count > 0, total / count, np.nan))
    rest = {"row": np.arange(1, len(found) + 1), "targets": count.astype(np.int64)}
    return Predictions(perplexity, None, (), total.astype(np.float32), rest, "perplexity")


def _losses(predictor: Predictor, rows: Sequences, pad: int) -> Iterator[tuple[Any, Any]]:
    """Yield the losses of rows, summed over what is learnt of each, and how much that is, some rows at once."""
    vocabulary = predictor.task.spec.vocabulary
    ids = Ragged(rows.ids.astype(np.int64), rows.offsets, pad=pad)
    targets = Ragged(np.where(rows.learnt, rows.ids, vocabulary).astype(np.int64), rows.offsets, pad=vocabulary)
    for start in range(0, len(ids), _AT_ONCE):
        piece = slice(start, start + _AT_ONCE)
        x, y = (one[piece].changed(length=one[piece].longest).tensors().dense() for one in (ids, targets))
        with torch.no_grad():
            total, count = predictor.task.entropy(predictor.outputs(x), y)
        yield total.double().numpy(), count.numpy()
