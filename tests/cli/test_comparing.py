"""``fedray compare`` as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

from fedray.cli.comparing import table
from fedray.core.terminal import plain
from fedray.sweep.compare import Line
from tests.cli.command import Cli


def test_the_table_and_what_goes_on(cli: Cli, small: Path) -> None:
    outcome = cli("compare", small, "data.holdout=0.25", "rounds=2")
    assert (outcome.status, outcome.err) == (0, "")
    assert "run 1 of 3: each client alone" in outcome.out
    assert outcome.out.splitlines()[-1] == "run folders: runs/small/compare"
    assert {path.name for path in Path("runs/small/compare").iterdir()} == {"local_only", "centralized", "fedavg"}
    again = cli("compare", small, "data.holdout=0.25", "rounds=2", "--algorithms", "fedprox")
    assert "run 1 of 4" not in again.out  # finished before
    assert "run 4 of 4: federated, fedprox" in again.out
    said = json.loads(cli("compare", small, "data.holdout=0.25", "rounds=2", "--json").out)
    assert [line["words"] for line in said][-3:] == [
        "each client alone, mean",
        "all rows in one place",
        "federated, fedavg",
    ]


def test_rows_that_stay_in_their_silos_are_not_pooled(cli: Cli, small: Path) -> None:
    for name in "ab":
        rows = "".join(f"{n / 10},{(n * 7) % 5},{'yn'[n % 2]}\n" for n in range(20))
        (small.parent / f"{name}.csv").write_text(f"age,dose,ill\n{rows}")
    silos = ", ".join(f"{name}: {{node_label: site={name}, path: {name}.csv}}" for name in "ab")
    data = f"data={{name: silos, silos: {{{silos}}}, target: ill, holdout: 0.25}}"
    outcome = cli("compare", small, data, "rounds=2", "-q")
    assert outcome.status == 0, outcome.err
    assert "all rows in one place: algorithm: centralized needs all rows in one place" in outcome.out
    assert "federated, fedavg" in outcome.out


def test_the_head_names_what_is_shown() -> None:
    spread = {"accuracy": {"client_mean": 0.5, "worst": 0.25}, "loss": {"client_mean": 1.0, "worst": 2.0}}
    found = [
        Line("a alone", 1200, {"loss": 0.5, "accuracy": 0.75, "auc": float("nan")}),
        Line("federated, fedper", 3, {}, spread, "no model of all"),
    ]
    head, _, first, second = [line for line in plain(table(found)).splitlines() if line.startswith(("┃", "│", "┡"))]
    assert [cell.strip() for cell in head.strip("┃").split("┃")] == [
        "trained on",
        "rows",
        "test accuracy",
        "test auc",
        "test loss",
        "own accuracy",
        "worst tenth",
    ]
    assert [cell.strip() for cell in first.strip("│").split("│")] == [
        "a alone",
        "1,200",
        "0.7500",
        "nan",
        "0.5000",
        "",
        "",
    ]
    assert [cell.strip() for cell in second.strip("│").split("│")][-2:] == ["0.5000", "0.2500"]


def test_wrong_arguments_are_one_line(cli: Cli, small: Path) -> None:
    cli("compare", "nowhere.yaml").refused("no such config file")
    cli("compare", small, "data.test=0").refused("nothing to compare by")
    cli("compare", small, "--algorithms", "fedprx").refused("did you mean 'fedprox'")
    assert "--algorithms" in cli("compare", "--help").out
