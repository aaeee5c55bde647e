"""The cases and their targets: speed next to the bare loop, memory, and the time to the first round."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.algorithms import GROUPS
from benchmarks.figures import Figure, Goal, Spread, shown
from benchmarks.processes import PeakPss, PeakRss, execute, measurement, module, title
from fedray.local.emulation import native_bf16

GB = 1e9
MB = 1e6
_LOOK = 0.05
"""Seconds between looks at memory and milestones."""

_EMULATED = "Not judged: the CPU of this machine has no bfloat16 of its own, and emulates it."

Say = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """The length of a measurement.

    Args:
        repeats: pairs of runs of each workload.
        share: of a workload's rounds.
    """

    repeats: int
    share: float


FULL, ONCE, QUICK = Effort(2, 1.0), Effort(1, 1.0), Effort(1, 0.25)


@dataclass(frozen=True)
class Speed:
    """One workload, the bare loop and fedray in turn, each run in processes of its own.

    With ``against`` another workload through fedray is the other side, and the bare loop is told in the note.

    Args:
        workload: its name in ``bare.py``.
        bare: options of the bare loop.
        rounds: timed rounds of a run.
        figure: name, unit and goal.
        clients: clients in a round, to count clients per second; 0 counts seconds per round.
        engine: options of the run through fedray.
        against: the name of another workload; empty: the bare loop is the other side.
        fastest: options of a further bare run, the best one, which nobody is judged by.
        pairs: runs of both sides in the place of one, of fewer rounds each: who else is on the machine may slow one
            side for minutes, and not the other, as what reads more memory than caches hold, or takes one core of two.
    """

    workload: str
    bare: tuple[str, ...]
    rounds: int
    figure: Figure
    clients: int = 0
    engine: tuple[str, ...] = ()
    against: str = ""
    fastest: tuple[str, ...] = ()
    pairs: int = 1

    def measure(self, effort: Effort, say: Say) -> tuple[list[Figure], list[dict[str, Any]]]:
        """The figure, and what each run said."""
        rounds = max(2, round(self.rounds * effort.share / self.pairs))
        runs: list[dict[str, Any]] = []
        for repeat in range(effort.repeats * self.pairs):
            for side, name in self._sides:
                options = self.bare if side == "bare" else self.engine
                said = measurement(module(f"benchmarks.{side}", name, "--rounds", rounds, *options))
                runs.append({"side": side, "repeat": repeat, **said, "workload": name})
                say(f"{name}, {side}: {shown(said['median'])} s/round")
        bare, *between, ours = ([run for run in runs if (run["side"], run["workload"]) == side] for side in self._sides)
        theirs, last = between[0] if between else bare, ours[-1]
        phases = ", ".join(f"{name} {shown(1000 * seconds)} ms" for name, seconds in last["phases"].items())
        note = (
            f"bare loop: {' '.join(self.bare)}; fedray: {' '.join(self.engine)} {last['cluster']}, {last['workers']} "
            f"worker(s) of 1 thread, {last['stacking']}. "
            f"A round of the last run: {phases}; the round before the timed ones took {last['warmup']} s. "
        )
        if self.against:
            slow, fast = (Spread.of([s for run in side for s in run["seconds_per_round"]]) for side in (bare, ours))
            note += (
                f"The other side is {self.against} through fedray; the bare loop of {self.workload} took "
                f"{shown(slow.median)} s a round, fedray {fast.median / slow.median:.2f} of it."
            )
        best = None
        if self.fastest:
            said = measurement(module("benchmarks.bare", self.workload, "--rounds", rounds, *self.bare, *self.fastest))
            runs.append({"side": "fastest", "repeat": 0, **said})
            best = said["median"]
            share = Spread.of([s for run in ours for s in run["seconds_per_round"]]).median / best
            note += f"The bare loop with {' '.join(self.fastest)} took {shown(best)} s a round, "
            note += f"fedray {share:.2f} of it. "
        judged = replace(self.figure, unjudged=_EMULATED if "bf16" in self.engine and not native_bf16() else "")
        note += judged.unjudged
        return [replace(judged, fedray=self._values(ours), bare=self._values(theirs), note=note, best=best)], runs

    @property
    def _sides(self) -> list[tuple[str, str]]:
        """The sides and their workloads, one after the other."""
        between = [("engine", self.against)] if self.against else []
        return [("bare", self.workload), *between, ("engine", self.workload)]

    def _values(self, runs: list[dict[str, Any]]) -> list[list[float]]:
        seconds = [run["seconds_per_round"] for run in runs]
        return [[self.clients / s for s in run] for run in seconds] if self.clients else seconds


@dataclass(frozen=True)
class Memory:
    """Peak memory of all processes on a large model, and of the driver actor on ``tiny`` by cohort size.

    In runs of their own: reading a process's page tables slows it.

    Args:
        figures: of both.
        cohorts: the cohort sizes.
        large: the workload with the large model.
    """

    figures: tuple[Figure, Figure]
    cohorts: tuple[int, ...] = (10, 100, 1000)
    large: str = "wide"

    def measure(self, effort: Effort, say: Say) -> tuple[list[Figure], list[dict[str, Any]]]:
        """Both figures, and what each run said."""
        runs: list[dict[str, Any]] = []
        large, tiny = (max(1, round(rounds * effort.share)) for rounds in (2, 20))
        peaks = {}
        for side, options in (("bare", ("--threads", 2)), ("engine", ())):
            everyone = PeakPss()
            said = measurement(module(f"benchmarks.{side}", self.large, "--rounds", large, *options), everyone, _LOOK)
            peaks[side] = everyone.peak / GB
            programs = {name: round(size / GB, 3) for name, size in everyone.programs.items()}
            runs.append(
                {"side": side, "peak_pss_gb": peaks[side], "programs_gb": programs, "looks": everyone.looks, **said}
            )
            say(f"{self.large}, {side}: {shown(peaks[side])} GB")
        drivers = {}
        # The growth is between the ends.
        for cohort in self.cohorts if effort.share >= 1 else sorted({self.cohorts[0], self.cohorts[-1]}):
            driver = PeakRss("ray::DriverActor")
            command = module("benchmarks.engine", "tiny", "--rounds", tiny, "--cohort", cohort)
            said = measurement(command, driver, _LOOK)
            drivers[cohort] = driver.peak / MB
            runs.append({"side": "engine", "driver_peak_rss_mb": drivers[cohort], **said})
            say(f"tiny, cohort {cohort:,}: driver {shown(drivers[cohort])} MB")
        by_program = ", ".join(f"{name} {shown(size)}" for name, size in runs[1]["programs_gb"].items() if size > 0.05)
        whole, driven = self.figures
        if min(drivers.values()) == 0:
            driven = replace(driven, error="the driver actor's process was not found")
        by_cohort = ", ".join(f"{shown(peak)} MB for {cohort:,}" for cohort, peak in drivers.items())
        return [
            replace(
                whole,
                fedray=[[peaks["engine"]]],
                bare=[[peaks["bare"]]],
                note=f"proportional set sizes of all processes added up; at fedray's peak {by_program}",
            ),
            replace(
                driven,
                fedray=[[drivers[self.cohorts[-1]] - drivers[self.cohorts[0]]]],
                note=f"peak resident set of the driver actor by cohort: {by_cohort} clients; "
                "the updates of 1,000 clients would take 19 MB",
            ),
        ], runs


@dataclass(frozen=True)
class Startup:
    """From ``fedray run`` to the first line of ``metrics.jsonl``, on a warm disk: the last of the runs.

    Beside it a bare Ray program, until the first of two actors that import torch has answered.
    """

    figure: Figure
    config: str = "configs/digits.yaml"

    def measure(self, effort: Effort, say: Say) -> tuple[list[Figure], list[dict[str, Any]]]:
        """The figure, and the milestones of each run."""
        bare = measurement(module("benchmarks.bare_ray", time.time()))
        say(f"bare Ray after {shown(bare['seconds'])} s")
        runs: list[dict[str, Any]] = [{"side": "bare", **bare}]
        for _ in range(effort.repeats):
            with tempfile.TemporaryDirectory(prefix="fedray-bench-") as folder:
                milestones = Milestones(Path(folder) / "run")
                command = module("fedray", "run", self.config, f"run.dir={milestones.run_dir}", "rounds=3")
                execute(command, milestones, _LOOK)
            runs.append({"side": "engine", "milestones": milestones.reached})
            say(f"first round after {shown(milestones.reached[FIRST_ROUND])} s")
        *earlier, last = (run["milestones"] for run in runs if "milestones" in run)
        reached = ", ".join(f"{name} {shown(seconds)} s" for name, seconds in last.items())
        before = "".join(f"; a run before it took {shown(run[FIRST_ROUND])} s" for run in earlier)
        note = (
            f"{reached} (seen every {_LOOK} s){before}. "
            f"Of the bare Ray program, ray.init alone took {shown(bare['init'])} s"
        )
        return [replace(self.figure, fedray=[[last[FIRST_ROUND]]], bare=[[bare["seconds"]]], note=note)], runs


@dataclass(frozen=True)
class Scale:
    """Rounds of very many clients, and the memory of the process that starts them beside what its data take.

    Args:
        figures: seconds of a round, and that memory.
        rounds: timed rounds of a run.
        quick: options of a quick run.
    """

    figures: tuple[Figure, Figure]
    rounds: int = 8
    quick: tuple[object, ...] = ("--clients", 100_000, "--cohort", 1000)

    def measure(self, effort: Effort, say: Say) -> tuple[list[Figure], list[dict[str, Any]]]:
        """Both figures, and what the run said."""
        rounds, smaller = max(2, round(self.rounds * effort.share)), () if effort.share >= 1 else self.quick
        said = measurement(module("benchmarks.scale", "--rounds", rounds, *smaller))
        say(f"scale: {shown(said['median'])} s/round, launcher {shown(said['launcher_mb'])} MB")
        phases = ", ".join(f"{name} {shown(1000 * seconds)} ms" for name, seconds in said["phases"].items())
        note = (
            f"{said['clients']:,} clients, cohort {said['cohort']:,}, {said['workers']} workers, {said['stacking']}; "
            f"a round: {phases}; data {shown(said['data_mb'])} MB, launcher {shown(said['launcher_mb'])} MB"
        )
        speed, memory = self.figures
        return [
            replace(speed, fedray=[said["seconds_per_round"]], note=note),
            replace(memory, fedray=[[said["launcher_mb"] / said["data_mb"]]], note=note),
        ], [{"side": "engine", **said}]


PLANNED, RAY, DRIVER, WORKERS, FIRST_ROUND = (
    "imports, data and plan done",
    "Ray's daemons started",
    "driver actor up",
    "all workers up",
    "first round recorded",
)


class Milestones:
    """A watch: when a run first showed each sign of how far it is, in seconds since its process was started.

    Args:
        run_dir: its run folder.
        workers: how many worker actors it has; default one for each processor.
    """

    def __init__(self, run_dir: Path, workers: int = 0) -> None:
        self.run_dir = run_dir
        self.workers = workers or os.cpu_count() or 1
        self.reached: dict[str, float] = {}

    def __call__(self, pids: list[int], elapsed: float) -> None:
        if FIRST_ROUND in self.reached:
            return
        titles = [title(pid) for pid in pids]
        metrics = self.run_dir / "metrics.jsonl"
        signs = {
            PLANNED: (self.run_dir / "config.yaml").exists(),
            RAY: any("/raylet/raylet " in name for name in titles),
            DRIVER: any(name.startswith("ray::DriverActor") for name in titles),
            WORKERS: sum(name.startswith("ray::WorkerActor") for name in titles) >= self.workers,
            FIRST_ROUND: metrics.exists() and metrics.stat().st_size > 0,
        }
        for name, seen in signs.items():
            if seen:
                self.reached.setdefault(name, elapsed)


@dataclass(frozen=True)
class Beside:
    """Rounds of a group of ``benchmarks.algorithms`` against those of its first, taken in turn, in processor time."""

    group: str
    turns: int

    @property
    def against(self) -> str:
        """The name of the other side."""
        return next(iter(GROUPS[self.group]))

    @property
    def figures(self) -> tuple[Figure, ...]:
        """A figure for each one that is held to something."""
        held = ((name, bound) for name, (_, bound) in GROUPS[self.group].items() if bound is not None)
        return tuple(
            Figure(f"{name} by {self.against}", "CPU s/round", Goal(bound, of="ratio")) for name, bound in held
        )

    def measure(self, effort: Effort, say: Say) -> tuple[list[Figure], list[dict[str, Any]]]:
        """The figures, each turn beside the other side's a pair, and the seconds of a round in each turn."""
        turns, other = max(5, round(self.turns * effort.share)), self.against
        said = measurement(module("benchmarks.algorithms", "--of", self.group, "--turns", turns))
        for name, seconds in said.items():
            say(f"{name}: {shown(statistics.median(seconds))} s/round")
        measured = []
        for figure in self.figures:
            seconds = said[figure.name.removesuffix(f" by {other}")]
            note = (
                f"The other side is {other}, in turn in the same process. By all seconds "
                f"{sum(seconds) / sum(said[other]):.2f}."
            )
            each = [[[one] for one in side] for side in (seconds, said[other])]
            measured.append(replace(figure, fedray=each[0], bare=each[1], note=note))
        return measured, [said]


