"""Help for trackers that hand records to a package of others, which may speak with a server."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from fedray import __version__
from fedray.core.errors import ConfigError
from fedray.rundir import durable
from fedray.tracking.base import RunInfo


def require(package: str, extra: str) -> None:
    """Check that a package is installed, without the time that its import takes.

    Args:
        package: name of its module.
        extra: the extra of fedray that brings it, and the tracker that needs it.

    Raises:
        ConfigError: it is not.
    """
    found = find_spec(package)
    # A folder of that name in the working directory, which such packages make, is no package.
    if found is None or found.origin is None:
        raise ConfigError(
            f"tracking: {extra} needs the package `{package}`; install it: pip install 'fedray[{extra}]', "
            f"or leave {extra} out"
        )


def facts(run: RunInfo) -> dict[str, str]:
    """Return the version of fedray, the SHA-256 of the config's text and the absolute path of the run folder.

    >>> sorted(facts(RunInfo(Path("runs/first"), "first", rounds=1)))
    ['config_sha256', 'run_dir', 'version']
    """
    return {
        "version": __version__,
        "config_sha256": hashlib.sha256(run.config_yaml.encode()).hexdigest(),
        "run_dir": str(run.run_dir.resolve()),
    }


def options(run: RunInfo) -> dict[str, Any]:
    """Return the config of a run as values; empty if it has none."""
    return yaml.safe_load(run.config_yaml) or {}


def flat(config: Any, key: str = "") -> dict[str, str]:
    """Return the values of a config by dotted keys, as text.

    A list of parts is told apart by position; any other list is one value, as JSON.

    >>> flat({"seed": 1, "local": {"optimizer": {"lr": 0.1}}, "transforms": [{"name": "clip"}], "hidden": [64, 32]})
    {'seed': '1', 'local.optimizer.lr': '0.1', 'transforms.0.name': 'clip', 'hidden': '[64, 32]'}
    """
    if isinstance(config, list) and any(isinstance(one, dict) for one in config):
        config = dict(enumerate(config))
    if isinstance(config, dict) and (config or not key):
        return {
            full: text
            for name, value in config.items()
            for full, text in flat(value, f"{key}.{name}" if key else str(name)).items()
        }
    return {key: config if isinstance(config, str) else json.dumps(config, default=str)}


class KeptIds:
    """The ids that a service has given a run, kept in a JSON file of the run folder so that a resume goes on with them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     KeptIds(Path(folder, "mlflow.json")).keep("a server", "7f3a")
    ...     print(KeptIds(Path(folder, "mlflow.json")).get("a server"), KeptIds(Path(folder, "wandb.json")).get("x"))
    7f3a None

    Args:
        path: the file; made with the first id.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, place: str) -> str | None:
        """Return the id in a place, such as the address of a server; None: it has none."""
        found = self._read().get(place)
        return found if isinstance(found, str) else None

    def keep(self, place: str, name: str) -> None:
        """Keep an id.

        Raises:
            OSError: the file cannot be written.
        """
        durable.replace(self._path, json.dumps({**self._read(), place: name}, indent=1).encode())

    def _read(self) -> dict[str, Any]:
        content = json.loads(self._path.read_bytes()) if self._path.exists() else {}
        assert isinstance(content, dict)
        return content
