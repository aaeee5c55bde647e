"""A connection to a worker: what it raises arrives with its traceback, and a client's failure with the client."""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import Thread

import pytest

from fedray.cluster.work.connections import Connection, Endpoint, WorkerDied, serve
from fedray.core.errors import RunFailed
from fedray.core.messages import Failure
from fedray.run.rank import RanksBroken

FAILURE = Failure(2, "c", 1, "train", "ValueError: a bad row", "Traceback ...")


def asked(work: Callable[[], bytes]) -> Exception:
    """What the answer to a request raises."""
    endpoint = Endpoint()
    worker = Thread(target=serve, args=(endpoint.listen(), work))
    worker.start()
    connection = Connection(endpoint)
    connection.send()
    with pytest.raises((RunFailed, WorkerDied)) as caught:
        connection.receive()
    connection.close()
    worker.join()
    error: Exception = caught.value
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [(IndexError("by hand"), "^a worker failed: IndexError: by hand"), (RunFailed("round 3: by hand"), "^round 3")],
)
def test_what_a_worker_raises_arrives_with_its_traceback(error: Exception, words: str) -> None:
    def work() -> bytes:
        raise error

    error = asked(work)
    assert isinstance(error, RunFailed)
    assert re.match(words, str(error))
    assert "in work" in error.__notes__[0]


@pytest.mark.parametrize("failure", [None, FAILURE])
def test_a_worker_whose_ranks_are_broken_has_died_of_a_client_or_of_itself(failure: Failure | None) -> None:
    def work() -> bytes:
        raise RanksBroken("rank 1: it is gone", failure)

    error = asked(work)
    assert isinstance(error, WorkerDied)
    assert (str(error), error.failure) == ("rank 1: it is gone", failure)
