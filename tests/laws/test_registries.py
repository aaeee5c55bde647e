"""What every registered part owes: a documentation, defaults, a way into YAML and back, and a row in the laws."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fedray.aggregators import aggregators
from fedray.algorithms.base import algorithms
from fedray.attacks import attacks
from fedray.config.registry import bind_part, dump
from fedray.core.errors import ConfigError
from fedray.experiment.estimate.catalogue import KINDS
from fedray.optim import OptimizerFn, optimizers
from fedray.sampling import samplers
from fedray.server import server_optimizers
from fedray.transforms import transforms
from tests.laws.parts import AGGREGATORS, ALGORITHMS, ATTACKS, SAMPLERS, SERVERS, TRANSFORMS

PARTS = [(kind, name) for kind, registry in KINDS.items() for name in registry]
EVERY_PART = pytest.mark.parametrize(("kind", "name"), PARTS, ids=[f"{kind}-{name}" for kind, name in PARTS])

# What a part needs to be made; everything else makes itself.
NEEDED: dict[tuple[str, str], dict[str, Any]] = {
    # What is pickled goes to workers, which may have another working directory: a path becomes absolute.
    ("models", "huggingface"): {"path": "/models/tiny"},
    ("samplers", "uniform"): {"clients": 3},
    ("samplers", "weighted"): {"clients": 3},
    ("samplers", "poisson"): {"rate": 0.5},
    ("data", "silos"): {"target": "y", "silos": {"a": {"node_label": "site=a", "path": "a.csv"}}},
}


def options(part: Any) -> tuple[dataclasses.Field[Any], ...]:
    """Return the options of an entry; a function has none."""
    return dataclasses.fields(part) if dataclasses.is_dataclass(part) else ()


def required(schema: type) -> list[str]:
    return [
        field.name
        for field in options(schema)
        if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]


@pytest.mark.parametrize(
    ("registry", "rows"),
    [
        (algorithms, ALGORITHMS),
        (aggregators, AGGREGATORS),
        (attacks, ATTACKS),
        (samplers, SAMPLERS),
        (server_optimizers, SERVERS),
        (transforms, [part for row in TRANSFORMS for part in row]),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_every_registered_part_has_a_row(registry: dict[str, type], rows: list[Any]) -> None:
    assert {row.name for row in rows} == set(registry)


@EVERY_PART
def test_it_is_documented(kind: str, name: str) -> None:
    part = KINDS[kind][name]
    text = part.__doc__
    assert text is not None
    # The text that dataclass writes where there is none.
    assert not text.startswith(f"{part.__name__}(")
    for field in options(part):
        documented = "\n".join(parent.__doc__ or "" for parent in inspect.getmro(part))
        # An optimizer's options are torch's, and documented there.
        if field.init and kind != "optimizers":
            assert f"{field.name}:" in documented, f"{name}.{field.name} is not in its documentation"


@EVERY_PART
@pytest.mark.one_in(3)
def test_it_makes_itself_or_says_what_it_needs(kind: str, name: str) -> None:
    missing = required(KINDS[kind][name])
    if missing:
        with pytest.raises(ConfigError, match=rf"^part\.({'|'.join(missing)}): a value is needed by "):
            bind_part(KINDS[kind], {"name": name}, "part")
    else:
        entry = KINDS[kind][name]
        assert bind_part(KINDS[kind], name, "part") == (entry() if isinstance(entry, type) else entry)


@EVERY_PART
def test_it_goes_into_yaml_and_back_and_through_pickle(kind: str, name: str) -> None:
    registry = KINDS[kind]
    needed = NEEDED.get((kind, name)) or {field: _example(registry[name], field) for field in required(registry[name])}
    part = bind_part(registry, {"name": name, **needed}, "part")
    written = dump(part)
    assert written["name"] == name
    assert bind_part(registry, written, "part") == part
    assert pickle.loads(pickle.dumps(part)) == part


def _example(schema: type, field: str) -> Any:
    kind = next(f.type for f in dataclasses.fields(schema) if f.name == field)
    return {"int": 2, "float": 0.5, "list[str]": ["x"], "dict[str, Any]": {"name": "iid"}}.get(str(kind), "x")


WRONG: dict[str, list[Any]] = {
    "lr": [0.0, -1.0],
    "weight_decay": [-0.1],
    "eps": [-1.0],
    "betas": [[1.0, 0.9], [0.9], [-0.1, 0.9]],
}


@pytest.mark.parametrize("name", list(optimizers))
def test_optimizers_refuse_values_out_of_range(name: str) -> None:
    for field in {f.name for f in dataclasses.fields(optimizers[name])} & WRONG.keys():
        for value in WRONG[field]:
            with pytest.raises(ConfigError, match=rf"^local\.optimizer: {field}="):
                bind_part(optimizers, {"name": name, field: value}, "local.optimizer")


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ConfigError, match=r"^local\.optimizer: nesterov=True: it needs a momentum"):
        bind_part(optimizers, {"name": "sgd", "nesterov": True}, "local.optimizer")


@pytest.mark.parametrize("name", list(optimizers))
def test_optimizers_are_torchs_with_torchs_defaults(name: str) -> None:
    part: OptimizerFn = optimizers[name]()
    made = part([torch.zeros(2, requires_grad=True)])
    options = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}  # type: ignore[arg-type]
    make: Callable[..., torch.optim.Optimizer] = type(made)
    torchs = make([torch.zeros(2, requires_grad=True)], lr=options["lr"])
    for field, value in options.items():
        expected = tuple(value) if isinstance(value, list) else value
        assert made.param_groups[0][field] == expected
        assert torchs.param_groups[0][field] == expected, f"{name}.{field}: torch's own default differs"
