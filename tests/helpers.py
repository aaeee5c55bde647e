"""Small federations driven in this process: the one place in the tests that knows how a run is put together."""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedray import optim
from fedray.aggregators import Aggregator, Mean
from fedray.algorithms import FedAvg
from fedray.algorithms.base import Algorithm
from fedray.algorithms.composition import compose
from fedray.algorithms.lowrank import LowRank
from fedray.algorithms.variants import fitted
from fedray.attacks import Attack
from fedray.config.sections import BufferPolicy, CheckpointSection, EvaluateSection, FailuresSection, LocalSection
from fedray.core.adapters import factor_of
from fedray.core.layout import Layout
from fedray.core.losses import LossFn
from fedray.core.messages import BlockUpdate, Broadcast, Parts
from fedray.core.noise import NoiseKeys
from fedray.core.record import RoundRecord
from fedray.core.regions import Regions
from fedray.data import ClientData, FederatedData
from fedray.experiment.attacked import attacked
from fedray.local.stacking import Stack, decide
from fedray.local.task import LocalTask
from fedray.local.trainer import Trainer
from fedray.local.trial import Untried, profiled
from fedray.models.lora import adapted
from fedray.optim import OptimizerFn
from fedray.run.client_spending import ClientSpending
from fedray.run.executor import Executor, InlineExecutor
from fedray.run.loop import Rounds
from fedray.run.plan import Plan
from fedray.run.sent import Ledger
from fedray.run.snapshot import restore, snapshot
from fedray.run.spending import Spending
from fedray.run.state import ServerState
from fedray.run.worker import Job
from fedray.rundir.checkpoint import Checkpoint
from fedray.rundir.client_state import ClientStore
from fedray.rundir.held_rows import HeldRows
from fedray.rundir.state_rows import StateRows
from fedray.sampling import Full, Sampler
from fedray.server import ServerOptimizer
from fedray.server.rows import StoredRows
from fedray.transforms import Transform


@dataclass(frozen=True)
class Problem:
    """A model, a loss and the clients' data."""

    model_fn: Callable[[], nn.Module]
    loss_fn: LossFn
    data: ClientData


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Half the mean squared error, so that the gradient has no factor 2."""
    return 0.5 * functional.mse_loss(output, target)


def seeded(model_fn: Callable[[], nn.Module], seed: int = 0) -> Callable[[], nn.Module]:
    """``model_fn`` with the same initial weights at every call."""

    def build() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return model_fn()

    return build


def linear_problem(
    clients: int = 6, features: int = 4, sizes: Sequence[int] | None = None, spread: float = 1.0, seed: int = 3
) -> Problem:
    """Least squares whose clients disagree on the solution by ``spread`` and see different inputs."""
    draw = np.random.default_rng(seed)
    counts = np.asarray(sizes if sizes is not None else draw.integers(6, 14, clients))
    owner = np.repeat(np.arange(len(counts)), counts)
    scale = draw.uniform(0.3, 1.7, (len(counts), features))
    x = draw.standard_normal((len(owner), features)) * scale[owner]
    truth = draw.standard_normal((1, features)) + spread * draw.standard_normal((len(counts), features))
    y = (x * truth[owner]).sum(axis=1, keepdims=True) + 0.1 * draw.standard_normal((len(owner), 1))
    data = FederatedData.from_arrays(x.astype("f4"), y.astype("f4"), owner)
    return Problem(seeded(lambda: nn.Linear(features, 1)), mse, data)


def class_problem(
    sizes: Sequence[int] = (7, 3, 12, 9, 1, 5),
    shape: tuple[int, ...] = (6,),
    classes: int = 3,
    model_fn: Callable[[], nn.Module] | None = None,
    test: int = 0,
    holdout: float = 0.0,
    vocabulary: int = 0,
    seed: int = 4,
) -> Problem:
    """Random inputs (or tokens) of any shape with learnable classes; an MLP unless ``model_fn`` says otherwise."""
    return _class_problem(tuple(sizes), shape, classes, model_fn, test, holdout, vocabulary, seed)


@cache
def _class_problem(
    sizes: tuple[int, ...],
    shape: tuple[int, ...],
    classes: int,
    model_fn: Callable[[], nn.Module] | None,
    test: int,
    holdout: float,
    vocabulary: int,
    seed: int,
) -> Problem:
    draw = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    x = draw.standard_normal((len(owner) + test, *shape)).astype("f4")
    direction = draw.standard_normal((int(np.prod(shape)), classes))
    y = (x.reshape(len(x), -1) @ direction).argmax(axis=1)
    if vocabulary:
        from scipy.special import ndtr

        x = np.floor(vocabulary * 0.999 * ndtr(x.astype("f8"))).astype(np.int64)
    held = (x[len(owner) :], y[len(owner) :]) if test else None
    data = FederatedData.from_arrays(x[: len(owner)], y[: len(owner)], owner, test=held)
    if holdout:
        data = data.with_holdout(holdout, seed)

    def mlp() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 8), nn.Tanh(), nn.Linear(8, classes))

    return Problem(seeded(model_fn or mlp), functional.cross_entropy, data)


def with_adapters(model_fn: Callable[[], nn.Module], r: int = 4) -> Callable[[], nn.Module]:
    """``model_fn`` with adapters of rank r and scale 2 beside its linear layers, unless its model has some."""

    def build() -> nn.Module:
        module = model_fn()
        has = any(factor_of(name) for name, _ in module.named_parameters())
        return module if has else adapted(module, r=r, alpha=2.0 * r)

    return seeded(build)


_TRIED: dict[str, tuple[Problem, LocalTask, str]] = {}


def shared_task(
    problem: Problem, *, program: Any, optimizer: OptimizerFn | None = None, stack: Stack = 3, **options: Any
) -> LocalTask:
    """Return :func:`local_task`, tried once of one problem and the same options: trials are most of a run's cost.

    Parts of fedray's own say in their ``repr`` all that they are; a task of others is made anew.
    """
    options |= {"program": program, "optimizer": optimizer}
    parts = [program] if optimizer is None else [program, optimizer]
    if not all(is_dataclass(part) and type(part).__module__.startswith("fedray.") for part in parts):
        return local_task(problem, stack=stack, **options)
    # Stacks of any size are tried alike, ...
    some = stack if isinstance(stack, int) and stack > 1 else 0
    key = repr((id(problem), sorted(options.items())))
    tried = f"{key} {'some' if some else stack}"
    if tried not in _TRIED:
        # ... and who clients are is known without one.  With its problem, as the id of what is gone may be given again.
        if key not in _TRIED:
            _TRIED[key] = problem, tried_task(problem, **options), ""
        task = _TRIED[key][1]
        _TRIED[tried] = problem, replace(task, stacking=decide(task, stack, len(problem.data), "cpu")), str(stack)
    _, task, size = _TRIED[tried]
    if some and task.stacking.stacked:
        reason = task.stacking.reason.replace(f"{size} clients", f"{some} clients", 1)
        return replace(task, stacking=replace(task.stacking, size=some, reason=reason))
    return task


def local_task(problem: Problem, *, stack: Stack = 3, **options: Any) -> LocalTask:
    """A local training problem with its stacking decided; ``stack`` as in ``local.stack``."""
    task = tried_task(problem, **options)
    return replace(task, stacking=decide(task, stack, len(problem.data), "cpu"))


def tried_task(
    problem: Problem,
    *,
    optimizer: OptimizerFn | None = None,
    args: LocalSection | None = None,
    seed: int = 7,
    at_home: Sequence[str] = (),
    **fields: Any,
) -> LocalTask:
    """A local training problem with what its program does, and without a stacking."""
    options = {name: fields.pop(name) for name in ("buffers", "precision", "deterministic") if name in fields}
    wanted = {"program": FedAvg(), "args": replace(args or LocalSection(1, 4), **options), **fields}
    program = wanted["program"]
    regions = Regions(program.region, personal=at_home, buffers=wanted["args"].buffers, prepare=program.prepare)
    first = with_adapters(problem.model_fn) if isinstance(program, LowRank) else problem.model_fn

    def model_fn() -> nn.Module:
        return regions.freeze(first())

    layout = Layout.of(model_fn(), regions)
    task = LocalTask(model_fn, optimizer or optim.SGD(0.1), problem.loss_fn, problem.data, layout, seed=seed, **wanted)
    if isinstance(program, Algorithm) and "receives" not in wanted:
        task = compose(program, [], Mean(), wanted["args"]).received(task, torch.zeros(layout.size))
    with contextlib.suppress(Untried):
        task = profiled(task)
    return task.with_variants()


@dataclass
class Federation:
    """A plan with its state; ``run`` drives it inline."""

    plan: Plan
    job: Job
    state: ServerState
    saves: list[Checkpoint] = field(default_factory=list)
    stopped: bool = False
    executor: Callable[[Job], Executor] = InlineExecutor
    spending: Spending | ClientSpending | None = None

    @property
    def vector(self) -> Tensor:
        """The global model ``[P]``."""
        return self.state.vector

    def run(self, rounds: int | None = None, stopping: Callable[[], bool] = lambda: False) -> list[RoundRecord]:
        """Go on to the end, or to ``rounds`` rounds in all; the records that were finished."""
        plan = self.plan if rounds is None else replace(self.plan, rounds=rounds)
        executor = self.executor(self.job)
        if not isinstance(executor, InlineExecutor):  # so that what is compared has rows in memory, and in files
            self.hold(executor.hold())
        save = lambda _: self.saves.append(self.save())  # noqa: E731
        loop = Rounds(plan, self.state, executor, save, stopping, spending=self.spending)
        try:
            return list(loop)
        finally:
            self.stopped = loop.stopped
            executor.close()
            self.let_go()

    def hold(self, held: HeldRows | None) -> None:
        """Have rows of client state in memory, as a driver's store has from the start."""
        store = self.state.store
        if held is not None:
            store.held, held.filed = held, store.filed
        self.state.server.rows = StoredRows(store, self.vector.device)

    def let_go(self) -> None:
        """Have all rows in files again, for whoever goes on."""
        store = self.state.store
        if store.held is not None:
            store.flush()
            saved = *store.index(), store.seals()
            store.held = None
            store.restore(*saved)
            self.hold(None)

    def save(self) -> Checkpoint:
        """A checkpoint, which shares nothing with the run."""
        self.state.store.flush()
        saved = snapshot(self.plan, self.state, {})
        self.state.store.kept |= set(saved.state["segments"])
        tensors = {name: tensor.clone() for name, tensor in saved.tensors.items()}
        return Checkpoint(saved.round, tensors, json.loads(json.dumps(saved.state)), saved.key, saved.memory)

    def restore(self, saved: Checkpoint) -> None:
        """Go on from ``saved``."""
        restore(self.plan, self.state, saved)


