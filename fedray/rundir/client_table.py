"""The table of what each client got: Parquet parts in the folder ``clients`` of a run, one for each evaluation.

All parts have the same columns, so that whatever reads Parquet reads them as one table, also while the run goes on: a
part is whole or absent, and what is not yet whole lies outside of the folder, of which readers take every file.
"""

from __future__ import annotations

import io
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedray.core import inject
from fedray.core.errors import ConfigError
from fedray.core.one_answer import OneAnswer
from fedray.core.record import VIEWS, headline, more_is_better
from fedray.rundir import durable
from fedray.rundir.names import CLIENTS

if TYPE_CHECKING:
    import pyarrow

TRAIN = "train"
"""The view of rows that tell of a client's training; those of all other views tell of an evaluation."""

_PREFIX, _SUFFIX = "round-", ".parquet"

_WHOLE = b"fedray.whole"
"""The key under which a part says :attr:`ClientRows.whole` of each view, as JSON, beside its schema."""


@dataclass(frozen=True)
class ClientRows:
    """Numbers of some clients in a round, seen in one way.

    Args:
        view: ``train``: of their training; of an evaluation on their held-out rows ``global``: of the global model,
            ``personal``: of the client's own, ``finetuned``: of that after more training.
        clients: client indices ``[C]``, rising.
        examples: for each client the number of examples that its metrics are of, ``[C]``.
        metrics: values of each client by name, float64 ``[C]``; ``loss`` is the first.
        whole: of metrics that are no means over examples, the values of all examples together.
        tables: metrics of all examples together that are no numbers, by name.
        cells: those of each client, by name, ``[C]``: records of equal keys; None for a client that has none.
        only: the clients for whose examples, of several classes, there is one answer, by their index.
    """

    view: str
    clients: NDArray[np.int64]
    examples: NDArray[np.int64]
    metrics: dict[str, NDArray[np.float64]]
    whole: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)
    cells: Mapping[str, Sequence[Sequence[Mapping[str, Any]] | None]] = field(default_factory=dict)
    only: Mapping[int, OneAnswer] = field(default_factory=dict)


def parts_in(folder: Path) -> dict[int, Path]:
    """Return the parts in a folder by their rounds, which rise."""
    found = {path.stem.removeprefix(_PREFIX): path for path in folder.glob(f"{_PREFIX}*{_SUFFIX}")}
    return dict(sorted((int(round), path) for round, path in found.items() if round.isdigit()))


def read_clients(run_dir: str | Path) -> pyarrow.Table:
    """Read what each client of a run got, as one table, during the run or after it.

    >>> from tempfile import TemporaryDirectory
    >>> rows = ClientRows("global", np.array([0, 1]), np.array([8, 5]), {"loss": np.array([0.25, 0.5])})
    >>> with TemporaryDirectory() as run_dir:
    ...     ClientTable(Path(run_dir) / "clients", ["ann", "bob"].__getitem__).write(10, [rows])
    ...     table = read_clients(run_dir)
    >>> table.select(["round", "client", "view", "loss"]).to_pylist()[1]
    {'round': 10, 'client': 'bob', 'view': 'global', 'loss': 0.5}

    Args:
        run_dir: a run folder.

    Returns:
        A ``pyarrow.Table``, for ``to_pandas()`` or ``polars.from_arrow``.  A row is a client in a round and a view:
        ``round`` (int64), ``client`` (its id), ``view`` (``global``: the global model on its held-out rows; ``train``:
        its training in the round), ``examples`` (int64) that the metrics are of, and the metrics (float64),
        ``loss`` first; what a view does not have is null.  The metric ``confusion_matrix`` is a list of the counts
        above zero: ``true``, ``predicted`` (names of classes) and ``count`` (int64).  Where a metric rests on single
        classes, as AUROC does, ``support`` is a list of the examples of each: ``class`` and ``count``.

    Raises:
        ConfigError: no client was evaluated there.
    """
    read = [table for path in parts_in(Path(run_dir) / CLIENTS).values() if (table := _read(path)) is not None]
    if not read:
        raise ConfigError(
            f"{run_dir}: no numbers of single clients are there; evaluate.clients_every (in Python "
            "evaluate_clients_every) evaluates clients on their held-out rows"
        )
    import pyarrow

    return pyarrow.concat_tables([part.replace_schema_metadata() for part in read], promote_options="default")


def newest_part(run_dir: Path) -> pyarrow.Table | None:
    """Read the part of the newest evaluation; None if there is none."""
    paths = list(parts_in(run_dir / CLIENTS).values())
    return _read(paths[-1]) if paths else None


def part_of(run_dir: Path, round: int) -> pyarrow.Table | None:
    """Read the part of a round; None if there is none."""
    return _read(path_of(run_dir / CLIENTS, round))


def metrics_in(part: pyarrow.Table) -> list[str]:
    """Return the names of the columns that are numbers of clients."""
    there = [name for name in part.column_names if name not in ("round", "client", "view", "examples")]
    return [name for name in there if str(part.schema.field(name).type) == "double"]


