"""The Python face: the same runs from plain PyTorch objects."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from fedray.aggregators import Aggregator, Mean
from fedray.algorithms import FedAvg
from fedray.algorithms.base import AlgorithmConfig, compose
from fedray.config.layers import bind_cluster, to_yaml
from fedray.config.registry import bind, checked, dump
from fedray.config.sections import (
    BudgetSection,
    CheckpointSection,
    DriverSection,
    EvaluateSection,
    ExperimentSchema,
    FailuresSection,
    LocalSection,
    WorkerSection,
)
from fedray.core.draws import named
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.losses import LOSSES, TASK_LOSS, LossFn
from fedray.core.record import RoundRecord
from fedray.data import ClientData
from fedray.experiment.build import Experiment, make_plan
from fedray.experiment.place import Place
from fedray.optim import SGD, OptimizerFn
from fedray.run.driver import Run, RunFolder
from fedray.run.interrupt import StopSignals, starting
from fedray.rundir import checkpoint
from fedray.rundir.names import PYTHON
from fedray.sampling import Full, Sampler
from fedray.tracking.console import Console
from fedray.transforms import Transform


@dataclass(frozen=True)
class FederatedModel:
    """What clients train.

    Args:
        model_fn: builds the ``nn.Module``; called with torch's generator seeded by the run, so that its first
            parameters are a function of the run's seed.
        optimizer_fn: parameters to a ``torch.optim.Optimizer``, made anew for each client and round.
        loss_fn: (output, target) to the mean loss of a batch; default: cross-entropy or squared error by the data's
            task.

    Raises:
        ConfigError: a module or an optimizer instead of a function that makes one.
    """

    model_fn: Callable[[], nn.Module]
    optimizer_fn: OptimizerFn = field(default_factory=SGD)
    loss_fn: LossFn | None = None

    def __post_init__(self) -> None:
        for name, value, kind, such_as in (
            ("model_fn", self.model_fn, nn.Module, "lambda: nn.Linear(4, 2)"),
            ("optimizer_fn", self.optimizer_fn, torch.optim.Optimizer, "lambda p: torch.optim.SGD(p, lr=0.1)"),
        ):
            if isinstance(value, kind) or not callable(value):
                raise ConfigError(f"{name}: a function is needed, such as {such_as}; this is a {type(value).__name__}")


@dataclass(frozen=True)
class TrainArgs:
    """How to train; everything has the meaning of the config key of the same name, and the same values are allowed.

    Args:
        rounds: rounds in all.
        epochs: local epochs.
        batch_size: local batch size; ``None`` is the whole local data.
        last_batch: ``keep``, ``merge`` or ``drop``.
        steps: exactly so many local steps instead of ``epochs``.
        seed: names every random draw.
        evaluate_every: rounds between evaluations on the test set.
        evaluate_clients_every: rounds between evaluations on the clients' held-out data; 0 never.
        checkpoint_every: rounds between checkpoints; 0: at the end.
        checkpoint_seconds: also after a round that ends so many seconds after the last checkpoint; 0: never.
        keep: checkpoints kept.
        stack: ``auto``, ``off``, or how many clients step at once.
        precision: ``fp32``, ``tf32`` or ``bf16``.
        deterministic: on a GPU, only kernels that give equal bits for equal inputs.
        buffers: ``mean``, ``keep`` or ``local``.
        on_nonfinite: ``drop`` or ``abort``.
        on_failure: ``drop`` or ``abort``.
        min_share: smallest share of a cohort that must survive.
        block_timeout: seconds a block may take before its worker is replaced and it is tried once more.
        left_out: ids of clients by round that are given up unasked.
        gpu_hours, cpu_hours, wall_hours: what the run may use, see :class:`fedray.config.sections.BudgetSection`.
        tensorboard: write event files.

    Raises:
        ConfigError: a value that is not allowed, named by its config key.
    """

    rounds: int = 10
    epochs: int = 1
    batch_size: int | None = 32
    steps: int | None = None
    last_batch: Literal["keep", "merge", "drop"] = "keep"
    seed: int = 0
    evaluate_every: int = 1
    evaluate_clients_every: int = 0
    checkpoint_every: int = 10
    checkpoint_seconds: float = 0.0
    keep: int = 2
    stack: Literal["auto", "off"] | int = "auto"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    deterministic: bool = True
    buffers: Literal["mean", "keep", "local"] = "mean"
    on_nonfinite: Literal["drop", "abort"] = "drop"
    on_failure: Literal["drop", "abort"] = "abort"
    min_share: float = 0.5
    block_timeout: float | None = None
    left_out: dict[int, list[str]] = field(default_factory=dict)
    gpu_hours: float | None = None
    cpu_hours: float | None = None
    wall_hours: float | None = None
    tensorboard: bool = True

    def __post_init__(self) -> None:
        self.sections()  # a wrong value is an error where it is given

    def sections(self) -> dict[str, Any]:
        """The same as rounds, seed and config sections, by name."""
        top = bind(ExperimentSchema, {"data": {}, "model": {}, "rounds": self.rounds, "seed": self.seed}, "")
        local = {
            "epochs": self.epochs,
            "batch_size": "full" if self.batch_size is None else self.batch_size,
            "steps": self.steps,
            "last_batch": self.last_batch,
            "stack": self.stack,
            "precision": self.precision,
            "deterministic": self.deterministic,
            "buffers": self.buffers,
        }
        evaluate = {"every": self.evaluate_every, "clients_every": self.evaluate_clients_every}
        failures = {
            "on_nonfinite": self.on_nonfinite,
            "on_failure": self.on_failure,
            "min_share": self.min_share,
            "block_timeout": self.block_timeout,
            "left_out": self.left_out,
        }
        saved = {"every": self.checkpoint_every, "seconds": self.checkpoint_seconds, "keep": self.keep}
        hours = {"gpu_hours": self.gpu_hours, "cpu_hours": self.cpu_hours, "wall_hours": self.wall_hours}
        return {
            "rounds": top.rounds,
            "seed": top.seed,
            "local": bind(LocalSection, local, "local"),
            "evaluate": bind(EvaluateSection, evaluate, "evaluate"),
            "failures": bind(FailuresSection, failures, "failures"),
            "checkpoint": bind(CheckpointSection, saved, "checkpoint"),
            "budget": bind(BudgetSection, hours, "budget"),
        }


@dataclass(frozen=True)
class Cluster:
    """Where to train.

    Args:
        name: ``ray`` (worker actors; a Ray that is already initialised is used as it is) or ``inline`` (this process).
        workers: worker actors on each node, or ``auto``.
        cpus: CPUs of each worker.
        gpus: GPUs of each worker; fractions share one, and several share out a client's batch.
        threads: torch threads of each worker.
        driver_gpus: GPUs of the driver.
        placement: ``spread``: that many workers on every node; ``pack``: as many in all, on few nodes.
        reduce: how vectors cross from node to node: ``object_store`` or ``collective``.

    Raises:
        ConfigError: a value that is not allowed, named by its config key.
    """

    name: Literal["ray", "inline"] = "ray"
    workers: int | Literal["auto"] = "auto"
    cpus: float = 1.0
    gpus: float = 0.0
    threads: int = 1
    driver_gpus: float = 0.0
    placement: Literal["pack", "spread"] = "spread"
    reduce: Literal["object_store", "collective"] = "object_store"

    def __post_init__(self) -> None:
        self.place()  # a wrong value is an error where it is given

    def place(self) -> Place:
        """The same as config sections."""
        cluster = {"name": self.name, "workers": self.workers, "placement": self.placement, "reduce": self.reduce}
        worker = {"cpus": self.cpus, "gpus": self.gpus, "threads": self.threads}
        return Place(
            bind_cluster(ExperimentSchema(data=None, model=None, cluster=cluster)),
            bind(WorkerSection, worker, "worker"),
            bind(DriverSection, {"gpus": self.driver_gpus}, "driver"),
        )


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Args:
        model: the trained module, on the CPU.
        history: one record for each round of this call, oldest first; ``metrics.jsonl`` has those before a resume too.
        run_dir: the run folder.
        stopped: it was stopped by a signal, with a checkpoint saved.
    """

    model: nn.Module
    history: list[RoundRecord]
    run_dir: Path
    stopped: bool = False


