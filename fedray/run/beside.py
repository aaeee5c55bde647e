"""The jobs that run beside a round, in a thread of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

Job = Callable[[], None]


class Beside:
    """The jobs that need not delay a round: noted while there is nothing to wait for, begun once the workers work.

    Before that they would only take turns at the interpreter with the thread that the workers wait for.

    >>> done = []
    >>> with Beside() as beside:
    ...     beside.note(lambda: done.append("hash"))
    ...     print(done)
    ...     beside.join()
    ...     print(done)
    []
    ['hash']
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fedray-state")
        self._noted: list[Job] = []
        self._begun: list[Future[None]] = []

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Begin what was noted, and wait for all of it; also after an error, as the state is then still whole."""
        self.begin()
        self._pool.shutdown()

    def note(self, job: Job) -> None:
        """Have a job done, in the order of the notes."""
        self._noted.append(job)

    def begin(self) -> None:
        """Begin what was noted."""
        noted, self._noted = self._noted, []
        self._begun += [self._pool.submit(job) for job in noted]

    def join(self) -> None:
        """Begin what was noted, and wait for it and for what was begun before.

        Raises:
            Exception: of the first job that raised.
        """
        self.begin()
        waiting, self._begun = self._begun, []
        for future in waiting:
            future.result()
