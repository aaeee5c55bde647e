"""The training data of a config as they are now, for whoever has a run that was trained before."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from fedray.core.stages import stage
from fedray.data.sources.tables import TableSource
from fedray.experiment.build import Config


def fingerprint(config: Config) -> Mapping[str, str]:
    """Return what tells a config's training data from others, as a run of it would keep it in its checkpoints.

    Tables that this process may read are hashed, and not read; all else is loaded, and silos are asked.

    Raises:
        ConfigError: the data cannot be loaded.
    """
    if isinstance(config.data, TableSource) and config.data.files():
        return of_files(config.data)
    stage("reading data")
    found: Mapping[str, str] = config.load_data().fingerprint()
    return found


def of_files(source: TableSource) -> dict[str, str]:
    """Return the SHA-256 of each training file that is there, by its name in a fingerprint; empty for silos."""
    return {name: sha256(path) for name, path in source.files().items() if path.is_file()}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
