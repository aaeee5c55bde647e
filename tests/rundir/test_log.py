"""A run's log file holds what ended the run, also where the disk is full."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError, RunFailed
from fedray.rundir.log import LogFile, logged
from fedray.rundir.names import CONFIG, LOG


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / CONFIG).write_text("seed: 1\n")
    return tmp_path


def test_the_traceback_of_what_ends_it_is_in_the_log_and_one_line_goes_on(folder: Path) -> None:
    with pytest.raises(RunFailed, match=r"^ZeroDivisionError: division by zero$"), logged(folder):
        1 / 0  # noqa: B018
    assert "Traceback" in (folder / LOG).read_text()


def test_a_users_mistake_stays_one_and_is_no_failure_of_the_run(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^rounds: at least 1$"), logged(folder):
        raise ConfigError("rounds: at least 1")
    assert (folder / LOG).read_text() == ""


def test_a_full_disk_says_how_to_go_on(folder: Path) -> None:
    with pytest.raises(RunFailed, match="No space left on device; mend it, then `fedray resume"), logged(folder):
        raise OSError(28, "No space left on device")


def test_afterwards_the_logger_is_as_it_was(folder: Path) -> None:
    log = logging.getLogger("fedray")
    before = (log.level, list(log.handlers))
    with logged(folder):
        log.info("round 1 is done")
    assert (log.level, list(log.handlers)) == before
    assert "INFO round 1 is done" in (folder / LOG).read_text()