def federation(
    problem: Problem,
    folder: Path,
    algorithm: Algorithm | None = None,
    *,
    transforms: Sequence[Transform] = (),
    server: ServerOptimizer | None = None,
    aggregator: Aggregator | None = None,
    attack: Attack | None = None,
    optimizer: OptimizerFn | None = None,
    args: LocalSection | None = None,
    sampler: Sampler | None = None,
    rounds: int = 3,
    stack: Stack = 3,
    seed: int = 7,
    buffers: BufferPolicy = "mean",
    evaluate: EvaluateSection | None = None,
    failures: FailuresSection | None = None,
    checkpoint_every: int = 0,
    evaluated_rows: int = 1024,
    at_home: Sequence[str] = (),
) -> Federation:
    """A small run, ready to go; every client takes part in every round unless ``sampler`` says otherwise."""
    parts = compose(
        algorithm or FedAvg(),
        list(transforms),
        aggregator or Mean(),
        replace(args or LocalSection(1, 4), buffers=buffers),
        server,
    )
    attackers = None
    if attack is not None:
        parts, attackers = attacked(parts, attack, problem.data, seed)
    task = shared_task(
        problem,
        optimizer=optimizer,
        args=parts.args,
        stack=stack,
        seed=seed,
        at_home=at_home,
        program=parts.program,
    )
    task = replace(task, evaluated_rows=evaluated_rows)
    sampler = sampler or Full()
    parts = fitted(parts, task, sampler, rounds)
    job = Job(task, parts, folder)
    vector = task.layout.pack(dict(task.model_fn().state_dict()))
    plan = Plan(
        task,
        parts,
        sampler,
        rounds,
        evaluate or EvaluateSection(),
        failures or FailuresSection(),
        CheckpointSection(checkpoint_every),
        attackers=attackers,
    )
    store = ClientStore(folder, job.state_fields())
    state = ServerState(
        plan.start(vector),
        store,
        kept=plan.initial_kept("cpu"),
        transforms=parts.transforms.start("cpu"),
        sent=Ledger.of(len(task.data), task.fragments),
        noise=NoiseKeys(seed),
    )
    return Federation(plan, job, state)


