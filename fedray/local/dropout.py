"""Dropout whose masks are named by (seed, round, client, step): alone, stacked, and computed again in a backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from types import ModuleType
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import checkpoint
from torch.utils.checkpoint import CheckpointFunction

from fedray.core.draws import SAME_MASKS, alone, go_to, position
from fedray.core.rng import Stream

_CALLS_PER_STEP = 1 << 10
_POSITION = "fedray_position"


class NamedDropout:
    """A context in which ``F.dropout`` and attention dropout draw from a :class:`fedray.core.rng.Stream`.

    The draw's position is the element's place in the client's own tensor, so a client's mask is the same whether it
    steps alone or stacked with others (``torch.func.vmap``), and padding at the end of its batch changes nothing; where
    the batch comes first in a tensor, a share of the batch gets the masks that its rows have in the whole.
    Dropout inside ``nn.LSTM`` runs in C++ and is not reached: such models step one by one under a seeded generator.

    Enter it for one forward and backward pass; a second entry inside the first is allowed.  On the way out torch's
    functions are as they were.  RunFailed, if another thread is inside one.

    Args:
        seed: the run's seed.

    Attributes:
        seed: the same.
        client: int64 scalar, the client's key (a batched tensor under vmap); ``[C]``: the keys of those whose rows, of
            each as many, stand behind one another in every tensor.
        turn: the number of the next draw in the client's step; ``None``: no draw may come.
        place: int64 scalar, the place in its batch of the one example that a tensor has; None: it has all of them.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._stream = Stream(seed, "dropout", 0)
        self._native = F.scaled_dot_product_attention
        self._entered: list[ExitStack] = []
        self.client = torch.zeros((), dtype=torch.int64)
        self.turn: int | None = 0
        self.place: Tensor | None = None
        self._step = 0
        self._share = slice(0, 1)

    def name(self, seed: int) -> None:
        """Draw by another seed from now on."""
        if seed != self.seed:
            self.seed, self._stream = seed, Stream(seed, "dropout", self._stream.round)

    def at(self, round: int, step: int, share: slice = slice(0, 1)) -> None:
        """Draw for this round and local step from now on, and for these rows of the batch, if not for all."""
        if round != self._stream.round:
            self._stream = Stream(self.seed, "dropout", round)
        self.turn, self._step = 0, step
        self._share, self.place = share, None

    def forward_ends(self) -> None:
        """Allow no draw from now on, unless the position it was first made at is set again."""
        self.turn = None

    def __enter__(self) -> NamedDropout:
        with ExitStack() as entered:
            entered.enter_context(alone())
            if not self._entered:
                self._native = F.scaled_dot_product_attention
            # A TorchFunctionMode is switched off inside nn.MultiheadAttention's functional, where the dropout is.
            entered.enter_context(_swapped(F, dropout=self._dropout, scaled_dot_product_attention=self._attention))
            self._entered.append(entered.pop_all())
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.pop().close()

    def _mask(self, like: Tensor, p: float) -> Tensor:
        if self.turn is None:
            raise RuntimeError(f"dropout draws a mask while gradients are computed, and {SAME_MASKS}")
        page, call = divmod(self.turn, _CALLS_PER_STEP)
        stream = replace(self._stream, page=page) if page else self._stream
        client, count = self.client.to(like.device), like.numel()
        if client.dim():
            if not like.dim() or len(like) % len(client):
                raise ValueError(
                    f"dropout on {list(like.shape)} for {len(client)} clients, whose rows do not come first"
                )
            count //= len(client)
        turn = torch.full(client.shape, self._step * _CALLS_PER_STEP + call, device=like.device)
        self.turn += 1
        before = count * self._share.start // max(1, self._share.stop - self._share.start)
        draws = stream.uniform(client, turn, count, before, self.place)
        return (draws.view(like.shape) >= p).to(like.dtype) / (1.0 - p)

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0.0:
            return input
        mask = self._mask(input, p) if p < 1.0 else torch.zeros_like(input)
        return input.mul_(mask) if inplace else input * mask

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if dropout_p == 0.0:
            native: Tensor = self._native(
                query, key, value, attn_mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
            )
            return native
        if enable_gqa:
            raise NotImplementedError("attention dropout with enable_gqa")
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(future, float("-inf"))
        if attn_mask is not None:
            scores = (
                scores.masked_fill(~attn_mask, float("-inf")) if attn_mask.dtype == torch.bool else scores + attn_mask
            )
        return self._dropout(scores.softmax(dim=-1), dropout_p) @ value


def has_dropout(module: nn.Module) -> bool:
    """Return True if any submodule drops something in training."""
    rates = [getattr(m, "p", 0.0) for m in module.modules() if isinstance(m, nn.Dropout)]
    rates += [m.dropout for m in module.modules() if isinstance(m, nn.MultiheadAttention)]
    return any(rate > 0.0 for rate in rates)


class Recalled(Protocol):
    """The contract of what goes back, in a backward that computes a forward again, to where that was: its ``at``."""

    at: Any


@contextmanager
def recomputing(dropout: NamedDropout | None, other: Recalled | None = None, reentrant: bool = True) -> Iterator[None]:
    """Enter ``dropout``, if there is one, and let a backward pass that computes a forward again draw what that drew.

    Activation checkpointing (``torch.utils.checkpoint``, reentrant or not) saves the state of torch's generator and
    sets it again where it recomputes.  In this context the state carries along where dropout, numpy's generator and
    ``random`` stand, which torch does not know of.

    Args:
        dropout: draws by name.
        other: anything else that is to be where it was.
        reentrant: False: reentrant checkpointing is a RuntimeError, as ``torch.autograd.grad`` takes the gradients, and
            finds none of the parameters inside.

    Raises:
        RunFailed: another thread is inside.
    """
    native_get, native_set = torch.get_rng_state, torch.set_rng_state

    def get_rng_state() -> Tensor:
        state = native_get()
        at = None if other is None else other.at
        setattr(state, _POSITION, (position(), None if dropout is None else dropout.turn, at))
        return state

    def set_rng_state(new_state: Tensor) -> None:
        native_set(new_state)
        if hasattr(new_state, _POSITION):
            others, turn, at = getattr(new_state, _POSITION)
            go_to(others)
            if dropout is not None:
                dropout.turn = turn
            if other is not None:
                other.at = at

    saving = nullcontext() if reentrant else _swapped(checkpoint, CheckpointFunction=_NotReentrant)
    drawing = _swapped(torch, get_rng_state=get_rng_state, set_rng_state=set_rng_state)
    with alone(), dropout or nullcontext(), drawing, saving:
        yield


class _NotReentrant:
    """Stands in for torch's function of reentrant checkpointing, and refuses it where gradients are taken."""

    @staticmethod
    def apply(*args: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "activation checkpointing with use_reentrant=True hands gradients to parameters past "
                "torch.autograd.grad, which this algorithm takes: say use_reentrant=False"
            )
        return CheckpointFunction.apply(*args)


@contextmanager
def _swapped(module: ModuleType, **functions: Callable[..., Any]) -> Iterator[None]:
    before = {name: getattr(module, name) for name in functions}
    try:
        vars(module).update(functions)
        yield
    finally:
        vars(module).update(before)
