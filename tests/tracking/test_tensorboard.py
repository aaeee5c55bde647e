"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

import io
import logging
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from fedray.core.record import RoundRecord
from fedray.metrics.confused import Confused
from fedray.rundir.client_table import ClientRows, ClientTable
from fedray.tracking import RunInfo, TensorBoard, events
from fedray.tracking.described import description
from fedray.tracking.drawing import label_map, matrix_image

COUNTS = np.array([[30, 2, 0], [0, 5, 5], [1, 1, 40]])
LAST = 6


def info(folder: Path, resumed_from: int = 0, *, counts: bool = True) -> RunInfo:
    return RunInfo(
        folder,
        "digits",
        LAST,
        resumed_from,
        clients=3,
        parameters=12_345,
        config_yaml="seed: 1\nlocal:\n  lr: 0.1\n",
        label_counts=COUNTS if counts else None,
        client_names=["a", "b", "c"],
    )


def record(number: int, offset: float = 0.0) -> RoundRecord:
    return RoundRecord(
        number,
        seconds=0.5,
        phases={"broadcast": 0.125, "train": 0.25},
        clients={"sampled": 3, "ok": 2, "failed": 1},
        train={"loss": number + offset},
        test={"loss": 0.25, "accuracy": number / 8} if number % 2 == 0 else {},
        clients_test={"accuracy": {"mean": 0.5, "p10": 0.25, "p50": 0.5, "p90": 1.0}},
        evaluated={"clients": 2, "missing": 1},
        weight=19.0,
        metrics={"krum": {"score": 0.75}},
        bytes={"down": 1000, "up": 10, "network": 77},
        usage={
            "nodes": 2,
            "retries": 1,
            "cpu_seconds": 1.5,
            "worker": ["n1/0", "n2/0"],
            "idle": [0.25, 0.75],
            "rss": [100, 300],
            "failures": {"train": 1},
        },
    )


def test_the_hint_names_the_folder_as_a_shell_needs_it(tmp_path: Path) -> None:
    assert TensorBoard().hint(Path("runs/a b")) == "open TensorBoard: tensorboard --logdir 'runs/a b'"
    assert TensorBoard().hint_of_all(Path("runs")) == "open TensorBoard: tensorboard --logdir runs"
    assert TensorBoard(tmp_path).hint(Path("runs/a b")) == f"open TensorBoard: tensorboard --logdir {tmp_path}"


def session(folder: Path, resumed_from: int, rounds: range, offset: float = 0.0) -> None:
    board = TensorBoard(folder)
    board.start(info(folder, resumed_from))
    for number in rounds:
        board.round(record(number, offset))
    board.close()


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def curve(events: EventAccumulator, tag: str) -> dict[int, float]:
    points = events.Scalars(tag)
    assert len({point.step for point in points}) == len(points), "a step is there twice"
    return {point.step: point.value for point in points}


def shown_text(events: EventAccumulator, tag: str) -> str:
    (event,) = events.Tensors(f"{tag}/text_summary")
    (text,) = event.tensor_proto.string_val
    return str(text.decode())


def test_scalars_by_name_and_round(tmp_path: Path) -> None:
    session(tmp_path, 0, range(1, LAST + 1))
    events = read(tmp_path)
    constant = {
        "train/clients/sampled": 3.0,
        "train/clients/ok": 2.0,
        "train/clients/failed": 1.0,
        "time/round_seconds": 0.5,
        "time/broadcast": 0.125,
        "time/train": 0.25,
        "usage/bytes/up": 10.0,
        "usage/bytes/down": 1000.0,
        "usage/bytes/network": 77.0,
        "train/clients/weight": 19.0,
        "usage/nodes": 2.0,
        "usage/retries": 1.0,
        "usage/cpu_seconds": 1.5,
        "usage/idle/mean": 0.5,
        "usage/idle/max": 0.75,
        "usage/rss/mean": 200.0,
        "usage/rss/max": 300.0,
        "usage/failures/train": 1.0,
        "test_clients/accuracy/mean": 0.5,
        "test_clients/accuracy/p10": 0.25,
        "test_clients/accuracy/p50": 0.5,
        "test_clients/accuracy/p90": 1.0,
        "test_clients/evaluated/clients": 2.0,
        "test_clients/evaluated/missing": 1.0,
        "train/krum/score": 0.75,
    }
    assert set(events.Tags()["scalars"]) == {*constant, "train/loss", "test/loss", "test/accuracy"}
    for tag, value in constant.items():
        assert curve(events, tag) == dict.fromkeys(range(1, LAST + 1), value)
    assert curve(events, "train/loss") == {number: number for number in range(1, LAST + 1)}
    assert curve(events, "test/accuracy") == {2: 0.25, 4: 0.5, 6: 0.75}


