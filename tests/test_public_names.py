"""The names of ``import fedray``: all there, and none that costs seconds before it is used."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from collections.abc import Iterator
from types import FunctionType

import pytest

import fedray
from fedray import parts
from fedray.config.registry import Registry
from fedray.experiment.estimate.catalogue import KINDS


def shown() -> Iterator[tuple[str, type | FunctionType]]:
    """Every registered part, every class and function of the contract, and every public name, each by its name."""
    for name in parts.__all__:
        one = getattr(parts, name)
        if isinstance(one, Registry):
            yield from ((f"{name}.{part}", one[part]) for part in one)
        elif inspect.isclass(one) or inspect.isfunction(one):
            yield f"parts.{name}", one
    yield from ((f"fedray.{name}", getattr(fedray, name)) for name in fedray.__all__)


@pytest.mark.parametrize("one", [pytest.param(one, id=name) for name, one in shown()])
def test_its_docstring_shows_its_use(one: type | FunctionType) -> None:
    """The examples themselves run as doctests."""
    examples = doctest.DocTestParser().get_examples(one.__doc__ or "")
    assert any(one.__name__ in example.source + example.want for example in examples)
    assert any(example.want for example in examples)


def test_every_public_name_is_there() -> None:
    assert {name for name in fedray.__all__ if getattr(fedray, name).__name__ != name} == set()


def test_dir_shows_the_public_names_alone() -> None:
    assert dir(fedray) == sorted([*fedray.__all__, "metrics", "optim", "parts", "privacy", "server", "tasks"])


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


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("FedDyn", "alpha"),
        ("FedSAM", "rho"),
        ("MOON", "mu tau"),
        ("FedNTD", "beta tau"),
        ("FedLC", "tau"),
        ("QFedAvg", "q"),
        ("PFedMe", "lam inner_steps inner_lr beta"),
        ("PerFedAvg", "alpha exact"),
        ("Mime", "beta lite"),
        ("IFCA", "clusters"),
        ("HeteroFL", "rates"),
        ("Ditto", "lam"),
        ("FedPer", "layers"),
        ("APFL", "alpha"),
        ("FedProx", "mu"),
        ("Krum", "byzantine"),
        ("MultiKrum", "byzantine keep"),
        ("CenteredClip", "radius steps"),
    ],
)
def test_arguments_come_in_the_order_of_the_papers_letters(name: str, letters: str) -> None:
    assert " ".join(inspect.signature(getattr(fedray, name)).parameters).startswith(letters)
