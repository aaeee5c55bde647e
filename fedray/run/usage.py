"""The usage of a round's machines: told by each worker, added up by the driver."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from fedray.core.hardware import hardware
from fedray.core.record import RoundRecord


@dataclass(frozen=True, slots=True)
class Reading:
    """The reading of one worker's round.

    Args:
        worker: its name, ``node1/0``.
        busy: seconds at work on items.
        cpu_seconds: processor time of its process.
        rss: peak resident memory of its process so far, in bytes.
        gpu_memory: peak GPU memory allocated so far, on all its GPUs, in bytes.
        gpu_use: the share of time in which its GPUs ran a kernel, theirs or of others that share them, over the last
            moments before the reading (NVML's, up to a second), in [0, 1]; None: not measured.
        joules: energy by GPU (its UUID) since the last reading; workers that share one GPU read the same counter.
        hardware: the kind of it that its bits depend on, see :func:`fedray.core.hardware.hardware`.
    """

    worker: str
    busy: float = 0.0
    cpu_seconds: float = 0.0
    rss: int = 0
    gpu_memory: int = 0
    gpu_use: float | None = None
    joules: dict[str, float] = field(default_factory=dict)
    hardware: str = ""

    def plus(self, later: Reading) -> Reading:
        """Return this reading and the next of the same worker as one."""
        joules = {gpu: self.joules.get(gpu, 0.0) + later.joules.get(gpu, 0.0) for gpu in self.joules | later.joules}
        busy, spent = self.busy + later.busy, self.cpu_seconds + later.cpu_seconds
        return replace(later, busy=busy, cpu_seconds=spent, joules=joules)


@dataclass(frozen=True, slots=True)
class Usage:
    """A round, over all workers.

    Args:
        readings: one for each worker that took part.
        nodes: nodes they run on.
        gpus: GPUs they reserve, in all.
        retries: blocks done again because a worker was lost.
        network: bytes between nodes: broadcasts and accumulators.
    """

    readings: tuple[Reading, ...] = ()
    nodes: int = 1
    gpus: float = 0.0
    retries: int = 0
    network: int = 0

    def plus(self, later: Usage) -> Usage:
        """Return this usage and a later one of the same round as one."""
        readings = {reading.worker: reading for reading in self.readings}
        for reading in later.readings:
            before = readings.get(reading.worker)
            readings[reading.worker] = before.plus(reading) if before else reading
        retries, network = self.retries + later.retries, self.network + later.network
        return replace(later, readings=tuple(readings.values()), retries=retries, network=network)

    def section(self, work: float, seconds: float) -> dict[str, Any]:
        """Return the section ``usage`` of a round's record, see :class:`fedray.core.record.RoundRecord`.

        Args:
            work: seconds in which the workers could have been busy.
            seconds: wall time of the round.
        """
        readings = self.readings
        section: dict[str, Any] = {
            "nodes": self.nodes,
            "retries": self.retries,
            "cpu_seconds": round(sum(reading.cpu_seconds for reading in readings), 6),
            "gpu_seconds": round(self.gpus * seconds, 6),
            "worker": [reading.worker for reading in readings],
            "idle": [round(max(0.0, work - reading.busy), 6) for reading in readings],
            "rss": [reading.rss for reading in readings],
        }
        if any(reading.gpu_memory for reading in readings):
            section["gpu_memory"] = [reading.gpu_memory for reading in readings]
        if any(reading.gpu_use is not None for reading in readings):
            section["gpu_use"] = [reading.gpu_use for reading in readings]
        if joules := _joules(readings):
            section["joules"] = round(sum(joules.values()), 3)
        if kinds := {reading.hardware for reading in readings if reading.hardware}:
            section["hardware"] = sorted(kinds)
        return section


def charge(record: RoundRecord, usage: Usage, seconds: float) -> RoundRecord:
    """Add to a record what its evaluation took, where nothing else went on; return that part as a record of its own.

    >>> record = RoundRecord(1, seconds=2.0, usage={"cpu_seconds": 3.0})
    >>> part = charge(record, Usage((Reading("a", cpu_seconds=0.5),)), seconds=1.0)
    >>> record.seconds, record.usage["cpu_seconds"], part.seconds
    (3.0, 3.5, 1.0)

    Args:
        record: of the round.
        usage: of the evaluation.
        seconds: its wall time.
    """
    section = usage.section(seconds, seconds)
    summed = {"cpu_seconds", "gpu_seconds", "joules", "retries"}
    sums = {name: amount for name, amount in section.items() if name in summed}
    record.seconds += seconds
    for name, amount in sums.items():
        record.usage[name] = record.usage.get(name, 0) + amount
    record.bytes["network"] = record.bytes.get("network", 0) + usage.network
    return RoundRecord(record.round, seconds=seconds, usage=sums, bytes={"network": usage.network})


def _joules(readings: Iterable[Reading]) -> dict[str, float]:
    """Return the joules by GPU: workers that share one read the same counter, and the largest reading is taken."""
    found: dict[str, float] = {}
    for reading in readings:
        for gpu, joules in reading.joules.items():
            found[gpu] = max(joules, found.get(gpu, 0.0))
    return found


class Meter:
    """The meter of this process; what it cannot read (no GPU, no NVML) is left at nothing.

    Args:
        devices: those it works on.
    """

    def __init__(self, devices: Sequence[torch.device] = ()) -> None:
        self._gpus = [device for device in devices if device.type == "cuda"]
        self._hardware = hardware(devices[0]) if devices else ""
        self._cpu = time.process_time()
        # A call of the system in the place of a file, in every round of every worker, as soon as both say the same.
        self._peak = _by_resource if _by_resource() <= peak_rss() else peak_rss
        self._nvml: _Nvml | None = None

    def read(self, worker: str, busy: float) -> Reading:
        """Return what was used since the last reading, or since the meter was made.

        Args:
            worker: name of the worker.
            busy: seconds it was at work on items in that time.
        """
        cpu = time.process_time()
        spent, self._cpu = cpu - self._cpu, cpu
        # Asking for memory would initialise CUDA in a process that does not use it.
        if not self._gpus:
            return Reading(worker, busy, spent, self._peak(), hardware=self._hardware)
        if self._nvml is None:
            self._nvml = _Nvml(self._gpus)
        memory = sum(torch.cuda.max_memory_allocated(gpu) for gpu in self._gpus)
        use, joules = self._nvml.use(), self._nvml.joules()
        return Reading(worker, busy, spent, self._peak(), memory, use, joules, self._hardware)


def peak_rss() -> int:
    """Return the peak resident memory of this process, in bytes."""
    # By hand, as psutil has no peaks on Linux.
    # Where there is /proc: the other also counts the process that this one was forked from, up to its exec.
    with suppress(OSError, ValueError, IndexError):
        text = Path("/proc/self/status").read_bytes()
        return int(text.partition(b"VmHWM:")[2].split(None, 1)[0]) * 1024
    return _by_resource()


def _by_resource() -> int:
    """Return the peak resident memory of this process or, if that is more, of those before it in it, in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class _Nvml:
    """The energy and the use of GPUs, by NVML, if the library ``pynvml`` is installed and works."""

    def __init__(self, gpus: Sequence[torch.device]) -> None:
        self._handles: dict[str, Any] = {}
        self._last: dict[str, float] = {}
        # NVML raises errors of its own kinds, which cannot be named without it; no energy is no fault of the run's.
        with suppress(Exception):
            self._library: Any = import_module("pynvml")
            self._library.nvmlInit()
            for gpu in gpus:
                name = f"GPU-{torch.cuda.get_device_properties(gpu).uuid}"
                self._handles[name] = self._library.nvmlDeviceGetHandleByUUID(name)
            self._last = self._counters()

    def _counters(self) -> dict[str, float]:
        read = self._library.nvmlDeviceGetTotalEnergyConsumption
        return {name: float(read(handle)) / 1000 for name, handle in self._handles.items()}

    def use(self) -> float | None:
        """Return the share of time in which GPUs ran a kernel, their mean; None where NVML does not say."""
        if not self._handles:
            return None
        try:
            rates: list[float] = [
                self._library.nvmlDeviceGetUtilizationRates(handle).gpu for handle in self._handles.values()
            ]
        except Exception:
            return None
        return round(sum(rates) / (100 * len(rates)), 4)

    def joules(self) -> dict[str, float]:
        """Return the energy by GPU since the last call."""
        if not self._last:
            return {}
        try:
            now = self._counters()
        except Exception:
            self._last = {}
            return {}
        spent = {name: now[name] - before for name, before in self._last.items()}
        self._last = now
        return spent
