"""The status of a run, read from the files of its folder alone, before, while and after it runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedray.core.record import RoundRecord
from fedray.run.budget import Totals
from fedray.rundir.checkpoint import best_of, folder_of, newest_state, rounds_in
from fedray.rundir.folder import RunFolder
from fedray.rundir.lock import Owner, owner_of
from fedray.rundir.names import COMPLETE, METRICS, SENT, config_path, read_object
from fedray.slurm.commands import SlurmJob, look_up
from fedray.slurm.requeue import HISTORY, owner
from fedray.tracking.jsonl import read_records

RECENT = 20
"""Rounds over which the pace is taken."""

_SECTIONS = frozenset(one.name for one in fields(RoundRecord))

State = Literal["waiting", "running", "finished", "budget", "early_stopped", "stopped", "failed", "interrupted"]
ENDED: frozenset[State] = frozenset({*COMPLETE, "stopped", "failed", "interrupted"})


@dataclass(frozen=True)
class Driver:
    """The process that drives the rounds, or drove them last without saying good-bye.

    Args:
        words: host, process and Slurm job, as the lock of the run folder names them.
        alive: None where it cannot be told from here: it is on another machine.
        job: its Slurm job.
    """

    words: str
    alive: bool | None
    job: str | None = None


@dataclass(frozen=True)
class WorkerUse:
    """The use that a worker made of its machine in the last round.

    Args:
        worker: its name, ``node1/0``.
        idle: seconds of the train phase without work.
        rss: its peak memory so far, in bytes.
        gpu_memory: its peak GPU memory so far, in bytes; 0: it has no GPU.
        gpu_use: the share of the last moments in which its GPUs ran a kernel, in [0, 1]; None: not measured.
    """

    worker: str
    idle: float = 0.0
    rss: int = 0
    gpu_memory: int = 0
    gpu_use: float | None = None

    @classmethod
    def of(cls, usage: Mapping[str, Any]) -> list[WorkerUse]:
        """Return each worker's, of the section ``usage`` of a record.

        >>> WorkerUse.of({"worker": ["a/0"], "idle": [0.5], "rss": [7]})
        [WorkerUse(worker='a/0', idle=0.5, rss=7, gpu_memory=0, gpu_use=None)]
        """
        names = [name for name in ("idle", "rss", "gpu_memory", "gpu_use") if name in usage]
        rows = zip(usage.get("worker", ()), *(usage[name] for name in names), strict=False)
        return [cls(worker, **dict(zip(names, found, strict=True))) for worker, *found in rows]


@dataclass(frozen=True)
class Status:
    """The status of a run.

    Args:
        name: the experiment's name, or the folder's.
        folder: the run folder.
        state: ``waiting`` for the first round, ``running``, ``interrupted`` (its driver died), or how it ended.
        round: last finished round.
        rounds: wanted; None if the config does not say.
        pace: seconds per round over the recent ones; None before the first.
        left: estimated seconds to the end of a run that has not come to it.
        silent: seconds since the last round was recorded.
        workers: the number that took part in the last round.
        nodes: they are on; None if not recorded.
        by_worker: the use that each of them made of its machine in it.
        failures: the number of times that clients gave no update, by kind.
        checkpoint: round of the newest checkpoint.
        checkpoint_age: its age in seconds.
        driver: None if no driver holds the folder.
        slurm: None if no Slurm job belongs to the folder.
        train: metrics of the last round.
        test: metrics of the last evaluation.
        totals: the usage of the recorded rounds.
        sent: the sums of ``sent.json``: ``clients``, ``rounds``, ``bytes``, as far as it is there.
        best: ``metric``, ``value`` and ``round`` of the best evaluated model that a checkpoint keeps, if any is to.
        limit: the limit that ended it before its last round, in words that begin with its config key.
        error: the reason of a failure, if it failed.
    """

    name: str
    folder: str
    state: State
    round: int = 0
    rounds: int | None = None
    pace: float | None = None
    left: float | None = None
    silent: float | None = None
    workers: int = 0
    nodes: int | None = None
    by_worker: list[WorkerUse] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    checkpoint: int | None = None
    checkpoint_age: float | None = None
    driver: Driver | None = None
    slurm: SlurmJob | None = None
    train: dict[str, float | None] = field(default_factory=dict)
    test: dict[str, float | None] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    sent: dict[str, int] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    limit: str | None = None
    error: str | None = None

    @property
    def over(self) -> bool:
        """True where nothing more will happen by itself."""
        if self.slurm is not None and self.slurm.state is not None:
            return self.slurm.over and self.state != "running"
        return self.state in ENDED

    def to_json(self) -> dict[str, Any]:
        """Return the status ready for JSON."""
        return asdict(self)


def read_status(run_dir: Path, now: float) -> Status:
    """Read the status of the run in ``run_dir``.

    Args:
        run_dir: a run folder.
        now: seconds since the epoch, for ages.

    Raises:
        ConfigError: it is no run folder, or its metrics are damaged before the last line.
    """
    return read_run(run_dir, now)[0]


def read_run(run_dir: Path, now: float, ask_slurm: bool = True) -> tuple[Status, list[dict[str, Any]]]:
    """Read the status of a run and its records; arguments and errors are those of :func:`read_status`.

    Args:
        run_dir: a run folder.
        now: seconds since the epoch, for ages.
        ask_slurm: ask Slurm about the job of a run that has ended, too, as it may wait to go on.
    """
    folder = RunFolder(run_dir)
    folder.config()
    metrics = run_dir / METRICS
    while True:
        owner = owner_of(run_dir)
        summary = folder.summary()
        asked = ask_slurm or owner is not None or "status" not in summary
        driver, slurm = _driver(run_dir, owner) if asked else (None, None)
        records = read_records(metrics) if metrics.exists() else []
        # A driver that ends well meanwhile writes its summary, lets go of the lock, and looks dead only then.
        if owner_of(run_dir) == owner:
            break
    last = records[-1] if records else {}
    wanted = _rounds_wanted(config_path(run_dir))
    rounds = wanted if wanted is not None else summary.get("rounds_wanted")
    saved = rounds_in(folder.checkpoints)
    # A round's record is complete in the round that follows, its checkpoint on disk before.
    done = max([int(last.get("round", 0)), *saved[:1]])
    begun = bool(done) or folder.log.exists() or (slurm is not None and slurm.over)
    state = state_of(driver, summary, begun)
    pace = pace_of(records)
    told = read_object(run_dir / SENT)
    status = Status(
        name=str(summary.get("name", run_dir.resolve().name)),
        folder=str(run_dir),
        state=state,
        round=done,
        rounds=rounds,
        pace=pace,
        left=None if pace is None or rounds is None or state == "finished" else pace * max(0, rounds - done),
        silent=_age(metrics, now) if records else None,
        workers=int(last.get("workers", 0)),
        nodes=last.get("usage", {}).get("nodes"),
        by_worker=WorkerUse.of(last.get("usage", {})),
        failures=failures_by_kind(records),
        checkpoint=saved[0] if saved else None,
        checkpoint_age=_age(folder_of(folder.checkpoints, saved[0]), now) if saved else None,
        driver=driver,
        slurm=slurm,
        train=last.get("train", {}),
        test=next((record["test"] for record in reversed(records) if record.get("test")), {}),
        totals=totals_of(records),
        sent={name: told[name] for name in ("clients", "rounds", "bytes") if name in told},
        best=_best(folder),
        limit=summary.get(state) if state in COMPLETE else None,
        error=summary.get("error") if state == "failed" else None,
    )
    return status, records


def state_of(driver: Driver | None, summary: Mapping[str, Any], begun: bool) -> State:
    """Return the state of a run.

    A driver that holds the folder is newer than any summary: it has taken up a run that ended before.

    Args:
        driver: the owner of the folder.
        summary: the summary of the last driver that came to an end, or nothing.
        begun: a driver has been there, or will not come.
    """
    if driver is not None:
        return "interrupted" if driver.alive is False else "running"
    if "status" in summary:
        said: State = summary["status"]
        return said
    return "interrupted" if begun else "waiting"


def pace_of(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the seconds per round, the mean over the last rounds."""
    # The record of round 0 is that of an evaluation.
    seconds = [float(record["seconds"]) for record in records[-RECENT:] if record.get("seconds") and record["round"]]
    return sum(seconds) / len(seconds) if seconds else None


