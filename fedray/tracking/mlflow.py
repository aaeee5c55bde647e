"""Runs as MLflow has them: on its server, or in files of the run folder."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from fedray.core.record import RoundRecord
from fedray.tracking.base import RunInfo, Tracker, trackers
from fedray.tracking.services import KeptIds, facts, flat, options, require
from fedray.tracking.tensorboard import scalars

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)

LOCAL = "mlruns"
"""The folder of the default store, in the run folder."""

LONGEST_KEY, LONGEST_VALUE = 250, 5000
MOST_PARAMS, MOST_METRICS = 100, 1000


def params(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a config as MLflow's parameters: dotted keys, with no letter that MLflow refuses, to text.

    MLflow's limits are 250 letters for a key and 5,000 for a value; what is longer is cut.

    >>> params({"rounds": 50, "data": {"train": ["a.csv", "b.csv"]}, "failures": {"left_out": {"über[1]": 3}}})
    {'rounds': '50', 'data.train': '["a.csv", "b.csv"]', 'failures.left_out.über_1_': '3'}
    """
    return {_key(key.replace("/", "_")): text[:LONGEST_VALUE] for key, text in flat(dict(config)).items()}


def metrics(record: RoundRecord) -> dict[str, float]:
    """Return the numbers of a record by section and name, which group them in MLflow's pages.

    >>> metrics(RoundRecord(3, seconds=2.0, train={"loss": 0.5}, test={"F1 (macro)": 0.25}))
    {'train/loss': 0.5, 'test/F1 _macro_': 0.25, 'time/round_seconds': 2.0}
    """
    return {_key(name): value for name, value in scalars(record).items()}


def _key(name: str) -> str:
    """Return a name without letters that MLflow refuses, and without what it would take for another folder."""
    words = re.sub(r"[^/\w.\- :]", "_", name)[:LONGEST_KEY].split("/")
    return "/".join(re.sub(r"^\.*$|^\.\.+", "_", word) for word in words)


def store(uri: str | None) -> str | None:
    """Return the address of a store as every process understands it, wherever it runs.

    >>> store("https://mlflow.example.org"), store("databricks"), store(None)
    ('https://mlflow.example.org', 'databricks', None)
    >>> store("/data/mlruns")
    'file:///data/mlruns'
    """
    if not uri or uri == "databricks" or urlsplit(uri).scheme:
        return uri or None
    return Path(uri).resolve().as_uri()


