"""Rows as canaries: what is released of one, and what of it a wrong clip and too little noise let through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedray.audit.targets import OfRows
from fedray.local import per_example
from tests.audit.test_trials import ALL_ROWS, ROWS, audit, refuted, scale_noise


def test_a_row_is_as_long_as_its_clip_and_released_with_the_noise_of_a_step(tmp_path: Path) -> None:
    audited = audit(tmp_path, 2, 20, *ROWS, "privacy.noise_multiplier=0.5", "local.epochs=10", "privacy.noise=seeded")
    *_, found = audited
    target = audited._target
    assert isinstance(target, OfRows)
    places, along, lengths = (np.array(column) for column in zip(*target._canaries.seen, strict=True))
    assert np.bincount(places.astype(int)).tolist() == [30] * 20, "three steps of each of ten passes"
    np.testing.assert_allclose(lengths, 1.0, atol=1e-5)
    away, there = (along[found.there[-20:][places.astype(int)] == bit] for bit in (False, True))
    # Normal around 0; of who is there around a coin that falls at the rate of 5 in 12 rows.
    rate, variance = 5 / 12, 0.25
    assert abs(away.mean()) < 4 * np.sqrt(variance / len(away))
    assert abs(away.var() / variance - 1.0) < 4 * np.sqrt(2 / len(away))
    mixed = variance + rate * (1 - rate)
    assert abs(there.mean() - rate) < 4 * np.sqrt(mixed / len(there))
    assert abs(there.var() / mixed - 1.0) < 4 * np.sqrt(2 / len(there))


def test_a_clip_of_rows_that_clips_nothing_is_refuted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = (*ALL_ROWS, "privacy.noise=seeded", "privacy.accountant=rdp")
    assert not refuted(audit(tmp_path, 2, 20, *seeded))
    monkeypatch.setattr(per_example, "clip_factors", lambda norms, most: torch.ones_like(norms, dtype=torch.float32))
    assert refuted(audit(tmp_path, 2, 20, *seeded))


def test_a_fifth_of_the_noise_on_gradients_is_refuted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = (*ALL_ROWS, "privacy.noise=seeded", "privacy.accountant=rdp")
    assert not refuted(audit(tmp_path, 4, 20, *seeded))
    scale_noise(monkeypatch, 0.2)
    assert refuted(audit(tmp_path, 4, 20, *seeded))
