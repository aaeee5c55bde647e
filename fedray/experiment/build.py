"""From a YAML file, or from Python objects, to a run and the place where it runs."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from fedray.aggregators import Aggregator, aggregators
from fedray.algorithms.base import Algorithm, AlgorithmConfig, algorithms, compose
from fedray.cluster.jobs.submission import short_lived
from fedray.config.layers import bind_cluster, bind_top, load_layers, overlay, to_yaml
from fedray.config.registry import bind, bind_part, dump, nearest
from fedray.config.sections import (
    BudgetSection,
    CheckpointSection,
    DriverSection,
    EvaluateSection,
    ExperimentSchema,
    FailuresSection,
    LocalSection,
    RunSection,
    TrackingSection,
    WorkerSection,
)
from fedray.core.draws import put_back
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.core.losses import LOSSES, TASK_LOSS, LossFn
from fedray.core.record import RoundRecord
from fedray.data import ClientData, data_sources
from fedray.experiment.place import Place
from fedray.experiment.preflight import check_fit, check_optimizer, check_single_rows, made
from fedray.local.sharing import decide_sharing
from fedray.local.stacking import decide
from fedray.local.task import LocalTask, ModelFn
from fedray.models import dump_model, initial_model, resolve_model
from fedray.optim import OptimizerFn, optimizers
from fedray.run.driver import Run, RunFolder
from fedray.run.plan import Plan, check_cohort
from fedray.sampling import Sampler, samplers
from fedray.transforms import Transform, transforms

_log = logging.getLogger("fedray")


@dataclass(frozen=True)
class Experiment:
    """A run and its place, ready to start; ``block_timeout`` as in ``failures``."""

    run: Run
    place: Place
    block_timeout: float | None = None

    def records(self, on_stop: Callable[[Callable[[], None]], None] = lambda stop: None) -> Iterator[RoundRecord]:
        """Run; yields each round's record when it is complete.

        Args:
            on_stop: is given a function that asks the run to end with a checkpoint.

        Raises:
            RunFailed: the run could not go on; see ``fedray.run.driver.Run.records``.
            ConfigError: a mistake found when it started; a fresh run's folder is free again.
        """
        if warning := short_lived(self.run.folder.path):
            _log.warning("%s", warning)
        try:
            place = self.place
            yield from place.launcher.records(
                self.run, place.cluster, place.worker, place.driver, self.block_timeout, on_stop
            )
        except ConfigError:
            if not self.run.resume:
                self.run.folder.unclaim()
            raise


# From a config file


@dataclass(frozen=True)
class Config:
    """A config file with its layers and overrides merged, every part bound, nothing built yet."""

    name: str
    raw: dict[str, Any]
    schema: ExperimentSchema
    local: LocalSection
    place: Place
    evaluate: EvaluateSection
    failures: FailuresSection
    checkpoint: CheckpointSection
    budget: BudgetSection
    tracking: TrackingSection
    run: RunSection
    data: Any
    model: Any
    algorithm: AlgorithmConfig
    transforms: tuple[Transform, ...]
    aggregator: Aggregator
    sampler: Sampler
    optimizer: OptimizerFn

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> Config:
        """Read, merge, and bind a file.

        Raises:
            ConfigError: anything wrong in it, naming the full key.
        """
        raw, resolved = load_layers(path, overrides)
        return cls.bind(path.stem, raw, resolved)

    @classmethod
    def bind(cls, name: str, raw: dict[str, Any], resolved: dict[str, Any]) -> Config:
        """Bind every section of a plain mapping (``raw``: the same with interpolations unresolved)."""
        schema = bind_top(resolved)
        local = bind(LocalSection, schema.local, "local")
        place = Place(
            bind_cluster(schema),
            bind(WorkerSection, schema.worker, "worker"),
            bind(DriverSection, schema.driver, "driver"),
        )
        return cls(
            name=name,
            raw=raw,
            schema=schema,
            local=local,
            place=place,
            evaluate=bind(EvaluateSection, schema.evaluate, "evaluate"),
            failures=bind(FailuresSection, schema.failures, "failures"),
            checkpoint=bind(CheckpointSection, schema.checkpoint, "checkpoint"),
            budget=bind(BudgetSection, schema.budget, "budget"),
            tracking=bind(TrackingSection, schema.tracking, "tracking"),
            run=bind(RunSection, schema.run, "run"),
            data=bind_part(data_sources, schema.data, "data"),
            model=resolve_model(schema.model),
            algorithm=bind_part(algorithms, schema.algorithm, "algorithm"),
            transforms=tuple(
                bind_part(transforms, node, f"transforms[{i}]") for i, node in enumerate(schema.transforms)
            ),
            aggregator=bind_part(aggregators, schema.aggregator, "aggregator"),
            sampler=bind_part(samplers, schema.sampler, "sampler"),
            optimizer=bind_part(optimizers, local.optimizer, "local.optimizer"),
        )

    def named(self, name: str) -> Config:
        """The same under another name."""
        return replace(self, name=name)

    def to_yaml(self) -> str:
        """The whole config with every default written out; values from the environment stay references."""
        filled = {
            "seed": self.schema.seed,
            "rounds": self.schema.rounds,
            "data": dump(self.data),
            "model": dump_model(self.model),
            "algorithm": dump(self.algorithm),
            "transforms": [dump(t) for t in self.transforms],
            "aggregator": dump(self.aggregator),
            "sampler": dump(self.sampler),
            "local": {**dump(self.local), "optimizer": dump(self.optimizer)},
            "cluster": dump(self.place.cluster),
            "worker": dump(self.place.worker),
            "driver": dump(self.place.driver),
            "evaluate": dump(self.evaluate),
            "failures": dump(self.failures),
            "checkpoint": dump(self.checkpoint),
            "budget": dump(self.budget),
            "tracking": dump(self.tracking),
            "run": dump(self.run),
        }
        return to_yaml(overlay(filled, self.raw))

    def run_folder(self) -> RunFolder:
        """``run.dir``, or a new folder named by the config and the time."""
        if self.run.dir:
            return RunFolder(Path(self.run.dir))
        default = Path("runs") / self.name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        same_second = (default.with_name(f"{default.name}-{number}") for number in itertools.count(2))
        return RunFolder(next(path for path in itertools.chain([default], same_second) if not path.exists()))

    def algorithm_parts(self) -> Algorithm:
        """A fresh algorithm, its server rule not started."""
        return compose(self.algorithm, self.transforms, self.aggregator, self.local)

    def plan(self) -> Plan:
        """Load the data and build the plan; checks that model, loss, data and cohort fit together."""
        data: ClientData = self.data.load(self.schema.seed, self.place.sites)
        loss = self.local.loss if self.local.loss != "auto" else TASK_LOSS[data.spec.task]
        return make_plan(
            model_fn=partial(initial_model, self.model, data.spec, self.schema.seed),
            optimizer_fn=self.optimizer,
            loss_fn=LOSSES[loss],
            data=data,
            algorithm=self.algorithm_parts(),
            sampler=self.sampler,
            rounds=self.schema.rounds,
            seed=self.schema.seed,
            local=self.local,
            place=self.place,
            evaluate=self.evaluate,
            failures=self.failures,
            checkpoint=self.checkpoint,
            budget=self.budget,
        )

    def experiment(self, folder: RunFolder, *, resume: bool = False) -> Experiment:
        """Everything built and checked, and the run folder claimed (unless it is resumed)."""
        self.place.check()
        plan = self.plan()
        text = self.to_yaml()
        if not resume:
            folder.claim(text)
        run = Run(
            plan=plan,
            folder=folder,
            name=self.name,
            config=text,
            threads=self.place.worker.threads,
            resume=resume,
            tensorboard=self.tracking.tensorboard,
            notes=(*plan.task.notes, f"weight: {plan.algorithm.weight}"),
            warnings=(*plan.task.data.warnings, *plan.warnings),
        )
        return Experiment(run, self.place, self.failures.block_timeout)


# From Python objects


@put_back()
def make_plan(
    *,
    model_fn: ModelFn,
    optimizer_fn: OptimizerFn,
    loss_fn: LossFn,
    data: ClientData,
    algorithm: Algorithm,
    sampler: Sampler,
    rounds: int,
    seed: int,
    local: LocalSection,
    place: Place,
    evaluate: EvaluateSection,
    failures: FailuresSection,
    checkpoint: CheckpointSection,
    budget: BudgetSection,
) -> Plan:
    """The plan of a run, checked: the cohort can be drawn, the model fits the data, the loss fits the output.

    Args:
        model_fn: builds the module with its first parameters, the same at each call.
        optimizer_fn: parameters to a client optimizer.
        loss_fn: (output, target) to a scalar.
        data: the clients.
        algorithm: the composed algorithm.
        sampler: cohorts.
        rounds: how many.
        seed: names every draw.
        local: stacking, precision, determinism, buffers.
        place: where it will run.
        evaluate: when to evaluate.
        failures: what failures mean.
        checkpoint: when to save.
        budget: what the run may use.

    Raises:
        ConfigError: what does not fit.
    """
    check_cohort(sampler, data.sizes)
    if failures.block_timeout is not None and place.launcher.in_process:
        raise ConfigError(
            f"failures.block_timeout: with cluster.name={place.cluster.name} there is no worker process to replace; "
            "set cluster.name=ray, or leave it out"
        )
    if evaluate.clients_every and not data.holdout_sizes.any():
        raise ConfigError(
            "evaluate.clients_every: no client has held-out rows to evaluate on; "
            "set data.holdout=0.2 (in Python: data.with_holdout(0.2, seed)), or leave it out"
        )
    module = made(model_fn)
    if model_fn() is module:
        # Trials and training change what they are given, in several places at once: each gets a copy.
        model_fn = partial(copy.deepcopy, copy.deepcopy(module))
        module = model_fn()
    task = LocalTask(
        model_fn=model_fn,
        optimizer_fn=optimizer_fn,
        loss_fn=loss_fn,
        data=data,
        layout=Layout.of(module),
        args=algorithm.args,
        rule=algorithm.rule,
        seed=seed,
    )
    trial = replace(task, data=data.probe())
    check_optimizer(optimizer_fn, module)
    check_fit(trial, module, evaluated=data.test is not None or evaluate.clients_every > 0)
    warnings = check_single_rows(trial, module, failures.on_failure == "drop")
    device = "cuda" if place.devices[0].type == "cuda" else "cpu"
    stacking = decide(trial, local.stack, sampler.expected(data.sizes), device)  # type: ignore[arg-type]
    sharing = decide_sharing(replace(trial, stacking=stacking), place.most_devices(data))
    return Plan(
        task=replace(task, stacking=stacking, sharing=sharing),
        algorithm=algorithm,
        sampler=sampler,
        rounds=rounds,
        evaluate=evaluate,
        failures=failures,
        checkpoint=checkpoint,
        budget=budget,
        left_out=_left_out(failures, data),
        warnings=warnings,
    )


def _left_out(failures: FailuresSection, data: ClientData) -> dict[int, frozenset[int]]:
    """The clients of ``failures.left_out`` by their indices."""
    if not failures.left_out:
        return {}
    index = {data.client_id(i): i for i in range(len(data))}
    for round, names in failures.left_out.items():
        if unknown := [name for name in names if name not in index]:
            raise ConfigError(
                f"failures.left_out.{round}: no client {unknown[0]!r}{nearest(unknown[0], index)}; "
                f"there are {len(index)}, the first is {data.client_id(0)!r}"
            )
    return {round: frozenset(index[name] for name in names) for round, names in failures.left_out.items()}
