"""A connection to a worker: what it raises arrives with its traceback."""

from __future__ import annotations

from threading import Thread

import pytest

from fedray.cluster.work.connections import Connection, Endpoint, serve
from fedray.core.errors import RunFailed


@pytest.mark.parametrize(
    ("error", "words"),
    [(IndexError("by hand"), "^a worker failed: IndexError: by hand"), (RunFailed("round 3: by hand"), "^round 3")],
)
def test_what_a_worker_raises_arrives_with_its_traceback(error: Exception, words: str) -> None:
    def work() -> bytes:
        raise error

    endpoint = Endpoint()
    worker = Thread(target=serve, args=(endpoint.listen(), work))
    worker.start()
    connection = Connection(endpoint)
    connection.send()
    with pytest.raises(RunFailed, match=words) as caught:
        connection.receive()
    connection.close()
    worker.join()
    assert "in work" in caught.value.__notes__[0]
