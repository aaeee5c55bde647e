"""Signs of YAML: what plainly is a string is one, and what is not read as it stands is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fedray.config.layers import ConfigFile
from fedray.config.signs import as_yaml, comment_in, misread

NOTHING = ConfigFile({}, (Path("x.yaml"),))
LETTERS = st.text(st.characters(codec="utf-8", exclude_characters="$\\"), max_size=8)  # not of OmegaConf's own signs


def read(value: str) -> Any:
    return NOTHING.layers([f"key={value}"])[0]["key"]


@given(st.sampled_from("*&%@`|>#,]}") | st.just("!x"), LETTERS)
def test_an_override_that_begins_with_a_sign_is_the_string_as_it_stands(sign: str, rest: str) -> None:
    assert read(sign + rest) == (sign + rest).strip()


@given(st.recursive(st.none() | st.booleans() | st.integers() | LETTERS, st.lists, max_leaves=5))
def test_any_other_override_is_yaml(value: Any) -> None:
    assert read(yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("!!str 12", "12"),
        ("-1", -1),
        ("- a", ["a"]),
        ("-", "-"),
        (":", ":"),
        ("?", "?"),
        ("a*b", "a*b"),
        ("~", None),
        ("{a: 1}", {"a": 1}),
        ("data/#1/*.csv", "data/#1/*.csv"),
        ("'run #3'", "run #3"),
    ],
)
def test_values_on_the_border(value: str, expected: Any) -> None:
    assert read(value) == expected


@pytest.mark.parametrize(
    ("text", "line", "fixed"),
    [
        ("a:\n  b: *.csv\n", 2, 'b: "*.csv"'),
        ("a: [b, *c]  # two\n", 1, 'a: [b, "*c"]  # two'),
        ("ü: ä\na: {b: %x}\n", 2, 'a: {b: "%x"}'),
        ("a: !x\n", 1, 'a: "!x"'),
        ("a: &x.csv\n", 1, 'a: "&x.csv"'),
        ("a: `x\n", 1, 'a: "`x"'),
        ("a: @x\n", 1, 'a: "@x"'),
        ("a: |x\n", 1, 'a: "|x"'),
        ("*.csv: 1\n", 1, '"*.csv": 1'),
    ],
)
def test_what_is_to_be_written_can_be_read(text: str, line: int, fixed: str) -> None:
    with pytest.raises(yaml.YAMLError) as failed:
        yaml.safe_load(text)
    found = misread(failed.value, text)
    assert found is not None
    assert (found[0], found[2]) == (line, fixed)
    yaml.safe_load(fixed)


@pytest.mark.parametrize("text", ["a: [1\n", "a: b: c\n", "a:\n\tb: 1\n", 'a: "x\\y"\n'])
def test_other_mistakes_are_not_taken_for_a_sign(text: str) -> None:
    with pytest.raises(yaml.YAMLError) as failed:
        yaml.safe_load(text)
    assert misread(failed.value, text) is None


def test_a_comment_is_what_yaml_drops() -> None:
    assert as_yaml("#3") == '"#3"'
    assert comment_in("[1, 2] # two") == "# two"
    assert comment_in('"#3"') == comment_in("a#3") == ""
