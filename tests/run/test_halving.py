"""A lack of memory in an evaluation of clients: fewer at once, and the same numbers whoever met it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from fedray.algorithms import Ditto
from fedray.config.sections import EvaluateSection, FailuresSection
from fedray.local.clients import Clients
from fedray.run.evaluation import OutOfMemory
from tests.cluster.work.within import workers_within
from tests.helpers import class_problem, federation
from tests.laws.usual import told

PROBLEM = class_problem((7, 3, 12, 9, 6, 5, 8, 4), test=20, holdout=0.3)
EVALUATE = EvaluateSection(1, 1, finetune={"epochs": 1}, before=True)


@dataclass(frozen=True)
class Narrow(Ditto):
    """Ditto on a machine with room for so many evaluated clients at once, and for some of them never."""

    name = "narrow"
    room: ClassVar[int] = 8
    never: ClassVar[frozenset[int]] = frozenset()
    seen: ClassVar[list[int]] = []
    error: ClassVar[type[BaseException]] = MemoryError

    def personal(self, c: Clients) -> Tensor:
        Narrow.seen.append(len(c))
        if len(c) > self.room or not self.never.isdisjoint(c.index.tolist()):
            raise self.error("no room")
        return super().personal(c)


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Narrow, "seen", [])


@pytest.mark.parametrize("error", OutOfMemory)
def test_an_evaluation_without_room_goes_on_with_fewer_clients_at_once(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wide = federation(PROBLEM, tmp_path / "wide", Narrow(), evaluate=EVALUATE, stack=8)
    records = wide.run()
    monkeypatch.setattr(Narrow, "room", 2)
    monkeypatch.setattr(Narrow, "error", error)
    narrow = federation(PROBLEM, tmp_path / "narrow", Narrow(), evaluate=EVALUATE, stack=8)
    with caplog.at_level(logging.WARNING):
        found = narrow.run()
    assert narrow.state.view_halvings == 2
    assert narrow.state.halvings == 0
    head = f"round 0: out of memory in the evaluation of clients ({error.__name__}: no room); from here on"
    expected = [f"{head} {count} are evaluated at once" for count in (4, 2)]
    assert [record.message for record in caplog.records] == expected
    assert torch.equal(narrow.vector, wide.vector)
    for one, other in zip(found, records, strict=True):
        assert one.model_sha256 == other.model_sha256
        assert one.evaluated == other.evaluated
        for section in ("clients_test", "clients_personal", "clients_finetuned"):
            assert getattr(one, section)["loss"] == pytest.approx(getattr(other, section)["loss"], rel=1e-4)


@pytest.mark.slow
def test_the_numbers_are_those_of_a_run_that_never_had_room_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for one worker, so for several, of which some never meet the lack, and so for one that goes on."""
    monkeypatch.setattr(Narrow, "room", 2)
    first = federation(PROBLEM, tmp_path / "first", Narrow(), evaluate=EVALUATE, stack=8)
    records = first.run()
    several = federation(PROBLEM, tmp_path / "several", Narrow(), evaluate=EVALUATE, stack=8)
    several.executor = workers_within(monkeypatch, 3, {1: [True]})
    assert told(several.run()) == told(records)
    Narrow.seen.clear()
    warned = federation(PROBLEM, tmp_path / "warned", Narrow(), evaluate=EVALUATE, stack=8)
    warned.state.view_halvings = 2
    assert told(warned.run()) == told(records)
    assert max(Narrow.seen) == 2


def test_a_client_that_has_no_room_alone_is_missing_in_the_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = FailuresSection(on_failure="abort")  # of training: an evaluation ends no run
    run = federation(PROBLEM, tmp_path, Narrow(), evaluate=EVALUATE, stack=4, failures=failures, rounds=2)
    monkeypatch.setattr(Narrow, "never", frozenset({2, 5}))
    with caplog.at_level(logging.WARNING):
        records = run.run()
    assert run.state.view_halvings == 2
    assert [(r.evaluated["clients"], r.evaluated["missing"]) for r in records] == [(6, 2)] * 3
    assert "client '2' was not evaluated (memory): MemoryError: no room" in caplog.text
    monkeypatch.setattr(Narrow, "never", frozenset())
    whole = federation(PROBLEM, tmp_path / "whole", Narrow(), evaluate=EVALUATE, stack=4, rounds=2)
    values = whole.run()[-1].clients_personal["loss"]["mean"]
    assert np.isfinite(values)
    assert records[-1].clients_personal["loss"]["mean"] != values
