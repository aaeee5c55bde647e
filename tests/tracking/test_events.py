"""Event files: TensorBoard's own reader finds what was written, and a disk that is full is the writer's to say."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary

from fedray.tracking.events import EventFile


def read(path: Path) -> list[Event]:
    """What TensorBoard reads."""
    return list(LegacyEventFileLoader(str(path)).Load())


def scalar(value: float) -> Summary:
    return Summary(value=[Summary.Value(tag="a", simple_value=value)])


def test_what_is_flushed_is_read_before_the_file_is_closed(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "deep" / "run", step=4)
    file.add(scalar(0.5), step=4)
    file.add(scalar(0.25), step=5)
    file.flush()
    (path,) = (tmp_path / "deep" / "run").iterdir()
    version, start, *events = read(path)
    assert version.file_version == "brain.Event:2"
    assert (start.session_log.status, start.step) == (SessionLog.START, 4), "earlier files give way from here on"
    assert [(event.step, event.summary.value[0].simple_value) for event in events] == [(4, 0.5), (5, 0.25)]
    file.close()


def test_files_of_one_second_are_read_in_the_order_in_which_they_were_begun(tmp_path: Path) -> None:
    for step in range(3):
        EventFile(tmp_path, step).close()
    assert [read(path)[0].step for path in sorted(tmp_path.iterdir())] == [0, 1, 2]


def test_a_full_disk_is_raised_by_whoever_flushes_and_the_file_is_closed_all_the_same(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    file = EventFile(tmp_path, 0)
    file.close()
    file._file._writer = device = full.open("wb")
    file.add(scalar(1.0))
    for write in (file.flush, file.close):
        with pytest.raises(OSError, match="No space left"):
            write()
    assert device.closed
