"""Values, cells and their names."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.sweep import Cell, grid, split_values
from fedray.sweep.grid import name_of

WORDS = st.text("abcxyz _-./:'\"#{}[],0123", min_size=1, max_size=8)
VALUES = st.recursive(
    st.integers(-99, 99) | st.floats(allow_nan=False, allow_infinity=False) | WORDS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def flow(value: Any) -> str:
    """One line of YAML as it stands among others: text with a comma or a bracket of its own is in quotes."""
    text: str = yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True)
    return text.strip()[1:-1]


@given(st.lists(VALUES, min_size=1, max_size=4), st.sampled_from([",", ", ", " ,  "]))
def test_values_are_split_where_yaml_would(values: list[Any], comma: str) -> None:
    texts = list(dict.fromkeys(flow(value) for value in values))
    assert split_values(comma.join(texts)) == texts


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1", ["1"]),
        ("1,2 , 3", ["1", "2", "3"]),
        ("[64, 32],[8]", ["[64, 32]", "[8]"]),
        ("{name: sgd, lr: 0.1},{name: adamw, betas: [0.9, 0.99]}", None),
        ("it's,that's", ["it's", "that's"]),
        ("'a, b',c", ["'a, b'", "c"]),
        ('["x, y", z]', None),
        ("${oc.env:A},1", ["${oc.env:A}", "1"]),
    ],
)
def test_values_as_people_write_them(text: str, values: list[str] | None) -> None:
    found = split_values(text)
    assert ",".join(found).replace(" ", "") == text.replace(" ", "")
    if values is not None:
        assert found == values


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ([], "at least one"),
        (["seed"], "expected key=value"),
        (["=1"], "expected key=value"),
        (["seed=1", "seed=2"], "seed: given twice"),
        (["seed="], "a value is missing"),
        (["seed=1,,2"], "a value is missing"),
        (["seed=1,"], "a value is missing"),
        (["seed=1,2,1"], "1 is there twice"),
        (["model.hidden=[1,2"], "] is missing"),
        (["a={b: [1}"], "] is missing"),
        (["a='x,y"], "' is missing"),
        (["run.dir=a,b"], "--dir"),
    ],
)
def test_a_mistake_is_one_clear_message(axes: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        grid(axes)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


KEYS = st.sampled_from(["seed", "algorithm.mu", "model.hidden", "data.path"])
AXES = st.dictionaries(
    KEYS,
    st.lists(st.sampled_from(["1", "2", "0.5", "[1, 2]", "a/b", "a-b", "a b", "{x: 1}"]), min_size=1, unique=True),
    min_size=1,
)
PARTS = ["{name: x, y: 1}", "{name: x, y: 2}", "{name: x, seed: 1}", "{name: x, y: 1, y: 1}", "{name: x,y: 1}", "x"]
SETTINGS = st.dictionaries(
    st.sampled_from(["algorithm", "seed", "server", "algorithm.y"]), st.sampled_from([*PARTS, "1"])
)


@given(AXES)
def test_the_grid_is_the_product_and_every_name_is_its_own(axes: dict[str, list[str]]) -> None:
    cells = grid([f"{key}={','.join(values)}" for key, values in axes.items()])
    wanted = [tuple(zip(axes, chosen, strict=True)) for chosen in itertools.product(*axes.values())]
    assert [cell.settings for cell in cells] == wanted
    assert [cell.number for cell in cells] == list(range(len(cells)))
    names = [cell.name for cell in cells]
    assert len(set(names)) == len(names)
    assert all("/" not in name and len(name) < 200 for name in names)
    # A name depends on the settings alone: a larger sweep finds the runs of a smaller one.
    for cell in cells:
        assert grid([f"{key}={value}" for key, value in cell.settings])[0].name == cell.name


@given(SETTINGS, SETTINGS)
def test_no_two_settings_have_one_name(one: dict[str, str], other: dict[str, str]) -> None:
    names = [name_of(tuple(settings.items())) for settings in (one, other)]
    assert (names[0] == names[1]) == (list(one.items()) == list(other.items()))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("{name: fedadam, server_lr: 0.03}", "algorithm=fedadam,server_lr=0.03"),
        ("{name: fedprox, mu: 1e-3, weight: uniform}", "algorithm=fedprox,mu=1e-3,weight=uniform"),
        ("fedavg", "algorithm=fedavg"),
    ],
)
def test_a_part_with_options_reads_as_it_is_said(value: str, name: str) -> None:
    assert Cell(0, (("algorithm", value),)).name == name


def test_a_comma_in_a_value_does_not_make_it_another_setting() -> None:
    one, two = Cell(0, (("a", "x"), ("b", "y"))), Cell(0, (("a", "x,b=y"),))
    assert one.name == "a=x,b=y"
    assert two.name != one.name


def test_a_long_name_is_cut_and_still_its_own() -> None:
    names = {Cell(0, (("data.path", "x" * 200 + end),)).name for end in "ab"}
    assert len(names) == 2
    assert max(map(len, names)) < 140
