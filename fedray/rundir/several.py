"""The processes that do one run after the other in a folder, and the request that they begin no further one.

Each leaves a note there, which a request renames: whoever asks needs neither a signal nor the same machine, and the
process looks for it before each run that it begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from fedray.core.errors import ConfigError
from fedray.rundir import durable
from fedray.rundir.lock import Owner

_WORKS, _ASKED = "several-{}.json", "several-{}.stop"


class Several:
    """A process that does several runs in a folder.

    Args:
        folder: of all the run folders.
        owner: the process.
    """

    def __init__(self, folder: Path, owner: Owner) -> None:
        self.owner = owner
        self._note, self._asked = (folder / name.format(owner.token) for name in (_WORKS, _ASKED))

    @property
    def asked(self) -> bool:
        """True once it was asked to begin no further run."""
        return self._asked.exists()

    @property
    def ended(self) -> bool:
        """True if it has ended, or is dead."""
        return not (self._note.exists() or self._asked.exists()) or self.owner.alive() is False

    def ask(self) -> bool:
        """Ask it to begin no further run; False if it was asked before, or has ended."""
        try:
            self._note.rename(self._asked)
        except FileNotFoundError:
            return False
        return True

    def forget(self) -> None:
        """Take its note away."""
        for path in (self._note, self._asked):
            path.unlink(missing_ok=True)

    def _leave(self) -> None:
        durable.replace(self._note, json.dumps(asdict(self.owner)).encode())


@contextmanager
def doing_several(folder: Path) -> Iterator[Several]:
    """Note that this process does several runs in a folder, which is made, for the length of the context.

    Raises:
        ConfigError: the folder cannot be written.
    """
    me = Several(folder, Owner.me())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        me._leave()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror or error}") from None
    try:
        yield me
    finally:
        me.forget()


def at_work(folder: Path) -> list[Several]:
    """Return the processes that do several runs in a folder; the notes of dead ones are taken away."""
    found = []
    for path in [*folder.glob(_WORKS.format("*")), *folder.glob(_ASKED.format("*"))]:
        try:
            one = Several(folder, Owner(**json.loads(path.read_bytes())))
        except (OSError, ValueError, TypeError):  # it has ended meanwhile
            continue
        if one.owner.alive() is False:
            one.forget()
        else:
            found.append(one)
    return found
