"""Texts that a model goes on with after prompts: token after token, the likeliest ones or drawn by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedray.core.rng import Stream
from fedray.data.columns.inputs import InputColumns, Inputs
from fedray.data.spec import DataSpec

Tokens = Sequence[int]

GoOn = Callable[[Tensor, Tensor, Callable[[Tensor], Tensor | None]], None]
"""A model that keeps keys and values of tokens, see :meth:`fedray.models.hosted.Hosted.go_on`."""


@dataclass(frozen=True)
class Generation:
    """Options of generation.

    Args:
        new_tokens: the most tokens that it adds, at least 1.
        window: the most tokens that it sees; of a longer sequence the last ones.
        vocabulary: the number of tokens that it may say; a model may have more outputs.
        end: the token after which nothing comes, and which is left out; None: there is none.
        pad: the token behind sequences that are shorter than others.
        multiple: sequences are padded to a multiple of it; None: to ``window``.
        temperature: 0: the likeliest token; else one drawn from ``softmax(logits / temperature)``.
        top_p: it is drawn from the likeliest tokens alone whose shares together reach it, in (0, 1] (Holtzman et al.,
            arXiv:1904.09751).
        stops: tells of what is said after a prompt if it ends there; None: it does not.
        seed: names the draws, with ``round``, the key of a prompt and the place of a token.
        round: the round.
    """

    new_tokens: int
    window: int
    vocabulary: int
    end: int | None = None
    pad: int = 0
    multiple: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    stops: Callable[[Tokens], bool] | None = None
    seed: int = 0
    round: int = 0

    def windows(self, rows: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        """Return what a model sees of sequences, int64 ``[n, T]``, and the place of the last token of each, ``[n]``.

        >>> Generation(4, window=3, vocabulary=9, multiple=2).windows([[1, 2, 3, 4], [5]])
        (tensor([[2, 3, 4],
                [5, 0, 0]]), tensor([2, 0]))
        """
        seen = [list(row[-self.window :]) for row in rows]
        longest = max(map(len, seen))
        width = self.window if self.multiple is None else min(self.window, -(-longest // self.multiple) * self.multiple)
        padded = [row + [self.pad] * (width - len(row)) for row in seen]
        return torch.tensor(padded), torch.tensor([len(row) - 1 for row in seen])

    def goes_on(self, said: Tokens, token: int) -> bool:
        """Tell if a text goes on after a token, the last one of what is said unless that is the end."""
        return token != self.end and not (self.stops is not None and self.stops(said))

    def next(self, logits: Tensor, keys: Tensor, turn: int) -> list[int]:
        """Return the next token of each sequence by its logits ``[n, V]``, on the CPU.

        >>> Generation(1, 8, vocabulary=2).next(torch.tensor([[0.0, 1.0, 9.0]]), torch.tensor([0]), turn=0)
        [1]
        """
        logits = logits[:, : self.vocabulary]
        if not self.temperature:
            return logits.argmax(dim=1).tolist()
        shares = nucleus((logits.double() / self.temperature).softmax(dim=1), self.top_p).cumsum(dim=1)
        drawn = Stream(self.seed, "sample", self.round).uniform(keys, torch.full_like(keys, turn), 1)
        found = torch.searchsorted(shares, drawn.double() * shares[:, -1:], right=True)[:, 0]
        return found.clamp(max=logits.shape[1] - 1).tolist()


def nucleus(shares: Tensor, top_p: float) -> Tensor:
    """Return shares ``[n, V]``, 0 but for the likeliest ones that together reach ``top_p``, at least the first.

    >>> nucleus(torch.tensor([[0.2, 0.5, 0.3]]), 0.6)
    tensor([[0.0000, 0.5000, 0.3000]])
    """
    if top_p >= 1.0:
        return shares
    ranked, order = shares.sort(dim=1, descending=True, stable=True)
    behind = ranked.cumsum(dim=1) - ranked >= top_p
    return shares.masked_fill(torch.zeros_like(behind).scatter(1, order, behind), 0.0)


def before(text: str, stop: Sequence[str]) -> str:
    """Return a text up to the first of some words.

    >>> before("Four. Q: And", ["Q:", "And"])
    'Four. '
    """
    return text[: min((place for word in stop if (place := text.find(word)) >= 0), default=len(text))]


def stopping(stop: Sequence[str], decode: Callable[[Tokens], str]) -> Callable[[Tokens], bool] | None:
    """Return what tells if one of some words is said; None: there are none."""
    return (lambda said: before(text := decode(said), stop) != text) if stop else None


def generate(
    forward: Callable[[Tensor], Tensor],
    prompts: Sequence[Tokens],
    how: Generation,
    keys: Sequence[int] | None = None,
    go_on: GoOn | None = None,
) -> list[list[int]]:
    """Return what a model says after each of some prompts, without the prompts.

    Each token is one forward pass over all sequences that have not ended.  What stands behind a sequence is padding,
    which a causal model does not see; so what is said of a prompt depends on no other one, but for rounding.  A model
    that keeps keys and values is given its last tokens alone, as far as all that is said fits its window.

    >>> def counts(x):  # a model that says the number after the last one
    ...     return torch.nn.functional.one_hot(x + 1, 10).float()
    >>> generate(counts, [[1, 2], [6]], Generation(3, window=4, vocabulary=10, end=8))
    [[3, 4, 5], [7]]

    Args:
        forward: tokens ``[n, T]`` to logits ``[n, T, V]``, on any device.
        prompts: their tokens, at least one each.
        how: the way in which it goes on.
        keys: of the prompts, for draws; by default their places.
        go_on: the same model, where it keeps keys and values; None: it does not.
    """
    rows = [list(prompt) for prompt in prompts]
    names = torch.tensor(range(len(rows)) if keys is None else list(keys))
    if go_on is not None and max(map(len, rows)) + how.new_tokens <= how.window:
        return _kept(go_on, rows, how, names)
    return in_turns(lambda x, going: forward(x), rows, how, names)


def in_turns(
    forward: Callable[[Tensor, list[int]], Tensor], rows: list[list[int]], how: Generation, names: Tensor
) -> list[list[int]]:
    """Return what a model says behind sequences that grow by it, a token of each in a turn.

    Args:
        forward: the tokens of those that have not ended ``[n, T]``, and their places, to logits ``[n, T, V]``.
        rows: the sequences, at least one token each.
        how: the way in which it goes on.
        names: of the sequences, for draws, int64 ``[N]``.
    """
    said = [list[int]() for _ in rows]
    going = list(range(len(rows)))
    for turn in range(how.new_tokens):
        if not going:
            break
        x, last = how.windows([rows[place] for place in going])
        logits = forward(x, going)
        ends = logits[torch.arange(len(going), device=logits.device), last.to(logits.device)].float().cpu()
        found = how.next(ends, names[torch.tensor(going)], turn)
        for place, token in zip(going, found, strict=True):
            if token != how.end:
                rows[place].append(token)
                said[place].append(token)
        going = [place for place, token in zip(going, found, strict=True) if how.goes_on(said[place], token)]
    return said


def _kept(go_on: GoOn, rows: Sequence[Tokens], how: Generation, names: Tensor) -> list[list[int]]:
    """Return what a model that keeps keys and values says; who has ended waits for the others."""
    said, going = [list[int]() for _ in rows], set(range(len(rows)))
    width, turns = max(map(len, rows)), iter(range(how.new_tokens))
    ids = torch.tensor([[how.pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])

    def choose(logits: Tensor) -> Tensor | None:
        turn = next(turns)
        found = how.next(logits.cpu(), names, turn)
        for place in sorted(going):
            if found[place] != how.end:
                said[place].append(found[place])
            if not how.goes_on(said[place], found[place]):
                going.remove(place)
        return torch.tensor(found) if going and turn + 1 < how.new_tokens else None

    go_on(ids, mask, choose)
    return said


def inputs_of(spec: DataSpec, tokens: Tensor) -> Inputs:
    """Return tokens ``[n, T]`` as the inputs that a model of some data takes, alone or beside their places and a mask.

    >>> from fedray.data.spec import Column
    >>> spec = DataSpec((), 9, columns=(Column("input_ids", (8,), 9), Column("position_ids", (8,), 8)))
    >>> inputs_of(spec, torch.tensor([[5, 6]]))["position_ids"]
    tensor([[0, 1]])
    """
    if not spec.columns:
        return tokens
    places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    known = {"input_ids": tokens, "position_ids": places, "attention_mask": torch.ones_like(tokens)}
    return InputColumns({column.name: known[column.name] for column in spec.columns})


def takes_tokens(spec: DataSpec) -> bool:
    """Tell if a model of some data takes tokens, and beside them no more than :func:`inputs_of` has."""
    return spec.tokens is not None and {one.name for one in spec.columns} <= {
        "input_ids",
        "position_ids",
        "attention_mask",
    }
