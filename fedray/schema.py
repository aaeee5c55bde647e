"""The sections of an experiment's YAML file, as typed dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class LocalSection:
    """``local``: what a client does in a round.

    Args:
        epochs: passes over the client's data.
        batch_size: examples in a step, or ``full``.
        steps: exactly so many steps instead of ``epochs``.
        optimizer: ``{name: sgd, lr: 0.1, ...}``, see ``fedray list optimizers``.
        loss: ``cross_entropy``, ``mse``, or ``auto``: by the data's task.
        stack: ``auto``, ``off``, or how many clients step at once.
        precision: ``fp32``, ``tf32`` or ``bf16`` (autocast).
        buffers: ``mean``, ``keep`` or ``local``.
    """

    epochs: int = 1
    batch_size: int | str = 32
    steps: int | None = None
    optimizer: dict[str, Any] = field(default_factory=lambda: {"name": "sgd"})
    loss: Literal["auto", "cross_entropy", "mse"] = "auto"
    stack: int | str | bool = "auto"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    buffers: Literal["mean", "keep", "local"] = "mean"

    def __post_init__(self) -> None:
        if self.batch_size != "full" and not (isinstance(self.batch_size, int) and self.batch_size >= 1):
            raise ValueError(f"batch_size={self.batch_size}: it must be at least 1, or full")
        if self.epochs < 0:
            raise ValueError(f"epochs={self.epochs}: it must be at least 0")
        if self.steps is not None and self.steps < 0:
            raise ValueError(f"steps={self.steps}: it must be at least 0")
        # YAML reads a bare `off` as false.
        if self.stack not in ("auto", "off", False) and (isinstance(self.stack, str) or self.stack < 1):
            raise ValueError(f"stack={self.stack}: it must be auto, off, or at least 1")


@dataclass(frozen=True)
class ClusterSection:
    """``cluster``: where workers run.

    Args:
        name: ``ray`` (worker actors) or ``inline`` (this process).
        workers: number of worker actors, or ``auto``: one for each share of CPUs (of GPUs, if workers use them).
        placement: ``pack`` or ``spread`` over nodes.
        transport: ``auto``, ``shared_memory`` or ``object_store``.
        dashboard: start Ray's dashboard, on this machine's loopback (needs the ``jobs`` extra).
    """

    name: Literal["ray", "inline"] = "ray"
    workers: int | str = "auto"
    placement: Literal["pack", "spread"] = "pack"
    transport: Literal["auto", "shared_memory", "object_store"] = "auto"
    dashboard: bool = False

    def __post_init__(self) -> None:
        if self.workers != "auto" and not (isinstance(self.workers, int) and self.workers >= 1):
            raise ValueError(f"workers={self.workers}: it must be at least 1, or auto")


@dataclass(frozen=True)
class WorkerSection:
    """``worker``: what each worker gets.

    Args:
        cpus: CPUs reserved.
        gpus: GPUs reserved; a fraction shares one.
        threads: torch threads; part of what makes the bits of a result.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    threads: int = 1

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0 or self.threads < 1:
            raise ValueError("cpus and gpus must be at least 0, threads at least 1")


@dataclass(frozen=True)
class DriverSection:
    """``driver``: what the driver gets.

    Args:
        gpus: GPUs reserved.
    """

    gpus: float = 0.0


@dataclass(frozen=True)
class EvaluateSection:
    """``evaluate``: when the global model is evaluated.

    Args:
        every: rounds between evaluations on the test set; 0 never.
        clients_every: rounds between evaluations on the clients' held-out data; 0 never.
    """

    every: int = 1
    clients_every: int = 0


@dataclass(frozen=True)
class FailuresSection:
    """``failures``: what a client without an update means.

    Args:
        on_nonfinite: ``drop`` the client for the round, or ``abort`` the run.
        on_failure: a client that raised twice: ``drop`` or ``abort``.
        min_share: smallest share of a cohort that must survive.
    """

    on_nonfinite: Literal["drop", "abort"] = "drop"
    on_failure: Literal["drop", "abort"] = "abort"
    min_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_share <= 1.0:
            raise ValueError(f"min_share={self.min_share}: it must be from 0 to 1")


@dataclass(frozen=True)
class CheckpointSection:
    """``checkpoint``: what survives.

    Args:
        every: rounds between checkpoints; 0: only at the end or when stopped.
        keep: how many are kept.
    """

    every: int = 10
    keep: int = 2

    def __post_init__(self) -> None:
        if self.every < 0 or self.keep < 1:
            raise ValueError("every must be at least 0, keep at least 1")


@dataclass(frozen=True)
class TrackingSection:
    """``tracking``: what is written besides ``metrics.jsonl``.

    Args:
        tensorboard: TensorBoard event files.
    """

    tensorboard: bool = True


@dataclass(frozen=True)
class RunSection:
    """``run``: where results go.

    Args:
        dir: the run folder; default ``runs/<config name>/<time>``.
    """

    dir: str | None = None


@dataclass(frozen=True)
class ExperimentSchema:
    """The top of the file: sections, still plain."""

    data: Any
    model: Any
    algorithm: Any = "fedavg"
    transforms: list[Any] = field(default_factory=list)
    aggregator: Any = "mean"
    sampler: Any = "full"
    rounds: int = 10
    seed: int = 0
    local: dict[str, Any] = field(default_factory=dict)
    cluster: dict[str, Any] = field(default_factory=dict)
    worker: dict[str, Any] = field(default_factory=dict)
    driver: dict[str, Any] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, Any] = field(default_factory=dict)
    checkpoint: dict[str, Any] = field(default_factory=dict)
    tracking: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds={self.rounds}: it must be at least 1")
