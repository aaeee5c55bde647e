"""The metrics that decide between two rounds: whether there is to be another one, and which model is the best."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedray.config.binding import nearest
from fedray.config.sections import CheckpointSection, EvaluateSection, StopSection
from fedray.core.errors import ConfigError, RunFailed, counted, listed
from fedray.core.monitor import Monitor, Unknown
from fedray.core.record import SPREAD, VIEWS, RoundRecord
from fedray.data import ClientData
from fedray.metrics.measures import Measures

STOP, BEST = "stop.metric", "checkpoint.best"


@dataclass
class Watch:
    """The best value of a metric so far.

    >>> watch, loss = Watch(), Monitor("test.loss")
    >>> [watch.look(loss, RoundRecord(number, test={"loss": value})) for number, value in enumerate([3, 2, 2.5, 1], 1)]
    [True, True, False, True]
    >>> watch
    Watch(best=1.0, round=4, waited=0, seen=4)

    Args:
        best: the value; None before there is one.
        round: the round whose model it is of.
        waited: the rounds with this metric since then.
        seen: the last round that was looked at; one that is told again after a resume counts once.
    """

    best: float | None = None
    round: int = 0
    waited: int = 0
    seen: int = -1

    def look(self, monitor: Monitor, record: RoundRecord, min_delta: float = 0.0) -> bool:
        """Look at a record, and return True if it is better than all before by more than ``min_delta``.

        Raises:
            Unknown: no record has this metric.
        """
        if record.round <= self.seen or (value := monitor.value(record)) is None:
            return False
        self.seen = record.round
        if monitor.better(value, self.best, min_delta):
            self.best, self.round, self.waited = value, record.round, 0
            return True
        self.waited += 1
        return False

    def to_json(self, monitor: Monitor) -> dict[str, Any]:
        """Return it ready for JSON, with what it watches."""
        return {"metric": monitor.metric, "mode": monitor.direction, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None, monitor: Monitor) -> Watch:
        """Make one of what ``to_json`` has returned; a new one if that watched another metric, or nothing."""
        if not data or (data["metric"], data["mode"]) != (monitor.metric, monitor.direction):
            return cls()
        return cls(data["best"], data["round"], data["waited"], data["seen"])


def monitors(stop: StopSection, checkpoint: CheckpointSection) -> dict[str, Monitor]:
    """Return the metrics that decide between two rounds, by their config keys."""
    found = {STOP: None if stop.metric is None else stop.monitor, BEST: checkpoint.monitor}
    return {key: monitor for key, monitor in found.items() if monitor is not None}


def check_watched(
    watched: Mapping[str, Monitor], evaluate: EvaluateSection, data: ClientData, views: Collection[str] = tuple(VIEWS)
) -> None:
    """Check that some record will have these metrics, as far as that can be told before the first.

    Args:
        watched: the metrics, by their config keys.
        evaluate: the evaluations.
        data: the data.
        views: the views of clients that there are.

    Raises:
        ConfigError: nothing of the kind is evaluated.
    """
    for key, monitor in watched.items():
        said = f"{key}={monitor.metric}: no record will have it"
        if monitor.section == "test" and data.test is None:
            raise ConfigError(f"{said}, as there is no test set; give one, or take a metric of clients_test or train")
        there = [section for view, section in VIEWS.items() if view in views]
        if monitor.section == "test" and "global" not in views:
            raise ConfigError(f"{said}, as the server has no whole model to test; take a metric of {there[0]}")
        if monitor.section == "test" and not evaluate.every:
            raise ConfigError(f"{said}, as evaluate.every is 0; set it to the rounds between two evaluations")
        if monitor.section in VIEWS.values() and not evaluate.clients_every:
            raise ConfigError(f"{said}, as evaluate.clients_every is 0; set it to the rounds between two evaluations")
        if monitor.section in VIEWS.values() and monitor.section not in there:
            raise ConfigError(f"{said}; with this algorithm and evaluate.finetune there is {listed(there)}")


def check_named(
    watched: Mapping[str, Monitor], measured: Collection[str] | None, measures: Measures, parts: Collection[str]
) -> None:
    """Check the names of these metrics within their sections, as far as they are known before the first round.

    Args:
        watched: the metrics, by their config keys.
        measured: the names that a small evaluation has told; None: it was not tried.
        measures: the loss and the metrics; of sums there may be more names than a small evaluation tells.
        parts: the parts of the run that may tell metrics of a round.

    Raises:
        ConfigError: no record will have one of them.
    """
    for key, monitor in watched.items():
        section, name, *more = monitor.metric.split(".")
        said = f"{key}={monitor.metric}: no record will have it"
        if section == "metrics":
            if name not in parts:
                raise ConfigError(f"{said}{nearest(name, parts)}; parts that may tell metrics are {listed(parts)}")
            if len(more) != 1:
                raise ConfigError(f"{said}; name what {name} tells, as in metrics.{name}.NAME")
            continue
        titles = [metric.title for metric in measures.summed]
        known = ["loss", "lr"] if section == "train" else measured
        if known is not None and name not in known and not any(name.startswith(title) for title in titles):
            there = listed(f"{section}.{one}" for one in known)
            raise ConfigError(f"{said}{nearest(name, known)}; there is {there}")
        if more and (section not in VIEWS.values() or len(more) > 1 or more[0] not in SPREAD):
            which = f"{section}.{name}" + (f".{{{','.join(SPREAD)}}}" if section in VIEWS.values() else "")
            raise ConfigError(f"{said}; there is {which}")


def judge(stop: StopSection, checkpoint: CheckpointSection, watches: dict[str, Watch], record: RoundRecord) -> bool:
    """Look at what a record has of the metrics that decide; one that is looked at again counts once.

    Returns:
        True if its model is the best so far.

    Raises:
        RunFailed: no record has one of these metrics.
    """
    better = {}
    for key, monitor in monitors(stop, checkpoint).items():
        try:
            by = stop.min_delta if key == STOP else 0.0
            better[key] = watches.setdefault(key, Watch()).look(monitor, record, by)
        except Unknown as error:
            raise RunFailed(f"{key}: {error}; resume with one of these, nothing is lost") from None
    return better.get(BEST, False)


def patience_used_up(stop: StopSection, watches: Mapping[str, Watch]) -> str | None:
    """Return the reason to stop early, in words; None if the run may go on.

    >>> patience_used_up(StopSection("test.loss", patience=3), {STOP: Watch(0.25, round=7, waited=3, seen=10)})
    'stop.patience is used up: 3 rounds with no test.loss better than 0.25, of round 7'
    """
    watch = watches.get(STOP)
    if stop.metric is None or watch is None or watch.waited < stop.patience:
        return None
    best = "that is a number" if watch.best is None else f"better than {watch.best:.4g}, of round {watch.round}"
    return f"stop.patience is used up: {counted(watch.waited, 'round')} with no {stop.metric} {best}"
