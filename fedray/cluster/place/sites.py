"""The data on the nodes of a Ray cluster: an actor on each node opens what lies there, and answers questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedray.cluster.place.placement import Node, alive
from fedray.cluster.start.connect import Cluster
from fedray.core.errors import ConfigError, RunFailed, listed
from fedray.core.stages import stage
from fedray.data.sites import OpenSiteData, SiteData

T = TypeVar("T")
A = TypeVar("A")

_RAYS_OWN = ("CPU", "GPU", "memory", "object_store_memory", "accelerator_type:", "node:__", "bundle")


class RaySites:
    """The nodes of the Ray cluster that this process is connected to, or would connect to for a run.

    Args:
        start_timeout: seconds until the actors on all nodes must be up.
    """

    def __init__(self, start_timeout: float = 120.0) -> None:
        self._start_timeout = start_timeout

    @contextmanager
    def opened(self, sources: Sequence[SiteData[T]]) -> Iterator[OpenSiteData[T]]:
        """See :class:`fedray.data.sites.Sites`.

        Raises:
            ConfigError: no node has the label or resource of a place.
            RunFailed: a node was lost, or its actor did not come up in time.
        """
        stage("asking the silos about their data")
        connection = Cluster.connect(cpus=1)
        actors: dict[str, Any] = {}
        try:
            found = alive()
            nodes = [_find(found, source) for source in sources]
            actors |= {id: _start(id) for id in sorted({node.id for node in nodes})}
            names = [source.name for source in sources]
            them: _RaySiteData[T] = _RaySiteData(names, [actors[node.id] for node in nodes])
            them.begin(self._start_timeout)
            them.open([source.open for source in sources])
            yield them
        finally:
            for actor in actors.values():
                ray.kill(actor)
            connection.close()


class _SiteActor:
    """The actor on a node: it holds the data that it has opened, by their position."""

    def __init__(self) -> None:
        self._things: dict[int, Any] = {}

    def up(self) -> None:
        """Answer once the actor is up."""

    def open(self, number: int, make: Callable[[], Any]) -> None:
        self._things[number] = make()

    def ask(self, number: int, question: Callable[[Any], A]) -> A:
        return question(self._things[number])


class _RaySiteData(OpenSiteData[T]):
    def __init__(self, names: Sequence[str], actors: Sequence[Any]) -> None:
        self._names, self._actors = names, actors

    def begin(self, seconds: float) -> None:
        waiting = [actor.up.remote() for actor in self._actors]
        late = ray.wait(waiting, num_returns=len(waiting), timeout=seconds)[1]
        if late:
            names = listed(name for name, reference in zip(self._names, waiting, strict=True) if reference in late)
            raise RunFailed(f"no process came up in {seconds:g} s on the nodes of {names}")
        self._answers(waiting)

    def open(self, makes: Sequence[Callable[[], T]]) -> None:
        numbered = enumerate(zip(self._actors, makes, strict=True))
        self._answers([actor.open.remote(number, make) for number, (actor, make) in numbered])

    def ask(self, questions: Sequence[Callable[[T], A]]) -> list[A]:
        numbered = enumerate(zip(self._actors, questions, strict=True))
        return self._answers([actor.ask.remote(number, question) for number, (actor, question) in numbered])

    def _answers(self, references: Sequence[Any]) -> list[Any]:
        answers = []
        for name, reference in zip(self._names, references, strict=True):
            try:
                answers.append(ray.get(reference))
            except RayTaskError as error:
                if isinstance(error.cause, ConfigError):
                    raise ConfigError(str(error.cause)) from None
                raise RunFailed(f"{name}: {type(error.cause).__name__}: {error.cause}") from error
            except RayError as error:
                raise RunFailed(f"{name}: its node was lost while it was asked ({_line(error)})") from error
        return answers


def _start(node: str) -> Any:
    place = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(_SiteActor).options(num_cpus=0, enable_task_events=False, scheduling_strategy=place).remote()


def _find(nodes: Sequence[Node], source: SiteData[Any]) -> Node:
    """Find the first node with the label or custom resource of ``source``.

    Raises:
        ConfigError: there is none; it lists the labels and resources of the nodes.
    """
    for node in nodes:
        if node.holds(source.where):
            return node
    label = "=" in source.where
    option = f"--labels {source.where}" if label else f"--resources '{{\"{source.where}\": 1}}'"
    raise ConfigError(
        f"{source.name}: no node of the cluster has the {'label' if label else 'resource'} {source.where}; "
        f"they have: {listed((f'{node.name} ({_marks(node)})' for node in nodes), separator='; ')}\n"
        f"start its node with `ray start {option}`, or, to try it on one machine, set cluster.name=inline"
    )


def _marks(node: Node) -> str:
    """Return the labels and custom resources by which a node differs: those that Ray does not give to all."""
    labels = [f"{name}={value}" for name, value in sorted(node.labels.items()) if not name.startswith("ray.io/")]
    return listed([*labels, *(name for name in sorted(node.resources) if not name.startswith(_RAYS_OWN))], none="")


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
