"""The log of a run whose disk is full."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from fedray.core.errors import RunFailed
from fedray.rundir.log import LogFile, logged
from fedray.rundir.names import LOG


def test_a_log_without_room_is_one_line_and_keeps_the_reason_of_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / LOG).symlink_to("/dev/full")

    def run() -> None:
        with logged(tmp_path):
            for number in range(3):
                logging.getLogger("fedray").info("line %d", number)
            raise OSError(errno.ENOSPC, "No space left on device", "config.yaml")

    with pytest.raises(RunFailed, match=r"No space left on device: config\.yaml; mend it, then"):
        run()
    assert capsys.readouterr().err == f"fedray: {tmp_path / LOG} is cut short: No space left on device\n"


def test_a_mistake_in_a_message_is_still_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = LogFile(tmp_path / LOG)
    handler.emit(logging.LogRecord("fedray", logging.INFO, __file__, 1, "%d rounds", ("three",), None))
    handler.close()
    assert "TypeError" in capsys.readouterr().err
