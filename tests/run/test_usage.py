"""Readings of this process, and a round's usage made of them."""

from __future__ import annotations

import logging
import mmap
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.run.executor import InlineExecutor
from fedray.run.usage import Meter, Reading, Usage, peak_rss
from tests.helpers import class_problem, federation

GPUS = [torch.device("cuda", index) for index in range(2)]


def burn(seconds: float) -> None:
    """Use processor time, by its own clock."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_processor_time_is_counted_from_reading_to_reading() -> None:
    before = time.process_time()
    meter = Meter()
    burn(0.02)
    first = meter.read("node1/0", 0.5)
    burn(0.01)
    second = meter.read("node1/0", 0.25)
    assert (first.worker, first.busy, second.busy) == ("node1/0", 0.5, 0.25)
    assert first.cpu_seconds >= 0.02
    assert second.cpu_seconds >= 0.01
    assert first.cpu_seconds + second.cpu_seconds <= time.process_time() - before


def test_the_peak_of_memory_stays_when_it_is_freed() -> None:
    def now() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    # A tensor's memory may stay with the process, where the allocator was told to keep what is freed.
    with mmap.mmap(-1, 1 << 27) as block:
        block.write(b"1" * len(block))
        full, peak = now(), Meter().read("a", 0.0).rss
    assert now() < full - (1 << 26)
    # The kernel's own counting is a little out.
    assert peak >= 0.98 * full
    assert peak_rss() >= 0.98 * full


def test_without_a_gpu_in_use_there_is_nothing_of_gpus() -> None:
    reading = Meter([torch.device("cpu")]).read("a", 0.0)
    assert (reading.gpu_memory, reading.joules) == (0, {})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs with 7 bytes allocated at the peak on the first, 8 on the next..."""
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda gpu: 7 + gpu.index)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda gpu: SimpleNamespace(uuid=f"uuid-{gpu.index}"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda gpu: "NVIDIA H200")


def nvml(readings: list[int]) -> Any:
    """NVML with a counter of millijoules that then fails, and GPUs that are busy for 31 and 80 %."""

    def energy(handle: object) -> int:
        assert handle in ("handle of GPU-uuid-0", "handle of GPU-uuid-1")
        if not readings:
            raise LookupError("the driver went away")
        return readings.pop(0)

    def use(handle: str) -> Any:
        if not readings:
            raise LookupError("the driver went away")
        return SimpleNamespace(gpu=80 if handle.endswith("1") else 31)

    return SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda name: f"handle of {name}",
        nvmlDeviceGetTotalEnergyConsumption=energy,
        nvmlDeviceGetUtilizationRates=use,
    )


@pytest.mark.usefixtures("gpu")
def test_energy_is_read_where_nvml_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml([5000, 5500, 8500]))
    meter = Meter(GPUS[1:])
    assert meter.read("a", 0.0).joules == {"GPU-uuid-1": 0.5}
    reading = meter.read("a", 0.0)
    assert (reading.joules, reading.gpu_memory, reading.hardware) == ({"GPU-uuid-1": 3.0}, 8, "NVIDIA H200")
    for _ in range(2):
        assert meter.read("a", 0.0).joules == {}


@pytest.mark.usefixtures("gpu")
def test_all_gpus_of_a_worker_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml([1000, 5000, 1500, 8000]))
    reading = Meter(GPUS).read("a", 0.0)
    assert (reading.joules, reading.gpu_memory) == ({"GPU-uuid-0": 0.5, "GPU-uuid-1": 3.0}, 15)


@pytest.mark.usefixtures("gpu")
def test_the_use_of_gpus_is_their_mean_until_nvml_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml([1000, 5000, 1500, 8000]))
    meter = Meter(GPUS)
    assert [meter.read("a", 0.0).gpu_use for _ in range(2)] == [0.555, None]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("library", [None, nvml([])], ids=["missing", "broken"])
def test_energy_is_left_out_where_it_does_not(library: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert Meter(GPUS).read("a", 0.0).joules == {}


def test_the_section_of_a_round() -> None:
    readings = (
        Reading("n1/0", busy=3.0, cpu_seconds=2.5, rss=100, gpu_memory=7, joules={"G0": 10.0}, hardware="H"),
        Reading(
            "n2/0", busy=1.5, cpu_seconds=1.0, rss=300, gpu_memory=9, gpu_use=0.5, joules={"G1": 4.0}, hardware="H"
        ),
    )
    assert Usage(readings, nodes=2, gpus=1.5, retries=1, network=50).section(work=3.5, seconds=4.0) == {
        "nodes": 2,
        "retries": 1,
        "cpu_seconds": 3.5,
        "gpu_seconds": 6.0,
        "joules": 14.0,
        "worker": ["n1/0", "n2/0"],
        "idle": [0.5, 2.0],
        "rss": [100, 300],
        "gpu_memory": [7, 9],
        "gpu_use": [None, 0.5],
        "hardware": ["H"],
    }
    section = Usage((Reading("n1/0", busy=3.0),)).section(2.0, 2.0)
    assert section["idle"] == [0.0]
    assert not {"gpu_memory", "gpu_use", "joules", "hardware"} & section.keys()


@given(st.dictionaries(st.sampled_from("ABC"), st.lists(st.integers(1, 1000), min_size=1, max_size=4), min_size=1))
def test_a_gpu_that_workers_share_is_counted_once(gpus: dict[str, list[int]]) -> None:
    readings = [Reading("w", joules={gpu: float(value)}) for gpu, values in gpus.items() for value in values]
    assert Usage(tuple(readings)).section(1.0, 1.0)["joules"] == sum(max(values) for values in gpus.values())


def test_workers_of_another_kind_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """From the third round on the work is done elsewhere, as after a resume on another partition."""
    one = federation(class_problem(), tmp_path, rounds=5)
    kinds = iter([["A"], ["A"], ["A", "B"], ["B"], ["B", "A"]])

    class Moving(InlineExecutor):
        def usage(self) -> Usage:
            return Usage(tuple(Reading(kind, hardware=kind) for kind in next(kinds)))

    one.executor = Moving
    with caplog.at_level(logging.WARNING):
        records = one.run()
    assert [record.usage["hardware"] for record in records] == [["A"], ["A"], ["A", "B"], ["B"], ["A", "B"]]
    assert caplog.messages == ["round 3: workers of more than one kind (A, B): results may differ in bits"]


@pytest.mark.parametrize(("kinds", "told"), [(("A", "A, 2 ranks"), 0), (("A", "B, 2 ranks"), 1)])
def test_workers_with_ranks_of_their_own_are_of_one_kind_with_others_on_the_same_hardware(
    kinds: tuple[str, ...], told: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = federation(class_problem(), tmp_path, rounds=1)

    class Mixed(InlineExecutor):
        def usage(self) -> Usage:
            return Usage(tuple(Reading(kind, hardware=kind) for kind in kinds))

    one.executor = Mixed
    with caplog.at_level(logging.WARNING):
        (record,) = one.run()
    assert record.usage["hardware"] == sorted(kinds)
    assert len(caplog.messages) == told