Case = Speed | Memory | Startup | Beside | Scale


def _named(name: str, against: str) -> str:
    return f"{name} by {against}" if against else name


def _speed(name: str, bare: str, rounds: int, bound: float, against: str = "", pairs: int = 1) -> Speed:
    figure = Figure(_named(name, against), "s/round", Goal(bound, of="ratio"))
    return Speed(name, tuple(bare.split()), rounds, figure, against=against, pairs=pairs)


CASES: dict[str, Case] = {
    "tiny": _speed("tiny", "--processes 1 --threads 1", 60, bound=0.08, pairs=3),
    "ragged": _speed("ragged", "--processes 1 --threads 1", 8, bound=0.15),
    "cnn": replace(_speed("cnn", "--processes 2 --threads 1", 6, bound=0.90, pairs=3), fastest=("--fast",)),
    "cnn-bf16": Speed(
        "cnn",
        ("--processes", "2", "--threads", "1"),
        3,
        Figure("cnn in bf16", "s/round", Goal(0.60, of="ratio")),
        engine=("--precision", "bf16"),
        fastest=("--fast",),
    ),
    "wide": _speed("wide", "--processes 1 --threads 2", 6, bound=1.05),
    "noop": Speed(
        "noop",
        ("--processes", "1", "--threads", "1"),
        40,
        Figure("noop", "clients/s", Goal(150_000, at_least=True)),
        clients=1000,
    ),
    "blaze": _speed("blaze", "--processes 2 --threads 1", 3, bound=1.10),
    "resnet": _speed("resnet", "--processes 2 --threads 1", 3, bound=1.10),
    "lora": _speed("lora", "--processes 2 --threads 1", 12, bound=0.75, pairs=3),
    "stateful": _speed("stateful", "--processes 1 --threads 1", 20, bound=2.0, against="tiny"),
    "algorithms": Beside("algorithms", 30),
    "privacy": Beside("privacy", 60),
    "scale": Scale(
        (
            Figure("scale", "s/round", Goal(2.0)),
            Figure("launcher's memory of scale", "x its data", Goal(1.2)),
        )
    ),
    "memory": Memory(
        (
            Figure("memory of wide", "GB", Goal(2.6)),
            Figure("growth of the driver's memory, cohort 10 to 1,000", "MB", Goal(10)),
        )
    ),
    "startup": Startup(Figure("first round after fedray run", "s", Goal(1.5, of="ratio"))),
}


def _on_gpu(name: str, rounds: int, bound: float, place: str, against: str = "") -> Speed:
    engine = ("--device", "cuda", *(("--inline",) if place == "inline" else ()))
    figure = Figure(f"{_named(name, against)}, {place}", "s/round", Goal(bound, of="ratio"))
    return Speed(name, ("--device", "cuda"), rounds, figure, engine=engine, against=against)


GPU_CASES: dict[str, Case] = {
    f"{name}-{place}": _on_gpu(name, rounds, bound, place, against)
    for name, rounds, bound, against in (
        ("tiny", 50, 0.025, ""),
        ("cnn", 20, 0.10, ""),
        ("wide", 10, 1.25, ""),
        ("blaze", 10, 1.10, ""),
        ("resnet", 10, 1.10, ""),
        ("lora", 20, 0.75, ""),
        ("stateful", 50, 2.0, "tiny"),
    )
    for place in ("inline", "ray")
}
"""The same workloads on a GPU: in one process, and with a worker and the driver that share it."""