def train(
    model: FederatedModel,
    data: ClientData,
    args: TrainArgs | None = None,
    *,
    algorithm: AlgorithmConfig | None = None,
    transforms: Sequence[Transform] = (),
    aggregator: Aggregator | None = None,
    sampler: Sampler | None = None,
    cluster: Cluster | Literal["ray", "inline"] = "ray",
    run_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Result:
    """Train a model on federated data.

    Closures and lambdas work.  Ray is started if it is not initialised, and shut down only if it was started here.

    Args:
        model: what to train.
        data: the clients.
        args: how.
        algorithm: for example ``fedray.FedProx(mu=0.01)``; default ``fedray.FedAvg()``.
        transforms: of updates, in order.
        aggregator: default ``fedray.Mean()``.
        sampler: of cohorts; default all clients.
        cluster: where; ``"ray"``, ``"inline"`` or a :class:`Cluster`.
        run_dir: the run folder; default ``runs/python/<time>``.
        resume: go on from the newest checkpoint in ``run_dir``; the arguments must be those of the first call
            (``rounds`` may be larger).
        progress: show progress on the terminal.

    Returns:
        The trained module and the history.

    Raises:
        ConfigError: arguments or data that cannot work; nothing was started.
        RunFailed: the run could not go on; its last checkpoint is in the run folder.
    """
    args = args or TrainArgs()
    sections = args.sections()
    place = (Cluster(name=cluster) if isinstance(cluster, str) else cluster).place()
    config = checked(algorithm or FedAvg(), "algorithm")
    if not isinstance(transforms, Sequence):
        raise ConfigError(
            f"transforms: a list is needed, such as [fedray.Clip()]; this is a {type(transforms).__name__}"
        )
    chain = [checked(transform, f"transforms[{i}]") for i, transform in enumerate(transforms)]
    aggregator = checked(aggregator or Mean(), "aggregator")
    sampler = checked(sampler or Full(), "sampler")
    folder = RunFolder(
        Path(run_dir) if run_dir else Path("runs/python") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    )
    place.check()
    plan = make_plan(
        model_fn=functools.partial(_seeded, model.model_fn, sections["seed"]),
        optimizer_fn=model.optimizer_fn,
        loss_fn=model.loss_fn or LOSSES[TASK_LOSS[data.spec.task]],
        data=data,
        algorithm=compose(config, chain, aggregator, sections["local"]),
        sampler=sampler,
        place=place,
        **sections,
    )
    described: dict[str, Any] = {
        PYTHON: dump(args),
        "algorithm": dump(config),
        "aggregator": dump(aggregator),
        "sampler": dump(sampler),
        "transforms": [dump(transform) for transform in chain],
        "cluster": dump(place.cluster),
        "worker": dump(place.worker),
        "driver": dump(place.driver),
    }
    text = to_yaml(described)
    if resume:
        folder.config()
    else:
        folder.claim(text)
    run = Run(
        plan=plan,
        folder=folder,
        name="python",
        config=text,
        threads=place.worker.threads,
        resume=resume,
        tensorboard=args.tensorboard,
        notes=plan.task.notes,
        warnings=(*data.warnings, *plan.warnings),
    )
    return _run(Experiment(run, place, sections["failures"].block_timeout), progress)


def _run(experiment: Experiment, progress: bool) -> Result:
    run = experiment.run
    console = Console(quiet=not progress, tensorboard=run.tensorboard)
    signals = StopSignals(
        lambda: console.note("stopping: saving a checkpoint (once more to interrupt at once)"), signal.raise_signal
    )
    history: list[RoundRecord] = []
    console.start(run.info())
    try:
        with signals, starting():
            for record in experiment.records(signals.arm):
                history.append(record)
                console.round(record)
        # Not by the signals: one that comes late finds a run that is finished all the same.
        summary = run.folder.summary()
        if summary["status"] != "stopped":
            console.finish(summary)
    finally:
        console.close()
    module = run.plan.task.model_fn()
    saved = checkpoint.newest(run.folder.checkpoints)
    if saved is None:
        raise RunFailed(f"stopped before the first round; nothing was saved in {run.folder.path}")
    run.plan.layout.load(module, saved.tensors["model"])
    return Result(module, history, run.folder.path, summary["status"] == "stopped")


def _seeded(model_fn: Callable[[], nn.Module], seed: int) -> nn.Module:
    with named(seed, "init"):
        module = model_fn()
    if not isinstance(module, nn.Module):
        raise ConfigError(f"model_fn: it must return an nn.Module, got {type(module).__name__}")
    return module
