"""Mechanisms under test: which there are, and what is claimed of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedray.audit.targets import OfClients, OfRows, OfServer, target_of
from fedray.core.errors import ConfigError
from fedray.privacy.section import Privacy
from fedray.transforms import SecureSum
from tests.audit.test_trials import LAYERS, LOCAL, audit


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({}, OfServer),
        ({"clip": "adaptive"}, OfServer),
        ({"per_layer": True}, OfServer),
        ({"model": "distributed"}, OfServer),
    ],
)
def test_a_server_is_tested_by_one_kind_of_canary_and_clients_by_another(said: dict[str, Any], kind: type) -> None:
    assert isinstance(target_of(Privacy(noise_multiplier=1.0, **said), 1, ()), kind)
    assert isinstance(target_of(Privacy(noise_multiplier=1.0, model="local"), 1, ()), OfClients)
    assert isinstance(target_of(Privacy(noise_multiplier=1.0, unit="example"), 1, ()), OfRows)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"model": "local"}, "secure_sum hides what each client sends"),
    ],
)
def test_what_no_canary_can_test_is_refused(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        target_of(Privacy(noise_multiplier=1.0, **said), 1, [SecureSum()])


def test_the_claim_of_clients_is_that_of_the_canary_that_took_part_most_often(tmp_path: Path) -> None:
    audited = audit(tmp_path, 3, 20, *LOCAL[:1], "sampler={name: uniform, clients: 5}", "rounds=4")
    *_, found = audited
    target = audited._target
    assert isinstance(target, OfClients)
    assert 2 <= target._most <= 4
    assert target.claimed(1e-5) == target._local.randomizer.spent(target._most, 1e-5)
    never = found.scores == 0.0
    assert never.any(), "of who did not take part nothing is seen"
    assert not never.all()


def test_by_layers_directions_are_orthonormal_in_each(tmp_path: Path) -> None:
    target = audit(tmp_path, 2, 10, *LAYERS)._target
    assert isinstance(target, OfServer)
    first, second = target._canary.groups
    assert (len(first), len(second)) == (6 * 8 + 8, 8 * 3 + 3)
    along = target._canary._along(len(first) + len(second)).numpy()
    for columns in (first, second):
        np.testing.assert_allclose(along[:, columns] @ along[:, columns].T, 0.5 * np.eye(10), atol=1e-12)
