"""Asking where data lies: on the nodes of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedray.data.sites import Stop, Visit
from fedray.errors import ConfigError, RunFailed
from fedray.ray.cluster import Cluster
from fedray.ray.placement import Node, alive

T = TypeVar("T")
A = TypeVar("A")

_RAYS_OWN = ("CPU", "GPU", "memory", "object_store_memory", "accelerator_type:", "node:__", "bundle")


class RaySites:
    """The nodes of the cluster that this process is connected to, or would connect to for a run.

    Args:
        start_timeout: seconds until there must be a process at every place that can be asked.
    """

    def __init__(self, start_timeout: float = 120.0) -> None:
        self._start_timeout = start_timeout

    @contextmanager
    def visit(self, stops: Sequence[Stop[T]]) -> Iterator[Visit[T]]:
        """See :class:`fedray.data.sites.Sites`.

        Raises:
            ConfigError: no node is where a stop is.
            RunFailed: a node was lost, or started nothing in time.
        """
        connection = Cluster.connect(cpus=1)
        visitors: list[Any] = []
        try:
            found = alive()
            visitors += [_send(node) for node in [_find(found, stop) for stop in stops]]
            visit: _RayVisit[T] = _RayVisit([stop.name for stop in stops], visitors)
            visit.begin(self._start_timeout)
            visit.open([stop.open for stop in stops])
            yield visit
        finally:
            for visitor in visitors:
                ray.kill(visitor)
            connection.close()


class _Visitor:
    """Holds what was opened, on the node where it is."""

    def __init__(self) -> None:
        self._thing: Any = None

    def up(self) -> None:
        """Answers once the process is there."""

    def open(self, make: Callable[[], Any]) -> None:
        self._thing = make()

    def ask(self, question: Callable[[Any], A]) -> A:
        return question(self._thing)


class _RayVisit(Visit[T]):
    def __init__(self, names: Sequence[str], visitors: Sequence[Any]) -> None:
        self._names, self._visitors = names, visitors

    def begin(self, seconds: float) -> None:
        waiting = [visitor.up.remote() for visitor in self._visitors]
        late = ray.wait(waiting, num_returns=len(waiting), timeout=seconds)[1]
        if late:
            names = ", ".join(name for name, reference in zip(self._names, waiting, strict=True) if reference in late)
            raise RunFailed(f"no process came up in {seconds:g} s on the nodes of {names}")
        self._answers(waiting)

    def open(self, makes: Sequence[Callable[[], T]]) -> None:
        self._answers([visitor.open.remote(make) for visitor, make in zip(self._visitors, makes, strict=True)])

    def ask(self, questions: Sequence[Callable[[T], A]]) -> list[A]:
        return self._answers([v.ask.remote(question) for v, question in zip(self._visitors, questions, strict=True)])

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


def _send(node: Node) -> Any:
    place = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return ray.remote(_Visitor).options(num_cpus=0, enable_task_events=False, scheduling_strategy=place).remote()


def _find(nodes: Sequence[Node], stop: Stop[Any]) -> Node:
    """The first node that is where ``stop`` is.

    Raises:
        ConfigError: there is none; says what the nodes have.
    """
    for node in nodes:
        if node.holds(stop.where):
            return node
    label = "=" in stop.where
    option = f"--labels {stop.where}" if label else f"--resources '{{\"{stop.where}\": 1}}'"
    raise ConfigError(
        f"{stop.name}: no node of the cluster has the {'label' if label else 'resource'} {stop.where}; "
        f"they have: {'; '.join(f'{node.name} ({_marks(node)})' for node in nodes)}\n"
        f"start its node with `ray start {option}`, or, to try it on one machine, set cluster.name=inline"
    )


def _marks(node: Node) -> str:
    """What tells a node from others: labels and custom resources that Ray does not give to all."""
    labels = [f"{name}={value}" for name, value in sorted(node.labels.items()) if not name.startswith("ray.io/")]
    return ", ".join([*labels, *(name for name in sorted(node.resources) if not name.startswith(_RAYS_OWN))])


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
