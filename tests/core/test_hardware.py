"""What a run ran on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

from fedray.core import hardware


def test_a_processor_is_known_by_its_vector_instructions() -> None:
    said = hardware.hardware(torch.device("cpu"))
    assert platform.machine() in said
    assert torch.backends.cpu.get_cpu_capability() in said
    assert hardware.machine()["cpu"] in said


def test_a_processor_has_the_name_of_its_model_where_the_system_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hardware.processor().strip()
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: A CPU 9 @ 2 GHz\nprocessor\t: 1\nmodel name\t: B\n"
    )
    monkeypatch.setattr(hardware, "Path", lambda path: tmp_path / Path(path).name)
    assert hardware.processor() == "A CPU 9 @ 2 GHz"
    (tmp_path / "cpuinfo").unlink()
    assert hardware.processor() == (platform.processor() or platform.machine())


def test_versions_are_those_of_the_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hardware.versions()
    assert found["numpy"] == version("numpy")
    assert found["python"] == platform.python_version()

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(hardware, "version", missing)
    assert hardware.versions()["ray"] == "not installed"
