"""How work reaches a worker and reports come back: through Ray, or, on the driver's own node, through a socket.

A call of a Ray actor takes 1 to 1.5 ms each way on a busy machine of two cores, a local socket 0.1 ms; rounds of small
models are as short as ten such calls.  Ray starts, places and watches the workers either way.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from fedray.errors import RunFailed


class WorkerDied(Exception):
    """The process behind a line is gone."""


class Line(ABC):
    """To one worker: one request at a time."""

    @abstractmethod
    def send(self, *request: Any) -> None:
        """Ask for ``WorkerActor.work(*request)``.

        Raises:
            WorkerDied: nobody is there.
        """

    @abstractmethod
    def receive(self) -> bytes:
        """The answer, once :func:`wait` has named this line.

        Raises:
            WorkerDied: there will be none.
            RunFailed: the worker could not do it.
        """

    @abstractmethod
    def close(self) -> None:
        """Hang up."""


@dataclass(frozen=True)
class Door:
    """Where a worker listens: an abstract address, which leaves no file behind, and the key to it."""

    address: str = field(default_factory=lambda: f"\0fedray-{secrets.token_hex(8)}")
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)


class CallLine(Line):
    """Through Ray, between any two nodes."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self.call: Any = None

    def send(self, *request: Any) -> None:
        self.call = self._actor.work.remote(*request)

    def receive(self) -> bytes:
        try:
            answer: bytes = ray.get(self.call)
        except RayTaskError as error:
            raise RunFailed(f"a worker failed: {error.cause}") from error
        except RayError as error:
            raise WorkerDied(str(error).splitlines()[0]) from error
        return answer

    def close(self) -> None:
        self.call = None


class SocketLine(Line):
    """Through a local socket, to a worker that runs ``WorkerActor.serve``."""

    def __init__(self, door: Door) -> None:
        try:
            self.connection = connection.Client(door.address, authkey=door.key)
        except (OSError, EOFError) as error:
            raise WorkerDied(f"no connection: {error}") from error

    def send(self, *request: Any) -> None:
        try:
            self.connection.send(request)
        except OSError as error:
            raise WorkerDied(f"the connection is broken: {error}") from error

    def receive(self) -> bytes:
        try:
            answer: bytes | str = self.connection.recv()
        except (OSError, EOFError) as error:
            raise WorkerDied("the connection has ended") from error
        if isinstance(answer, str):
            raise RunFailed(f"a worker failed: {answer}")
        return answer

    def close(self) -> None:
        self.connection.close()


def serve(listener: connection.Listener, work: Callable[..., bytes]) -> None:
    """The worker's end of a socket line: answer until the driver hangs up; an exception is answered as text."""
    with listener, listener.accept() as line:
        while True:
            try:
                request = line.recv()
            except EOFError:
                return
            try:
                answer: bytes | str = work(*request)
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            line.send(answer)


def wait(lines: Sequence[Line], seconds: float) -> list[Line]:
    """Those of ``lines``, all of one kind, that have an answer, within ``seconds``."""
    sockets = {line.connection: line for line in lines if isinstance(line, SocketLine)}
    calls = {line.call: line for line in lines if isinstance(line, CallLine)}
    if calls:
        return [calls[call] for call in ray.wait(list(calls), timeout=seconds)[0]]
    ready = connection.wait(list(sockets), timeout=seconds)
    return [line for end, line in sockets.items() if end in ready]
