"""Character-level LSTM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import debug_unwrap
from torch.nn import functional

from fedray.data.spec import DataSpec
from fedray.models.fit import check_counts, token_length
from fedray.models.registry import models


@models.register("lstm")
@dataclass(frozen=True)
class LSTM:
    """Embedding, LSTM layers, and a linear head on the last position: the next character, or a class of the text.

    The Shakespeare model of McMahan et al., arXiv:1602.05629.  Deviation: torch's LSTM has two bias vectors per gate
    where the paper's has one.

    >>> module = LSTM(hidden=16, layers=1).build(DataSpec(shape=(80,), outputs=90, vocabulary=90))
    >>> module(torch.zeros(2, 80, dtype=torch.int64)).shape
    torch.Size([2, 90])

    Args:
        embedding: length of the vector that stands for a token.
        hidden: units of each LSTM layer.
        layers: number of LSTM layers.
    """

    name: ClassVar[str]
    embedding: int = 8
    hidden: int = 256
    layers: int = 2

    def __post_init__(self) -> None:
        check_counts(embedding=self.embedding, hidden=self.hidden, layers=self.layers)

    def build(self, spec: DataSpec) -> nn.Module:
        """Build the module, int64 ``[B, length]`` to ``[B, outputs]``; ConfigError unless token sequences."""
        token_length(spec, self.name)
        return TokenLSTM(spec.vocabulary, spec.outputs, self.embedding, self.hidden, self.layers)


class TokenLSTM(nn.Module):
    """An LSTM over token sequences, read out at the last position.

    Args:
        vocabulary: number of distinct tokens.
        outputs: size of the output.
        embedding: length of a token's vector.
        hidden: units of each layer.
        layers: number of layers.
    """

    def __init__(self, vocabulary: int, outputs: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map int64 ``[B, length]`` to ``[B, outputs]``."""
        embedded = self.embedding(tokens)
        # torch's fused LSTM is 2 to 4 times faster for one model, but vmap has no rule for it (torch 2.13).
        weight = self.lstm.all_weights[0][0]
        stacked = debug_unwrap(weight) is not weight
        states = recurrence(self.lstm, embedded) if stacked else self.lstm(embedded)[0]
        logits: Tensor = self.head(states[:, -1])
        return logits


def recurrence(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """Return the states of the last layer of ``lstm``, step by step in operations that ``torch.func.vmap`` knows.

    ``c <- sigmoid(f) c + sigmoid(i) tanh(g)``, ``h <- sigmoid(o) tanh(c)``, where ``(i, f, g, o)`` is
    ``W x + b + U h + d``; h and c start at 0.

    Args:
        lstm: a batch-first, one-directional LSTM with biases and without dropout or projections.
        x: inputs ``[B, length, features]``.

    Returns:
        ``[B, length, hidden]``, what ``lstm(x)[0]`` is.
    """
    size = lstm.hidden_size
    for input_weight, state_weight, input_bias, state_bias in lstm.all_weights:
        driven = functional.linear(x, input_weight, input_bias + state_bias)
        hidden = cell = torch.zeros_like(driven[:, 0, :size])
        states = []
        for drive in driven.unbind(1):
            gates, new, out = torch.split(drive + hidden @ state_weight.T, [2 * size, size, size], dim=1)
            enter, forget = gates.sigmoid().chunk(2, dim=1)
            cell = forget * cell + enter * new.tanh()
            hidden = out.sigmoid() * cell.tanh()
            states.append(hidden)
        x = torch.stack(states, dim=1)
    return x
