"""What a round's work took on the machines: told by each worker, added up by the driver."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reading:
    """One worker's round.

    Args:
        worker: its name, ``node1/0``.
        busy: seconds at work on items.
        cpu_seconds: processor time of its process.
        rss: peak resident memory of its process so far, in bytes.
        gpu_memory: peak GPU memory allocated so far, in bytes.
        joules: energy by GPU (its UUID) since the last reading; workers that share one GPU read the same counter.
    """

    worker: str
    busy: float = 0.0
    cpu_seconds: float = 0.0
    rss: int = 0
    gpu_memory: int = 0
    joules: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """A round, over all workers.

    Args:
        readings: one for each worker that took part.
        nodes: nodes they run on.
        gpus: GPUs they reserve, in all.
        retries: blocks done again because a worker was lost.
        network: bytes between nodes: broadcasts and accumulators.
    """

    readings: tuple[Reading, ...] = ()
    nodes: int = 1
    gpus: float = 0.0
    retries: int = 0
    network: int = 0
