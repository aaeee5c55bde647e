"""Every option of every section can be said in a file and in Python, and comes back the same."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from fedray import Cluster, TrainArgs
from fedray.config.binding import options_of
from fedray.config.flat import flat_name, unflatten, with_options
from fedray.config.sections import SECTIONS, LocalSection, TopSection
from fedray.experiment.build import Config

IN_CLUSTER = ("cluster", "worker", "driver")
ELSEWHERE = {"run.dir", "run.profile"}  # the arguments run_dir and profile of fedray.train
KEYS = [f"{key}.{option}" for key, section in SECTIONS.items() for option in options_of(section)]
OPTIONS = [(key, option) for key, _, option in (name.partition(".") for name in KEYS if name not in ELSEWHERE)]
EVERY_OPTION = pytest.mark.parametrize(("key", "option"), OPTIONS, ids=[".".join(pair) for pair in OPTIONS])

# Where the type does not say what else there could be.
OTHER = {
    "cluster.name": "inline",
    "stop.metric": "test.loss",
    "evaluate.finetune": {"steps": 3},
    "checkpoint.best": {"metric": "test.loss", "mode": "max"},
    "failures.left_out": {3: ["7"]},
    "failures.min_share": 0.25,
    "failures.dropout": 0.25,
    "local.epochs": 3,
    "local.steps": {"name": "uniform", "low": 1, "high": 5},
    "local.by_client": {"7": {"epochs": 5, "batch_size": 4}},
    "local.loss": "mse",
    "local.class_weights": "balanced",
    "local.lr_schedule": {"name": "cosine", "T_max": 5, "eta_min": 0.01, "warmup": 2},
    "local.optimizer": {"name": "adam", "lr": 0.02, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0},
}

# What an option needs beside it to mean anything.
BESIDE: dict[str, dict[str, Any]] = {
    **{f"stop.{option}": {"metric": "test.loss"} for option in ("patience", "min_delta", "mode")},
    "evaluate.finetune": {"clients_every": 1},
}


def other(key: str, option: str) -> Any:
    """A value that is allowed, and not the default."""
    section = SECTIONS[key]
    if f"{key}.{option}" in OTHER:
        return OTHER[f"{key}.{option}"]
    field = next(field for field in dataclasses.fields(section) if field.name == option)
    kind, default = typing.get_type_hints(section)[option], field.default
    if typing.get_origin(kind) is Literal:
        return next(value for value in typing.get_args(kind) if value != default)
    if kind is bool:
        return not default
    kinds = typing.get_args(kind) or (kind,)
    return (default if isinstance(default, int | float) else 4) + 1 if int in kinds else 2.0


def face(key: str) -> Any:
    """Return the class that says the options of a section in Python."""
    return Cluster if key in IN_CLUSTER else TrainArgs


@EVERY_OPTION
def test_an_option_of_a_file_can_be_said_in_python_and_changes_nothing_else(key: str, option: str) -> None:
    kind, value = face(key), other(key, option)
    beside = {flat_name(kind, key, name): wanted for name, wanted in BESIDE.get(f"{key}.{option}", {}).items()}
    plain, changed = kind(**beside).layer(), kind(**beside, **{flat_name(kind, key, option): value}).layer()
    assert changed[key][option] == value != plain[key][option]
    changed[key][option] = plain[key][option]
    assert changed == plain


@EVERY_OPTION
@pytest.mark.one_in(3)
def test_both_faces_give_the_same_section_and_it_goes_into_yaml_and_back(key: str, option: str, tmp_path: Path) -> None:
    kind, value = face(key), other(key, option)
    parts: dict[str, Any] = {"data": {"name": "digits"}, "model": "logistic"}
    options = {**BESIDE.get(f"{key}.{option}", {}), option: value}
    flat = {flat_name(kind, key, name): wanted for name, wanted in options.items()}
    python = Config.bind("x", {}, {**parts, **kind(**flat).layer()}).to_yaml()
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({**parts, key: options}))
    file = Config.load(tmp_path / "x.yaml").to_yaml()
    written = yaml.safe_load(python)
    assert written[key][option] == value
    assert written == yaml.safe_load(file)
    (tmp_path / "again.yaml").write_text(python)
    assert Config.load(tmp_path / "again.yaml").to_yaml() == python


AT_THE_TOP = {"rounds": 7, "seed": 3, "tracking": [{"name": "fedray.tracking.base:Tracker"}, "tensorboard"]}


@pytest.mark.parametrize("option", options_of(TopSection))
def test_an_option_at_the_top_has_the_same_name_in_a_file_and_in_python(option: str, tmp_path: Path) -> None:
    value = AT_THE_TOP[option]
    parts: dict[str, Any] = {"data": {"name": "digits"}, "model": "logistic"}
    python = Config.bind("x", {}, {**parts, **TrainArgs(**{option: value}).layer()})  # type: ignore[arg-type]
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({**parts, option: value}))
    file = Config.load(tmp_path / "x.yaml")
    assert TrainArgs().layer()[option] != value
    assert getattr(file.schema, option) == getattr(python.schema, option) == value
    assert file.tracking == python.tracking
    (tmp_path / "again.yaml").write_text(python.to_yaml())
    again = Config.load(tmp_path / "again.yaml")
    assert again.to_yaml() == python.to_yaml()
    assert again.tracking == python.tracking


def test_the_defaults_are_those_of_the_sections() -> None:
    for kind in (TrainArgs, Cluster):
        for key, options in kind().layer().items():
            if key in SECTIONS:
                section = SECTIONS[key]()
                assert options == {option: getattr(section, option) for option in options_of(SECTIONS[key])}
    for option in options_of(TopSection):
        assert getattr(TrainArgs(), option) == getattr(TopSection(), option)


def test_every_option_is_documented_where_it_is_said_flat() -> None:
    for kind in (TrainArgs, Cluster):
        lines = (kind.__doc__ or "").splitlines()
        for option in options_of(kind):
            assert sum(line.strip().startswith(f"{option}:") for line in lines) == 1, f"{kind.__name__}.{option}"


def test_an_option_that_no_field_says_is_an_error_of_the_class() -> None:
    @with_options
    @dataclasses.dataclass(frozen=True)
    class Short(LocalSection):
        """Says nothing of evaluation."""

    with pytest.raises(TypeError, match=r"Short has no field for evaluate\.every: declare evaluate_every"):
        unflatten(Short(), ["local", "evaluate"])
