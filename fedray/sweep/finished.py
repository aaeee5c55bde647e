"""Finished runs in the folder of a sweep or of a comparison, which are not run again, and what they are of."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import yaml

from fedray.core.errors import ConfigError, listed
from fedray.experiment.build import Config
from fedray.experiment.changed import fingerprint
from fedray.run.origin import changed_code, changes
from fedray.rundir import checkpoint
from fedray.rundir.folder import RunFolder
from fedray.rundir.names import COMPLETE, CONFIG, config_path

_log = logging.getLogger("fedray")

CIRCUMSTANCES = ("cluster", "driver", "worker", "run", "tracking", "checkpoint", "budget")
"""The sections that may differ from one start of a run to the next: where it runs and what is kept of it."""


def check_same(folder: RunFolder, config: Config, who: str, apart: Collection[str] = ()) -> None:
    """Check that a folder has no run of another config, where it runs and what is kept may differ, or is free for one.

    Args:
        folder: the run folder.
        config: the config that is asked for.
        who: the word for who asks, in the message.
        apart: sections that are not compared.

    Raises:
        ConfigError: naming the key that differs; or it is no place for a run.
    """
    if not (folder.path / CONFIG).exists():
        folder.check_new()
        return
    for key, before, wanted in differing(folder, config):
        if key.partition(".")[0] in apart:
            continue
        raise ConfigError(
            f"{key}: {folder.path} holds a run with {before!r}, {who} wants {wanted!r};\n"
            "take another --dir, or delete that run"
        )


def differing(folder: RunFolder, config: Config) -> Iterator[tuple[str, Any, Any]]:
    """Yield the keys in which the config of a run differs from another one, with both values.

    Raises:
        ConfigError: the run's config cannot be read.
    """
    wanted, before = _computed(config), _computed(Config.load(config_path(folder.path)))
    for key in {**wanted, **before}:
        if before.get(key) != wanted.get(key):
            yield key, before.get(key), wanted.get(key)


def warn_of_changes(runs: Iterable[tuple[RunFolder, Config]], data: bool = True) -> None:
    """Warn where finished runs were trained with other code of the user's own than there is now, or on other data.

    Of those that are not finished, their resume warns.

    Args:
        runs: run folders, there or not, each with the config that is asked for.
        data: look at the training data; False where they lie elsewhere.
    """
    now: dict[str, Mapping[str, str] | str] = {}
    found: dict[str, list[RunFolder]] = {}
    for folder, config in runs:
        summary = folder.summary()
        if summary.get("status") not in COMPLETE:
            continue
        words = [changed_code(folder.path, int(summary["rounds"]), config.code())]
        before = checkpoint.newest_state(folder.checkpoints).get("fingerprint") if data else None
        if before:
            key = str({key: value for key, value in _computed(config).items() if key.partition(".")[0] in _DATA})
            if key not in now:
                now[key] = _fingerprint(config)
            words.append(_changed_data(before, now[key]))
        if any(words):
            found.setdefault("; ".join(filter(None, words)), []).append(folder)
    for text, folders in found.items():
        names = listed(folder.path.name for folder in folders)
        _log.warning(
            "%s: finished runs keep their figures, but %s: %s; delete them, or take another --dir, for others",
            folders[0].path.parent,
            text,
            names,
        )


_DATA = ("data", "seed")


def _fingerprint(config: Config) -> Mapping[str, str] | str:
    """Return the fingerprint of the training data; where they cannot be read, the reason."""
    try:
        return fingerprint(config)
    except ConfigError as error:
        return str(error).splitlines()[0]


def _changed_data(before: Mapping[str, str], now: Mapping[str, str] | str) -> str:
    if isinstance(now, str):
        return f"their training data cannot be read now: {now}"
    words = changes(before, now)
    return f"the training data are not those that they were trained on ({words})" if words else ""


def _computed(config: Config) -> dict[str, Any]:
    """Return every option by its full key that has a part in the result."""
    loaded = yaml.safe_load(config.to_yaml())
    return _flat({key: value for key, value in loaded.items() if key not in CIRCUMSTANCES}, "")


def _flat(node: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat
