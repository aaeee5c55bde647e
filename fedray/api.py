"""The Python face: the same runs from plain PyTorch objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from fedray.aggregators import Aggregator
from fedray.algorithms.base import Algorithm
from fedray.attacks import Attack
from fedray.config.binding import bind, options_of
from fedray.config.flat import unflatten, with_options
from fedray.config.layers import bind_cluster
from fedray.config.sections import (
    SECTIONS,
    BudgetSection,
    CheckpointSection,
    ClusterSection,
    DriverSection,
    EvaluateSection,
    ExperimentSchema,
    FailuresSection,
    LocalSection,
    ModelSection,
    StopSection,
    TopSection,
    WorkerSection,
)
from fedray.core.errors import ConfigError, an
from fedray.core.losses import LossFn
from fedray.core.monitor import Mode
from fedray.core.unread import lasting_output
from fedray.core.waiting import waiting
from fedray.data import ClientData
from fedray.experiment.build import Config
from fedray.experiment.given import GivenModel
from fedray.experiment.result import Result, result_of
from fedray.experiment.shell import run_in_sight
from fedray.metrics.base import Function, Metric
from fedray.optim import OptimizerFn
from fedray.privacy import Privacy
from fedray.run.interrupt import NOT_BEGUN, starting
from fedray.rundir.folder import RunFolder
from fedray.sampling import Sampler
from fedray.server import ServerOptimizer
from fedray.tasks import Task
from fedray.tracking.callbacks import Callback
from fedray.transforms import Transform

Named = str | Mapping[str, Any]
"""A part as a config names it: ``"fedprox"``, ``{"name": "fedprox", "mu": 0.1}``, one's own ``"my_module:name"``."""


@dataclass(frozen=True)
class FederatedModel:
    """The model that clients train, with its optimizer and its loss.

    Each may also be named as in a config, as in ``FederatedModel("mlp", {"name": "adam", "lr": 0.01})``, one's own by
    ``my_module:name``.

    >>> model = FederatedModel(lambda: nn.Linear(4, 2), lambda params: torch.optim.SGD(params, lr=0.1))
    >>> model.model_fn()
    Linear(in_features=4, out_features=2, bias=True)
    >>> FederatedModel(nn.Linear(4, 2))
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: model_fn: a function is needed, such as lambda: nn.Linear(4, 2); this is a Linear

    Args:
        model_fn: builds the ``nn.Module``; called with torch's generator seeded by the run, so that its first
            parameters are a function of the run's seed.
        optimizer_fn: parameters to a ``torch.optim.Optimizer``, made anew for each client and round; default:
            ``TrainArgs.optimizer``.
        loss_fn: (output, target) to the mean loss of a batch; default: ``TrainArgs.loss``.
        frozen: names of the tensors that are not trained, such as ``"body"`` or ``"*.bias"``: they may be of any type,
            and never travel; parameters without a gradient are frozen anyway.
        personal: names of the tensors that stay with their client, from round to round.
        task: of its outputs, such as ``"binary"``; default: by targets, shape of the outputs, and loss.

    Raises:
        ConfigError: a module or an optimizer instead of a function that makes one.
    """

    model_fn: Callable[[], nn.Module] | Named
    optimizer_fn: OptimizerFn | Named | None = None
    loss_fn: LossFn | Named | None = None
    frozen: Sequence[str] = ()
    personal: Sequence[str] = ()
    task: Task | Named | None = None

    def __post_init__(self) -> None:
        for name, value, kind, such_as in (
            ("model_fn", self.model_fn, nn.Module, "lambda: nn.Linear(4, 2)"),
            ("optimizer_fn", self.optimizer_fn, torch.optim.Optimizer, "lambda p: torch.optim.SGD(p, lr=0.1)"),
            ("loss_fn", self.loss_fn, (), "nn.functional.cross_entropy"),
        ):
            if isinstance(value, str | Mapping) or (value is None and name != "model_fn"):
                continue
            if isinstance(value, kind) or not callable(value):
                raise ConfigError(f"{name}: a function is needed, such as {such_as}; this is a {type(value).__name__}")
        self._regions()

    def _regions(self) -> ModelSection:
        said = {name: names for name in options_of(ModelSection) if (names := getattr(self, name))}
        return bind(ModelSection, {k: list(v) if isinstance(v, tuple) else v for k, v in said.items()}, "model")

    def part(self) -> Any:
        """Return what stands in the place of the ``model`` section of a config."""
        regions = self._regions()
        if not isinstance(self.model_fn, str | Mapping):
            return GivenModel(self.model_fn, regions)
        named = {"name": self.model_fn} if isinstance(self.model_fn, str) else dict(self.model_fn)
        twice = [name for name in options_of(ModelSection) if named.get(name) and getattr(regions, name)]
        if twice:
            raise ConfigError(f"model.{twice[0]}: given twice, in model_fn and in FederatedModel({twice[0]}=)")
        return named | {name: names for name, names in vars(regions).items() if names}


@with_options
@dataclass(frozen=True)
class TrainArgs(BudgetSection, FailuresSection, LocalSection, TopSection):
    """The options of training; each has the meaning of the config key of the same name, and takes the same values.

    >>> TrainArgs(rounds=50, epochs=2, batch_size=None, evaluate_every=5).sections()["local"].batch_size
    'full'

    Raises:
        ConfigError: a value that is not allowed, named by its config key.

    Args:
        evaluate_every: rounds between evaluations on the test set; 0 never.
        evaluate_clients_every: rounds between evaluations on the clients' held-out data; 0 never.
        evaluate_finetune: with each evaluation of clients also that of models that are first fine-tuned on the client's
            own training data, for so many ``{"epochs": 1}`` or ``{"steps": 10}``.
        evaluate_before: also evaluate the model before training, as round 0.
        evaluate_keep_clients: evaluations whose numbers of each client are kept, newest and best; default: all.
        evaluate_batch_size: examples that are evaluated at once; ``auto``: as many as memory should allow.
        stop_metric: early stopping, once this metric does not improve any more: ``test.loss``, ``train.loss``,
            ``clients_test.accuracy``; the evaluation of a round is then waited for.  None: all rounds are done.
        stop_patience: the number of rounds with this metric, one after the other, that must not be better than the best
            before.
        stop_min_delta: the difference, in the unit of the metric, by more than which a better value must be better.
        stop_mode: ``min``: less is better; ``max``: more is better; ``auto``: ``min`` for losses and errors.
        checkpoint_every: rounds between checkpoints; 0: at the end.
        checkpoint_seconds: also after a round that ends so many seconds after the last checkpoint; 0: never.
        keep: checkpoints kept.
        checkpoint_best: a metric of evaluations, such as ``test.accuracy``, or ``{"metric": ..., "mode": "min"}``: the
            checkpoint of the best evaluated model is kept, too, and exported as ``best.safetensors``.
        checkpoint_history: also every n-th of those that ``checkpoint_every`` makes, for good; 0: none.
    """

    evaluate_every: int = EvaluateSection.every
    evaluate_clients_every: int = EvaluateSection.clients_every
    evaluate_finetune: dict[str, int] | None = EvaluateSection.finetune
    evaluate_before: bool = EvaluateSection.before
    evaluate_keep_clients: int | None = EvaluateSection.keep_clients
    evaluate_batch_size: int | str = EvaluateSection.batch_size
    stop_metric: str | None = StopSection.metric
    stop_patience: int = StopSection.patience
    stop_min_delta: float = StopSection.min_delta
    stop_mode: Mode = StopSection.mode
    checkpoint_every: int = CheckpointSection.every
    checkpoint_seconds: float = CheckpointSection.seconds
    keep: int = CheckpointSection.keep
    checkpoint_best: Any = CheckpointSection.best
    checkpoint_history: int = CheckpointSection.history

    def __post_init__(self) -> None:
        self.sections()  # a wrong value is an error where it is given

    def layer(self) -> dict[str, Any]:
        """Return the options as a config file has them."""
        keys = ("local", "evaluate", "stop", "failures", "checkpoint", "budget")
        top = {option: getattr(self, option) for option in options_of(TopSection)}
        return {**top, **unflatten(self, keys)}

    def sections(self) -> dict[str, Any]:
        """Return the options as those at the top and config sections, by name."""
        layer = self.layer()
        top = bind(TopSection, {option: layer.pop(option) for option in options_of(TopSection)}, "")
        bound: dict[str, Any] = {key: bind(SECTIONS[key], section, key) for key, section in layer.items()}
        return {**vars(top), **bound}


@with_options
@dataclass(frozen=True)
class Cluster(WorkerSection, ClusterSection):
    """The place where a run trains; options mean what they do in the sections ``cluster``, ``worker`` and ``driver``.

    A Ray that is already initialised is used as it is.

    >>> Cluster(workers=2, memory=1.5, driver_cpus=1).layer()["driver"]
    {'gpus': 0.0, 'cpus': 1}

    Raises:
        ConfigError: a value that is not allowed, named by its config key.

    Args:
        driver_cpus: CPUs of the driver.
        driver_gpus: GPUs of the driver.
    """

    driver_cpus: float = DriverSection.cpus
    driver_gpus: float = DriverSection.gpus

    def __post_init__(self) -> None:
        layer = self.layer()  # a wrong value is an error where it is given
        bind_cluster(ExperimentSchema(data=None, model=None, cluster=layer.pop("cluster")))
        for key, section in layer.items():
            bind(SECTIONS[key], section, key)

    def layer(self) -> dict[str, Any]:
        """Return the options as a config file has them."""
        return unflatten(self, ("cluster", "worker", "driver"))


@starting(NOT_BEGUN)
def train(
    model: FederatedModel,
    data: ClientData | Named,
    args: TrainArgs | None = None,
    *,
    algorithm: Algorithm | Named | None = None,
    transforms: Sequence[Transform | Named] = (),
    aggregator: Aggregator | Named | None = None,
    server: ServerOptimizer | Named | None = None,
    attack: Attack | Named | None = None,
    sampler: Sampler | Named | None = None,
    metrics: Sequence[Metric | Function | Named] | None = None,
    privacy: Privacy | Mapping[str, Any] | None = None,
    cluster: Cluster | Literal["ray", "inline"] = "ray",
    run_dir: str | Path | None = None,
    resume: bool = False,
    profile: str | int | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback | Named] = (),
) -> Result:
    """Train a model on federated data.

    Closures and lambdas work.  Ray is started if it is not initialised, and shut down only if it was started here.
    Every part may also be named as in a config: ``"fedprox"``, ``{"name": "fedprox", "mu": 0.1}``, or one's own,
    ``"my_module:name"``, which is imported from the working directory.

    >>> from tempfile import TemporaryDirectory
    >>> from fedray import FederatedData
    >>> data = FederatedData.from_arrays([[0.0], [1.0], [0.0], [1.0]], [0, 1, 0, 1], clients=["a", "a", "b", "b"])
    >>> with TemporaryDirectory() as folder:
    ...     args, run_dir = TrainArgs(rounds=30, optimizer={"name": "sgd", "lr": 1.0}), f"{folder}/run"
    ...     model = FederatedModel("logistic")
    ...     result = train(model, data, args, cluster="inline", run_dir=run_dir, progress=False)
    >>> result.model(torch.tensor([[0.0], [1.0]])).argmax(dim=1), len(result.history)
    (tensor([0, 1]), 30)

    Args:
        model: the model with its optimizer and its loss.
        data: the clients.
        args: the options of training.
        algorithm: for example ``fedray.FedProx(mu=0.01)``; default ``fedray.FedAvg()``.
        transforms: of updates, in order.
        aggregator: default ``fedray.Mean()``.
        server: the server optimizer, for example ``fedray.server.Adam(lr=0.01)``; default that of the algorithm.
        attack: of some of the clients, such as ``fedray.SignFlip(clients=0.2)``; default none.
        sampler: of cohorts; default all clients.
        metrics: of evaluations, beside the loss, such as ``["auroc", fedray.metrics.F1(average="macro")]``, or
            functions (output, target) to a value of each example.  Default: what readers of the task expect.
        privacy: differential privacy, such as ``fedray.Privacy(noise_multiplier=0.9)``; default none.
        cluster: the place; ``"ray"``, ``"inline"`` or a :class:`Cluster`.
        run_dir: the run folder; default ``runs/python/<time>``.
        resume: go on from the newest checkpoint in ``run_dir``; the arguments must be those of the first call
            (``rounds`` may be larger).
        profile: the rounds, ``"3-5"`` or ``3``, of which torch.profiler writes a trace of the driver and of each worker
            into the folder ``profile`` of the run.
        progress: show progress in the terminal, or below the cell of a notebook.
        callbacks: functions that are called in this process after each round, in order, each with the round's complete
            :class:`fedray.RoundRecord`, which ``metrics.jsonl`` has by then.  One that returns True ends the run after
            that round, as ``stop`` would: ``result.stopped`` is True, and ``resume=True`` goes on.  One that raises
            is named in a warning and left out.  Each round waits for its evaluations and for the callbacks, so that
            the round in which a run ends depends on nobody's speed.  A resume may tell its first round again, and gives
            the records before it to those with a method ``resume``.

    Returns:
        The trained module and the history.

    Raises:
        ConfigError: arguments or data that cannot work; nothing was started.
        RunFailed: the run could not go on; its last checkpoint is in the run folder.
    """
    check_kind(model, FederatedModel, "model", "fedray.FederatedModel(lambda: nn.Linear(4, 2))")
    args = args or TrainArgs()
    check_kind(args, TrainArgs, "args", "fedray.TrainArgs(rounds=50)")
    place = Cluster(name=cluster) if isinstance(cluster, str) else cluster
    check_kind(place, Cluster, "cluster", 'fedray.Cluster(workers=2), "ray" or "inline"')
    content = {
        **args.layer(),
        **place.layer(),
        "data": data,
        "model": model.part(),
        "transforms": transforms if not isinstance(transforms, tuple) else list(transforms),
        "callbacks": list(callbacks) if isinstance(callbacks, tuple) else callbacks,
    }
    for option, given in (("optimizer", model.optimizer_fn), ("loss", model.loss_fn)):
        if given is not None:
            if content["local"][option] != getattr(LocalSection, option):
                raise ConfigError(f"{option}: given twice, in FederatedModel({option}_fn=) and TrainArgs({option}=)")
            content["local"][option] = given
    if profile is not None:
        content["run"] = {"profile": profile}
    parts: dict[str, Any] = {"metrics": metrics, "task": model.task, "privacy": privacy}
    parts |= {"algorithm": algorithm, "server": server, "aggregator": aggregator, "attack": attack, "sampler": sampler}
    content |= {name: part for name, part in parts.items() if part is not None}
    if not isinstance(run_dir, str | Path | None):
        raise ConfigError(f"run_dir: the path of a folder is needed; this is {an(type(run_dir).__name__)}")
    if not isinstance(resume, bool):
        raise ConfigError(f"resume: True or False is needed, got {resume!r}; the folder goes into run_dir")
    default = Path("runs/python") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    folder = RunFolder(Path(run_dir) if run_dir else default)
    if resume:
        folder.config()
    with lasting_output():
        with waiting(quiet=not progress):
            experiment = Config.bind("python", {}, content).experiment(folder, resume=resume)
        ended = run_in_sight(experiment, quiet=not progress, own_process=False)
    return result_of(experiment.run, ended, shown=progress)


def check_kind(given: Any, kind: type, name: str, such_as: str) -> None:
    """Raise ConfigError where an argument is of another kind."""
    if not isinstance(given, kind):
        raise ConfigError(
            f"{name}: a fedray.{kind.__name__} is needed, such as {such_as}; this is {an(type(given).__name__)}"
        )
