"""Models of Hugging Face transformers as modules from inputs to logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedray.models.heads import Gives, logits
from fedray.models.shapes import builds_shapes


class Hosted(nn.Module):
    """A model of transformers as a module from inputs to float32 logits.

    Args:
        model: the model, with adapters or without.
        pad: the token that it takes for padding; None: it takes none.
        cache: the name by which a language model takes and gives keys and values; None: it keeps none.
        gives: the tensor of an answer of the model, see :class:`fedray.models.heads.Head`.
        start: the token before the first one that a decoder says; None: it has no decoder beside an encoder.
        dtype: the type in which it takes inputs that are no tokens, that of its base.
    """

    def __init__(
        self,
        model: Any,
        pad: int | None = None,
        cache: str | None = None,
        gives: Gives = logits,
        start: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.model, self.pad, self.cache, self.gives = model, pad, cache, gives
        self.start, self.dtype = start, dtype

    @property
    def speaks(self) -> bool:
        """True for a language model that keeps keys and values: see :meth:`go_on`."""
        return self.cache is not None

    def forward(self, *inputs: Tensor, **columns: Tensor) -> Tensor:
        """Return logits, such as ``[B, K]`` or ``[B, T, K]``, of inputs by place, or of columns by their names."""
        placed = [self._typed(one) for one in inputs]
        named = {name: self._typed(one) for name, one in self._begun(self._padded(columns)).items()}
        with _without_a_look():
            found = self.model(*placed, **named)
        return self.gives(found, dict(enumerate(placed)) or named).float()

    def go_on(self, ids: Tensor, mask: Tensor, choose: Callable[[Tensor], Tensor | None]) -> None:
        """Run a language model on prompts, then on one token after the other, with keys and values kept of all before.

        Args:
            ids: the prompts, int64 ``[n, T]``, with padding before them.
            mask: 0 for that padding, and 1 for tokens, int64 ``[n, T]``.
            choose: from the logits of what comes next, float32 ``[n, V]``, to the tokens that do, int64 ``[n]``; None:
                there are no more.
        """
        assert self.cache is not None
        places, kept = (mask.cumsum(dim=1) - 1).clamp(min=0), {self.cache: None}
        while True:
            found = self.model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=True, **kept)
            chosen = choose(found.logits[:, -1].float())
            if chosen is None:
                return
            ids, places = chosen.to(ids.device).unsqueeze(1), places[:, -1:] + 1
            kept = {self.cache: found[self.cache]}
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)

    def _padded(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return columns in which padding is the model's own, by which one that looks back finds the end of a text."""
        if self.pad is None or not {"input_ids", "attention_mask"} <= columns.keys():
            return columns
        ids = columns["input_ids"].masked_fill(columns["attention_mask"] == 0, self.pad)
        return {**columns, "input_ids": ids}

    def _typed(self, x: Tensor) -> Tensor:
        """Return inputs in the type of the base, and tokens as they are."""
        return x.to(self.dtype) if x.is_floating_point() else x

    def _begun(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return columns with the tokens that a decoder reads, each one place behind the one that it is to say."""
        if self.start is None or "labels" not in columns:
            return columns
        read = F.pad(columns["labels"][:, :-1], (1, 0), value=self.start)
        return {**{name: one for name, one in columns.items() if name != "labels"}, "decoder_input_ids": read}


@contextmanager
def _without_a_look() -> Iterator[None]:
    """Let transformers build masks without a look at values that are not to be had: under vmap, or of shapes alone."""
    if torch._C._functorch.peek_interpreter_stack() is None and not builds_shapes():
        yield
        return
    masking_utils: Any = import_module("transformers.masking_utils")
    native = masking_utils.is_tracing
    masking_utils.is_tracing = lambda tensor=None: True
    try:
        yield
    finally:
        masking_utils.is_tracing = native
