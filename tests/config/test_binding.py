"""Plain values become a dataclass or one error: which values are plain, and what may be anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fedray.config.binding import bind, is_plain, nearest, options_of
from fedray.core.errors import ConfigError, an

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text("ab$ {}:", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=6,
)


@dataclass(frozen=True)
class Inner:
    """A section in a section."""

    length: float = 0.5


@dataclass(frozen=True)
class Outer:
    """A field of every kind."""

    count: int
    share: float = 1.0
    kind: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)
    names: list[str] = field(default_factory=list)
    anything: Any = None
    parts: list[Any] = field(default_factory=list)
    made: int = field(default=7, init=False)


@given(
    st.builds(
        Outer,
        st.integers(-9, 9),
        st.floats(0, 1),
        st.sampled_from(["a", "b"]),
        st.builds(Inner, st.floats(0, 9)),
        st.lists(st.text("xyz"), max_size=3),
        st.none() | st.integers() | st.lists(st.integers(), max_size=2),
    )
)
def test_what_is_written_down_is_bound_to_what_it_was(outer: Outer) -> None:
    written = {name: getattr(outer, name) for name in options_of(Outer)} | {"inner": vars(outer.inner)}
    assert bind(Outer, yaml.safe_load(yaml.safe_dump(written)), "x") == outer


@given(PLAIN)
def test_plain_is_what_yaml_gives_back(value: Any) -> None:
    assert is_plain(value)
    assert yaml.safe_load(yaml.safe_dump(value)) == value
    assert not is_plain([value, object()])
    assert not is_plain({"deep": {"er": len}})


def test_an_object_goes_only_where_anything_may_stand_and_is_not_copied() -> None:
    thing = object()
    bound = bind(Outer, {"count": 1, "anything": thing, "parts": [1, thing]}, "x")
    assert bound.anything is thing
    assert bound.parts[1] is thing
    for name in ("count", "share", "names", "inner"):
        with pytest.raises(ConfigError, match=rf"^x\.{name}"):
            bind(Outer, {"count": 1, name: thing}, "x")


def test_a_key_that_is_known_elsewhere_is_pointed_to() -> None:
    with pytest.raises(ConfigError, match=r"^lr: unknown key \(write local\.optimizer\.lr\); allowed: length$"):
        bind(Inner, {"lr": 0.1}, "", {"lr": "local.optimizer.lr"})


def test_what_a_class_makes_itself_is_no_option() -> None:
    assert "made" not in options_of(Outer)
    with pytest.raises(ConfigError, match=r"^x\.made: unknown key"):
        bind(Outer, {"count": 1, "made": 3}, "x")


@pytest.mark.parametrize("wrong", ["abc", 3, {"a": 1}])
def test_a_list_is_a_list_and_no_text(wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"^x\.names: expected a list, got"):
        bind(Outer, {"count": 1, "names": wrong}, "x")


@dataclass(frozen=True)
class Numbers:
    """Options of plain types."""

    lr: float = 0.1
    rounds: int = 1
    nesterov: bool = False


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("lr", "fast", "a number, got 'fast'"),
        ("lr", "0,05", r"a number, got '0,05' \(write 0.05\)"),
        ("rounds", "1,5", "a whole number, got '1,5'"),
        ("rounds", 2.5, "a whole number, got '2.5'"),
        ("nesterov", "maybe", "true or false, got 'maybe'"),
        ("nesterov", 3, "true or false, got 3"),
        ("nesterov", -1, "true or false, got -1"),
        ("nesterov", "2", "true or false, got '2'"),
        ("nesterov", 1.0, "true or false, got '1.0'"),
    ],
)
def test_a_value_of_another_type_is_told_in_plain_words(option: str, value: object, told: str) -> None:
    with pytest.raises(ConfigError, match=rf"^x\.{option}: expected {told}$"):
        bind(Numbers, {option: value}, "x")


@pytest.mark.parametrize(
    ("yes", "no"), [(True, False), (1, 0), ("1", "0"), ("true", "false"), ("Yes", "No"), ("on", "off")]
)
def test_true_and_false_may_be_said_as_omegaconf_reads_them_from_the_environment(yes: object, no: object) -> None:
    assert bind(Numbers, {"nesterov": yes}, "x").nesterov is True
    assert bind(Numbers, {"nesterov": no}, "x").nesterov is False


@dataclass(frozen=True)
class Sizes:
    """Options that become sizes, and a name of draws."""

    hidden: list[int] = field(default_factory=list)
    work: dict[str, int] = field(default_factory=dict)
    most: int | None = None
    seed: int = 0
    flags: list[bool] = field(default_factory=list)


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ({"hidden": [3, 10**23]}, r"hidden\[1\]=10{23}"),
        ({"work": {"steps": -(10**23)}}, r"work\.steps=-10{23}"),
        ({"most": str(2**63)}, "most=9223372036854775808"),
    ],
)
def test_a_whole_number_beyond_64_bits_is_no_size(said: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError, match=rf"^x: {where}: it must be from -9223372036854775808 to 9223372036854775807"):
        bind(Sizes, said, "x")
    assert bind(Sizes, {"most": 2**63 - 1, "hidden": [-(2**63)]}, "x").most == 2**63 - 1
    assert bind(Sizes, {"seed": 10**23}, "x").seed == 10**23, "it is hashed"


def test_true_and_false_in_a_list_have_their_place() -> None:
    with pytest.raises(ConfigError, match=r"^x\.flags\[1\]: expected true or false, got 7$"):
        bind(Sizes, {"flags": [True, 7]}, "x")


def test_words_for_people() -> None:
    assert [an(word) for word in ("optimizer", "sampler")] == ["an optimizer", "a sampler"]


def test_nearest_is_silent_when_nothing_is_near() -> None:
    assert nearest("momentun", ["momentum", "lr"]) == " (did you mean 'momentum'?)"
    assert nearest("q", ["momentum", "lr"]) == ""


@dataclass(frozen=True)
class Collar:
    """What a pet wears."""

    length: float = 0.3
    colours: list[str] = field(default_factory=list)


def test_a_section_must_be_a_mapping() -> None:
    with pytest.raises(ConfigError, match=r"^collar: expected a section with keys, got 3$"):
        bind(Collar, 3, "collar")  # type: ignore[arg-type]
    assert bind(Collar, None, "collar") == Collar()


def test_at_the_top_the_key_stands_alone() -> None:
    with pytest.raises(
        ConfigError, match=r"^lenght: unknown key \(did you mean 'length'\?\); allowed: length, colours$"
    ):
        bind(Collar, {"lenght": 1.0}, "")


def test_a_default_has_its_fields_type_and_what_is_made_is_made_each_time() -> None:
    made = iter(range(9))

    @dataclass
    class Kept:
        share: float = 1
        pair: tuple[float, float] = (1, 2)
        number: int = field(default_factory=lambda: next(made))

    first, second = bind(Kept, None, ""), bind(Kept, {}, "")
    assert second.number > first.number
    assert bind(Kept, {"number": 77}, "").number == 77
    for bound in (first, second):
        assert [type(value) for value in (bound.share, *bound.pair)] == [float] * 3


def test_what_was_said_before_is_bound_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has another's list; a reference is looked up each time; one, one point nought and true differ."""
    said = {"colours": ["red"]}
    first = bind(Collar, said, "collar")
    first.colours.append("blue")
    assert bind(Collar, said, "collar").colours == ["red"]
    bind(Collar, None, "").colours.append("blue")
    assert bind(Collar, None, "").colours == []
    for length in ("0.5", "0.7"):
        monkeypatch.setenv("LENGTH", length)
        assert bind(Collar, {"length": "${oc.env:LENGTH}"}, "collar").length == float(length)
    assert [bind(Outer, {"count": 1, "anything": one}, "").anything for one in (1, 1.0, True)] == [1, 1.0, True]
    kinds = [type(bind(Outer, {"count": 1, "anything": one}, "").anything) for one in (1, 1.0, True, "1")]
    assert kinds == [int, float, bool, str]