class ClientTable:
    """The writer of the parts of a run.

    Args:
        folder: their folder; made with the first part.
        name_of: the id of the client with an index.
        keep: the newest evaluations that are kept, and the best one with them: that whose ``mean``, as the record has
            it, is best, of the accuracy where there is one, else of the first metric beside the loss, else of the loss,
            in the most personal view that there is; None: all.
    """

    def __init__(self, folder: Path, name_of: Callable[[int], str], keep: int | None = None) -> None:
        self._folder, self._name_of, self._keep = folder, name_of, keep
        self.only: Mapping[str, Mapping[int, OneAnswer]] = {}  # of the newest evaluation, by view
        self._scores: dict[int, float] = {}
        self._importing: threading.Thread | None = None

    def begin(self, first: int, *, wanted: bool) -> None:
        """Delete the parts from round ``first`` on.

        Args:
            first: the round that the run goes on with.
            wanted: there will be parts: get ready for them, in a thread, as importing pyarrow takes a third of a
                second.
        """
        for round, path in parts_in(self._folder).items():
            if round >= first:
                path.unlink()
        if wanted:
            self._importing = threading.Thread(target=import_module, args=("pyarrow.parquet",), name="fedray-pyarrow")
            self._importing.start()

    def write(self, round: int, rows: Sequence[ClientRows]) -> None:
        """Write the part of a round, and delete those that are not kept.

        Args:
            round: its number.
            rows: those of all views, of which at least one has all metrics.

        Raises:
            OSError: it cannot be written; nothing of it is left.
        """
        import pyarrow.parquet

        self.only = {one.view: one.only for one in rows if one.view in VIEWS}
        file = io.BytesIO()
        pyarrow.parquet.write_table(self._table(round, rows), file)
        self._folder.mkdir(exist_ok=True)
        content = _in_halves(file.getvalue(), round)
        durable.replace(path_of(self._folder, round), content, through=self._folder.parent)
        if self._keep is not None:
            self._prune(self._keep)

    def close(self) -> None:
        """Wait for the thread."""
        if self._importing is not None:
            self._importing.join()

    def _table(self, round: int, rows: Sequence[ClientRows]) -> pyarrow.Table:
        import pyarrow as pa

        metrics = dict.fromkeys(name for one in rows for name in one.metrics)
        named = dict.fromkeys(name for one in rows for name in one.cells)
        cells = {name: _kind([own for one in rows for own in one.cells.get(name, ())]) for name in named}
        fields = {"round": pa.int64(), "client": pa.string(), "view": pa.string(), "examples": pa.int64()}
        whole = json.dumps({one.view: dict(one.whole) for one in rows if one.whole}).encode()
        schema = pa.schema(fields | dict.fromkeys(metrics, pa.float64()) | cells, metadata={_WHOLE: whole})
        tables = []
        for one in rows:
            count = len(one.clients)
            columns: dict[str, Any] = {
                "round": np.full(count, round),
                "client": [self._name_of(client) for client in one.clients.tolist()],
                "view": [one.view] * count,
                "examples": one.examples,
                **{name: one.metrics.get(name, pa.nulls(count, pa.float64())) for name in metrics},
                **{name: pa.array(one.cells.get(name, [None] * count), kind) for name, kind in cells.items()},
            }
            tables.append(pa.table(columns, schema=schema))
        return pa.concat_tables(tables)

    def _prune(self, keep: int) -> None:
        there = parts_in(self._folder)
        for round, path in there.items():
            if round not in self._scores:
                self._scores[round] = _score(_read(path))
        best = max(there, key=lambda round: (self._scores[round], -round))
        for round in list(there)[:-keep]:
            if round != best:
                there[round].unlink()


def _kind(cells: Sequence[Sequence[Mapping[str, Any]] | None]) -> pyarrow.DataType:
    """Return the type of a column of records, by the first of them; of one without any, that of nulls."""
    import pyarrow as pa

    first = next((own[0] for own in cells if own), None)
    if first is None:
        return pa.null()
    return pa.list_(pa.struct({key: pa.int64() if type(v) is int else pa.string() for key, v in first.items()}))


def path_of(folder: Path, round: int) -> Path:
    """Return the path of the part of a round."""
    return folder / f"{_PREFIX}{round:08d}{_SUFFIX}"


def _in_halves(data: bytes, round: int) -> Iterator[bytes]:
    """Yield the bytes of a part in two halves: a fault may be put in before each."""
    half = len(data) // 2
    inject.point("clients.open", round)
    yield data[:half]
    inject.point("clients.half_written", round)
    yield data[half:]


def _read(path: Path) -> pyarrow.Table | None:
    import pyarrow.parquet

    try:
        # From the file itself: a reader of paths takes a folder named `round=3` for a column.  From none of Python's: a
        # thread of Arrow lets go of it a little later, and aborts a process that has come to its end meanwhile
        # (apache/arrow#34314).
        with pyarrow.OSFile(str(path)) as file:
            return pyarrow.parquet.read_table(file)
    except FileNotFoundError:  # deleted since it was listed: by a resume, or as no longer kept
        return None


def _score(part: pyarrow.Table) -> float:
    """Return how good an evaluation is, higher is better."""
    metric = headline(metrics_in(part))
    views = part["view"].to_numpy()
    view = max(set(views) - {TRAIN}, key=list(VIEWS).index)
    whole = json.loads((part.schema.metadata or {}).get(_WHOLE, b"{}")).get(view, {})
    if metric in whole:
        mean = float(whole[metric])
    else:
        seen = views == view
        values, examples = part[metric].to_numpy()[seen], part["examples"].to_numpy()[seen]
        # A metric may give some clients no value; a loss of examples that is no number is a model's fault.
        there = np.full(len(values), True) if metric == "loss" else ~np.isnan(values)
        mean = float(np.average(values[there], weights=examples[there])) if there.any() else math.nan
    return -math.inf if math.isnan(mean) else mean if more_is_better(metric) else -mean
