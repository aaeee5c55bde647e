"""Figures of attacks: their numbers, and that they can be drawn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from fedray.audit.inversion import Inverted
from fedray.audit.roc import Roc
from fedray.report import save_figures
from fedray.report.attacks import Beside, Rocs


def test_rocs_and_images_are_drawn_with_their_numbers(tmp_path: Path) -> None:
    there = np.arange(40) % 2 == 0
    rocs = Rocs("rocs", "clients", [("both", Roc(there + np.arange(40) / 40, there))], [("claim", 1.0, 1e-5)])
    x = torch.rand(3, 16)
    beside = Beside("images", [("found", Inverted(x, x, (math.inf, 20.0, 3.0), (8.0, 8.0, 8.0), 0.0, False))])
    written = save_figures([rocs, beside], tmp_path)
    assert {path.name for path in written} >= {"rocs.svg", "rocs.csv", "images.png", "images.csv"}
    assert "area" in rocs.caption
    assert [*beside.table()][1:] == [["found", 0, math.inf, 8.0], ["found", 1, 20.0, 8.0], ["found", 2, 3.0, 8.0]]
    assert [*rocs.table()][-1] == ["both", 1.0, 1.0]
    text = (tmp_path / "images.svg").read_text()
    assert "exact" in text
    assert "20.0" in text
