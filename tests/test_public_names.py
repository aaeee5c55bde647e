"""The names of ``import fedray``: all there, and none that costs seconds before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fedray
from fedray import parts
from fedray.experiment.estimate.catalogue import KINDS


def test_every_public_name_is_there() -> None:
    assert {name for name in fedray.__all__ if getattr(fedray, name).__name__ != name} == set()


def test_dir_shows_the_public_names_alone() -> None:
    assert dir(fedray) == sorted([*fedray.__all__, "parts"])


def test_parts_has_every_registry_and_the_class_of_every_kind_of_part() -> None:
    there = [getattr(parts, name) for name in parts.__all__]
    for registry in KINDS.values():
        assert any(registry is one for one in there)
        assert registry.base is None or any(registry.base is one for one in there)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'FedNothing'"):
        _ = fedray.FedNothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", ["fedray", "fedray.cli.app", "fedray.slurm.node", "fedray.slurm.job"])
def test_help_and_the_start_of_a_node_need_neither_torch_nor_ray(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'ray') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
