"""The words of an experiment: every section and part of it bound, and written out again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from fedray.aggregators import Aggregator, aggregators
from fedray.algorithms.base import Algorithm, algorithms
from fedray.attacks import Attack, attacks
from fedray.config.binding import defaults_of
from fedray.config.code import hashes_of
from fedray.config.elsewhere import pointed
from fedray.config.layers import bind_cluster, bind_top, load_layers, overlay, to_yaml
from fedray.config.registry import Imported, Registry, bind, bind_part, dump, imported_in
from fedray.config.sections import (
    SECTIONS,
    BudgetSection,
    CheckpointSection,
    EvaluateSection,
    ExperimentSchema,
    FailuresSection,
    LocalSection,
    ModelSection,
    RunSection,
    StopSection,
)
from fedray.core.errors import ConfigError, one_line
from fedray.core.losses import LossFn
from fedray.data import ClientData, data_sources
from fedray.data.augment_chain import sections
from fedray.data.sources.text import Text
from fedray.experiment.chosen import (
    chosen_callbacks,
    chosen_data,
    chosen_function,
    chosen_metrics,
    chosen_model,
    chosen_privacy,
    chosen_server,
    chosen_trackers,
)
from fedray.experiment.elsewhere import all_keys
from fedray.experiment.given import only_python_has
from fedray.experiment.place import Place
from fedray.local.losses import losses
from fedray.metrics import metrics
from fedray.models import models
from fedray.optim import LRSchedule, OptimizerFn, lr_schedules, optimizers
from fedray.privacy import Privacy
from fedray.rundir.names import PYTHON
from fedray.sampling import Sampler, samplers
from fedray.server import ServerOptimizer, server_optimizers
from fedray.tasks import Task, tasks
from fedray.tracking import Tracker, trackers
from fedray.tracking.callbacks import callbacks
from fedray.transforms import Transform, transforms


@dataclass(frozen=True)
class Bound:
    """An experiment, every section and part of it bound, nothing built yet.

    A part that is named by its import path is an :class:`~fedray.config.imported.Imported`.
    """

    name: str
    raw: dict[str, Any]
    schema: ExperimentSchema
    local: LocalSection
    place: Place
    evaluate: EvaluateSection
    stop: StopSection
    failures: FailuresSection
    checkpoint: CheckpointSection
    budget: BudgetSection
    privacy: Privacy | None
    run: RunSection
    data: Any
    augment: tuple[Any, ...]
    model: Any
    regions: ModelSection
    task: Task | None
    metrics: tuple[Any, ...] | None
    algorithm: Algorithm
    server: ServerOptimizer | None
    server_schedule: LRSchedule | None
    transforms: tuple[Transform, ...]
    tracking: tuple[Tracker, ...]
    callbacks: tuple[Any, ...]
    aggregator: Aggregator
    attack: Attack | None
    sampler: Sampler
    optimizer: OptimizerFn
    lr_schedule: LRSchedule
    loss: LossFn | None

    def load_data(self, *known: Any) -> ClientData:
        """Load the data.

        Args:
            known: the encoding of the tables of a run that goes on, where they have one.

        Raises:
            ConfigError: they cannot be had, or memory is too short for them.
        """
        try:
            data: ClientData = self.data.load(self.schema.seed, self.place.sites, *known)
        except MemoryError as error:
            raise ConfigError(
                f"data: memory is too short for them ({one_line(error)}); take fewer or smaller ones, or a machine "
                "with more memory"
            ) from error
        return data

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read, merge, and bind a file.

        Raises:
            ConfigError: anything wrong in it, naming the full key.
        """
        raw, resolved = load_layers(path, overrides)
        return cls.bind(path.stem, raw, resolved)

    @classmethod
    def bind(cls, name: str, raw: Mapping[str, Any], resolved: Mapping[str, Any]) -> Self:
        """Bind every section and part of an experiment.

        Args:
            name: its name for people.
            raw: the text of a person, with interpolations unresolved; it stays as it is in the run's config.
            resolved: the whole; parts may be objects.

        Raises:
            ConfigError: anything wrong in it, naming the full key, and where else an unknown one is known.
        """
        try:
            return cls._bind(name, raw, resolved)
        except ConfigError as error:
            raise pointed(error, all_keys(resolved)) from error.__cause__

    @classmethod
    def _bind(cls, name: str, raw: Mapping[str, Any], resolved: Mapping[str, Any]) -> Self:
        schema = bind_top(resolved)
        sections: dict[str, Any] = {
            key: bind(section, getattr(schema, key), key) for key, section in SECTIONS.items() if key != "cluster"
        }
        local = sections["local"]
        if not isinstance(schema.transforms, Sequence):
            kind = type(schema.transforms).__name__
            raise ConfigError(f"transforms: a list is needed, such as [fedray.Clip()]; this is a {kind}")
        server, server_schedule = chosen_server(schema.server)
        model, regions = chosen_model(schema.model)
        data, augment = chosen_data(schema.data)
        task = None if schema.task is None else bind_part(tasks, schema.task, "task")
        data = data.beside(model, task) if isinstance(data, Text) else data
        return cls(
            name=name,
            raw=dict(raw),
            schema=schema,
            place=Place(bind_cluster(schema), sections.pop("worker"), sections.pop("driver")),
            data=data,
            augment=augment,
            model=model,
            regions=regions,
            task=task,
            metrics=chosen_metrics(schema.metrics),
            algorithm=bind_part(algorithms, schema.algorithm, "algorithm"),
            server=server,
            server_schedule=server_schedule,
            transforms=tuple(
                bind_part(transforms, node, f"transforms[{i}]") for i, node in enumerate(schema.transforms)
            ),
            tracking=chosen_trackers(schema.tracking),
            callbacks=chosen_callbacks(schema.callbacks),
            aggregator=bind_part(aggregators, schema.aggregator, "aggregator"),
            attack=None if schema.attack is None else bind_part(attacks, schema.attack, "attack"),
            sampler=bind_part(samplers, schema.sampler, "sampler"),
            optimizer=chosen_function(optimizers, local.optimizer, "local.optimizer", "sgd"),
            lr_schedule=bind_part(lr_schedules, local.lr_schedule, "local.lr_schedule", "constant"),
            privacy=chosen_privacy(schema.privacy),
            loss=None if local.loss == "auto" else chosen_function(losses, local.loss, "local.loss"),
            **sections,
        )

    def named(self, name: str) -> Self:
        """Return the same experiment under another name."""
        return replace(self, name=name)

    def to_yaml(self) -> str:
        """Write the whole config with every default; values from the environment stay references.

        What Python alone has, such as a function, is described in a section of its own, which comes first.
        """
        parts = self._parts()
        objects = {key: words for key, registry, part in parts if (words := only_python_has(registry, part))}
        dumped = {key: dump(part) for key, _, part in parts if key not in objects}
        if "data" in dumped and self.augment:
            dumped["data"] |= {"augment": sections(self.augment)}
        if "model" in dumped:
            dumped["model"] |= {name: names for name, names in dump(self.regions).items() if names}
        local = dump(self.local)
        for key in ("optimizer", "lr_schedule", "loss"):
            del local[key]
            if f"local.{key}" in dumped:
                said = dumped[f"local.{key}"]
                local[key] = said["name"] if key == "loss" and len(said) == 1 else said
        if self.loss is None:
            local["loss"] = "auto"
        if "server.lr_schedule" in dumped and "server" in dumped:
            dumped["server"]["lr_schedule"] = dumped["server.lr_schedule"]
        filled: dict[str, Any] = {
            "seed": self.schema.seed,
            "rounds": self.schema.rounds,
            **{key: dumped[key] for key in ("data", "model", "task") if key in dumped},
            **({} if self.metrics is None else {"metrics": _list(dumped, "metrics")}),
            **{key: dumped[key] for key in ("algorithm",) if key in dumped},
            "transforms": _list(dumped, "transforms"),
            **{key: dumped[key] for key in ("server", "aggregator", "attack", "sampler") if key in dumped},
            "local": local,
            "cluster": dump(self.place.cluster),
            "worker": dump(self.place.worker),
            "driver": dump(self.place.driver),
            "evaluate": dump(self.evaluate),
            "stop": dump(self.stop),
            "failures": dump(self.failures),
            "checkpoint": dump(self.checkpoint),
            "budget": dump(self.budget),
            **({} if self.privacy is None else {"privacy": dump(self.privacy)}),
            "tracking": _list(dumped, "tracking"),
            **({"callbacks": told} if (told := _list(dumped, "callbacks")) else {}),
            "run": dump(self.run),
        }
        # Functions that listen are none that a run cannot go on without.
        needed = {key: words for key, words in objects.items() if not key.startswith("callbacks[")}
        first = {PYTHON: needed} if needed else {}
        return to_yaml(overlay({**first, **filled}, self.raw))

    def _parts(self) -> list[tuple[str, Registry, Any]]:
        """Return key, registry and part of each part."""
        return [
            ("data", data_sources, self.data),
            ("model", models, self.model),
            *([("task", tasks, self.task)] if self.task else []),
            *((f"metrics[{i}]", metrics, part) for i, part in enumerate(self.metrics or ())),
            ("algorithm", algorithms, self.algorithm),
            *([("server", server_optimizers, self.server)] if self.server else []),
            *([("server.lr_schedule", lr_schedules, self.server_schedule)] if self.server_schedule else []),
            *((f"transforms[{i}]", transforms, part) for i, part in enumerate(self.transforms)),
            ("aggregator", aggregators, self.aggregator),
            *([("attack", attacks, self.attack)] if self.attack else []),
            ("sampler", samplers, self.sampler),
            ("local.optimizer", optimizers, self.optimizer),
            ("local.lr_schedule", lr_schedules, self.lr_schedule),
            *([("local.loss", losses, self.loss)] if self.loss else []),
            *((f"tracking[{i}]", trackers, part) for i, part in enumerate(self.tracking)),
            *((f"callbacks[{i}]", callbacks, part) for i, part in enumerate(self.callbacks)),
        ]

    def code(self) -> dict[str, str]:
        """Return the SHA-256 of each file of the user's own code that the config needs, as it is now."""
        return hashes_of([one for _, one in self._imported()])

    def _imported(self) -> Iterator[tuple[str, Imported]]:
        """Yield the parts that are named by their import path, with their keys."""
        for key, part in [*((key, part) for key, _, part in self._parts()), ("data.augment", self.augment)]:
            yield from ((key, one) for one in imported_in(part))

    def defaults(self) -> Iterator[str]:
        """Yield the keys that have their default value."""
        sections = [(key, getattr(self if hasattr(self, key) else self.place, key)) for key in SECTIONS]
        sections += [("privacy", self.privacy)] if self.privacy else []
        regions = [("model", self.regions)]
        for key, part in [*sections, *regions, *((key, part) for key, _, part in self._parts())]:
            yield from (f"{key}.{name}" for name in defaults_of(part))
            section, _, option = key.partition(".")
            if option and getattr(part, "name", None) == getattr(SECTIONS.get(section, ServerOptimizer), option, None):
                yield f"{key}.name"

    def _code(self) -> Iterator[str]:
        """Say which code of the user's was imported because the config names it."""
        for key, one in self._imported():
            yield f"{key}: {one.name} is {one.origin}, imported from {one.file()}"

    def _earlier(self) -> Iterator[str]:
        """Say what is written as in an earlier version, and how it is written now."""
        if isinstance(self.raw.get("tracking"), Mapping):
            names = ", ".join(str(dump(tracker)["name"]) for tracker in self.tracking)
            yield f"tracking: a mapping is how earlier versions wrote it; it is read as the list of trackers [{names}]"


def _list(dumped: Mapping[str, Any], key: str) -> list[Any]:
    """Return the parts of a list, in order."""
    return [part for name, part in dumped.items() if name.startswith(f"{key}[")]
