"""The user's own code that a run was trained with: ``code.json``, a hash of each file, with the round it holds from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedray.core.errors import ConfigError
from fedray.rundir import durable
from fedray.rundir.names import CODE


def keep_code(run_dir: Path, files: Mapping[str, str], first: int) -> None:
    """Write down the code that holds from round ``first`` on, beside that of the rounds before.

    Args:
        run_dir: the run folder.
        files: the SHA-256 of each file; empty: the run needs no code of the user's own.
        first: the round; what was written down for it and for later ones is forgotten, as these rounds are done again.
    """
    before = [entry for entry in _entries(run_dir) if entry["from"] < first]
    then = before[-1]["files"] if before else {}
    if dict(files) != then:
        before.append({"from": first, "files": dict(files)})
    if before:
        durable.replace(run_dir / CODE, json.dumps(before, indent=1).encode())
    else:
        (run_dir / CODE).unlink(missing_ok=True)


def code_at(run_dir: Path, round: int) -> dict[str, str] | None:
    """Return the SHA-256 of each file that a round was trained with.

    None: nothing says it, as it is a run of an earlier fedray, or one that needed no code of the user's own.

    Raises:
        ConfigError: ``code.json`` cannot be read.
    """
    found: dict[str, str] | None = None
    for entry in _entries(run_dir):
        if entry["from"] <= round:
            found = entry["files"]
    return found


def _entries(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / CODE
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_bytes()) if path.exists() else []
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return entries
