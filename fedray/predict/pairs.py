"""Text of prompts and answers under a model of an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fedray.data.columns.ragged import Ragged
from fedray.data.text.files import Row, having
from fedray.data.text.formats import Format
from fedray.data.text.packing import Sequences, cut
from fedray.data.text.prompts import Prompt
from fedray.data.text.tokens import closing, tokens_in
from fedray.predict.texts import AT_ONCE, Outputs, Texts, joined
from fedray.run.generation import Generation
from fedray.run.replies import inputs_of_pairs, replies, window_of
from fedray.tasks import Task


def texts_of(task: Task, outputs: Outputs, taken: Mapping[str, Any]) -> Texts:
    """Return the text of a run under its model, see :meth:`fedray.predict.texts.Texts.of`."""
    return (Pairs if taken["text"].get("pairs") else Texts).of(task, outputs, taken)


class Pairs(Texts):
    """Prompts and completions, each a sequence of its own; the model says completions by prompts."""

    @staticmethod
    def _takes(outputs: Outputs, task: Task) -> Outputs:
        return outputs

    def _tokens(self, rows: list[Row], where: str, form: Format, limit: int) -> list[list[int]]:
        """Return the tokens of rows, of which at most ``limit`` for each."""
        found = tokens_in(having(iter(rows), where, form.columns), where, form, self.tokenizer)
        whole = Sequences(found.ids, found.learnt, found.offsets, np.arange(len(found)))
        own = cut(whole, limit, closing(self.tokenizer))
        return [one.tolist() for one in np.split(own.ids, own.offsets[1:-1])]

    def _prompts(self, rows: Iterator[Row], where: str, form: Format) -> list[Prompt]:
        asked, kept = form.halves()[0], list(rows)
        some = enumerate(having(iter(kept), where, asked.columns), start=1)
        texts = [asked.pair(row, f"{where}, row {number}")[1] for number, row in some]
        ids = self._tokens(kept, where, asked, self.limit)
        return [Prompt(text, tuple(own)) for text, own in zip(texts, ids, strict=True)]

    def _said(self, prompts: Sequence[tuple[int, ...]], how: Generation, keys: Sequence[int]) -> list[list[int]]:
        spec = self.task.spec
        return replies(self.outputs, spec, prompts, replace(how, window=window_of(spec)), keys)

    def _measured(self, rows: Iterator[Row], where: str, form: Format) -> tuple[Any, Any]:
        kept, limits = list(rows), (self.limit, max(self.limit, window_of(self.task.spec) - 1))
        prompts, said = (
            self._tokens(kept, where, half, limit) for half, limit in zip(form.halves(), limits, strict=True)
        )
        return joined(self._losses_of(prompts, said))

    def _losses_of(self, prompts: list[list[int]], said: list[list[int]]) -> Iterator[tuple[Any, Any]]:
        """Yield the losses of completions, summed over their tokens, and the number of these, some rows at once."""
        pad, vocabulary = self.tokenizer.pad or 0, self.tokenizer.vocabulary
        for start in range(0, len(prompts), AT_ONCE):
            piece = slice(start, start + AT_ONCE)
            labels, y = (Ragged.of(said[piece], pad=one).tensors().dense() for one in (pad, vocabulary))
            x = inputs_of_pairs(self.task.spec, prompts[piece], labels, pad)
            with torch.no_grad():
                total, count = self.task.entropy(self.outputs(x), y)
            yield total.double().numpy(), count.numpy()
