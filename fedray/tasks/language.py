"""The next token: of a text, or of what answers another one; and what evaluations have a model say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from fedray.config.bounds import check_at_least_1
from fedray.tasks.base import tasks
from fedray.tasks.positions import Tokens

MOST_SAMPLES = 64
"""The most samples of an evaluation: they are for the eye."""


def check_drawn(temperature: float, top_p: float, stop: Sequence[str]) -> None:
    """Raise ValueError unless ``top_p`` is a share, of tokens that are drawn, and words to stop at are some."""
    if not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p={top_p}: it must be above 0 and at most 1, all tokens")
    if top_p < 1.0 and not temperature:
        raise ValueError(f"top_p={top_p}: it is of tokens that are drawn, and the likeliest is taken: say temperature")
    if isinstance(stop, str) or not all(isinstance(word, str) and word for word in stop):
        raise ValueError(f"stop={stop!r}: a list of words is needed, none of them empty")


@dataclass(frozen=True)
class NextTokens(Tokens):
    """The base of tasks of the next token: logits ``[B, T, V]``, targets ``[B, T]``.

    Args:
        samples: prompts of the test set, evenly apart, after which each evaluation has the model go on; what it says
            stands in the record and in TensorBoard.
        new_tokens: the most tokens that are said after a prompt.
        temperature: 0: the likeliest token comes next; else one drawn from ``softmax(logits / temperature)``, by the
            run's seed, the round and the row.
        top_p: one is drawn from the likeliest alone whose shares together reach it, in (0, 1].
        stop: words before which a sample ends.
    """

    samples: int = 0
    new_tokens: int = 40
    temperature: float = 0.0
    top_p: float = 1.0
    stop: list[str] = field(default_factory=list)

    usual: ClassVar[tuple[str, ...]] = ("perplexity", "accuracy")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.samples <= MOST_SAMPLES:
            raise ValueError(f"samples={self.samples}: it must be from 0 to {MOST_SAMPLES}")
        check_at_least_1(new_tokens=self.new_tokens)
        if not 0.0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature={self.temperature}: it must be at least 0, the likeliest token")
        check_drawn(self.temperature, self.top_p, self.stop)


@tasks.register("causal_lm")
@dataclass(frozen=True)
class CausalLM(NextTokens):
    """The next token: logits ``[B, T, V]``, targets ``[B, T]``, the tokens: position t is to say token t + 1.

    >>> import torch
    >>> logits, tokens = torch.zeros(1, 3, 8), torch.tensor([[1, 2, 3]])
    >>> CausalLM().answers(logits, tokens).actual
    tensor([[2, 3]])

    Args:
        shift: targets are the tokens themselves; False: those that come next, ``[B, T]``.
    """

    shift: bool = True

    @property
    def unsaid(self) -> int:
        """The first token, where targets are the tokens themselves."""
        return int(self.shift)

    def logits(self, output: Tensor) -> Tensor:
        """Return outputs as ``[B, V, n]``, without the last position where targets are the tokens themselves."""
        return super().logits(output[:, :-1] if self.shift else output)

    def labels(self, target: Tensor) -> Tensor:
        """Return the tokens to be said, ``[B, n]``."""
        return target[:, 1:] if self.shift else target


@tasks.register("seq2seq_lm")
@dataclass(frozen=True)
class Seq2SeqLM(NextTokens):
    """The tokens that answer other ones: logits ``[B, T, V]``, targets ``[B, T]``: position t says token t.

    A model with an encoder and a decoder reads the column ``labels``, the targets, one place later: it says each of
    them by those before, and by what its encoder reads, ``input_ids``.

    >>> import torch
    >>> Seq2SeqLM().answers(torch.zeros(1, 3, 8), torch.tensor([[1, 2, 3]])).actual
    tensor([[1, 2, 3]])
    """

    pairs: ClassVar[bool] = True
