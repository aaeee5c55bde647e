"""The place of the clients' data where they are trained on: a GPU's memory, or the host's."""

from __future__ import annotations

import logging

import torch
from rich.filesize import decimal

from fedray.data.columns.base import ClientData

_log = logging.getLogger("fedray")

RESIDENT = 8
"""The data lie in a GPU's memory if they take at most this part of it: one in so many bytes."""


def resident(data: ClientData, device: torch.device, memory: int) -> ClientData:
    """Return data on a GPU if they fit a part of its memory, and as they are, in the host's, if not.

    The batches are the same.  What does not fit comes by way of pinned memory.

    Args:
        data: the clients' data.
        device: the GPU, which other workers may share.
        memory: bytes that it has in all.
    """
    if data.nbytes * RESIDENT <= memory:
        return data.to(device)
    sizes = decimal(data.nbytes), decimal(memory)
    _log.info("data: %s stay in the host's memory, as they are more than an eighth of the GPU's %s", *sizes)
    return data
