"""Rows that are packed whole: a model must not look from one into another."""

from __future__ import annotations

import torch
from torch import nn

from fedray.core.errors import ConfigError
from fedray.core.hidden_state import HiddenState
from fedray.data import ClientData
from fedray.data.columns.inputs import InputColumns
from fedray.data.text.inputs import IDS, POSITIONS
from fedray.tasks import outputs_of

_ROW = 4
"""Tokens of each of two rows that are tried together."""

_CLOSE = 1e-3
"""The largest difference, against the largest output, by which nothing of another row is seen."""


def check_packed(data: ClientData, module: nn.Module) -> None:
    """Raise ConfigError if rows are packed whole, and the model sees of a row what stands before it.

    Two rows are tried in one sequence, and the first of them is then another one: what the model says in the second
    must stay.

    Args:
        data: the data.
        module: the model, which runs on this machine.
    """
    if ((data.taken or {}).get("text") or {}).get("packing") != "bfd":
        return
    tokens = data.spec.tokens
    assert tokens is not None
    size = min(_ROW, tokens.shape[0] // 2)
    if size < 1 or tokens.vocabulary < 2:
        return
    second = torch.arange(size) % tokens.vocabulary
    rows = torch.stack([torch.cat([torch.full((size,), first), second]) for first in (0, 1)])
    places = torch.arange(size).repeat(2).expand(2, -1)
    with torch.no_grad(), HiddenState({"model": module}, [*module.parameters(), *module.buffers()]).put_back():
        said = outputs_of(module.eval(), InputColumns({IDS: rows, POSITIONS: places}))[:, size:].float()
    if float((said[0] - said[1]).abs().max()) > _CLOSE * float(said.abs().max()):
        raise ConfigError(
            "data.packing=bfd: this model looks from one row into the one before it, whatever position_ids say; take "
            "one of transformers with attention by sdpa or eager, or say packing: wrapped, where rows are seen together"
        )
