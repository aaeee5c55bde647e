"""Numbers that the noise of ``privacy`` does not protect, kept apart from all that is shown and handed on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedray.core.errors import ConfigError
from fedray.core.record import VIEWS, RoundRecord, finite
from fedray.rundir import durable

Withhold = Callable[[RoundRecord], None]
"""Takes out of a record, in place, what the noise does not protect."""

ABORTED = (
    "round {}: clients gave no update, and by failures.on_nonfinite, failures.on_failure or failures.min_share the run "
    "ends; which clients, and why, stands in not_private.jsonl"
)

NOTE = "NOT PRIVATE: computed from clients' rows without any noise; never publish this file"
"""The words at the head of the file."""


def nothing(record: RoundRecord) -> None:
    """Leave a record as it is."""


def taken(record: RoundRecord) -> dict[str, Any]:
    """Take out of a record what is computed from clients' rows without any noise, and return it.

    That is who was there and how many, what they were trained on, with which loss, what they sent and how they failed,
    and evaluations on their rows.  What stays comes from the noised model, from a test set, or
    from the machines.  Samples go as well: their prompts are rows, and these may be a client's own.

    >>> record = RoundRecord(1, clients={"ok": 9}, train={"loss": 0.5, "lr": 0.1}, bytes={"up": 90, "network": 4})
    >>> taken(record)
    {'clients': {'ok': 9}, 'train': {'loss': 0.5}, 'bytes': {'up': 90}}
    >>> record.train, record.bytes
    ({'lr': 0.1}, {'network': 4})
    """
    found: dict[str, Any] = {"clients": record.clients, "examples": record.examples, "weight": record.weight}
    found["train"] = {name: value for name, value in record.train.items() if name != "lr"}
    found["bytes"] = {name: value for name, value in record.bytes.items() if name != "network"}
    found["failures"], found["evaluated"] = record.failures, record.evaluated
    found["samples"] = record.samples
    if failures := record.usage.pop("failures", None):
        found["usage"] = {"failures": failures}
    record.clients, record.examples, record.weight, record.failures, record.evaluated = {}, 0, None, [], {}
    record.samples = []
    record.train = {name: value for name, value in record.train.items() if name == "lr"}
    record.bytes = {name: value for name, value in record.bytes.items() if name == "network"}
    for section in VIEWS.values():
        found[section] = getattr(record, section)
        setattr(record, section, {})
        found[f"tables.{section}"] = record.tables.pop(section, {})
    return {name: value for name, value in found.items() if value}


def read_withheld(path: Path) -> dict[int, dict[str, Any]]:
    """Read what :class:`NotPrivate` has kept of each round; of one that was done again, what its last time had.

    Args:
        path: the file; where there is none, nothing was withheld.

    Raises:
        ConfigError: a line before the last, which a crash may have cut short, is none of its lines.
    """
    rounds: dict[int, dict[str, Any]] = {}
    try:
        lines = path.read_bytes().splitlines()[1:]
    except FileNotFoundError:
        return rounds
    for number, line in enumerate(lines, 2):
        try:
            found = json.loads(line)
            round = int(found.pop("round"))
        except (ValueError, KeyError, TypeError, AttributeError):
            if number <= len(lines):
                raise ConfigError(
                    f"{path}:{number}: not a line of this file; put it back as the run wrote it"
                ) from None
            break
        # Its training comes first, and evaluations of clients, which may be later, in a line of their own.
        if "clients" in found:
            rounds[round] = {}
        rounds.setdefault(round, {}).update(found)
    return rounds


class NotPrivate:
    """The file of what is withheld, one line of JSON for each part of a round; its first line says what it is.

    A round that was done again after a kill has its lines again, of which the last ones count.

    Args:
        path: the file, made when there is something to write.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._begun = path, durable.Growing(path), False

    def __call__(self, record: RoundRecord) -> None:
        """Move what is withheld of a record to the file."""
        if not (found := taken(record)):
            return
        if not self._begun:
            durable.create(self._path, json.dumps({"note": NOTE}).encode() + b"\n", secret=True)
            self._begun = True
        self._file.append(_line({"round": record.round, **found}), forced=False)


_encoded = json.JSONEncoder(allow_nan=False).encode


def _line(value: dict[str, Any]) -> bytes:
    try:
        return _encoded(value).encode() + b"\n"
    except ValueError:  # a number is none
        return _encoded(finite(value)).encode() + b"\n"
