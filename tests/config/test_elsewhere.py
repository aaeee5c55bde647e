"""A key in the wrong section is told its place."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import pytest

from fedray.config.binding import bind
from fedray.config.elsewhere import of_sections, pointed
from fedray.config.sections import SECTIONS, EvaluateSection, LocalSection
from fedray.core.errors import ConfigError


def test_the_options_of_all_sections_have_a_place() -> None:
    keys = list(of_sections())
    assert {"rounds", "local.epochs", "cluster.workers", "budget.gpu_hours"} <= set(keys)
    assert {key.partition(".")[0] for key in keys if "." in key} == set(SECTIONS)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["local.optimizer.lr"], r" \(did you mean local\.optimizer\.lr\?\)"),
        (["server.lr", "local.optimizer.lr"], r" \(did you mean local\.optimizer\.lr\?\)"),
        (["server.lr", "algorithm.lr", "server.lr"], r" \(did you mean server\.lr or algorithm\.lr\?\)"),
        (["local.lr"], ""),
        (["local.rl"], ""),
    ],
)
def test_places_below_the_section_come_first(keys: Sequence[str], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        bind(LocalSection, {"lr": 0.1}, "local")
    with pytest.raises(ConfigError, match=rf"^local\.lr: unknown key{words}; allowed: epochs, batch_size, "):
        raise pointed(raised.value, keys)


def test_what_is_near_gives_way_to_the_same_word_elsewhere_and_other_errors_stay() -> None:
    with pytest.raises(ConfigError, match=r"unknown key \(did you mean 'every'\?\)") as raised:
        bind(EvaluateSection, {"evry": 2}, "evaluate")
    assert pointed(raised.value, of_sections()) is raised.value
    assert "(did you mean stop.evry?)" in str(pointed(raised.value, ["stop.evry"]))
    assert pickle.loads(pickle.dumps(raised.value)).unknown == raised.value.unknown
    other = ConfigError("rounds=0: it must be at least 1")
    assert pointed(other, of_sections()) is other
