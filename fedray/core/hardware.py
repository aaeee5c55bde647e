"""The hardware and the versions that a run ran on."""

from __future__ import annotations

import platform
import re
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch

from fedray.core.cpus import usable_cpus


def machine() -> dict[str, str]:
    """Return what the bits of a result depend on besides config and seed: processor, GPU, version of torch."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "arch": platform.machine(),
        "gpu": gpu,
        "torch": torch.__version__,
    }


def hardware(device: torch.device) -> str:
    """Name the hardware that the bits of a worker on ``device`` depend on.

    That is the kind of GPU, or the processor's vector instructions.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def processor() -> str:
    """Return the name of the processor's model, as its maker and the system have it."""
    with suppress(OSError):
        if found := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of fedray, Python, torch, numpy and Ray."""
    packages = ("fedray", "torch", "ray", "numpy", "safetensors")
    found = {"python": platform.python_version(), "cpus": str(usable_cpus())}
    for name in packages:
        try:
            found[name] = version(name)
        except ImportError:
            found[name] = "not installed"
    return found
