"""Maps of labels of runs on one and on several data."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.report import Matrix
from fedray.report import label_maps as module
from fedray.report.label_maps import maps_of
from fedray.report.told import settings_of
from tests.report.folders import told, write_run


def test_settings_of_other_tables_have_maps_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [
        write_run(tmp_path / f"{place}{number}", config=f"data: {{train: {place}.csv}}\nmu: {number}\n", sizes=sizes)
        for place, sizes in (("heart", (8, 5)), ("kidney", (3, 4, 9)))
        for number in range(2)
    ]

    def maps() -> list[Matrix]:
        return list(maps_of(settings_of(told(*runs))))

    first, second = maps()
    assert (first.name, second.name) == ("labels", "labels-2")
    assert (len(first.columns), len(second.columns)) == (2, 3)
    assert first.caption.startswith("train=heart.csv, mu=0: Training examples of each class")
    assert second.caption.startswith("train=kidney.csv, mu=0: Training examples of each class")
    monkeypatch.setattr(module, "_MOST_MAPS", 1)
    (only,) = maps()
    assert only.caption.endswith("Of 2 such maps the first 1.")
