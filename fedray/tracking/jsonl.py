"""One JSON object per round and line: the record of a run that a person, a script and a crash can all live with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.rundir import durable
from fedray.tracking.base import RunInfo, Tracker


def read_records(path: Path | str) -> list[dict[str, Any]]:
    """Read the records of a ``metrics.jsonl``, in the order of its lines, without a last line that a crash tore.

    Raises:
        ConfigError: there is no such file, or a line before the last is no record.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; a run folder has one after its first round") from None
    records: list[dict[str, Any]] = []
    last = max((number for number, line in enumerate(lines) if line.strip()), default=-1)
    for number, line in enumerate(lines[: last + 1]):
        record = _record(line)
        if record is not None:
            records.append(record)
        elif number < last:
            raise ConfigError(
                f"{path}:{number + 1}: not the record of a round; only the last line can be cut short by a crash: "
                "remove or mend this one"
            )
    return records


def records_before(path: Path, first: int) -> list[RoundRecord]:
    """Return the records of a ``metrics.jsonl`` of the rounds before ``first``, in order.

    Raises:
        ConfigError: as :func:`read_records`.
    """
    return [RoundRecord.from_json(record) for record in read_records(path) if record["round"] < first]


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and type(record.get("round")) is int else None


class JsonLines(Tracker):
    """The tracker that appends a line per record to a file and hands it to the operating system at once.

    On start it drops a torn last line and the rounds after ``resumed_from``; a record whose round is there already
    replaces it.  So the file of a run that was killed and resumed, however often, holds each round once, in order.
    A change of lines already written goes through a temporary name, so it happens wholly or not at all.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     tracker = JsonLines(f"{folder}/metrics.jsonl")
    ...     tracker.start(RunInfo(Path(folder), "first", rounds=1))
    ...     tracker.round(RoundRecord(1, train={"loss": 0.7}))
    ...     tracker.close()
    ...     records = read_records(f"{folder}/metrics.jsonl")
    >>> records[0]["round"], records[0]["train"]
    (1, {'loss': 0.7})

    Args:
        path: the file, by custom ``metrics.jsonl`` in the run folder; made on start.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._file: BinaryIO | None = None
        self._last = -1

    def start(self, run: RunInfo) -> None:
        """Open the file.

        Raises:
            ConfigError: a line before the last is no record.
            OSError: the file cannot be written.
        """
        self.close()
        if self._path.exists():
            self._keep({r["round"]: r for r in read_records(self._path) if r["round"] <= run.resumed_from})
        self._file = self._path.open("ab")

    def round(self, record: RoundRecord) -> None:
        """Append the record, or replace that of the same round.

        Raises:
            OSError: the disk is full or gone.
        """
        if self._file is None:
            raise RuntimeError("a record came before start or after close")
        if record.round > self._last:
            self._file.write(_line(record.to_json()))
            self._file.flush()
            self._last = record.round
        else:
            self.close()
            self._keep({r["round"]: r for r in [*read_records(self._path), record.to_json()]})
            self._file = self._path.open("ab")

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _keep(self, records: dict[int, dict[str, Any]]) -> None:
        """Make these the file's records, in the order of their rounds."""
        self._last = max(records, default=-1)
        text = b"".join(_line(records[number]) for number in sorted(records))
        if text != self._path.read_bytes():
            durable.replace(self._path, text)


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"
