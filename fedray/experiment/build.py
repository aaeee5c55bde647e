"""From the sections and parts of an experiment, as YAML or as Python says them, to a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from warnings import catch_warnings

import torch
from torch import nn

from fedray.algorithms.composition import Composition, compose
from fedray.algorithms.rehearsal import check_step
from fedray.algorithms.variants import fitted
from fedray.config.plugins import load_plugins
from fedray.config.registry import made, name_of
from fedray.core.draws import put_back
from fedray.core.errors import ConfigError, counted
from fedray.core.hidden_state import HiddenState
from fedray.core.layout import Layout
from fedray.core.losses import LossFn
from fedray.core.noise import check_installed as check_noise
from fedray.core.regions import Regions
from fedray.core.stages import stage
from fedray.data import ClientData, DataSpec
from fedray.data.augment_chain import Augment, Told, fit
from fedray.data.sources.tables import EncodedSource
from fedray.experiment.attacked import attacked
from fedray.experiment.bound import Bound
from fedray.experiment.cold import cold
from fedray.experiment.experiment import Experiment
from fedray.experiment.packed import check_packed
from fedray.experiment.pool import pooled
from fedray.experiment.preflight import (
    check_algorithm,
    check_classes,
    check_fit,
    check_held_out,
    check_optimizer,
    check_single_rows,
    made_module,
    needs_statistics,
    output_shape,
    taken_for_positive,
    two_examples,
    untested,
)
from fedray.experiment.ranks import decide_ranks
from fedray.experiment.sized import check_sized, shape_of_output, sized
from fedray.local.class_weights import balanced
from fedray.local.emulation import emulated_told
from fedray.local.memory_format import decide_format
from fedray.local.modes import carried_buffers
from fedray.local.rate import check_rates, scheduled
from fedray.local.sharing import decide_sharing, pieces_told
from fedray.local.stacking import decide
from fedray.local.task import LocalTask, ModelFn
from fedray.local.trial import Untried, check_single_gradients, profiled
from fedray.local.views import views_of
from fedray.local.work import check_lengths, check_names
from fedray.metrics import Measures, Metric, measured
from fedray.metrics.given import as_metric
from fedray.models import initial_model
from fedray.models.prototype import Prototype
from fedray.models.shapes import Shaped
from fedray.privacy.accounting import check_installed
from fedray.privacy.central import Central
from fedray.privacy.distributed import Distributed
from fedray.privacy.randomized import Local
from fedray.privacy.refused import check_decisions, check_parts, check_rows
from fedray.run.absent import left_out
from fedray.run.checks import check_cohort, check_least, check_plan
from fedray.run.driver import Run
from fedray.run.evaluation import rows_at_once
from fedray.run.plan import Plan
from fedray.run.private_steps import with_target
from fedray.run.profiling import FOLDER, Profile
from fedray.run.watch import check_named, check_watched, monitors
from fedray.rundir.folder import RunFolder
from fedray.rundir.tree import new_folder
from fedray.sampling import Sampler
from fedray.tasks import Task, infer
from fedray.tasks.inferred import Shape
from fedray.tasks.rare import rarely
from fedray.tracking.callbacks import Callbacks
from fedray.transforms.codec import Codec


@dataclass(frozen=True)
class Config(Bound):
    """An experiment, every section and part of it bound, nothing built yet: what is made of it."""

    def run_folder(self) -> RunFolder:
        """Return ``run.dir``, or a new folder named by the config and the time."""
        return RunFolder(Path(self.run.dir) if self.run.dir else new_folder(self.name))

    def algorithm_parts(self) -> Composition:
        """Put the parts of the algorithm together."""
        chain = [made(transform) for transform in self.transforms]
        if self.privacy is not None and self.privacy.unit == "client":
            local = self.privacy.model == "local"
            check_parts(made(self.algorithm), chain, made(self.aggregator), self.attack is not None, local)
            if not local:
                check_installed()
            check_noise()
            # What rounds an update on its way may do so to one that is noised already.
            rounding = (i for i, part in enumerate(chain) if isinstance(part, Codec) and part.rounds and part.up)
            if local:
                chain.insert(next(rounding, len(chain)), Local(self.privacy))
            elif self.privacy.model == "distributed":
                # The last to change updates; a secure sum knows by what stands before it of the noise.
                chain = [*(part for part in chain if not part.in_ring), Distributed(self.privacy)] + [
                    part for part in chain if part.in_ring
                ]
            else:
                chain.append(Central(self.privacy))
        elif self.privacy is not None:
            check_installed()
            if self.privacy.noise == "secure":
                check_noise()
        if self.budget.epsilon is not None and self.privacy is None:
            raise ConfigError(
                f"budget.epsilon={self.budget.epsilon:g}: nothing counts it but privacy: give that, or leave the "
                "limit out"
            )
        return compose(made(self.algorithm), chain, made(self.aggregator), self.local, made(self.server))

    def model_fn(self, spec: DataSpec) -> ModelFn:
        """Return what builds the module with its first parameters."""
        seen = spec if self.task is None else made(self.task).for_model(spec)
        return partial(initial_model, self.model, seen, self.schema.seed, self.model_regions())

    def model_regions(self) -> Regions:
        """Return the regions of the model's tensors, as the config and the algorithm say them."""
        program, said = made(self.algorithm), self.regions
        return Regions(program.region, said.frozen, said.personal, self.local.buffers, program.prepare)

    def about(self, spec: DataSpec, target: Shape, output: Callable[[], Shape | None]) -> tuple[Task, str]:
        """Return the task: that of the config, or by data, model and loss, with the reason; see :func:`infer`."""
        if self.task is not None:
            task: Task = made(self.task)
            return task.of(spec, target), "as the config says"
        return infer(spec, target, self.loss, output)

    def loss_fn(self, task: Task) -> LossFn:
        """Return the loss: that of the config, or of the task."""
        return task.scaled(self.loss or task.loss_fn)

    def weighted(self, loss: LossFn, task: Task, target: Shape, data: ClientData) -> LossFn:
        """Return the loss to train with: with class weights, if they are asked for."""
        if self.local.class_weights is None:
            return loss
        return balanced(loss, task, target, data.label_counts() if data.spec.task == "classification" else None)

    def chosen_metrics(self) -> tuple[Metric, ...] | None:
        """Return the metrics that are chosen; None: those that readers of such a task expect."""
        if self.metrics is None:
            return None
        return tuple(as_metric(made(part), f"metrics[{i}]") for i, part in enumerate(self.metrics))

    def measures(self, task: Task, loss: LossFn) -> Measures:
        """Return what evaluations measure."""
        return measured(loss, task, self.chosen_metrics())

    def plan(
        self,
        encoding: Mapping[str, Any] | None = None,
        inputs: Told = None,
        meaning: Mapping[str, Any] | None = None,
        *,
        sizes: bool = False,
    ) -> Plan:
        """Load the data and build the plan of a run, checked: cohort, model, loss and data fit together.

        Args:
            encoding: of the tables of a run that goes on; by default it is learnt from them.
            inputs: the changes of inputs that this run has told of; likewise.
            meaning: the task that its checkpoints tell of; likewise.
            sizes: build the model of shapes alone, and try nothing: such a plan is to be counted, never run.

        Raises:
            ConfigError: something does not fit.
        """
        known = (encoding,) if encoding is not None and isinstance(self.data, EncodedSource) else ()
        stage("reading data")
        data = self.load_data(*known)
        data = data.with_augment(fit(data.with_augment(self.augment or data.augment), inputs).parts)
        algorithm, sampler = self.algorithm_parts(), made(self.sampler).prepare(data)
        check_rates(algorithm.server.schedule, algorithm.server.lr, self.schema.rounds, "server.lr_schedule")
        attackers = None
        if self.attack is not None:
            algorithm, attackers = attacked(algorithm, made(self.attack), data, self.schema.seed)
        check_cohort(sampler, data.sizes)
        check_least(algorithm.aggregator, sampler, data.sizes, self.failures.dropout)
        self.place.check_timeout(self.failures.block_timeout)
        self.place.check_ranks()
        for said, ranks in self.place.ranks(data).items() if self.attack is not None else ():
            raise ConfigError(f"{said}={ranks}: an attack makes whole updates; leave one out")
        check_held_out(self.evaluate, data)
        if self.evaluate.before and not self._evaluates(data):
            raise ConfigError(
                "evaluate.before: there is nothing to evaluate before training; "
                "evaluate on a test set (evaluate.every) or on held-out rows (evaluate.clients_every), or leave it out"
            )
        check_names(self.local, data)
        check_lengths(self.local, data)
        data, algorithm, sampler = pooled(data, algorithm, sampler, self.schema.seed, self.failures, self.attack)
        found = self._sized(data, algorithm) if sizes else self._task(data, algorithm, sampler, meaning)
        task, warnings, measured = found
        watched = monitors(self.stop, self.checkpoint)
        if self.privacy is not None:
            check_decisions(watched)
        check_watched(watched, self.evaluate, data, views_of(task, self.evaluate).names)
        check_named(watched, measured, task.measures, (*algorithm.tellers, *(["attack"] if self.attack else [])))
        warnings += untested(task, self.evaluate, data)
        warnings += tuple(filter(None, [self._rarely(task), cold(task, self.evaluate, sampler, self.schema.rounds)]))
        if self._evaluates(data) and not getattr(self.data, "classes", None):  # whose order is then theirs
            warnings += taken_for_positive(task.measures)
        plan = Plan(
            task=task,
            algorithm=fitted(algorithm, task, sampler, self.schema.rounds, self.failures.dropout),
            sampler=sampler,
            rounds=self.schema.rounds,
            evaluate=self.evaluate,
            stop=self.stop,
            failures=self.failures,
            checkpoint=self.checkpoint,
            budget=self.budget,
            left_out=left_out(self.failures, data),
            attackers=attackers,
            privacy=self.privacy,
            warnings=warnings,
        )
        check_plan(plan)
        return with_target(plan)

    @put_back()
    def _task(
        self, data: ClientData, algorithm: Composition, sampler: Sampler, meaning: Mapping[str, Any] | None
    ) -> tuple[LocalTask, tuple[str, ...], tuple[str, ...] | None]:
        """Make the local training problem, try it, and return it with warnings and the names of what is measured."""
        stage("trying model, loss and optimizer")
        model_fn = Prototype(self.model_fn(data.spec))
        module = made_module(model_fn)
        task = self._problem(
            data, algorithm, model_fn, module, meaning, lambda x: output_shape(module, x, self.place.devices[0])
        )
        vector = task.layout.pack(dict(module.state_dict()))
        task = algorithm.received(task, vector)
        trial = replace(task, data=data.probe())
        # The trials leave no trace in what the user gave, of which the run makes its own copies later.
        # What they warn of is warned of again by the clients, whose files it belongs in.
        functions = HiddenState({"local.loss": task.loss_fn, "optimizer": task.optimizer_fn})
        with functions.put_back(), catch_warnings():
            optimizer = check_optimizer(self.optimizer, module)
            rate = scheduled(made(self.lr_schedule), optimizer, self.schema.rounds, task.args.rates)
            tested = self.evaluate.clients_every > 0 or data.test is not None
            untried, measured, where = check_fit(trial, module, tested, self.place.devices[0], self.loss)
            if untried is None:
                check_packed(data, module)
                if trial.private is not None:
                    check_single_gradients(trial, where)
            doubt = algorithm.program.needs(optimizer, self.local.epochs)
            warnings = (*filter(None, (doubt, untried)), *algorithm.program.unused(self.local))
            _ = task.moments  # refuses an optimizer whose state cannot be kept
            warnings += check_single_rows(trial, module, self.failures.on_failure == "drop")
            trial = _profiled(trial, untried, where).with_variants()
            warnings += (*pieces_told(trial), *emulated_told(trial.args.precision, self.place.devices[0]))
            check_step(fitted(algorithm, trial, sampler, self.schema.rounds), trial, vector)
            device = "cuda" if self.place.devices[0].type == "cuda" else "cpu"
            stack: Any = self.local.stack
            if ranks := self.place.ranks(data):
                views = views_of(trial, self.evaluate)
                stacking, sharing = decide_ranks(ranks, self.place, stack, views, trial, algorithm)
            else:
                stacking = decide(trial, stack, sampler.expected(data.sizes), device)  # type: ignore[arg-type]
                sharing = decide_sharing(replace(trial, stacking=stacking), self.place.most_devices(data))
            trial = replace(trial, stacking=stacking, sharing=sharing)
            trial = replace(trial, format=decide_format(trial, device))  # type: ignore[arg-type]
            rows = rows_at_once(self.evaluate.batch_size, module, two_examples(trial.data)[0])  # type: ignore[arg-type]
        return replace(trial, data=data, rate=rate, evaluated_rows=rows), warnings, measured

    def _sized(self, data: ClientData, algorithm: Composition) -> tuple[LocalTask, tuple[str, ...], None]:
        """Return what :meth:`_task` does, of a model of shapes alone, with nothing tried."""
        check_sized(algorithm)
        model_fn = Prototype(replace(self, model=Shaped(self.model)).model_fn(data.spec))
        module = made_module(model_fn)
        task = self._problem(data, algorithm, model_fn, module, None, partial(shape_of_output, module))
        rate = scheduled(made(self.lr_schedule), check_optimizer(self.optimizer, nn.Linear(1, 1)), self.schema.rounds)
        return sized(replace(task, rate=rate), module, self.place, self.evaluate.batch_size), (), None

    def _problem(
        self,
        data: ClientData,
        algorithm: Composition,
        model_fn: Prototype,
        module: nn.Module,
        meaning: Mapping[str, Any] | None,
        output: Callable[[Any], Shape | None],
    ) -> LocalTask:
        """Return the local training problem as sections and parts say it; ``output``: from inputs to outputs' shape."""
        layout = Layout.of(module, self.model_regions())
        check_algorithm(algorithm, layout, module)
        x, y = two_examples(data.probe())
        about, why = self.about(data.spec, tuple(y.shape), lambda: output(x))
        about = about.told((meaning or {}).get("task")).learnt(data)
        check_classes(algorithm, about)
        task = LocalTask(
            model_fn=model_fn,
            optimizer_fn=self.optimizer,
            loss_fn=self.weighted(self.loss_fn(about), about, tuple(y.shape[1:]), data),
            data=data,
            layout=layout,
            args=algorithm.args,
            program=algorithm.program,
            metrics=self.chosen_metrics(),
            task=about,
            why="; ".join(filter(None, (why, about.words))),
            target=tuple(y.shape[1:]),
            seed=self.schema.seed,
            statistics=self._evaluates(data) and needs_statistics(algorithm, module, layout),
            augment=Augment(tuple[Any, ...](data.augment)),
            carried=carried_buffers(module) if self.local.buffers == "keep" else frozenset(),
            private=None if self.privacy is None else self.privacy.examples,
        )
        if task.private is not None:
            check_rows(task, module)
        return task

    def _evaluates(self, data: ClientData) -> bool:
        """Tell if there is an evaluation at all."""
        return self.evaluate.clients_every > 0 or (self.evaluate.every > 0 and data.test is not None)

    def _rarely(self, task: LocalTask) -> str:
        """Say what an answer that is always the same gives, where one of two classes is rare, but not with privacy."""
        data, about = task.data, task.about
        if self.privacy is not None or not data.counted or data.spec.task != "classification":
            return ""
        if task.target or about.several or about.kind != "classes":
            return ""
        weights, of_classes = self.local.class_weights is not None, (m.rests_on_classes for m in task.measures.metrics)
        return rarely(data.label_counts().sum(axis=0), about.classes, metrics=any(of_classes), weights=weights)

    def _profile(self, folder: RunFolder) -> Profile | None:
        """Return the rounds of which there are to be traces; ConfigError if the run has not all of them."""
        if self.run.profiled is None:
            return None
        first, last = self.run.profiled
        if last > self.schema.rounds:
            raise ConfigError(f"run.profile={self.run.profile}: the run has {counted(self.schema.rounds, 'round')}")
        return Profile(folder.path / FOLDER, first, last)

    def experiment(self, folder: RunFolder, *, resume: bool = False) -> Experiment:
        """Build and check everything; the run folder is claimed when the run begins."""
        folder.check(resume)  # before the data are read, which may take minutes
        self.place.check()
        for tracker in self.tracking:
            tracker.check()
        told = Callbacks(self.callbacks)
        plan = self.plan(folder.encoding(), folder.inputs(), folder.meaning()) if resume else self.plan()
        traced = self._profile(folder)
        run = Run(
            plan=plan,
            folder=folder,
            name=self.name,
            config=self.to_yaml(),
            defaults=frozenset(self.defaults()),
            threads=self.place.worker.threads,
            resume=resume,
            code=self.code(),
            trackers=self.tracking,
            callbacks=told.names,
            notes=(*plan.notes, *([traced.words] if traced else []), *self._code(), *self._earlier()),
            profile=traced,
            warnings=(*load_plugins(), *plan.task.data.warnings, *plan.warnings),
        )
        run.check_rounds()
        return Experiment(run, self.place, told)


def _profiled(task: LocalTask, untried: str | None, where: torch.device) -> LocalTask:
    """Return the task with what a trial there has seen of its program.

    Raises:
        ConfigError: the trial fails, or cannot be made, as ``untried`` says that the model runs on no CPU.
    """
    try:
        return profiled(task, where)
    except Untried:
        if untried is None:
            raise
        raise ConfigError(
            f"algorithm: the clients of {name_of(task.program)} are tried before a run, to see what they send and "
            "keep, and the model does not run on this machine's CPU: start the run on a machine with a GPU, give the "
            "model a way to run on a CPU, or take an algorithm whose clients only train, such as fedavg"
        ) from None
