"""The part of a run folder that predictions need: the meaning of inputs and outputs, and the making of the model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from fedray.config.code import hashes_of
from fedray.config.layers import ConfigFile
from fedray.config.registry import bind, bind_part, imported_in, made
from fedray.config.sections import EvaluateSection, LocalSection
from fedray.core.errors import ConfigError
from fedray.data.columns.inputs import Inputs
from fedray.data.columns.probe import drawn
from fedray.data.encoding.encoding import Encoding
from fedray.experiment.chosen import chosen_model
from fedray.experiment.given import GivenModel
from fedray.models import initial_model
from fedray.models.lora import add_residuals
from fedray.run.meaning import Meaning
from fedray.run.models import load_frozen, no_model
from fedray.run.origin import warn_of_code
from fedray.run.snapshot import layout_of, model_of
from fedray.rundir.checkpoint import Checkpoint
from fedray.rundir.folder import RunFolder
from fedray.rundir.names import PYTHON, config_path
from fedray.tasks import Task, tasks
from fedray.tasks.inferred import task_of

_LOCAL = ("precision", "deterministic")


def encoding_of(folder: RunFolder, saved: Checkpoint) -> Encoding | None:
    """Return the encoding of a run's tables; None: it has none."""
    content = saved.state.get("encoding") or folder.encoding()
    return None if content is None else Encoding.from_json(content)


def meaning_of(folder: RunFolder, saved: Checkpoint, rest: Rest) -> tuple[Meaning, Task]:
    """Return what the inputs and the outputs of a run's model are.

    Raises:
        ConfigError: a checkpoint of an earlier fedray, of a model of arrays, does not say it.
    """
    if written := saved.state.get("meaning"):
        meaning = Meaning.from_json(written)
    elif (encoding := encoding_of(folder, saved)) is not None:
        target = () if encoding.classes is not None else (1,)
        meaning = Meaning(encoding.spec, target, {"name": task_of(encoding.spec).name})
    else:
        raise ConfigError(
            f"{folder.path}: the checkpoint of round {saved.round} is of an earlier fedray, and does not say what its "
            f"inputs are; one that `fedray resume {folder.path} rounds=MORE` writes does"
        )
    said = rest.section("task")
    if said is None or (written and meaning.section is not None):
        return meaning, meaning.task  # which has what it had learnt
    own: Task = made(bind_part(tasks, said, "task"))
    return meaning, own.of(meaning.spec, (1, *(meaning.target or ())))


@dataclass(frozen=True)
class Rest:
    """The part of a run's config that its model depends on: nothing of data, cluster and trackers is read.

    Args:
        content: the config, with references as they are written.
    """

    content: DictConfig

    @classmethod
    def of(cls, folder: RunFolder) -> Rest:
        """Read it from a run folder.

        Raises:
            ConfigError: it cannot be read.
        """
        return cls(OmegaConf.create(dict(ConfigFile.read(config_path(folder.path)).content)))

    def section(self, key: str) -> Any:
        """Return what stands under a key at the top, with its references filled in; None: nothing.

        Raises:
            ConfigError: a reference cannot be filled in.
        """
        try:
            found = OmegaConf.select(self.content, key)
            return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found
        except OmegaConfBaseException as error:
            raise ConfigError(f"{key}: {str(error).splitlines()[0]}") from None

    def sections(self, without: Collection[str]) -> dict[str, Any]:
        """Return all other sections."""
        keys = [str(key) for key in self.content if key not in (*without, PYTHON)]
        return {key: self.section(key) for key in keys}

    @cached_property
    def python(self) -> Mapping[str, str]:
        """The parts that only Python has, by their keys, each in words."""
        return self.section(PYTHON) or {}

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.section("seed") or 0)

    @property
    def local(self) -> LocalSection:
        """Of the section its precision and kernels."""
        said = self.section("local") or {}
        found: LocalSection = bind(LocalSection, {key: said[key] for key in _LOCAL if key in said}, "local")
        return found

    @property
    def batch_size(self) -> int | str:
        """The examples that are evaluated at once."""
        said = self.section("evaluate") or {}
        found: int | str = said.get("batch_size", EvaluateSection.batch_size)
        return found

    def module(self, meaning: Meaning, task: Task, given: Any = None) -> nn.Module:
        """Return the module with its first parameters.

        Args:
            meaning: of its inputs.
            task: of its outputs.
            given: the model, in the place of that of the config.

        Raises:
            ConfigError: it cannot be built here.
        """
        return built(self.section("model") if given is None else given, meaning, task, self.seed)


def built(said: Any, meaning: Meaning, task: Task, seed: int) -> nn.Module:
    """Return a module with its first parameters.

    Args:
        said: the section of the model, or a function that makes it; None: there is neither.
        meaning: of its inputs.
        task: of its outputs.
        seed: names what it draws.

    Raises:
        ConfigError: it cannot be built here.
    """
    if said is None:
        raise ConfigError(
            "model: this run was started from Python, which alone has it; give the function that makes it: "
            "fedray.load(RUN_DIR, model=make_it), or fedray predict --model my_module:make_it"
        )
    try:
        part = GivenModel(said) if callable(said) else chosen_model(said)[0]
        return initial_model(part, task.for_model(meaning.spec), seed)
    except ConfigError as error:
        name = said.get("name") if isinstance(said, Mapping) else said
        if ":" not in str(name) or callable(said):
            raise
        raise ConfigError(
            f"{error}\n{name} is code of your own: start in the folder that has it (this is {Path.cwd()})"
        ) from None


def trained(
    folder: RunFolder, saved: Checkpoint, rest: Rest, meaning: Meaning, task: Task, model: Any = None
) -> nn.Module:
    """Return the module of a checkpoint on the CPU, as the server has it.

    Raises:
        ConfigError: it has no whole model, or it cannot be built here.
    """
    layout = layout_of(saved)
    if words := no_model(layout, saved.state.get("global_model", True)):
        raise ConfigError(f"{folder.path}: {words}; take the model of one of them: --client ID, or load(..., client=)")
    if model is None:
        warn_of_code(folder.path, saved.round, hashes_of([*imported_in(rest.section("model"))]))
    module = rest.module(meaning, task, model)
    add_residuals(module, [entry.name for entry in layout.entries])
    load_frozen(saved.state, layout, module, folder.path)
    try:
        layout.load(module, model_of(saved))
    except (KeyError, RuntimeError) as error:
        raise ConfigError(f"model: it is not the one that the run has trained: {str(error).splitlines()[0]}") from None
    return module


def example_of(meaning: Meaning) -> Inputs:
    """Return the inputs of two examples, drawn."""
    return drawn(meaning.spec, 2, torch.Generator().manual_seed(0))
