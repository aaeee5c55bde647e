"""The clients of a run as its folder remembers them: for their own models where their data are not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedray.core.errors import ConfigError
from fedray.core.messages import Ints
from fedray.data.columns.base import ClientData
from fedray.rundir import durable
from fedray.rundir.names import FEDERATION


@dataclass(frozen=True)
class Federation:
    """The clients of a run.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Federation(np.array([3, 5]), np.array([b"a", b"bc"])).write(Path(folder))
    ...     Federation.read(Path(folder))
    Federation(sizes=array([3, 5]), ids=array([b'a', b'bc'], dtype='|S2'))

    Args:
        sizes: training examples of each, int64 ``[n]``.
        ids: their names; None: they are their numbers.
    """

    sizes: Ints
    ids: NDArray[np.bytes_] | None

    @classmethod
    def of(cls, data: ClientData) -> Federation:
        """Return the clients of some data."""
        return cls(data.sizes, data.ids)

    def write(self, run_dir: Path) -> None:
        """Write it into a run folder."""
        tensors = {"sizes": torch.from_numpy(self.sizes.copy())}
        if self.ids is not None:
            letters = self.ids.view(np.uint8).reshape(len(self.ids), -1)
            tensors["ids"] = torch.from_numpy(letters.copy())
        durable.replace(run_dir / FEDERATION, tensors)

    @classmethod
    def read(cls, run_dir: Path) -> Federation | None:
        """Read it from a run folder; None: it has none.

        Raises:
            ConfigError: the file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = run_dir / FEDERATION
        if not path.exists():
            return None
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from None
        letters = tensors.get("ids")
        ids = None if letters is None else letters.numpy().view(f"S{letters.shape[1]}").reshape(-1)
        return cls(tensors["sizes"].numpy(), ids)
