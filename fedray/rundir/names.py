"""The names of the files of a run folder, and of a run."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any, Literal

import yaml

from fedray.core.errors import ConfigError, short

_FASTEST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

BEST = "best.safetensors"
"""The best evaluated model, beside the last one, of a run with ``checkpoint.best``."""

CONFIG, SUMMARY, METRICS, MODEL, LOG = "config.yaml", "summary.json", "metrics.jsonl", "model.safetensors", "log.txt"

FROZEN = "frozen.safetensors"
"""The tensors of a model that never change, written once; those that the files of its base have are not in it."""

BASE = "base.json"
"""The files that have tensors of a model that never change, with their hashes, where it was read from some."""

CACHE = "FEDRAY_CACHE"
"""The environment variable that names the folder of what is kept between runs."""

ENCODING = "encoding.json"
"""The encoding of tables as inputs and targets; also beside an exported model."""

OUTPUTS = "outputs.json"
"""The unit of the outputs of an exported model, where its targets were standardised."""

INPUTS = "inputs.json"
"""The changes of inputs before the model has them, where there are any; also beside an exported model."""

FEDERATION = "federation.safetensors"
"""The clients of a run whose clients have models of their own: the names and the sizes, for who has not their data."""

LABELS = "labels.json"
"""The training examples of each class at each client, where there are classes; for reports."""

CODE = "code.json"
"""The hashes of the files of the user's own code, each with the round that they hold from."""

NOT_PRIVATE = "not_private.jsonl"
"""The numbers that the noise of ``privacy`` does not protect, for whoever may see clients' rows."""

LEDGER, PRIVACY = "privacy.jsonl", "privacy.json"
"""The journal of what was released under ``privacy``, and what can be claimed of it."""

SENT = "sent.json"
"""The ledger of what has left each client."""

SENT_WITHHELD = "not_private.sent.json"
"""The whole ledger, where ``privacy`` lets ``sent.json`` tell of no client."""

WITHHELD = (NOT_PRIVATE, SENT_WITHHELD)
"""The files that are private to whoever may see clients' rows."""

Complete = Literal["finished", "budget", "early_stopped"]
COMPLETE: tuple[Complete, ...] = ("finished", "budget", "early_stopped")
"""The statuses, in a summary, of a run that came to its end: it leaves a model, and its exit status is 0."""

LOCK = "driver.lock"

STOP = "stop.json"
"""The file that names the driver that was asked to stop, while it is waited for."""

WORKERS = "workers"
"""The folder of what clients print, log and warn, a file to each worker."""

CLIENTS = "clients"
"""The folder of what each client got, a Parquet file to each evaluation of clients."""

SWEEP = "sweep.json"
"""The file of a sweep's folder, above its run folders, that says what the sweep is."""

PYTHON = "python"
"""First section of the config of a run that was started from Python: its arguments, without model and data."""


def configs(run_dir: Path) -> list[tuple[int, Path]]:
    """Return the configs of a run, each with its first round, in order.

    A run that goes on with another config keeps the one before: see :mod:`fedray.rundir.configs`.
    """
    found = [(1, run_dir / CONFIG)] if (run_dir / CONFIG).exists() else []
    for path in run_dir.glob("config-from-*.yaml"):
        first = path.stem.removeprefix("config-from-")
        if first.isdigit():
            found.append((int(first), path))
    return sorted(found)


def config_path(run_dir: Path) -> Path:
    """Return the file of the config that a run goes on with."""
    found = configs(run_dir)
    return found[-1][1] if found else run_dir / CONFIG


def config_of(run_dir: Path) -> str:
    """Return the config that a run goes on with.

    Raises:
        ConfigError: there is no run here, or its config is damaged.
    """
    path = config_path(run_dir)
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=_FASTEST)
    except OSError:
        raise ConfigError(f"{run_dir} is no run folder: it has no {CONFIG}") from None
    except (ValueError, yaml.YAMLError) as error:  # of its encoding, or its form
        raise damaged(path, error) from None
    if not isinstance(content, dict):
        raise damaged(path, "it has no keys")
    return text


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a run folder; empty: there is no such file.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise damaged(path, error) from None
    if not isinstance(content, dict):
        raise damaged(path, "it is no JSON object")
    return content


def damaged(path: Path, why: object) -> ConfigError:
    """Return the error of a file that a run has written whole, and that something else has changed since."""
    return ConfigError(f"{path} is damaged: {short(why)}; put back a copy of it, or move the file away")


def _from_python(run_dir: Path) -> bool:
    """Return whether Python alone has parts of a run."""
    try:
        return config_of(run_dir).startswith(f"{PYTHON}:")
    except ConfigError:
        return False


def to_look_at(run_dir: Path) -> str:
    """Return the command, or the call of Python, that looks at the client that failed first in a run."""
    if _from_python(run_dir):
        return f"fedray.debug({str(run_dir)!r}, model, data)"
    return f"fedray debug {shlex.quote(str(run_dir))}"


def limit_in(words: str | None) -> str | None:
    """Return the config key of the limit that ended a run, of words that begin with it; None: no limit did.

    >>> limit_in("stop.patience is used up: 3 rounds"), limit_in("callbacks[0]: mine:f ends the run")
    ('stop.patience', None)
    """
    found = re.match(r"\w+\.\w+(?= )", words or "")
    return found and found[0]


def to_go_on(run_dir: Path, limit: str | None = None) -> str:
    """Return the command that goes on with a run; ``limit``: the config key of a limit to be raised for it.

    What a limit is called in Python is the option's own name for a budget, else that of section and option.
    """
    if _from_python(run_dir):
        option = limit.removeprefix("budget.").replace(".", "_") if limit else ""
        more = f"TrainArgs(..., {option}=MORE), " if limit else ""
        return f"fedray.train(..., {more}run_dir={str(run_dir)!r}, resume=True)"
    return f"fedray resume {shlex.quote(str(run_dir))}{f' {limit}=MORE' if limit else ''}"


def cache_folder(part: str) -> Path:
    """Return the folder of what is kept between runs, below ``$FEDRAY_CACHE``, ``$XDG_CACHE_HOME/fedray`` or
    ``~/.cache/fedray``.

    Args:
        part: the kind of what is kept, the name of a folder there.
    """
    if said := os.environ.get(CACHE):
        return Path(said) / part
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedray" / part