def remembered(run: Federation) -> Parts:
    """What the clients remember, in their order, each ``[C, k]``; 0 for those who have never taken part."""
    everyone = np.arange(len(run.plan.task.data))
    rows = StateRows(run.job.state_folder, run.job.state_fields())
    state, _ = rows.read(everyone, run.state.store.of(everyone), torch.device("cpu"))
    rows.close()
    return state


def personal(run: Federation) -> Tensor:
    """The models that the clients are evaluated with, ``[C, D]``: the global one unless the algorithm has others."""
    task, layout, program = run.plan.task, run.plan.layout, run.plan.algorithm.program
    trainer = Trainer(task, [torch.device("cpu")])
    parts, alone = run.plan.broadcast(run.state.server, run.state.transforms)
    down = Broadcast(run.state.round + 1, parts | {"model": run.vector.clone()}, 1.0)
    state, known, models = remembered(run), run.state.store.of(np.arange(len(task.data))), []
    for client in range(len(task.data)):
        own = {name: part[client : client + 1].clone() for name, part in state.items()}
        mine = {name: part.row(client)[None] for name, part in alone.items()}
        heard = replace(down, parts={**down.parts, **mine})
        with trainer.block(np.array([client]), heard, own, known=torch.tensor([client in known])) as c:
            model = getattr(program, "personal", lambda c: None)(c)
        models.append((c.params if model is None else model)[:, : layout.trained].clone())
    return torch.cat(models)


def train(
    task: LocalTask,
    clients: Sequence[int],
    down: Broadcast | None = None,
    state: Parts | None = None,
    devices: Sequence[torch.device] = (torch.device("cpu"),),
) -> BlockUpdate:
    """The update of some clients: at once if the task is stacked, else of each alone, put together."""
    model = task.layout.pack(dict(task.model_fn().state_dict()))
    trainer = Trainer(task, devices)
    sent = down or Broadcast(1, {"model": model.to(devices[0])}, 1.0)
    kept = state or {}
    step = len(clients) if task.stacking.stacked else 1
    pieces = []
    for start in range(0, len(clients), step):
        rows = slice(start, start + step)
        piece = trainer.train(
            np.array(clients[rows], dtype=np.int64), sent, {name: s[rows].clone() for name, s in kept.items()}
        )
        # What a trainer returns is only valid until its next call.
        pieces.append(replace(piece, parts={name: part.clone() for name, part in piece.parts.items()}))

    def together(values: list[dict[str, Tensor]]) -> Parts:
        return {name: torch.cat([value[name] for value in values]) for name in values[0]}

    return BlockUpdate(
        round=sent.round,
        clients=np.concatenate([piece.clients for piece in pieces]),
        parts=together([piece.parts for piece in pieces]),
        state=together([piece.state for piece in pieces]),
        weight=np.concatenate([piece.weight for piece in pieces]),
        loss=np.concatenate([piece.loss for piece in pieces]),
        examples=np.concatenate([piece.examples for piece in pieces]),
        counted=None if pieces[0].counted is None else np.concatenate([piece.seen for piece in pieces]),
    )


def relative(one: Tensor, other: Tensor) -> float:
    """Largest difference of two tensors against the largest value of the second."""
    return float((one - other).abs().max() / other.abs().max())


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar file of ours."""
    with tarfile.open(archive) as file:
        # Python 3.11.2, which Debian 12 has, knows no filters, and later ones warn where none is said.
        file.extraction_filter = getattr(tarfile, "data_filter", None)
        file.extractall(folder)
