"""The meaning of a model's inputs and outputs, as checkpoints and exports keep it: for who has nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from fedray.config.registry import bind_part, dump
from fedray.core.errors import ConfigError, one_line
from fedray.data.spec import DataSpec
from fedray.local.task import LocalTask
from fedray.tasks import Task, tasks


@dataclass(frozen=True)
class Meaning:
    """The shape and the meaning of an example, and the task of the model's outputs.

    >>> meaning = Meaning(DataSpec((4,), 2, classes=("benign", "malignant")), (), {"name": "binary"})
    >>> Meaning.from_json(meaning.to_json()) == meaning, meaning.task.classes
    (True, ('benign', 'malignant'))

    Args:
        spec: an example.
        target: the shape of one target; None: not known.
        section: the task as a config names it; None: it is no registered one.
        taken: the columns of files that are the inputs, see :class:`fedray.data.ClientData`; None: not known.
    """

    spec: DataSpec
    target: tuple[int, ...] | None
    section: Mapping[str, Any] | None
    taken: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, task: LocalTask) -> Self:
        """Return the meaning of a local training problem's examples."""
        about = task.about
        registered = tasks.get(about.name) is type(about)
        return cls(task.data.spec, task.target, dump(about) if registered else None, task.data.taken)

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {"spec": asdict(self.spec), "target": self.target, "task": self.section, "taken": self.taken}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return what ``to_json`` has returned.

        Raises:
            ConfigError: it is something else.
        """
        try:
            return cls(DataSpec.of(content["spec"]), _tuples(content["target"]), content["task"], content.get("taken"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"what a model's inputs are is not written as fedray does: {one_line(error)}") from None

    @property
    def task(self) -> Task:
        """The task of the model's outputs.

        Raises:
            ConfigError: it is code of the user's, which only the config names.
        """
        if self.section is None:
            raise ConfigError("task: it is code of one's own, which is not in the folder")
        part: Task = bind_part(tasks, dict(self.section), "task")
        return part.of(self.spec, (1, *(self.target or ())))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
