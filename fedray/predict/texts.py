"""Text under a run's model: the perplexity of rows, and what the model says after prompts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedray.core.errors import ConfigError, listed
from fedray.data.columns.ragged import Ragged
from fedray.data.text.files import KINDS, Row, having, rows_in
from fedray.data.text.formats import Format
from fedray.data.text.packing import Sequences, cut
from fedray.data.text.prompts import prompts_in
from fedray.data.text.reading import MULTIPLE
from fedray.data.text.tokenizers import Tokenizer, tokenizer_of
from fedray.data.text.tokens import tokens_in
from fedray.predict.predictions import Predictions
from fedray.run.generation import Generation, generate, inputs_of
from fedray.tasks import Task

_log = logging.getLogger("fedray")

_AT_ONCE = 8
"""Rows whose logits are held at once."""

Outputs = Callable[[Tensor], Tensor]


def is_text(rows: Any) -> bool:
    """Tell if rows, for a model of text, are text and no arrays of tokens.

    >>> is_text("new.jsonl"), is_text(["Hello."]), is_text([{"question": "Why?"}]), is_text([[1, 2]]), is_text("x.npy")
    (True, True, True, False, False)
    """
    if isinstance(rows, str | Path):
        return Path(rows).suffix.lower() in KINDS
    if isinstance(rows, np.ndarray):
        return rows.dtype.kind in "UO"
    return isinstance(rows, Sequence) and all(isinstance(row, str | Mapping) for row in rows)


@dataclass(frozen=True)
class Texts:
    """Text as a run has read it, under its model.

    Args:
        task: the meaning of the model's outputs.
        outputs: tokens ``[N, T]`` to logits ``[N, T, V]``.
        tokenizer: the tokenizer.
        said: the format of rows, as a config says it.
        limit: the most tokens of a row.
        window: the most tokens that training has shown the model at once.
    """

    task: Task
    outputs: Outputs
    tokenizer: Tokenizer
    said: Any
    limit: int
    window: int

    @classmethod
    def of(cls, task: Task, outputs: Outputs, taken: Mapping[str, Any]) -> Texts:
        """Return them by what the files of a run were taken for.

        Args:
            task: the meaning of the model's outputs.
            outputs: the model.
            taken: see :class:`fedray.data.ClientData`; it has ``text``.

        Raises:
            ConfigError: there is no such tokenizer, or it has changed.
        """
        text = taken["text"]
        tokenizer = tokenizer_of(str(text["tokenizer"]))
        tokens = task.spec.tokens
        assert tokens is not None
        if tokenizer.vocabulary != tokens.vocabulary:
            raise ConfigError(
                f"{text['tokenizer']}: the tokenizer knows {tokenizer.vocabulary:,} tokens, and the run was trained "
                f"with {tokens.vocabulary:,}: it has changed since"
            )
        limit = int(text.get("max_length") or tokens.shape[0])
        return cls(
            task, lambda x: outputs(inputs_of(task.spec, x)), tokenizer, text.get("format"), limit, tokens.shape[0]
        )

    def scored(self, rows: Any) -> Predictions:
        """Return the perplexity of each row: exp of the mean loss of the tokens that are learnt of it.

        Rows are read as the run's were, and cut to its ``max_length``; each is a sequence of its own, also where a run
        has packed them.

        Args:
            rows: see :meth:`fedray.predict.predictor.Predictor.predict`.

        Returns:
            In ``predicted`` the perplexity, NaN for a row of which nothing is learnt within ``max_length``; in ``rest``
            the number of the ``row``, from 1, and of ``targets``.

        Raises:
            ConfigError: rows that cannot be read so.
        """
        some, where, form = self._rows(rows)
        found = tokens_in(having(some, where, form.columns), where, form, self.tokenizer, trains=False)
        whole = Sequences(found.ids, found.learnt, found.offsets, np.arange(len(found)))
        parts = list(self._losses(cut(whole, self.limit), found.pad))
        total, count = (np.concatenate(one) for one in zip(*parts, strict=True))
        if unsaid := int((count == 0).sum()):
            _log.warning(
                "%s: %s of %s rows have no perplexity, as they hold nothing that is learnt, such as an assistant's "
                "answer, within %s tokens; to have the model answer: --generate 40, in Python generate(rows)",
                where,
                f"{unsaid:,}",
                f"{len(count):,}",
                f"{self.limit:,}",
            )
        with np.errstate(invalid="ignore", divide="ignore"):
            perplexity = np.exp(np.where(count > 0, total / count, np.nan))
        rest = {"row": np.arange(1, len(found) + 1), "targets": count.astype(np.int64)}
        return Predictions(perplexity, None, (), total.astype(np.float32), rest, "perplexity")

    def completed(self, rows: Any, new_tokens: int, temperature: float, seed: int) -> Predictions:
        """Return what the model says after each prompt.

        Args:
            rows: as for :meth:`scored`; completions need not be there.
            new_tokens: the most tokens that are said.
            temperature: 0: the likeliest ones.
            seed: names, with the number of the row, what is drawn.

        Returns:
            In ``predicted`` the completions; in ``rest`` the number of the ``row``, from 1, and its ``prompt``.

        Raises:
            ConfigError: prompts that cannot be read as those of the run.
        """
        if new_tokens < 1:
            raise ConfigError(f"generate: at least 1 new token is needed, got {new_tokens}")
        if not 0.0 <= temperature < float("inf"):
            raise ConfigError(f"temperature={temperature}: it must be at least 0, the likeliest token")
        prompts = prompts_in(*self._rows(rows), self.tokenizer)
        end, pad = self.tokenizer.end, self.tokenizer.pad or 0
        how = Generation(new_tokens, self.window, self.tokenizer.vocabulary, end, pad, MULTIPLE, temperature, seed)
        said: list[list[int]] = []
        for start in range(0, len(prompts), _AT_ONCE):
            some = [prompt.ids for prompt in prompts[start : start + _AT_ONCE]]
            said += generate(self.outputs, some, how, range(start, start + len(some)))
        texts = [prompt.completion(self.tokenizer.decode(ids)) for prompt, ids in zip(prompts, said, strict=True)]
        rest = {"row": np.arange(1, len(prompts) + 1), "prompt": np.array([prompt.text for prompt in prompts])}
        none = np.zeros((len(texts), 0), dtype=np.float32)
        return Predictions(np.array(texts, dtype=np.str_), None, (), none, rest, "completion")

    def _rows(self, rows: Any) -> tuple[Iterator[Row], str, Format]:
        """Return rows, their place in words, and their format."""
        if isinstance(rows, str | Path):
            file = Path(rows)
            return rows_in(file, None), str(file), self._format(list(next(rows_in(file, None))), file)
        some: list[Any] = list(rows)
        if not some:
            raise ConfigError("rows: there are no rows")
        named = next((list(row) for row in some if isinstance(row, Mapping)), [])
        form = self._format(named, Path("rows")) if named or self.said else Format(text="text")
        return (dict(row) if isinstance(row, Mapping) else _row(row, form) for row in some), "rows", form

    def _format(self, there: list[str], file: Path) -> Format:
        """Return the format of rows with some columns."""
        try:
            return Format.of(self.said, there, file)
        except ConfigError:
            raise ConfigError(
                f"{file} has the columns {listed(there)}; call them as those are called that the run was trained on: "
                "text, prompt and completion, or messages"
            ) from None

    def _losses(self, rows: Sequences, pad: int) -> Iterator[tuple[Any, Any]]:
        """Yield the losses of rows, summed over what is learnt of each, and how much that is, some rows at once."""
        vocabulary = self.tokenizer.vocabulary
        ids = Ragged(rows.ids.astype(np.int64), rows.offsets, pad=pad)
        targets = Ragged(np.where(rows.learnt, rows.ids, vocabulary).astype(np.int64), rows.offsets, pad=vocabulary)
        for start in range(0, len(ids), _AT_ONCE):
            piece = slice(start, start + _AT_ONCE)
            x, y = (one[piece].changed(length=one[piece].longest).tensors().dense() for one in (ids, targets))
            with torch.no_grad():
                total, count = self.task.entropy(self.outputs(x), y)
            yield total.double().numpy(), count.numpy()


def _row(text: str, form: Format) -> Row:
    """Return text alone as a row: of a chat it is what a user says."""
    if form.messages is not None:
        return {form.messages: [{"role": "user", "content": text}]}
    columns = form.templates[0].columns
    if len(columns) > 1:
        raise ConfigError(f"rows: text alone does not say which column it is; give a dict with {listed(columns)} a row")
    return {columns[0]: text}
