"""One function, called on each node of a Ray cluster by an actor there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedray.cluster.start.connect import Cluster

T = TypeVar("T")


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The answer of one node.

    Args:
        value: the result of the function there; None if there is an error.
        error: the reason why there is no value, in one line.
        asked: time just before the call, seconds since the epoch, by the clock of the calling process.
        answered: time just after it.
    """

    value: T | None
    error: str | None
    asked: float
    answered: float


class _SurveyActor:
    def call(self, function: Callable[[], T]) -> T:
        return function()


class Survey:
    """An actor on each node that is alive, for the length of the context.

    Args:
        patience: seconds to wait for an answer.
    """

    def __init__(self, patience: float = 60.0) -> None:
        self._patience = patience

    def __enter__(self) -> Survey:
        self._cluster = Cluster.connect(cpus=1)
        alive = [node for node in ray.nodes() if node["Alive"]]
        hosts = [str(node["NodeManagerHostname"]) for node in alive]
        self._actors: dict[str, Any] = {}
        for node, host in zip(alive, hosts, strict=True):
            name = host if hosts.count(host) == 1 else f"{host}/{node['NodeID'][:6]}"
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            self._actors[name] = ray.remote(_SurveyActor).options(num_cpus=0, scheduling_strategy=place).remote()
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors.values():
            ray.kill(actor)
        self._cluster.close()

    def ask(self, function: Callable[[], T]) -> dict[str, Answer[T]]:
        """Call a function once on each node, all at the same time.

        Args:
            function: importable or picklable there.
        """
        asked = time.time()
        pending = {node: actor.call.remote(function) for node, actor in self._actors.items()}
        end = time.monotonic() + self._patience
        return {node: _answer(ref, asked, end) for node, ref in pending.items()}

    def ask_in_turn(self, function: Callable[[], T]) -> dict[str, Answer[T]]:
        """Call a function on one node after the other, so that ``asked`` and ``answered`` are close together."""
        answers: dict[str, Answer[T]] = {}
        for node, actor in self._actors.items():
            asked = time.time()
            answers[node] = _answer(actor.call.remote(function), asked, time.monotonic() + self._patience)
        return answers


def _answer(ref: Any, asked: float, end: float) -> Answer[Any]:
    try:
        value = ray.get(ref, timeout=max(0.0, end - time.monotonic()))
    except (RayError, TimeoutError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        # A task's error ends with what was raised there, others begin with what happened.
        reason = lines[-1] if isinstance(error, ray.exceptions.RayTaskError) else lines[0]
        return Answer(None, reason.strip()[:300], asked, time.time())
    return Answer(value, None, asked, time.time())
