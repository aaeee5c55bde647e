"""TensorBoard event files of a run."""

from __future__ import annotations

import contextlib
import logging
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.core.errors import counted, one_line
from fedray.core.record import OWN, VIEWS, RoundRecord
from fedray.rundir.client_table import part_of
from fedray.tracking.base import RunInfo, Tracker, trackers
from fedray.tracking.charts import Charts, charts
from fedray.tracking.described import description

if TYPE_CHECKING:
    import pyarrow
    from tensorboard.compat.proto.summary_pb2 import Summary

    from fedray.tracking.events import EventFile
    from fedray.tracking.hparams import Settings

_log = logging.getLogger(__name__)

_GROUPS = {
    "test": "test",
    OWN: "test_clients/own",
    "clients_test": "test_clients",
    "clients_personal": "test_clients/personal",
    "clients_finetuned": "test_clients/finetuned",
    "evaluated": "test_clients/evaluated",
    "time": "time",
    "train": "train",
    "usage": "usage",
    "bytes": "usage/bytes",
}


def scalars(record: RoundRecord) -> dict[str, float]:
    """Return the numbers of a record by section and name, as trackers tell them.

    ``train/<loss, lr>``, ``test/<metric>``, ``clients_test/<metric>/<mean, client_mean, std, p10, p50, p90, worst>``,
    ``clients_personal/...`` and ``clients_finetuned/...`` likewise, ``time/round_seconds``,
    ``evaluated/<clients, missing, taken_part, fitted>``, ``clients/<sampled, ok, failed, dropped, weight>``,
    ``time/<phase>``, ``bytes/<up, down, network>``, ``usage/<nodes, retries, cpu_seconds, gpu_seconds, joules>``,
    ``usage/failures/<stage>`` and, over the workers, ``usage/<idle, rss, gpu_memory, gpu_use>/<mean, max>``; and
    ``<part>/<name>`` of what parts of the run tell.  A metric without a value is NaN.

    >>> scalars(RoundRecord(3, seconds=2.0, train={"loss": 0.5}, bytes={"up": 8}))
    {'train/loss': 0.5, 'time/round_seconds': 2.0, 'bytes/up': 8.0}
    """
    return dict(_scalars(record))


def tag(name: str) -> str:
    """Return the tag that TensorBoard shows one of the ``scalars`` under.

    Its page groups curves by the first word of their tags, in the order of the alphabet, and opens the first two:
    so these are the test set and the clients.

    >>> [tag(name) for name in ("test/loss", "clients_test/loss/worst", "clients/ok", "krum/kept", "bytes/up")]
    ['test/loss', 'test_clients/loss/worst', 'train/clients/ok', 'train/krum/kept', 'usage/bytes/up']
    """
    section, _, rest = name.partition("/")
    return f"{_GROUPS.get(section, f'train/{section}')}/{rest}"


def _scalars(record: RoundRecord) -> Iterator[tuple[str, float]]:
    sections: dict[str, dict[str, Any]] = {
        "train": record.train,
        "test": record.test,
        **{f"{name}/{metric}": spread for name, view in _views(record).items() for metric, spread in view.items()},
        "evaluated": record.evaluated,
        "clients": record.clients if record.weight is None else {**record.clients, "weight": record.weight},
        # Round 0 is an evaluation only, and took no round's time.
        "time": {"round_seconds": record.seconds, **record.phases} if record.round else {},
        "bytes": record.bytes,
        **dict(_usage(record.usage)),
        **record.metrics,
    }
    for section, values in sections.items():
        for name, value in values.items():
            yield f"{section}/{name}", float("nan") if value is None else float(value)


def _views(record: RoundRecord) -> dict[str, dict[str, dict[str, float]]]:
    """Return the sections of the views of clients that a record has."""
    return {name: found for name in VIEWS.values() if (found := getattr(record, name))}


