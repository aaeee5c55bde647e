"""The sections of an experiment's YAML file, as typed dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from fedray.config.amounts import check_rounds
from fedray.config.local import BufferPolicy as BufferPolicy
from fedray.config.local import LocalSection as LocalSection
from fedray.config.run import RunSection as RunSection
from fedray.config.stop import StopSection as StopSection
from fedray.core.monitor import Monitor

MOST = 10_000
"""More CPUs, GPUs, gigabytes or threads than that no machine has."""


def check_amounts(**amounts: float) -> None:
    """Raise ValueError unless each of these is a number of things that one machine may have."""
    for name, amount in amounts.items():
        if not 0 <= amount <= MOST:
            raise ValueError(f"{name}={amount:g}: it must be from 0 to {MOST}")


def check_gpus(gpus: float | None) -> None:
    """Raise ValueError unless ``gpus`` is a number of GPUs, or a share of one."""
    if gpus is not None:
        check_amounts(gpus=gpus)
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise ValueError(f"gpus={gpus:g}: above 1 it must be a whole number, as only one GPU can be shared")


@dataclass(frozen=True)
class ClusterSection:
    """``cluster``: the place of the workers.

    Args:
        name: ``ray`` (worker actors), ``inline`` (this process) or ``slurm`` (worker actors on a job's nodes).
        workers: worker actors on each node, or ``auto``: as many as its CPUs (its GPUs, if workers use them) allow.
        placement: ``spread``: that many on every node; ``pack``: as many in all, on as few nodes as have room.
        reduce: the way of vectors from node to node: ``object_store`` (Ray's), or ``collective`` (torch.distributed,
            by NCCL if each rank has a GPU of its own, else gloo; faster for large models); the same bits.
        min_workers: with fewer workers left, after nodes were lost, the run ends with its checkpoint.
        start_timeout: seconds to wait for workers, and for nodes in place of lost ones; default: 120, on Slurm 300.
        dashboard: start Ray's dashboard, on this machine's loopback (needs the ``jobs`` extra).
    """

    name: Literal["ray", "inline", "slurm"] = "ray"
    workers: int | str = "auto"
    placement: Literal["pack", "spread"] = "spread"
    reduce: Literal["object_store", "collective"] = "object_store"
    min_workers: int = 1
    start_timeout: float | None = None
    dashboard: bool = False

    usual_timeout: ClassVar[float] = 120.0

    def __post_init__(self) -> None:
        if self.workers != "auto" and not (isinstance(self.workers, int) and self.workers >= 1):
            raise ValueError(f"workers={self.workers}: it must be at least 1, or auto")
        if self.min_workers < 1 or not self.patience > 0:
            raise ValueError("min_workers must be at least 1, start_timeout above 0")

    @property
    def patience(self) -> float:
        """``start_timeout``, or its default."""
        return self.usual_timeout if self.start_timeout is None else self.start_timeout


@dataclass(frozen=True)
class SlurmSection(ClusterSection):
    """``cluster: {name: slurm}``: a Slurm job, with a Ray cluster of its own on its nodes; the rest as for ``ray``.

    Args:
        nodes: Slurm nodes.
        gpus_per_node: GPUs on each.
        cpus_per_task: CPUs on each; default: Slurm's.
        mem: memory on each, ``16G``; default: Slurm's.
        time: longest time of one start, ``12:00:00``; default: the partition's.
        partition: the partition.
        account: the account.
        qos: the quality of service.
        sbatch: further long options of sbatch, ``{constraint: a100, exclusive: true}``.
        prologue: lines of shell before the run: modules, a virtual environment.
        python: command that runs Python on the nodes, ``apptainer exec --nv image.sif python``; default: this Python.
        interface: network interface between nodes, ``ib0``; default: by the route to the first node.
        grace: seconds before the time limit at which the run saves a checkpoint and ends.
        max_requeues: the number of times the job may put itself back into the queue.
    """

    name: Literal["slurm"] = "slurm"
    nodes: int = 1
    gpus_per_node: int = 0
    cpus_per_task: int | None = None
    mem: str | None = None
    time: Any = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    sbatch: dict[str, Any] = field(default_factory=dict)
    prologue: list[str] = field(default_factory=list)
    python: str | None = None
    interface: str | None = None
    grace: int = 120
    max_requeues: int = 10

    usual_timeout: ClassVar[float] = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nodes < 1 or self.gpus_per_node < 0 or (self.cpus_per_task is not None and self.cpus_per_task < 1):
            raise ValueError("nodes and cpus_per_task must be at least 1, gpus_per_node at least 0")
        if self.time is not None and not isinstance(self.time, str):
            raise ValueError(f"time={self.time}: put it in quotes, as YAML reads 12:00:00 as the number 43200")
        if self.grace < 1 or self.max_requeues < 0:
            raise ValueError("grace must be at least 1 s, max_requeues at least 0")


@dataclass(frozen=True)
class WorkerSection:
    """``worker``: the resources of each worker.

    Args:
        cpus: CPUs reserved.
        gpus: GPUs reserved; a fraction shares one, with several a client's batch is shared out over them.
        memory: gigabytes of host memory reserved; 0 reserves none.
        threads: torch threads; part of what makes the bits of a result.
        ranks: processes that train a client together, each with a shard of the model and all of these; part of it, too.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    threads: int = 1
    memory: float = 0.0
    ranks: int = 1

    def __post_init__(self) -> None:
        check_amounts(cpus=self.cpus, memory=self.memory)
        for name, count in (("threads", self.threads), ("ranks", self.ranks)):
            if not 1 <= count <= MOST:
                raise ValueError(f"{name}={count}: it must be from 1 to {MOST}")
        check_gpus(self.gpus)
        if self.ranks > 1 and self.gpus not in (0, 1):
            raise ValueError(f"gpus={self.gpus:g}: each of several ranks has a whole GPU, gpus=1, or none")

    @property
    def together(self) -> WorkerSection:
        """The section with what all ranks of a worker reserve together."""
        amounts = {name: getattr(self, name) * self.ranks for name in ("cpus", "gpus", "memory")}
        return self if self.ranks == 1 else replace(self, ranks=1, **amounts)


@dataclass(frozen=True)
class DriverSection:
    """``driver``: the resources of the driver, on the node where the run is started.

    Args:
        gpus: GPUs reserved.
        cpus: CPUs reserved; of a Ray that is started for the run, one more than the workers have.
    """

    gpus: float = 0.0
    cpus: float = 0.0

    def __post_init__(self) -> None:
        check_amounts(cpus=self.cpus)
        check_gpus(self.gpus)


@dataclass(frozen=True)
class EvaluateSection:
    """``evaluate``: the evaluations of the global model.

    Args:
        every: rounds between evaluations on the test set; 0 never.
        clients_every: rounds between evaluations on the clients' held-out data; 0 never.
        finetune: with the clients' evaluation also that of models which are first fine-tuned on the client's training
            data, for so many ``{epochs: 1}`` or ``{steps: 10}``; default: none.
        before: also evaluate the model before training, on all that is evaluated at all; its record is that of round 0.
        keep_clients: evaluations whose numbers of each client are kept in ``clients/``: so many of the newest, and the
            best beside them; default: all.
        batch_size: examples that are evaluated at once; ``auto``: 1,024, or as many as make the largest tensor of the
            forward pass 256 MiB.  Where memory is too short even so, the half of them, and so on.
    """

    every: int = 1
    clients_every: int = 0
    finetune: dict[str, int] | None = None
    before: bool = False
    keep_clients: int | None = None
    batch_size: int | str = "auto"

    def __post_init__(self) -> None:
        if self.batch_size != "auto" and not (isinstance(self.batch_size, int) and self.batch_size >= 1):
            raise ValueError(f"batch_size={self.batch_size}: it must be at least 1, or auto")
        if self.every < 0 or self.clients_every < 0:
            raise ValueError(f"every={self.every}, clients_every={self.clients_every}: they must be at least 0")
        if self.keep_clients is not None and self.keep_clients < 1:
            raise ValueError(f"keep_clients={self.keep_clients}: it must be at least 1, or null for all")
        if self.finetune is None:
            return
        if len(self.finetune) != 1 or not self.finetune.keys() <= {"epochs", "steps"}:
            raise ValueError(f"finetune={self.finetune}: it must be either {{epochs: n}} or {{steps: n}}")
        if min(self.finetune.values()) < 1:
            raise ValueError(f"finetune={self.finetune}: it must be at least 1")
        if not self.clients_every:
            raise ValueError("finetune: clients are not evaluated; set clients_every to the rounds between evaluations")


@dataclass(frozen=True)
class FailuresSection:
    """``failures``: the meaning of a client without an update.

    Args:
        on_nonfinite: ``drop`` the client for the round, or ``abort`` the run.
        on_failure: a client that raised twice: ``drop`` or ``abort``.
        min_share: smallest share of a cohort that must survive.
        block_timeout: seconds a block may take; then its worker is replaced and the block tried once more. Default: for
            ever. It needs workers of their own, and so ``cluster.name`` other than ``inline``.
        dropout: share of a cohort that drops out, from 0 to below 1; each client by its own coin in each round.  They
            send nothing, and count as ``dropped``, not as failures.
        left_out: ids of clients by round, ``{7: [hospital_b]}``, that are given up unasked if they are drawn. With the
            failures of another run it repeats that run, bit for bit.
    """

    on_nonfinite: Literal["drop", "abort"] = "drop"
    on_failure: Literal["drop", "abort"] = "abort"
    min_share: float = 0.5
    block_timeout: float | None = None
    dropout: float = 0.0
    left_out: dict[int, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(round < 1 for round in self.left_out):
            raise ValueError(f"left_out: rounds count from 1, got {min(self.left_out)}")
        if not 0.0 <= self.min_share <= 1.0:
            raise ValueError(f"min_share={self.min_share}: it must be from 0 to 1")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout={self.dropout}: it must be at least 0 and below 1")
        if self.block_timeout is not None and not 0.0 < self.block_timeout < float("inf"):
            raise ValueError(f"block_timeout={self.block_timeout}: it must be above 0 seconds, or null for no limit")


@dataclass(frozen=True)
class CheckpointSection:
    """``checkpoint``: the checkpoints of a run, and how many stay.

    Args:
        every: rounds between checkpoints; 0: only at the end or when stopped.
        seconds: also after the first round that ends so many seconds after the last checkpoint; 0: never.
        keep: the number that are kept.
        best: a metric of evaluations, ``test.accuracy`` or ``clients_test.loss.p90``, or one that a part tells of the
            round, ``metrics.fedexp.step``: the checkpoint of the round whose
            model had the best value is kept, too, and its model exported at the end as ``best.safetensors``.  Less is
            better of losses and errors, more of all else; ``{metric: test.score, mode: min}`` says it.  The evaluation
            of a round is then waited for, and a checkpoint written whenever there is a better one.
        history: also every n-th of those that ``every`` makes, for good: ``every: 10, history: 5`` keeps rounds 50,
            100...; ``fedray debug`` and ``verify`` begin at the nearest one.  0: none.
    """

    every: int = 10
    seconds: float = 0.0
    keep: int = 2
    best: Any = None
    history: int = 0

    def __post_init__(self) -> None:
        self.monitor  # noqa: B018  # a name that no record can have is an error where it is given
        if self.every < 0 or not 0.0 <= self.seconds < float("inf") or self.keep < 1:
            raise ValueError("every and seconds must be at least 0, keep at least 1")
        if self.history < 0 or (self.history and not self.every):
            raise ValueError(f"history={self.history}: it counts the checkpoints of every, which must be at least 1")

    @property
    def monitor(self) -> Monitor | None:
        """The metric by which a model is the best, if there is one."""
        if self.best is None:
            return None
        said = {"metric": self.best} if isinstance(self.best, str) else self.best
        if not isinstance(said, Mapping) or "metric" not in said or not said.keys() <= {"metric", "mode"}:
            such_as = "such as test.accuracy, or {metric: test.score, mode: min}"
            raise ValueError(f"best={self.best}: it must be a metric, {such_as}")
        try:
            monitor = Monitor(str(said["metric"]), str(said.get("mode", "auto")))  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"best: {error}") from None
        if monitor.section == "train":
            raise ValueError(f"best={monitor.metric}: it must be a metric of an evaluation, or one that a part tells")
        return monitor


@dataclass(frozen=True)
class BudgetSection:
    """``budget``: the limits of a run, over all its rounds, those before a resume included.

    It is looked at after each round.  Once a limit is reached the run ends as told: the model is evaluated and written,
    a checkpoint saved, ``summary.json`` says ``budget``, and the exit status is 0.  ``fedray resume RUN_DIR
    budget.gpu_hours=40`` goes on.  Starting up, and rounds that were lost, are not counted.

    Args:
        gpu_hours: GPUs that are reserved, times hours.
        cpu_hours: processor time of the workers.
        wall_hours: hours of all rounds.
        epsilon: of ``privacy``: the run ends before the round that would spend more; default: ``privacy.epsilon``.
        last_round: the round after which to end.  Schedules go by ``rounds`` all the same, so that a run which goes on
            is the one that never ended there.
    """

    gpu_hours: float | None = None
    cpu_hours: float | None = None
    wall_hours: float | None = None
    epsilon: float | None = None
    last_round: int | None = None

    def __post_init__(self) -> None:
        if self.last_round is not None and self.last_round < 1:
            raise ValueError(f"last_round={self.last_round}: it must be at least 1, or null for no limit")
        for name in ("gpu_hours", "cpu_hours", "wall_hours", "epsilon"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ValueError(f"{name}={limit}: it must be above 0, or null for no limit")


SECTIONS: dict[str, type] = {
    "local": LocalSection,
    "cluster": ClusterSection,
    "worker": WorkerSection,
    "driver": DriverSection,
    "evaluate": EvaluateSection,
    "stop": StopSection,
    "failures": FailuresSection,
    "checkpoint": CheckpointSection,
    "budget": BudgetSection,
    "run": RunSection,
}
"""The sections of an experiment by their keys; ``cluster`` has more options on Slurm."""


@dataclass(frozen=True)
class ModelSection:
    """The keys that every ``model`` section has beside the options of the model: the regions of its tensors.

    Names are those of the module's ``state_dict``; a pattern may have ``*`` for anything, and a part means all in it.

    Args:
        frozen: the tensors that are not trained, of any type: they never travel.
        personal: the tensors that stay with their client, from round to round.
    """

    frozen: list[str] = field(default_factory=list)
    personal: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TopSection:
    """The options at the top of the file, in no section.

    Args:
        rounds: rounds in all, from 1 to 10 million.
        seed: names every random draw.
        tracking: the trackers that follow the run, each as ``tensorboard`` or as ``{name: tensorboard, log_dir: DIR}``,
            see ``fedray list trackers``; ``my_module:name`` is one's own.  ``metrics.jsonl`` is written in any case.
    """

    rounds: int = 10
    seed: int = field(default=0, kw_only=True)
    tracking: list[Any] = field(default_factory=lambda: ["tensorboard"], kw_only=True)

    def __post_init__(self) -> None:
        check_rounds(self.rounds)


@dataclass(frozen=True, kw_only=True)
class ExperimentSchema(TopSection):
    """The whole file: parts and sections, still plain."""

    data: Any
    model: Any
    task: Any = None
    metrics: Any = None
    algorithm: Any = "fedavg"
    transforms: list[Any] = field(default_factory=list)
    server: Any = None
    aggregator: Any = "mean"
    attack: Any = None
    sampler: Any = "full"
    callbacks: list[Any] = field(default_factory=list)
    local: Any = None
    cluster: Any = None
    worker: Any = None
    driver: Any = None
    evaluate: Any = None
    stop: Any = None
    failures: Any = None
    checkpoint: Any = None
    budget: Any = None
    privacy: Any = None
    run: Any = None
