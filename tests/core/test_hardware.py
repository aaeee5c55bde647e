"""What a run ran on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch

from fedray.core import hardware


def test_a_processor_is_known_by_its_vector_instructions() -> None:
    said = hardware.hardware(torch.device("cpu"))
    assert platform.machine() in said
    assert torch.backends.cpu.get_cpu_capability() in said
    assert hardware.machine()["cpu"] in said


def test_versions_are_those_of_the_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hardware.versions()
    assert found["numpy"] == version("numpy")
    assert found["python"] == platform.python_version()

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(hardware, "version", missing)
    assert hardware.versions()["ray"] == "not installed"
