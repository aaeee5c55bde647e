"""Replies of a model of an encoder and a decoder to prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fedray.data.columns.inputs import InputColumns, Inputs
from fedray.data.columns.ragged import Ragged
from fedray.data.spec import DataSpec
from fedray.data.text.inputs import IDS, LABELS, MASK
from fedray.run.generation import Generation, Tokens, in_turns


def takes_pairs(spec: DataSpec) -> bool:
    """Tell if a model of some data takes prompts and what answers them, and beside these no more than a mask.

    >>> from fedray.data.spec import Column
    >>> takes_pairs(DataSpec((), 9, columns=(Column("labels", (4,), 9), Column("input_ids", (6,), 9))))
    True
    """
    return {IDS, LABELS} <= {one.name for one in spec.columns} <= {IDS, LABELS, MASK}


def window_of(spec: DataSpec) -> int:
    """Return the most tokens that a decoder sees at once: as many as training has shown it, and one before them."""
    return 1 + next(one.shape[0] for one in spec.columns if one.name == LABELS)


def inputs_of_pairs(spec: DataSpec, prompts: Sequence[Tokens], labels: Tensor, pad: int) -> InputColumns:
    """Return prompts and what answers them as the columns that a model of some data takes.

    Args:
        spec: the data.
        prompts: their tokens.
        labels: int64 ``[n, T]``.
        pad: the token behind prompts that are shorter than others.
    """
    asked = Ragged.of(prompts, pad=pad).tensors()
    known = {IDS: asked.dense(), MASK: asked.present().dense(), LABELS: labels}
    return InputColumns({column.name: known[column.name] for column in spec.columns})


def replies(
    outputs: Callable[[Inputs], Tensor],
    spec: DataSpec,
    prompts: Sequence[Tokens],
    how: Generation,
    keys: Sequence[int] | None = None,
) -> list[list[int]]:
    """Return what a model answers to each of some prompts.

    Each token is one forward pass, of encoder and decoder, over all prompts whose answer has not ended.  The mask tells
    which tokens of a prompt are padding; so what is said to one depends on no other one, but for rounding.

    >>> from fedray.data.spec import Column
    >>> spec = DataSpec((), 10, columns=(Column("labels", (4,), 10), Column("input_ids", (6,), 10)))
    >>> def counts(x):  # says at each place the token before it and one more, and first that of the prompt
    ...     before = torch.cat([x["input_ids"][:, :1], x["labels"][:, :-1]], dim=1)
    ...     return F.one_hot(before + 1, 10).float()
    >>> replies(counts, spec, [[3], [6, 1]], Generation(3, window=5, vocabulary=10, end=8))
    [[4, 5, 6], [7]]

    Args:
        outputs: columns of inputs to logits ``[n, T, V]``, on any device.
        spec: the data that the model was trained on.
        prompts: their tokens, at least one each.
        how: the way in which it answers; ``window`` as :func:`window_of` has it.
        keys: of the prompts, for draws; by default their places.
    """

    def forward(x: Tensor, going: list[int]) -> Tensor:
        # What is said stands one place behind a token that nobody has said, and a decoder sees it so.
        labels = F.pad(x[:, 1:], (0, 1), value=how.pad)
        return outputs(inputs_of_pairs(spec, [prompts[place] for place in going], labels, how.pad))

    names: Any = torch.tensor(range(len(prompts)) if keys is None else list(keys))
    return in_turns(forward, [[how.pad] for _ in prompts], how, names)
