"""Ray's calls without Ray: actors are objects of the test, a call runs at once, and fails where the test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import ray.exceptions
from ray.exceptions import GetTimeoutError, RayTaskError

HERE = "0a" * 28
"""Id of this process's node."""


def raised_there(cause: Exception) -> Exception:
    """Return the error of a call whose method raised ``cause``, as ``ray.get`` raises it."""
    error = RayTaskError("call", f"Traceback\n{type(cause).__name__}: {cause}", cause, proctitle="w", ip="127.0.0.1")
    return error.as_instanceof_cause()  # type: ignore[no-any-return]


@dataclass(eq=False)
class Reference:
    """The answer of a call; one that is late is never there."""

    value: Any = None
    error: Exception | None = None
    late: bool = False


class FakeRay:
    """What stands for the module ``ray`` in a module under test.

    Args:
        fails: by the name of a method, what happens to its calls one after the other: an exception is what ``ray.get``
            raises, ``"late"`` is no answer, None is the answer.
        nodes: what :meth:`nodes` gives.

    Attributes:
        before: what happens, one after the other, while a stream is waited for, before it has anything.
    """

    exceptions, _private = ray.exceptions, SimpleNamespace()

    def __init__(self, fails: dict[str, list[Any]] | None = None, nodes: Sequence[dict[str, Any]] = ()) -> None:
        self.fails = fails or {}
        self.made: list[Actor] = []
        self.killed: list[Actor] = []
        self.calls: list[str] = []
        self.initialized = True
        self.before: list[Callable[[], object]] = []
        self._nodes = nodes

    def remote(self, *kinds: Any, **_: Any) -> Any:
        """Make a class, or a decorator of one, that starts actors."""
        return Factory(self, *kinds) if kinds else lambda kind: Factory(self, kind)

    def get(self, reference: Any, timeout: float | None = None) -> Any:
        """Return the answer, or raise."""
        if isinstance(reference, list):
            return [self.get(one) for one in reference]
        if reference.late:
            assert timeout is not None, "this would wait for ever"
            raise GetTimeoutError("Get timed out")
        if reference.error is not None:
            raise reference.error
        return reference.value

    def wait(self, references: Sequence[Reference], num_returns: int = 1, timeout: float | None = None) -> Any:
        """Return those that are there, and those that are not."""
        there = [one for one in references if self._there(one)][:num_returns]
        return there, [one for one in references if one not in there]

    def _there(self, one: Any) -> bool:
        if isinstance(one, Iterator) and self.before:
            self.before.pop(0)()
            return False
        return not getattr(one, "late", False)

    def put(self, value: Any) -> Reference:
        """Keep a value."""
        return Reference(value)

    def kill(self, actor: Actor) -> None:
        """End an actor."""
        self.killed.append(actor)

    def nodes(self) -> Sequence[dict[str, Any]]:
        """The nodes of the cluster."""
        return self._nodes

    def available_resources(self) -> dict[str, float]:
        """Nothing is free."""
        return {}

    def is_initialized(self) -> bool:
        """True if this process is connected."""
        return self.initialized

    def get_runtime_context(self) -> Any:
        """This process's place."""
        return SimpleNamespace(get_node_id=lambda: HERE, get_actor_id=lambda: "a1")


class Factory:
    """A class whose instances are actors."""

    def __init__(self, ray: FakeRay, kind: Callable[..., Any], options: dict[str, Any] | None = None) -> None:
        self._ray, self._kind, self._options = ray, kind, options or {}

    def options(self, **options: Any) -> Factory:
        """Note what an actor reserves, and where it is."""
        return Factory(self._ray, self._kind, options)

    def remote(self, *arguments: Any) -> Actor:
        """Start one."""
        values = [one.value if isinstance(one, Reference) else one for one in arguments]
        actor = Actor(self._ray, self._kind(*values), self._options)
        self._ray.made.append(actor)
        return actor


class Actor:
    """The handle of an actor."""

    def __init__(self, ray: FakeRay, behind: Any, options: dict[str, Any] | None = None) -> None:
        self._ray, self.behind, self.options = ray, behind, options or {}
        self._actor_id = SimpleNamespace(hex=lambda: "a1")

    def __getattr__(self, name: str) -> Any:
        return Method(self._ray, self.behind, name)


class Method:
    """A method of an actor."""

    def __init__(self, ray: FakeRay, behind: Any, name: str) -> None:
        self._ray, self._behind, self._name = ray, behind, name

    def options(self, **_: Any) -> Method:
        """The same method: whatever its options, it runs at once."""
        return self

    def remote(self, *arguments: Any) -> Any:
        """Call it."""
        self._ray.calls.append(self._name)
        waiting = self._ray.fails.get(self._name, [])
        fate = waiting.pop(0) if waiting else None
        if fate == "late":
            return Reference(late=True)
        try:
            values = [self._ray.get(one) if isinstance(one, Reference) else one for one in arguments]
            value = getattr(self._behind, self._name)(*values)
        except Exception as error:
            return Reference(error=fate or (error if isinstance(error, RayTaskError) else raised_there(error)))
        if isinstance(value, Iterator):
            return self._streamed(value, fate)
        return Reference(value, fate)

    def _streamed(self, values: Iterator[Any], fate: Exception | None) -> Iterator[Reference]:
        try:
            for value in values:
                yield Reference(value) if fate is None else Reference(error=fate)
        except Exception as error:
            yield Reference(error=raised_there(error))