def failures_by_kind(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count how often clients gave no update, by the stage they failed in, most frequent first."""
    counts = Counter(str(failure["stage"]) for record in records for failure in record.get("failures", ()))
    return dict(counts.most_common())


def totals_of(records: Sequence[Mapping[str, Any]]) -> Totals:
    """Add up what rounds used; sections of a record that this fedray does not know are passed over."""
    totals = Totals()
    for record in records:
        totals.add(RoundRecord.from_json(known_sections(record)))
    return totals


def known_sections(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without the sections that this fedray does not know."""
    return {name: value for name, value in record.items() if name in _SECTIONS}


def slurm_job(run_dir: Path, job: str | None = None) -> SlurmJob | None:
    """Ask Slurm about the run's job.

    Args:
        run_dir: the run folder.
        job: its id, if known; else the newest that left a trace in the folder.
    """
    known = [path.stem.removeprefix("slurm-") for path in run_dir.glob("slurm-*.log")]
    # A job that waits has no log yet, and one of an array writes it elsewhere.
    known.append(str(owner(run_dir / HISTORY)))
    numbered = [(int(one.partition("_")[0]), one) for one in known if re.fullmatch(r"\d+(_\d+)?", one)]
    newest = job or (max(numbered)[1] if numbered else None)
    return look_up(newest) if newest else None


def _driver(run_dir: Path, owner: Owner | None) -> tuple[Driver | None, SlurmJob | None]:
    driver = None if owner is None else Driver(owner.words(), owner.alive(), owner.job)
    slurm = slurm_job(run_dir, driver.job if driver else None)
    if driver and driver.alive is None and driver.job and slurm and slurm.over:
        driver = replace(driver, alive=False)
    if driver and driver.alive is False:
        slurm = slurm_job(run_dir) or slurm  # a newer one may wait to go on
    return driver, slurm


def _best(folder: RunFolder) -> dict[str, Any] | None:
    found = best_of(newest_state(folder.checkpoints))
    return {"metric": found["metric"], "value": found["best"], "round": found["round"]} if found else None


def _rounds_wanted(config: Path) -> int | None:
    """Read the number of rounds from the config alone: a summary is that of the driver before."""
    try:
        loaded = OmegaConf.load(config)
        # A run from Python writes its arguments under their own heading.
        found = OmegaConf.select(loaded, "rounds", default=OmegaConf.select(loaded, "python.rounds"))
    except (OSError, OmegaConfBaseException):
        return None
    return found if isinstance(found, int) else None


def _age(path: Path, now: float) -> float | None:
    try:
        return max(0.0, now - path.stat().st_mtime)
    except OSError:  # deleted in the meantime
        return None