def without_password(uri: str) -> str:
    """Return an address without name and password.

    >>> without_password("https://ann:secret@mlflow.example.org:5000/x")
    'https://mlflow.example.org:5000/x'
    """
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@trackers.register("mlflow")
@dataclass
class MLflow(Tracker):
    """The tracker that hands a run to MLflow (needs the extra: ``pip install fedray[mlflow]``).

    Metrics are those of :func:`metrics`, their step is the round; parameters are the config (see :func:`params`); tags
    are ``fedray.version``, ``fedray.config_sha256``, ``fedray.run_dir``, and at the end ``fedray.status``.  The run's
    id stands in ``mlflow.json`` in the run folder, so a resume goes on in the same run of MLflow.  MLflow forgets
    nothing: of a round that is done again, a number that is another one by then, such as a time, has two points; and a
    parameter that has changed keeps its first value, with the new one in a tag such as ``fedray.from_round_6``.

    No round waits for a server, and MLflow's reports of its own use to its makers are off.

    >>> MLflow(uri="https://mlflow.example.org", experiment="diagnosis").hint(Path("runs/first"))
    'open MLflow: https://mlflow.example.org'

    Args:
        uri: address of the server, or a folder; default: ``MLFLOW_TRACKING_URI`` where the run is started, or without
            that the folder ``mlruns`` in the run folder.  Name and password belong into the environment.
        experiment: its name; made if it is not there.
        run_name: default: the name of the config.
    """

    uri: str | None = None
    experiment: str = "fedray"
    run_name: str | None = None

    background: ClassVar[bool] = True

    def __post_init__(self) -> None:
        # By now, as the driver may be started by a Ray whose environment and working folder are others.
        self._store = store(self.uri or os.environ.get("MLFLOW_TRACKING_URI"))
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._told: dict[str, set[tuple[int, float]] | None] = {}

    def check(self) -> None:
        """Look if MLflow is installed."""
        require("mlflow", "mlflow")

    def hint(self, run_dir: Path) -> str:
        """Return the address of the server, or the command that starts one on the files."""
        if self._store is not None and not self._store.startswith("file:"):
            return f"open MLflow: {without_password(self._store)}"
        folder = run_dir / LOCAL if self._store is None else Path(self._store.removeprefix("file://"))
        return f"open MLflow: MLFLOW_ALLOW_FILE_STORE=true mlflow server --backend-store-uri {shlex.quote(str(folder))}"

    def hint_of_all(self, folder: Path) -> str:
        """Return the address of the server, or of the files, that all runs have; runs without one have their own."""
        return "" if self._store is None else self.hint(folder)

    def start(self, run: RunInfo) -> None:
        """Begin a run of MLflow, or go on with the one before."""
        from mlflow.entities import Param, RunTag

        client = _client(self._store or (run.run_dir / LOCAL).resolve().as_uri())
        place = f"{LOCAL if self._store is None else without_password(self._store)} {self.experiment}"
        ids = KeptIds(run.run_dir / "mlflow.json")
        before, logged, measured = _before(client, ids.get(place))
        self._told = dict.fromkeys(measured)
        tags = {f"fedray.{name}": fact for name, fact in facts(run).items()}
        wanted = params(options(run))
        if before is None:
            experiment = _experiment_id(client, self.experiment)
            self._run_id = client.create_run(experiment, run_name=self.run_name or run.name).info.run_id
            ids.keep(place, self._run_id)
        else:
            self._run_id = before
            client.update_run(before, status="RUNNING")
            changed = {key: text for key, text in wanted.items() if logged.get(key, text) != text}
            words = "; ".join(f"{key}: {logged[key]} -> {text}" for key, text in changed.items())
            tags |= {f"fedray.from_round_{run.resumed_from + 1}": words[:LONGEST_VALUE]} if words else {}
        client.log_batch(self._run_id, tags=[RunTag(name, text) for name, text in tags.items()])
        new = [Param(key, text) for key, text in wanted.items() if key not in logged]
        for first in range(0, len(new), MOST_PARAMS):
            client.log_batch(self._run_id, params=new[first : first + MOST_PARAMS])
        self._client = client

    def round(self, record: RoundRecord) -> None:
        """Hand on the record's numbers."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        with self._asked() as client:
            points = [
                Metric(name, value, now, record.round)
                for name, value in metrics(record).items()
                if (record.round, value) not in self._before_resume(client, name)
            ]
            for first in range(0, len(points), MOST_METRICS):
                client.log_batch(self._run_id, metrics=points[first : first + MOST_METRICS])

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the run as finished."""
        with self._asked() as client:
            client.set_tag(self._run_id, "fedray.status", summary["status"])
            client.set_terminated(self._run_id, "FINISHED")
        self._client = None

    def close(self) -> None:
        """Mark a run that did not come to its end as killed."""
        client, self._client = self._client, None
        if client is not None:
            client.set_terminated(self._run_id, "KILLED")

    def _before_resume(self, client: MlflowClient, name: str) -> set[tuple[int, float]]:
        """Return the points of a metric that MLflow had when the run went on, asked for once; empty for a new run."""
        if name not in self._told:
            return set()
        known = self._told[name]
        if known is None:
            known = {(point.step, point.value) for point in client.get_metric_history(self._run_id, name)}
            self._told[name] = known
        return known

    @contextlib.contextmanager
    def _asked(self) -> Iterator[MlflowClient]:
        """Yield the client; a server that failed to answer, which takes minutes, is not asked again by ``close``."""
        client, self._client = self._client, None
        if client is None:
            raise RuntimeError("a record came before start or after close")
        yield client
        self._client = client


def _before(client: MlflowClient, kept: str | None) -> tuple[str | None, dict[str, str], list[str]]:
    """Return id, parameters and names of metrics of the run to go on with; None: it is to be made."""
    from mlflow.exceptions import MlflowException

    if kept is None:
        return None, {}, []
    try:
        before = client.get_run(kept)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    else:
        if before.info.lifecycle_stage == "active":
            return kept, dict(before.data.params), list(before.data.metrics)
    _log.warning("MLflow no longer has the run %s, with which this one began: another one is made", kept)
    return None, {}, []


def _experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, made if need be; of runs that begin at once one makes it."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _client(uri: str) -> MlflowClient:
    # Files are what was asked for, and MLflow 3.17 refuses them without this word.  MLflow tells its makers of its use
    # unless told otherwise when it is first imported; a run in a hospital speaks with nobody but whom it was told of.
    with _environment(MLFLOW_ALLOW_FILE_STORE="true", MLFLOW_DISABLE_TELEMETRY="true"):
        from mlflow import MlflowClient

        client: Callable[..., MlflowClient] = MlflowClient
        return client(tracking_uri=uri)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set variables of the environment that are not set, for the length of the context."""
    ours = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