def test_round_0_is_an_evaluation_only(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.start(info(tmp_path))
    board.round(RoundRecord(0, seconds=0.25, test={"loss": 2.5}))
    board.round(record(1))
    board.close()
    events = read(tmp_path)
    assert curve(events, "test/loss") == {0: 2.5}
    assert curve(events, "time/round_seconds") == {1: 0.5}


def test_a_metric_without_a_value_is_nan(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.start(info(tmp_path))
    board.round(RoundRecord.from_json(RoundRecord(1, train={"loss": math.nan}).to_json()))
    board.close()
    assert math.isnan(curve(read(tmp_path), "train/loss")[1])


def test_config_and_labels_are_shown(tmp_path: Path) -> None:
    session(tmp_path, 0, range(1, 2))
    events = read(tmp_path)
    about = "digits: 3 clients, 12,345 parameters, 6 rounds\n\n"
    assert shown_text(events, "config") == f"{about}    seed: 1\n    local:\n      lr: 0.1"
    assert "    b |" in shown_text(events, "train/labels")
    (image,) = events.Images("train/labels")
    with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
        np.testing.assert_array_equal(np.asarray(picture), label_map(COUNTS, ["a", "b", "c"]))


def test_confusion_matrices_are_pictures_of_their_rounds(tmp_path: Path) -> None:
    tables = [{"classes": ["no", "yes"], "counts": [[8, number], [2, 5]]} for number in (1, 2)]
    board = TensorBoard(tmp_path)
    board.start(info(tmp_path))
    for number, table in enumerate(tables, start=1):
        told: dict[str, dict[str, Any]] = {
            "test": {"confusion_matrix": table, "odd": [1]},
            "clients_test": {"confusion_matrix": table},
        }
        board.round(RoundRecord(number, tables=told))
    board.close()
    events = read(tmp_path)
    assert set(events.Tags()["images"]) == {"test/confusion_matrix", "test_clients/confusion_matrix", "train/labels"}
    for tag in ("test/confusion_matrix", "test_clients/confusion_matrix"):
        shown = events.Images(tag)
        assert [image.step for image in shown] == [1, 2]
        for image, table in zip(shown, tables, strict=True):
            matrix = Confused.of(table)
            assert matrix is not None
            with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
                np.testing.assert_array_equal(np.asarray(picture), matrix_image(matrix))


def test_samples_are_text_of_their_rounds(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.start(info(tmp_path, counts=False))
    sample = {"row": 4, "prompt": "# two\nlines", "completion": "four", "reference": "five"}
    board.round(RoundRecord(1, samples=[sample]))
    board.round(RoundRecord(2))
    board.close()
    events = read(tmp_path)
    words = "### Row 4\n\n**prompt**\n\n    # two\n    lines\n\n**completion**\n\n    four\n\n**reference**\n\n    five"
    assert shown_text(events, "test/samples") == words


@pytest.mark.parametrize("clients", [3, 120])
def test_up_to_fifty_clients_have_curves_of_their_own(tmp_path: Path, clients: int) -> None:
    board, table = TensorBoard(tmp_path), ClientTable(tmp_path / "clients", "c{}".format)
    board.start(info(tmp_path))
    everybody = np.arange(clients)
    for number in (1, 2, 3):
        values = {"loss": everybody / number, "auroc": np.full(clients, np.nan)}
        rows = [ClientRows(view, everybody, everybody + 1, values) for view in ("train", "global", "personal")]
        if number != 2:
            table.write(number, rows)
        spread = {"loss": {"mean": 1.0, "p10": 1.0, "p50": 1.0, "p90": 1.0}} if number != 2 else {}
        evaluated = {"clients": clients} if number != 2 else {}
        board.round(RoundRecord(number, clients_test=spread, clients_personal=spread, evaluated=evaluated))
    board.close()
    events = read(tmp_path)
    start = "test_each_client/loss/"
    curves = {tag.removeprefix(start) for tag in events.Tags()["scalars"] if tag.startswith(start)}
    assert len(curves) == min(clients, 50)
    assert {"c0", f"c{clients - 1}"} <= curves
    last = clients - 1
    assert curve(events, f"{start}c{last}") == pytest.approx({1: last, 3: last / 3})
    assert curve(events, f"test_each_client/personal/loss/c{last}")[1] == last
    assert all(map(math.isnan, curve(events, "test_each_client/auroc/c0").values()))
    event = events.Tensors("custom_scalars__config__")[-1]
    _, spreads, each = Layout.FromString(event.tensor_proto.string_val[0]).category
    assert [chart.title for chart in each.chart] == ["loss", "auroc", "personal/loss", "personal/auroc"]
    (pattern,) = each.chart[0].multiline.tag
    assert {tag for tag in events.Tags()["scalars"] if re.match(pattern, tag)} == {f"{start}{name}" for name in curves}
    assert [chart.title for chart in spreads.chart] == ["loss", "personal/loss"]


def test_names_for_some_clients_only_give_way_to_numbers(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.start(replace(info(tmp_path), client_names=["a", "b"]))
    board.round(record(1))
    board.close()
    assert "    1 |" in shown_text(read(tmp_path), "train/labels")


def test_every_curve_has_a_description(tmp_path: Path) -> None:
    session(tmp_path, 0, range(1, 4))
    events = read(tmp_path)
    told = {tag: events.SummaryMetadata(tag).summary_description for tag in events.Tags()["scalars"]}
    assert all(told.values())
    assert told["test_clients/accuracy/p90"] == description("clients_test/accuracy/p90")


def test_test_and_train_and_the_spread_over_clients_have_a_chart(tmp_path: Path) -> None:
    session(tmp_path, 0, range(1, 4))
    event = read(tmp_path).Tensors("custom_scalars__config__")[-1]
    together, clients = Layout.FromString(event.tensor_proto.string_val[0]).category
    tags = sorted(read(tmp_path).Tags()["scalars"])
    shown = {chart.title: [tag for tag in tags if re.match(chart.multiline.tag[0], tag)] for chart in together.chart}
    assert shown == {"loss": ["test/loss", "train/loss"], "accuracy": ["test/accuracy", "test_clients/accuracy/mean"]}
    (chart,) = clients.chart
    (series,) = chart.margin.series
    spread = "test_clients/accuracy"
    assert (series.value, series.lower, series.upper) == (f"{spread}/p50", f"{spread}/p10", f"{spread}/p90")


def test_without_classes_there_is_no_picture(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.start(info(tmp_path, counts=False))
    board.round(RoundRecord(1, train={"loss": 1.0}))
    board.close()
    tags = read(tmp_path).Tags()
    assert tags["images"] == []
    assert tags["tensors"] == ["config/text_summary"]


def test_what_is_told_is_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.start(info(tmp_path))
    for number in (1, 2, 3):
        board.round(record(number))
    done = threading.Event()
    board._later(done.set)
    assert done.wait(60)
    assert curve(read(tmp_path), "train/loss") == {1: 1.0, 2: 2.0, 3: 3.0}
    board.close()
    board.close()


def test_no_round_waits_for_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported, real = threading.Event(), events.EventFile

    def slow(*args: Any, **kwargs: Any) -> Any:
        assert imported.wait(60)
        return real(*args, **kwargs)

    monkeypatch.setattr(events, "EventFile", slow)
    board = TensorBoard(tmp_path)
    board.start(info(tmp_path))
    for number in range(1, LAST + 1):
        board.round(record(number))
    assert list(tmp_path.iterdir()) == []
    imported.set()
    board.close()
    assert set(curve(read(tmp_path), "train/loss")) == set(range(1, LAST + 1))


@pytest.mark.parametrize("again", [True, False], ids=["the checkpoint's round again", "the next round"])
def test_a_resumed_run_reads_as_one(tmp_path: Path, again: bool) -> None:
    session(tmp_path, 0, range(1, 6), offset=100)
    session(tmp_path, 3, range(3 if again else 4, LAST + 1))
    events = read(tmp_path)
    expected = {number: number + (100 if number < 3 + (not again) else 0) for number in range(1, LAST + 1)}
    assert curve(events, "train/loss") == expected
    # Round 4's evaluation of the killed run is gone with the rest, and told anew.
    assert curve(events, "test/accuracy") == {2: 0.25, 4: 0.5, 6: 0.75}
    assert len(events.Images("train/labels")) == 1


@settings(max_examples=20)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, LAST), st.integers(0, LAST)), max_size=4))
def test_kills_leave_one_point_per_round(sessions: list[tuple[bool, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        start, expected = 0, dict[int, float]()
        for mark, (again, count, checkpoint) in enumerate([*sessions, (False, LAST, 0)]):
            first = start if start and (again or start not in expected) else start + 1
            told = range(first, min(first + count, LAST + 1))
            session(Path(folder), start, told, offset=100 * mark)
            if told or not start:
                expected = {r: value for r, value in expected.items() if r < first}
            expected |= {r: r + 100.0 * mark for r in told}
            start = min(checkpoint, max(expected, default=0))
        assert curve(read(Path(folder)), "train/loss") == expected
        assert list(expected) == list(range(1, LAST + 1))


def test_a_file_torn_by_a_kill_does_not_hide_what_follows(tmp_path: Path) -> None:
    session(tmp_path, 0, range(1, 5), offset=100)
    (torn,) = tmp_path.iterdir()
    torn.write_bytes(torn.read_bytes()[:-7])
    session(tmp_path, 2, range(3, LAST + 1))
    assert curve(read(tmp_path), "train/loss") == {1: 101, 2: 102, 3: 3, 4: 4, 5: 5, 6: 6}


def test_a_folder_that_cannot_be_written_is_said_once_and_ends_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "fedray"):
        session(tmp_path / "file" / "events", 0, range(1, 4))
    assert [entry.getMessage() for entry in caplog.records] == [
        f"TensorBoard: no more events are written to {tmp_path / 'file' / 'events'}: Not a directory"
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_one_line_at_whatever_write_it_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = events.EventFile.flush
    for first in range(4):
        flushes = iter(range(100))

        def flush(self: events.EventFile, first: int = first, flushes: Any = flushes) -> None:
            if next(flushes) == first:
                os.dup2(os.open("/dev/full", os.O_WRONLY), self._file._writer.fileno())
            real(self)

        monkeypatch.setattr(events.EventFile, "flush", flush)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "fedray"):
            session(tmp_path / str(first), 0, range(1, 4))
        (said,) = caplog.records
        assert said.getMessage() == (
            f"TensorBoard: no more events are written to {tmp_path / str(first)}: No space left on device"
        )
        assert not said.exc_info
    assert capfd.readouterr().err == ""


def test_a_record_without_a_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="before start"):
        TensorBoard(tmp_path).round(record(1))


@pytest.mark.slow
def test_the_writer_is_imported_on_use_and_tensorflow_never() -> None:
    script = """if True:
        import sys, tempfile
        from pathlib import Path
        from fedray.core.record import RoundRecord
        from fedray.tracking import RunInfo, TensorBoard
        assert "torch.utils.tensorboard" not in sys.modules and "tensorboard" not in sys.modules
        with tempfile.TemporaryDirectory() as folder:
            board = TensorBoard(folder)
            board.start(RunInfo(Path(folder), "x", 1))
            board.round(RoundRecord(1))
            board.close()
        assert "torch.utils.tensorboard" in sys.modules and "tensorflow" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
