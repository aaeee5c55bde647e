"""Text under a run's model: inputs of texts, the perplexity of rows, and what the model says after prompts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from fedray.data.text.inputs import MULTIPLE, masked
from fedray.data.text.packing import Sequences, cut
from fedray.data.text.prompts import Prompt, prompts_in
from fedray.data.text.tokenizers import Tokenizer, tokenizer_of
from fedray.data.text.tokens import closing, tokens_in
from fedray.predict.predictions import Predictions
from fedray.run.generation import Generation, GoOn, before, generate, inputs_of, stopping
from fedray.tasks import Task
from fedray.tasks.language import check_drawn

_log = logging.getLogger("fedray")

AT_ONCE = 8
"""Rows whose logits are held at once."""

Outputs = Callable[[Any], Tensor]


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
        go_on: the model where it keeps keys and values of tokens; None: it does not.
    """

    task: Task
    outputs: Outputs
    tokenizer: Tokenizer
    said: Any
    limit: int
    window: int
    go_on: GoOn | None = None

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
            task,
            cls._takes(outputs, task),
            tokenizer,
            text.get("format"),
            limit,
            tokens.shape[0],
            getattr(outputs, "go_on", None),
        )

    @staticmethod
    def _takes(outputs: Outputs, task: Task) -> Outputs:
        """Return outputs of tokens alone."""
        return lambda x: outputs(inputs_of(task.spec, x))

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
        total, count = self._measured(some, where, form)
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
        rest = {"row": np.arange(1, len(count) + 1), "targets": count.astype(np.int64)}
        return Predictions(perplexity, None, (), total.astype(np.float32), rest, "perplexity")

    def inputs(self, rows: Any) -> tuple[dict[str, Ragged], dict[str, Any]]:
        """Return texts as a model takes them that tells a class, or numbers, of each: tokens, and a mask.

        Args:
            rows: as for :meth:`scored`; targets need not be there.

        Returns:
            The columns, and what goes along: the number of the ``row``, from 1, and columns of one value a row that
            are no text of the model, such as ids.

        Raises:
            ConfigError: rows that cannot be read so.
        """
        some, where, form = self._rows(rows)
        kept = list(some)
        found = tokens_in(having(iter(kept), where, form.columns), where, form, self.tokenizer)
        whole = Sequences(found.ids, found.learnt, found.offsets, np.arange(len(found)))
        own = cut(whole, self.limit, closing(self.tokenizer))
        names = [name for name in kept[0] if name not in form.columns]
        rest = {name: [row.get(name) for row in kept] for name in names}
        single = {
            name: np.array(one) for name, one in rest.items() if all(isinstance(v, str | int | float) for v in one)
        }
        return masked(own, found.pad, self.window), {"row": np.arange(1, len(found) + 1), **single}

    def completed(
        self, rows: Any, new_tokens: int, temperature: float, seed: int, top_p: float = 1.0, stop: Sequence[str] = ()
    ) -> Predictions:
        """Return what the model says after each prompt.

        Args:
            rows: as for :meth:`scored`; completions need not be there.
            new_tokens: the most tokens that are said.
            temperature: 0: the likeliest ones.
            seed: names, with the number of the row, what is drawn.
            top_p: tokens are drawn from the likeliest alone whose shares together reach it.
            stop: words before which a completion ends.

        Returns:
            In ``predicted`` the completions; in ``rest`` the number of the ``row``, from 1, and its ``prompt``.

        Raises:
            ConfigError: prompts that cannot be read as those of the run.
        """
        if new_tokens < 1:
            raise ConfigError(f"generate: at least 1 new token is needed, got {new_tokens}")
        if not 0.0 <= temperature < float("inf"):
            raise ConfigError(f"temperature={temperature}: it must be at least 0, the likeliest token")
        try:
            check_drawn(temperature, top_p, stop)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        end, pad = self.tokenizer.end, self.tokenizer.pad or 0
        stops = stopping(stop, self.tokenizer.decode)
        how = Generation(
            new_tokens, self.window, self.tokenizer.vocabulary, end, pad, MULTIPLE, temperature, top_p, stops, seed
        )
        prompts = self._prompts(*self._rows(rows))
        said: list[list[int]] = []
        for start in range(0, len(prompts), AT_ONCE):
            some = [prompt.ids for prompt in prompts[start : start + AT_ONCE]]
            said += self._said(some, how, range(start, start + len(some)))
        found = [before(self.tokenizer.decode(ids), stop) for ids in said]
        texts = [prompt.completion(text) for prompt, text in zip(prompts, found, strict=True)]
        rest = {"row": np.arange(1, len(prompts) + 1), "prompt": np.array([prompt.text for prompt in prompts])}
        none = np.zeros((len(texts), 0), dtype=np.float32)
        return Predictions(np.array(texts, dtype=np.str_), None, (), none, rest, "completion")

    def _prompts(self, rows: Iterator[Row], where: str, form: Format) -> list[Prompt]:
        """Return the prompts of rows."""
        return prompts_in(rows, where, form, self.tokenizer)

    def _said(self, prompts: Sequence[tuple[int, ...]], how: Generation, keys: Sequence[int]) -> list[list[int]]:
        """Return what the model says after some prompts."""
        return generate(self.outputs, prompts, how, keys, self.go_on)

    def _measured(self, rows: Iterator[Row], where: str, form: Format) -> tuple[Any, Any]:
        """Return the losses of rows, summed over what is learnt of each, and how much that is, ``[N]`` each."""
        found = tokens_in(having(rows, where, form.columns), where, form, self.tokenizer, trains=False)
        whole = Sequences(found.ids, found.learnt, found.offsets, np.arange(len(found)))
        return joined(self._losses(cut(whole, self.limit), found.pad))

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
        for start in range(0, len(ids), AT_ONCE):
            piece = slice(start, start + AT_ONCE)
            x, y = (one[piece].changed(length=one[piece].longest).tensors().dense() for one in (ids, targets))
            with torch.no_grad():
                total, count = self.task.entropy(self.outputs(x), y)
            yield total.double().numpy(), count.numpy()


def joined(parts: Iterable[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return the losses and the numbers of rows of which some come at once, ``[N]`` each."""
    total, count = (np.concatenate(one) for one in zip(*parts, strict=True))
    return total, count


def _row(text: str, form: Format) -> Row:
    """Return text alone as a row: of a chat it is what a user says."""
    if form.messages is not None:
        return {form.messages: [{"role": "user", "content": text}]}
    columns = form.templates[0].columns
    if len(columns) > 1:
        raise ConfigError(f"rows: text alone does not say which column it is; give a dict with {listed(columns)} a row")
    return {columns[0]: text}
