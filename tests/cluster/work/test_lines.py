"""A line to a worker: what it raises arrives with its traceback."""

from __future__ import annotations

from threading import Thread

import pytest

from fedray.cluster.work.lines import Door, Line, serve
from fedray.core.errors import RunFailed


@pytest.mark.parametrize(
    ("error", "words"),
    [(IndexError("by hand"), "^a worker failed: IndexError: by hand"), (RunFailed("round 3: by hand"), "^round 3")],
)
def test_what_a_worker_raises_arrives_with_its_traceback(error: Exception, words: str) -> None:
    def work() -> bytes:
        raise error

    door = Door()
    worker = Thread(target=serve, args=(door.listen(), work))
    worker.start()
    line = Line(door)
    line.send()
    with pytest.raises(RunFailed, match=words) as caught:
        line.receive()
    line.close()
    worker.join()
    assert "in work" in caught.value.__notes__[0]