def _usage(usage: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the sections of numbers: a worker more or less must not be a curve more or less."""
    yield "usage", {name: value for name, value in usage.items() if isinstance(value, int | float)}
    yield "usage/failures", usage.get("failures", {})
    for name in ("idle", "rss", "gpu_memory", "gpu_use"):
        if values := [value for value in usage.get(name, ()) if value is not None]:
            yield f"usage/{name}", {"mean": sum(values) / len(values), "max": max(values)}


@trackers.register("tensorboard")
@dataclass
class TensorBoard(Tracker):
    """The tracker that writes event files: scalars by :func:`tag`, the config as text, pictures, settings of a sweep.

    ``tensorboard --logdir`` on the folder, or on one above it, shows them.  Confusion matrices and the labels of the
    clients are images; up to 50 clients have curves and matrices of their own.  Custom Scalars joins curves in one
    chart: training and test set, the median and the tenths of the clients, each client.  Every curve has a description;
    of a sweep's folder the tab HParams has the settings of each run beside its last metrics, among them those of the
    model that each client would use, ``test_clients/own``.

    Everything, the slow import of the writer included, happens in a thread of its own, so no round waits.  What a
    killed run wrote after the checkpoint is marked as superseded when the resumed run writes its first record.  These
    files repeat ``metrics.jsonl`` for the eye: if they cannot be written, the log says so once and the run goes on
    without them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     tracker = TensorBoard(folder)
    ...     tracker.start(RunInfo(Path(folder), "first", rounds=1))
    ...     tracker.round(RoundRecord(1, train={"loss": 0.7}))
    ...     tracker.close()
    ...     [file.name.partition(".tfevents")[0] for file in Path(folder).iterdir()]
    ['events.out']

    Args:
        log_dir: folder of the event files; made on start.  Default: the run folder.
    """

    log_dir: Path | None = None

    def __post_init__(self) -> None:
        self._log_dir = Path()
        self._thread: ThreadPoolExecutor | None = None
        self._file: EventFile | None = None
        self._run: RunInfo | None = None
        self._broken = False
        self._settings: Settings | None = None
        self._named = False
        self._charts: Charts = {}
        self._told: dict[str, None] = {}

    def hint(self, run_dir: Path) -> str:
        """Return the command that shows the files."""
        return f"open TensorBoard: tensorboard --logdir {shlex.quote(str(self.log_dir or run_dir))}"

    def hint_of_all(self, folder: Path) -> str:
        """Return the command that shows the files of all runs."""
        return self.hint(folder)

    def start(self, run: RunInfo) -> None:
        """Get ready; the event file is opened with the first record.

        Importing the writer takes a second of a core, which the first round has better use for; and only with the first
        record is it known whether the checkpoint's round is told again after a resume, and so what it supersedes.
        """
        self.close()
        self._run, self._broken, self._named = run, False, False
        self._charts, self._told = {}, {}
        self._log_dir = run.run_dir if self.log_dir is None else Path(self.log_dir)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fedray-tensorboard")

    def round(self, record: RoundRecord) -> None:
        """Write the record's scalars, in the background."""
        self._later(lambda: self._write(record))

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the run of a sweep as done."""
        self._later(self._end)

    def close(self) -> None:
        """Wait until all is written."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.submit(self._guarded, self._close)
            thread.shutdown()

    # In the thread

    def _later(self, work: Callable[[], object]) -> None:
        if self._thread is None:
            raise RuntimeError("a record came before start or after close")
        self._thread.submit(self._guarded, work)

    def _guarded(self, work: Callable[[], object]) -> None:
        if self._broken:
            return
        try:
            work()
        except Exception as error:
            self._broken = True
            why, known = (error.strerror, True) if isinstance(error, OSError) else (one_line(error), False)
            _log.warning("TensorBoard: no more events are written to %s: %s", self._log_dir, why, exc_info=not known)
            with contextlib.suppress(Exception):
                self._close()

    def _open(self, run: RunInfo, step: int) -> EventFile:
        from torch.utils.tensorboard.summary import image, text

        from fedray.data.picture import label_picture
        from fedray.tracking.drawing import label_map
        from fedray.tracking.events import EventFile
        from fedray.tracking.hparams import Settings

        file = self._file = EventFile(self._log_dir, step)
        size = f"{counted(run.clients, 'client')}, {counted(run.parameters, 'parameter')}"
        about = f"{run.name}: {size}, {counted(run.rounds, 'round')}"
        file.add(text("config", f"{about}\n\n{_verbatim(run.config_yaml)}"), step)
        self._settings = Settings.of(run.run_dir, run.config_yaml)
        if self._settings is not None:
            file.add(self._settings.start())
        counts = run.label_counts
        if counts is not None and counts.size and not run.resumed_from:
            names = run.client_names if len(run.client_names) == len(counts) else ()
            file.add(text("train/labels", _verbatim(label_picture(counts, run.classes, clients=names))), step)
            file.add(image("train/labels", label_map(counts, names, run.classes), dataformats="HWC"), step)
        file.flush()
        return file

    def _write(self, record: RoundRecord) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from torch.utils.tensorboard.summary import custom_scalars

        from fedray.tracking.each_client import numbers
        from fedray.tracking.hparams import of_own

        assert self._run is not None
        file = self._file or self._open(self._run, record.round if self._run.resumed_from else 0)
        part = part_of(self._run.run_dir, record.round) if record.evaluated.get("clients") else None
        own = of_own(record) if self._settings is not None else {}
        found: dict[str, tuple[float, Callable[[], str]]] = {
            tag(name): (value, partial(description, name)) for name, value in (scalars(record) | own).items()
        }
        if part is not None:
            found |= numbers(part)
        if self._settings is not None and not self._named and self._settings.told_by(record):
            self._named = True
            file.add(self._settings.columns([tag(name) for name in self._settings.metrics(record)]))
        known = len(self._told)
        # One event for the whole record: a quarter of the time of an event for each number.
        values = [self._value(name, value, words) for name, (value, words) in found.items()]
        file.add(Summary(value=values), record.round)
        if len(self._told) > known and (shown := charts(self._told)) != self._charts:
            self._charts = shown
            file.add(custom_scalars(shown))
        self._draw(file, record, part)
        self._quote(file, record)
        file.flush()

    def _value(self, name: str, value: float, words: Callable[[], str]) -> Summary.Value:
        """Return a number of a curve, whose first one has its description as well."""
        from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_SCALAR, Summary, SummaryMetadata

        found = Summary.Value(tag=name, simple_value=value)
        if name not in self._told:
            self._told[name] = None
            of = SummaryMetadata.PluginData(plugin_name="scalars")
            about = SummaryMetadata(summary_description=words(), plugin_data=of, data_class=DATA_CLASS_SCALAR)
            found.metadata.CopyFrom(about)
        return found

    def _draw(self, file: EventFile, record: RoundRecord, part: pyarrow.Table | None) -> None:
        """Draw the confusion matrices of a record, and those of single clients."""
        from torch.utils.tensorboard.summary import image

        from fedray.metrics.confused import Confused
        from fedray.tracking.drawing import MOST_CLASSES, matrix_image
        from fedray.tracking.each_client import matrices

        found = {
            tag(f"{section}/{title}"): matrix
            for section, tables in record.tables.items()
            for title, table in tables.items()
            if (matrix := Confused.of(table)) is not None and 0 < len(matrix.rows) <= MOST_CLASSES
        }
        if part is not None:
            found |= matrices(part, record)
        for name, matrix in found.items():
            file.add(image(name, matrix_image(matrix), dataformats="HWC"), record.round)

    def _quote(self, file: EventFile, record: RoundRecord) -> None:
        """Write what the model says after prompts, if it was asked."""
        if record.samples:
            from torch.utils.tensorboard.summary import text

            file.add(text("test/samples", "\n\n".join(map(_quoted, record.samples))), record.round)

    def _end(self) -> None:
        from fedray.tracking.hparams import ended

        if self._file is not None and self._settings is not None:
            self._file.add(ended())
            self._file.flush()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _verbatim(text: str) -> str:
    # Indented rather than fenced: the text itself could close a fence.
    return "\n".join(f"    {line}" for line in text.splitlines())


def _quoted(sample: dict[str, Any]) -> str:
    parts = (f"**{name}**\n\n{_verbatim(sample[name])}" for name in ("prompt", "completion", "reference"))
    return "\n\n".join((f"### Row {sample['row']}", *parts))
