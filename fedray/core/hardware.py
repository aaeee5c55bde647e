"""What a run ran on."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

from fedray.core.cpus import usable_cpus


def machine() -> dict[str, str]:
    """What the bits of a result depend on besides config and seed."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "arch": platform.machine(),
        "gpu": gpu,
        "torch": torch.__version__,
    }


def hardware(device: torch.device) -> str:
    """What the bits of a worker on ``device`` depend on: the kind of GPU, or the processor's vector instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def versions() -> dict[str, str]:
    """Versions of what matters."""
    packages = ("fedray", "torch", "ray", "numpy", "safetensors")
    found = {"python": platform.python_version(), "cpus": str(usable_cpus())}
    for name in packages:
        try:
            found[name] = version(name)
        except ImportError:
            found[name] = "not installed"
    return found
