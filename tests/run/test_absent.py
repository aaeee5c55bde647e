"""Clients that send nothing because the config says so."""

from __future__ import annotations

import pytest

from fedray.config.sections import FailuresSection
from fedray.core.errors import ConfigError
from fedray.run.absent import left_out
from tests.helpers import class_problem

DATA = class_problem((5, 5, 5)).data


def test_clients_that_are_left_out_are_known_by_their_names() -> None:
    assert left_out(FailuresSection(), DATA) == {}
    assert left_out(FailuresSection(left_out={2: ["2", "0"], 3: []}), DATA) == {2: frozenset({0, 2}), 3: frozenset()}
    with pytest.raises(ConfigError, match=r"^failures\.left_out\.4: no client '3'.*there are 3, the first is '0'"):
        left_out(FailuresSection(left_out={4: ["3"]}), DATA)
