"""How tests look at data: rows of one client, rows of all, and small files to read them from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config.registry import bind_part
from fedray.data import ClientData, FederatedData, data_sources


def load(seed: int = 0, **node: Any) -> FederatedData:
    """The data of a config's ``data`` section."""
    data: FederatedData = bind_part(data_sources, node, "data").load(seed)
    return data


def numbered(sizes: list[int], **options: object) -> FederatedData:
    """Clients whose inputs are their global row numbers, in shuffled row order; targets are numbers modulo 3."""
    clients = np.repeat(np.arange(len(sizes)), sizes)
    x = np.arange(len(clients), dtype=np.float32)[:, None]
    y = np.arange(len(clients)) % 3
    return FederatedData.from_arrays(x, y, clients, **options)  # type: ignore[arg-type]


def inputs(data: ClientData, client: int) -> NDArray[Any]:
    """A client's training inputs."""
    found: NDArray[Any] = data.rows(np.array([client])).take(np.arange(data.sizes[client])[None])[0][0].numpy()
    return found


def column(data: ClientData, client: int) -> NDArray[Any]:
    """The first column of a client's training inputs."""
    return inputs(data, client)[:, 0]


def targets(data: ClientData, client: int) -> list[Any]:
    """A client's training targets."""
    return data.rows(np.array([client])).take(np.arange(data.sizes[client])[None])[1][0].tolist()


def everything(data: ClientData) -> tuple[NDArray[Any], NDArray[Any]]:
    """Training rows of all clients."""
    clients = range(len(data))
    return np.concatenate([inputs(data, c) for c in clients]), np.concatenate([targets(data, c) for c in clients])


class Files:
    """Writes small files into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path
