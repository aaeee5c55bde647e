"""Curves that belong into one chart."""

from __future__ import annotations

import re

from fedray.tracking.charts import charts

TAGS = [
    "train/loss",
    "train/lr",
    "train/clients/ok",
    "test/loss",
    "test/r2",
    "test/class (a+b)",
    *(f"test_clients/loss/{part}" for part in ("mean", "p10", "p50", "p90")),
    *(f"test_clients/personal/loss/{part}" for part in ("mean", "p10", "p50", "p90")),
    "test_clients/class (a+b)/mean",
    "test_clients/evaluated/clients",
    "test_each_client/loss/ann",
    "test_each_client/loss/bob",
    "test_each_client/personal/loss/ann",
]


def shown(patterns: list[str]) -> list[str]:
    return [tag for tag in TAGS if any(re.match(pattern, tag) for pattern in patterns)]


def test_training_and_test_are_in_one_chart_of_each_metric_that_both_tell() -> None:
    found = charts(TAGS)
    assert list(found) == ["test and train", "clients", "each client"]
    together = found["test and train"]
    assert {metric: shown(chart[1]) for metric, chart in together.items()} == {
        "loss": ["train/loss", "test/loss", "test_clients/loss/mean", "test_clients/personal/loss/mean"],
        "class (a+b)": ["test/class (a+b)", "test_clients/class (a+b)/mean"],
    }


def test_runs_with_and_without_personal_models_have_one_chart_of_a_metric_together() -> None:
    """Of two that differ, the page would show both, under one title."""
    plain = charts(["train/loss", "test/loss", "test_clients/loss/mean"])
    personal = charts(["train/loss", "test_clients/personal/loss/mean"])
    assert plain["test and train"] == personal["test and train"]


def test_clients_have_a_band_and_their_own_curves() -> None:
    found = charts(TAGS)
    assert found["clients"] == {
        name: ["Margin", [f"test_clients/{name}/{part}" for part in ("p50", "p10", "p90")]]
        for name in ("loss", "personal/loss")
    }
    assert {name: shown(chart[1]) for name, chart in found["each client"].items()} == {
        "loss": ["test_each_client/loss/ann", "test_each_client/loss/bob"],
        "personal/loss": ["test_each_client/personal/loss/ann"],
    }
