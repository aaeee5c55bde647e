"""Intervals of a single run in a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

import fedray
from fedray.metrics.intervals import intervals, of_classes, shown, usual
from fedray.report import Table, Words
from fedray.report import intervals as module
from fedray.report.intervals import chosen_in, interval_blocks
from fedray.report.runs import report_sections
from fedray.report.told import settings_of
from tests.helpers import class_problem
from tests.report.folders import NOW, told, write_run

PROBLEM = class_problem((40, 60, 50), classes=2, test=80, holdout=0.5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> fedray.Result:
    """A run of two classes with the metrics that nobody has chosen."""
    return trained(tmp_path_factory.mktemp("run") / "run")


def trained(folder: Path, metrics: Any = None) -> fedray.Result:
    args = fedray.TrainArgs(rounds=2, batch_size=8, evaluate_clients_every=1)
    model = fedray.FederatedModel(PROBLEM.model_fn)
    place: dict[str, Any] = {"cluster": "inline", "run_dir": folder, "progress": False}
    return fedray.train(model, PROBLEM.data, args, metrics=metrics, **place)


def words(hits: int, of: int) -> str:
    low, high = binomtest(hits, of).proportion_ci(0.95, method="wilson")
    return f"{hits / of:.3f} ({low:.3f} to {high:.3f})"


def test_the_test_set_all_clients_and_each_of_them_have_one(run: fedray.Result) -> None:
    (table,) = interval_blocks(settings_of(told(run.run_dir)))
    assert isinstance(table, Table)
    assert table.head == ["of", "rows", "most frequent class", "accuracy", "auroc", "sensitivity", "specificity"]
    whose = ["all", *(PROBLEM.data.client_id(client) for client in range(3))]
    assert [row[0] for row in table.rows] == ["test set", *(f"clients_test: {name}" for name in whose)]
    assert "Wilson" in table.caption
    _, y, segment = PROBLEM.data.holdout(np.arange(3))
    rows = [row for row in run.clients().to_pylist() if (row["round"], row["view"]) == (2, "global")]
    for client, row in enumerate(rows):
        own = y[segment == client]
        hits = [round(row["accuracy"] * len(own)), round(row["sensitivity"] * own.sum().item())]
        line = table.rows[2 + client]
        assert [line[1], line[3], line[5]] == [len(own), words(hits[0], len(own)), words(hits[1], int(own.sum()))]
        ill = int(own.sum())
        ranked = intervals(of_classes(usual(), ["0", "1"]), {"auroc": row["auroc"]}, [len(own) - ill, ill], len(own))
        most = max(ill, len(own) - ill)
        assert line[2] == f"{int(2 * ill > len(own))} {most / len(own):.3f}"
        assert line[4] == shown(ranked["auroc"])
    spread, line = run.history[-1].clients_test, table.rows[1]
    wrong = len(y) - int(y.sum())
    assert line[6] == words(round(spread["specificity"]["mean"] * wrong), wrong)


def test_the_report_has_them_and_says_where_there_is_one_answer(run: fedray.Result, tmp_path: Path) -> None:
    _, _, sections = report_sections([run.run_dir], NOW)
    (section,) = (one for one in sections if one.title == "Intervals")
    assert section.blocks
    support = {"classes": ["no", "yes"], "counts": [42, 8], "said": [50, 0], "examples": 50}
    folder = write_run(tmp_path / "one", tables={"test": {"support": support}})
    overview = report_sections([folder], NOW)[2][0]
    (said,) = (one.text for one in overview.blocks if isinstance(one, Words))
    assert "one class is the only answer: 'no' for all 50 of test" in said


def test_chosen_metrics_are_those_of_the_config(tmp_path: Path) -> None:
    chosen = ["accuracy", {"name": "sensitivity", "positive": "0", "label": "of_well"}, "auroc", "torchmetrics.Metric"]
    folder = write_run(tmp_path / "run", config=f"metrics: {json.dumps(chosen)}\n")
    assert [metric.title for metric in chosen_in(told(folder)[0])] == ["accuracy", "of_well", "auroc"]
    found = trained(tmp_path / "own", ["auroc", {"name": "sensitivity", "positive": "0"}])
    (table,) = interval_blocks(settings_of(told(found.run_dir)))
    assert isinstance(table, Table)
    assert table.head == ["of", "rows", "most frequent class", "auroc", "sensitivity"]
    test = PROBLEM.data.test
    assert test is not None
    none = int((test.slice(0, len(test))[1] == 0).sum())
    assert table.rows[0][4] == words(round(found.history[-1].test["sensitivity"] * none), none)


def test_several_seeds_runs_of_before_and_many_clients(
    run: fedray.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = settings_of(told(*(write_run(tmp_path / f"{seed}", seed, support=True) for seed in (1, 2))))
    assert not list(interval_blocks(seeds))
    assert not list(interval_blocks(settings_of(told(write_run(tmp_path / "before")))))
    monkeypatch.setattr(module, "MOST_CLIENTS", 2)
    (table,) = interval_blocks(settings_of(told(run.run_dir)))
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["test set", "clients_test: all"]
