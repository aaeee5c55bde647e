"""Samples of evaluations: how a language model goes on where rows of the test set begin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedray.core.errors import ConfigError, counted
from fedray.data.columns.base import ClientData
from fedray.data.columns.inputs import InputColumns, Inputs, like
from fedray.data.columns.ragged import Ragged
from fedray.data.columns.rows import Examples
from fedray.data.text.tokenizers import tokenizer_of
from fedray.run.generation import Generation, GoOn, before, generate, inputs_of, stopping, takes_tokens
from fedray.run.replies import replies, takes_pairs, window_of
from fedray.tasks import CausalLM, NextTokens, Task

FIRST = 16
"""The tokens of a row that are its prompt, where all of it is learnt; of a short one the first half."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The tokens of a prompt, and of what follows it.

    Args:
        row: its number in the test set.
        prompt: the prompt.
        completion: the tokens that the model sets behind it.
        reference: the tokens of the row behind it, as many.
    """

    row: int
    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    reference: tuple[int, ...]


def sampling(task: Task) -> NextTokens | None:
    """Return the task where evaluations sample, else None."""
    return task if isinstance(task, NextTokens) and task.samples else None


def check_samples(task: Task, data: ClientData, tested: bool) -> None:
    """Raise ConfigError where evaluations are to sample and cannot.

    Args:
        task: the task.
        data: the data.
        tested: the test set is evaluated.
    """
    if (found := sampling(task)) is None:
        return
    if data.test is None or not tested:
        raise ConfigError(
            "task.samples: prompts are the beginnings of rows of a test set, and none is evaluated; say data.test and "
            "evaluate.every, or leave samples out"
        )
    if found.stop and "text" not in (data.taken or {}):
        raise ConfigError("task.stop: words are those of data: {name: text}, and of these tokens nobody knows any")
    if not (takes_pairs if task.pairs else takes_tokens)(data.spec):
        wanted = "input_ids and labels, with" if task.pairs else "tokens, alone or as input_ids with position_ids or"
        raise ConfigError(
            f"task.samples: inputs must be {wanted} attention_mask, and these are {data.spec.inputs}; leave samples out"
        )


def samples_told(task: Task, data: ClientData) -> tuple[str, ...]:
    """Return a line for the log on what samples cost; none where there are none."""
    if (found := sampling(task)) is None or data.test is None:
        return ()
    rows = counted(min(found.samples, len(data.test)), "row")
    said = (
        f"samples: each evaluation goes on after prompts of {rows} of the test set, for up to "
        f"{counted(found.new_tokens, 'token')}, each of which is a forward pass of {rows} by one worker"
    )
    return (said,)


def split(task: CausalLM, x: Tensor, y: Tensor) -> tuple[list[int], list[int]]:
    """Return the prompt of a row, and what it goes on with: what is learnt begins there.

    >>> task = CausalLM(ignore_index=9)
    >>> split(task, torch.tensor([1, 2, 3, 4, 0]), torch.tensor([9, 9, 3, 4, 9]))
    ([1, 2], [3, 4])
    >>> split(task, torch.tensor([1, 2, 3, 4, 0]), torch.tensor([1, 2, 3, 4, 9]))  # all of it is
    ([1, 2], [3, 4])

    Args:
        task: the task, which knows the target that does not count.
        x: tokens ``[T]``.
        y: targets ``[T]``.
    """
    # Where targets are the next tokens, each stands one place before the token that it is.
    ahead = int(not task.shift)
    counts = torch.ones_like(y, dtype=torch.bool) if task.ignore_index is None else y != task.ignore_index
    learnt = counts.nonzero()[:, 0].tolist()
    first = stop = len(x)
    if learnt:
        # As far as nothing stands between that is not learnt: what a user says next, or another row.
        last = next((a for a, b in pairwise(learnt) if b > a + 1), learnt[-1])
        first, stop = learnt[0] + ahead, min(len(x), last + ahead + 1)
    # The first token is nobody's to say; a token that begins each text is no prompt.
    if first <= 1:
        first = max(1, min(FIRST, stop // 2))
    tokens = x.tolist()
    return tokens[:first], tokens[first:stop]


def pair(task: NextTokens, x: InputColumns, y: Tensor) -> tuple[list[int], list[int]]:
    """Return the prompt of a row of prompts and completions, and its completion.

    >>> from fedray.tasks import Seq2SeqLM
    >>> x = InputColumns({"input_ids": torch.tensor([5, 6, 0]), "attention_mask": torch.tensor([1, 1, 0])})
    >>> pair(Seq2SeqLM(ignore_index=9), x, torch.tensor([7, 9]))
    ([5, 6], [7])

    Args:
        task: the task, which knows the target that does not count.
        x: the columns of the row, ``[T]`` each.
        y: targets ``[T]``.
    """
    there = x.columns.get("attention_mask", torch.ones_like(x["input_ids"])) == 1
    return x["input_ids"][there].tolist(), (y if task.ignore_index is None else y[y != task.ignore_index]).tolist()


def _first(rows: Tensor) -> Tensor:
    return rows[0].cpu()


def samples(
    task: NextTokens,
    test: Examples,
    outputs: Callable[[Inputs], Tensor],
    go_on: GoOn | None = None,
    *,
    end: int | None,
    seed: int,
    round: int,
    stops: Callable[[Sequence[int]], bool] | None = None,
) -> tuple[Sample, ...]:
    """Return how a model goes on after prompts of a test set: rows that are evenly apart, the same in each round.

    Args:
        task: the task.
        test: the test set.
        outputs: inputs of n rows to logits ``[n, T, V]``.
        go_on: the model where it keeps keys and values of tokens; None: it does not.
        end: the token that ends a text, if there is one.
        seed: names the draws, with ``round``.
        round: the round.
        stops: tells of what is said if it ends there.
    """
    rows = np.linspace(0, len(test) - 1, min(task.samples, len(test))).round().astype(np.int64).tolist()
    spec, tokens = task.spec, task.spec.tokens
    assert tokens is not None
    said = "labels" if task.pairs else tokens.name
    store = test.x[said] if isinstance(test.x, InputColumns) else test.x
    ragged = store if isinstance(store, Ragged) else None
    how = Generation(
        task.new_tokens,
        window=window_of(spec) if task.pairs else tokens.shape[0],
        vocabulary=tokens.vocabulary,
        end=end,
        pad=int(ragged.pad or 0) if ragged is not None else 0,
        multiple=None if ragged is None else ragged.multiple,
        temperature=task.temperature,
        top_p=task.top_p,
        stops=stops,
        seed=seed,
        round=round,
    )
    if isinstance(task, CausalLM):
        plain = Examples(store, test.y)
        pieces = [split(task, *(one[0].cpu() for one in plain.slice(row, row + 1))) for row in rows]
        prompts = [prompt for prompt, _ in pieces]
        found = generate(lambda x: outputs(inputs_of(spec, x)), prompts, how, rows, go_on)
    else:
        pieces = [pair(task, *(like(one, _first) for one in test.slice(row, row + 1))) for row in rows]
        found = replies(outputs, spec, [prompt for prompt, _ in pieces], how, rows)
    return tuple(
        Sample(row, tuple(prompt), tuple(own), tuple(rest[: task.new_tokens]))
        for row, (prompt, rest), own in zip(rows, pieces, found, strict=True)
    )


@dataclass(frozen=True)
class Words:
    """The text of samples.

    >>> words = Words({"text": {"tokenizer": "bytes"}})
    >>> words.of([Sample(3, (72, 105), (33,), (63,))])
    [{'row': 3, 'prompt': 'Hi', 'completion': '!', 'reference': '?'}]
    >>> Words(None).of([Sample(3, (72, 105), (33,), (63,))])[0]["prompt"]  # of tokens that nobody can read
    '72 105'

    Args:
        taken: the meaning of the files of the data, see :class:`fedray.data.ClientData`.
        stop: words before which a completion ends.
    """

    taken: Mapping[str, Any] | None
    stop: Sequence[str] = ()

    @classmethod
    def of_task(cls, task: Task, data: ClientData) -> Words:
        """Return those of the samples of a task on some data."""
        return cls(data.taken, found.stop if (found := sampling(task)) is not None else ())

    @property
    def stops(self) -> Callable[[Sequence[int]], bool] | None:
        """The function that tells of tokens that are said if they end there; None: there is none."""
        return stopping(self.stop, self._decode) if self.stop else None

    @cached_property
    def _decode(self) -> Callable[[Sequence[int]], str]:
        text = (self.taken or {}).get("text")
        return (lambda ids: " ".join(map(str, ids))) if text is None else tokenizer_of(text["tokenizer"]).decode

    def of(self, found: Iterable[Sample]) -> list[dict[str, Any]]:
        """Return samples as a record has them."""
        return [
            {
                "row": one.row,
                "prompt": self._decode(one.prompt),
                "completion": before(self._decode(one.completion), self.stop),
                "reference": self._decode(one.reference),
            }
            for one in found
        ]


def end_of(data: ClientData) -> int | None:
    """Return the token that ends a text of some data, if it is known."""
    text = (data.taken or {}).get("text")
    return None if text is None else text["end"]
