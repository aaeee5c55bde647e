"""How work reaches a worker and reports come back: a socket between processes of one node.

A call of a Ray actor takes 1 to 1.5 ms each way on a busy machine of two cores, a local socket 0.1 ms; rounds of small
models are as short as ten such calls.  Ray starts, places and ends the workers.
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

from fedray.core.errors import RunFailed, one_line

_PATIENCE = 10.0


class WorkerDied(Exception):
    """The process behind a line is gone."""


@dataclass(frozen=True)
class Door:
    """Where a worker listens: an abstract address, which leaves no file behind, and the key to it."""

    address: str = field(default_factory=lambda: f"\0fedray-{secrets.token_hex(8)}")
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def listen(self) -> connection.Listener:
        """The worker's end."""
        return connection.Listener(self.address, "AF_UNIX", authkey=self.key)


class Line:
    """To one worker that runs :func:`serve`: one request at a time.

    Raises:
        WorkerDied: nobody answers at the door.
    """

    def __init__(self, door: Door) -> None:
        try:
            self.connection = connection.Client(door.address)
            # Whoever listens may never come to the door: Ray can lose the call that sends it there.
            if not self.connection.poll(_PATIENCE):
                raise WorkerDied(f"nobody came to the door in {_PATIENCE:g} s")
            connection.answer_challenge(self.connection, door.key)
            connection.deliver_challenge(self.connection, door.key)
        except (OSError, EOFError) as error:
            raise WorkerDied(f"no connection: {error}") from error

    def send(self, *request: Any) -> None:
        """Ask for ``work(*request)``.

        Raises:
            WorkerDied: nobody is there.
        """
        try:
            self.connection.send(request)
        except OSError as error:
            raise WorkerDied(f"the connection is broken: {error}") from error

    def receive(self) -> bytes:
        """The answer, once :func:`wait` has named this line.

        Raises:
            WorkerDied: there will be none.
            RunFailed: the worker could not do it; a note has its traceback.
        """
        try:
            answer: bytes | RunFailed = self.connection.recv()
        except (OSError, EOFError) as error:
            raise WorkerDied("the connection has ended") from error
        if isinstance(answer, RunFailed):
            raise answer
        return answer

    def close(self) -> None:
        """Hang up."""
        self.connection.close()


def serve(listener: connection.Listener, work: Callable[..., bytes]) -> None:
    """The worker's end of a line: answer until the other end hangs up; an exception is answered as RunFailed."""
    with listener, listener.accept() as line:
        while True:
            try:
                request = line.recv()
            except EOFError:
                return
            try:
                answer: bytes | RunFailed = work(*request)
            except Exception as error:
                answer = error if isinstance(error, RunFailed) else RunFailed(f"a worker failed: {one_line(error)}")
                answer.add_note(traceback.format_exc())  # a pickle has notes, but neither traceback nor cause
            line.send(answer)


def wait(lines: Sequence[Line], seconds: float) -> list[Line]:
    """Those of ``lines`` that have an answer, within ``seconds``."""
    ready = connection.wait([line.connection for line in lines], timeout=seconds)
    return [line for line in lines if line.connection in ready]
