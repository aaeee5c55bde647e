"""Files of rows that are to be predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedray.core.errors import ConfigError, listed

ARRAYS = (".npy", ".npz")


def read_rows(path: Path) -> Any:
    """Return what a predictor takes: of a file of arrays ``x``, of another its path, as a table is read by its columns.

    Raises:
        ConfigError: arrays that cannot be read, or have no ``x``.
    """
    if path.suffix.lower() not in ARRAYS:
        return path
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            if "x" not in found.files:
                raise ConfigError(f"{path}: an array x is needed; it has {listed(found.files)}")
            return found["x"]
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
