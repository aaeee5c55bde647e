"""Hooks that are misspelt are refused where the part is named, from both faces; names of one's own are left alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

import fedray
from fedray import parts
from fedray.algorithms.base import algorithms
from fedray.config.hooks import check_hooks
from fedray.config.registry import bind_part, made
from fedray.core.errors import ConfigError


class Plural(parts.Algorithm):
    def clients(self, c: Any) -> None:
        c.fit()


class OldWord(parts.Algorithm):
    def initial(self, c: Any) -> dict[str, Any]:
        return {}


class Flag(parts.Algorithm):
    use_server: ClassVar[bool] = False


class AsProperty(parts.Transform):
    @property
    def send(self) -> dict[str, int]:
        return {"norm": 1}


class OfAPart(fedray.FedPer):
    def regions(self, entry: Any) -> str:
        return "shared"


class Counter(parts.Tracker):
    def rounds(self, record: Any) -> None: ...


class Shared(parts.Selected):
    def share(self, rows: Any, now: Any) -> Any: ...


class Below(Plural):
    """It has the slip of what it stands on."""


@pytest.mark.parametrize(
    ("kind", "name", "hook"),
    [
        (Plural, "clients", "client"),
        (OldWord, "initial", "initial_state"),
        (Flag, "use_server", "uses_server"),
        (AsProperty, "send", "sends"),
        (OfAPart, "regions", "region"),
        (Counter, "rounds", "round"),
        (Shared, "share", "shares"),
        (Below, "clients", "client"),
    ],
)
def test_a_name_that_nothing_uses_and_is_close_to_a_hooks_is_refused(kind: type, name: str, hook: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_hooks(kind, "part")
    said = str(raised.value)
    assert said.startswith(f"part: nothing uses {kind.__name__}.{name} (did you mean {hook!r}?); ")
    assert "\n" not in said
    assert f"_{name}" in said


@dataclass(frozen=True)
class Own(parts.Algorithm):
    """Helpers of all kinds, and an option with a name that is close."""

    variant: tuple[str, ...] = ()

    def steps(self, c: Any) -> int:
        return 2

    def client(self, c: Any) -> None:
        c.fit(steps=self.steps(c), objective=self.by_name)

    @property
    def by_name(self) -> Any:
        return getattr(self, "predicts")  # noqa: B009

    def predicts(self, step: Any) -> Any:
        return step.loss()

    def broadcasts(self) -> None:
        """Called elsewhere in the module."""

    def clients(self) -> None:
        """The hook is there, so it is no slip of the pen."""

    def anything_else(self) -> None: ...


def caller(part: Own) -> None:
    part.broadcasts()


def test_names_that_are_used_and_hooks_that_are_there_are_left_alone() -> None:
    check_hooks(Own, "part")
    check_hooks(Path, "part")
    check_hooks(fedray.FedPer, "part")


MINE = """
from fedray import parts
class Mine(parts.Algorithm):
    def clients(self, c):
        c.fit()
def make():
    return Mine()
"""


def test_both_faces_and_both_ways_to_import_refuse_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("misspelt_hooks.py").write_text(MINE)
    line = r"^algorithm: nothing uses (Mine|Plural).clients \(did you mean 'client'\?\)"
    for node in (Plural(), "misspelt_hooks:Mine", "misspelt_hooks:make"):
        with pytest.raises(ConfigError, match=line):
            made(bind_part(algorithms, node, "algorithm"))
    entered = parts.algorithms.register("misspelt-for-a-test")(Plural)
    try:
        with pytest.raises(ConfigError, match=line):
            bind_part(algorithms, entered.name, "algorithm")
    finally:
        del algorithms._entries[entered.name]
        Plural.name = "Plural"
