"""Files of rows that are to be predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedray.core.errors import ConfigError
from fedray.data.files.folder import read_npz

ARRAYS = (".npy", ".npz")


def read_rows(path: Path) -> Any:
    """Return what a predictor takes: of a file of arrays its inputs, of another its path, to be read as a table.

    Inputs of an NPZ file are those of one that a model is trained on: ``x``, or columns by their names.

    Raises:
        ConfigError: arrays that cannot be read.
    """
    if path.suffix.lower() not in ARRAYS:
        return path
    try:
        return read_npz(path)[0] if path.suffix.lower() == ".npz" else np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
