"""Connections to worker processes: a socket on which work goes and reports come back, within one node.

A call of a Ray actor takes 1 to 1.5 ms each way on a busy machine of two cores, a local socket 0.1 ms; rounds of small
models are as short as ten such calls.  Ray starts, places and ends the workers.
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection as mp
from typing import Any

from fedray.core.errors import RunFailed, one_line
from fedray.core.messages import Failure
from fedray.run.rank import RanksBroken

_PATIENCE = 10.0


class WorkerDied(Exception):
    """The error of a connection whose process is gone.

    Args:
        text: the reason.
        failure: the failure of a client, if it went for that, see :class:`fedray.run.rank.RanksBroken`.
    """

    def __init__(self, text: str, failure: Failure | None = None) -> None:
        super().__init__(text, failure)  # both, as it is pickled by its arguments
        self.text, self.failure = text, failure

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Endpoint:
    """The address at which a worker listens, abstract, so that it leaves no file behind, and the key to it."""

    address: str = field(default_factory=lambda: f"\0fedray-{secrets.token_hex(8)}")
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def listen(self) -> mp.Listener:
        """Listen: the worker's end."""
        return mp.Listener(self.address, "AF_UNIX", authkey=self.key)


class Connection:
    """A connection to one worker that runs :func:`serve`: one request at a time.

    Raises:
        WorkerDied: nobody answers at the endpoint.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        try:
            self.socket = mp.Client(endpoint.address)
            # Whoever listens may never accept: Ray can lose the call that sends it there.
            if not self.socket.poll(_PATIENCE):
                raise WorkerDied(f"nobody accepted in {_PATIENCE:g} s")
            # Until both ends have proved that they know the key, what comes is never unpickled.
            mp.answer_challenge(self.socket, endpoint.key)
            mp.deliver_challenge(self.socket, endpoint.key)
        except (OSError, EOFError) as error:
            raise WorkerDied(f"no connection: {error}") from error

    def send(self, *request: Any) -> None:
        """Ask for ``work(*request)``.

        Raises:
            WorkerDied: nobody is there.
        """
        try:
            self.socket.send(request)
        except OSError as error:
            raise WorkerDied(f"the connection is broken: {error}") from error

    def receive(self) -> bytes:
        """Return the answer, once :func:`wait` has named this connection.

        Raises:
            WorkerDied: there will be none.
            RunFailed: the worker could not do it; a note has its traceback.
        """
        try:
            answer: bytes | RunFailed | WorkerDied = self.socket.recv()
        except (OSError, EOFError) as error:
            raise WorkerDied("the connection has ended") from error
        if isinstance(answer, RunFailed | WorkerDied):
            raise answer
        return answer

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


def serve(listener: mp.Listener, work: Callable[..., bytes]) -> None:
    """Answer at the worker's end until the other end hangs up; an exception is answered as RunFailed.

    A worker whose ranks are broken says that it died, and why.
    """
    with listener, listener.accept() as client:
        while True:
            try:
                request = client.recv()
            except EOFError:
                return
            try:
                answer: bytes | RunFailed = work(*request)
            except RanksBroken as error:
                client.send(WorkerDied(str(error), error.failure))
                return
            except Exception as error:
                answer = error if isinstance(error, RunFailed) else RunFailed(f"a worker failed: {one_line(error)}")
                answer.add_note(traceback.format_exc())  # a pickle has notes, but neither traceback nor cause
            client.send(answer)


def wait(connections: Sequence[Connection], seconds: float) -> list[Connection]:
    """Return those of ``connections`` that have an answer, within ``seconds``."""
    ready = mp.wait([one.socket for one in connections], timeout=seconds)
    return [one for one in connections if one.socket in ready]
