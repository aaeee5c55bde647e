"""``fedray compare`` as a user sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedray.cli.comparing import by_client, table, together
from fedray.core.terminal import Grid, plain
from fedray.metrics.intervals import area, wilson
from fedray.metrics.intervals import shown as span
from fedray.sweep.compare import Line
from tests.cli.command import Cli


def test_the_table_and_what_goes_on(cli: Cli, small: Path) -> None:
    outcome = cli("compare", small, "data.holdout=0.25", "rounds=2")
    assert (outcome.status, outcome.err) == (0, "")
    assert "run 1 of 3: each client alone" in outcome.out
    assert outcome.out.splitlines()[-1] == "run folders: runs/small/compare"
    assert outcome.out.count("small: 8 clients") == 3  # the pool of all rows is none of them
    assert {path.name for path in Path("runs/small/compare").iterdir()} == {"local_only", "centralized", "fedavg"}
    assert "every client counts once" in outcome.out
    assert "worst tenth: the mean accuracy of the tenth of the clients that fares worst" in outcome.out
    again = cli("compare", small, "data.holdout=0.25", "rounds=2", "--algorithms", "fedprox")
    assert "run 1 of 4" not in again.out  # finished before
    assert "run 4 of 4: federated, fedprox" in again.out
    said = json.loads(cli("compare", small, "data.holdout=0.25", "rounds=2", "--json").out)
    assert set(said[-1]["clients"]) == set("01234567")
    assert [line["words"] for line in said][-3:] == [
        "each client alone, mean",
        "all rows in one place",
        "federated, fedavg",
    ]


def test_how_to_look_at_the_runs_is_said_once(cli: Cli, small: Path) -> None:
    for command, folder in ((["compare", small], "runs/small/compare"), (["sweep", small, "seed=1"], "sweeps/small")):
        outcome = cli(*command, "rounds=1", "tracking=[tensorboard]")
        assert outcome.status == 0, outcome.err
        assert outcome.out.count("open TensorBoard: ") == 1
        assert outcome.out.splitlines()[-1] == f"open TensorBoard: tensorboard --logdir {folder}"


def test_a_comparison_lies_beside_a_run_that_is_called_like_its_config(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=runs/small", "rounds=1", "-q").status == 0
    assert cli("run", small, "rounds=1", "-q").status == 0
    assert cli("compare", small, "rounds=1").out.splitlines()[-1] == "run folders: runs/small-2/compare"
    listed = json.loads(cli("runs", "--json").out)
    folders = {one["folder"] for one in listed}
    assert len(folders) == 5
    assert {"runs/small", "runs/small-2/compare/fedavg"} < folders
    cli("compare", small, "rounds=1", "--dir", "runs/small/more").refused("it lies within that of another run")
    cli("sweep", small, "seed=1,2", "--dir", "runs/small").refused("it lies within that of another run")
    cli("run", small, "run.dir=runs/small-2").refused("other runs lie in it, such as runs/small-2/")


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


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]


def shown(grid: Grid) -> list[list[str]]:
    return [cells(line) for line in plain(grid).splitlines() if line.startswith(("┃", "│"))]


def test_the_head_names_what_is_shown() -> None:
    spread: dict[str, Any] = {name: {"client_mean": 0.5, "worst": 0.25} for name in ("loss", "accuracy", "auroc")}
    found = [
        Line("a alone", 1200, {"loss": 0.5, "accuracy": 0.75, "auc": float("nan")}),
        Line("federated, fedper", 3, {}, spread | {"auroc": {"client_mean": None}}, "no model of all"),
    ]
    whole, left = table(found, 1000)
    head, first, second = shown(whole)
    assert head[2:] == [
        "test.accuracy",
        "test.auc",
        "test.loss",
        "own.accuracy",
        "worst tenth",
        "own.auroc",
        "own.loss",
    ]
    assert first[:5] == ["a alone", "1,200", "0.7500", "nan", "0.5000"]
    assert (first[5:], left) == ([""] * 4, [])
    assert second[2:] == ["", "", "", "0.5000", "0.2500", "nan", "0.5000"]
    for width in (80, 100, 120):
        part, left = table(found, width)
        assert max(map(len, plain(part).splitlines())) <= width
        assert {*part.head, *left} == {*whole.head}
        assert part.head[2] == "test.accuracy"
        assert "own.accuracy" in part.head


def test_each_of_a_few_clients_has_its_lines() -> None:
    def line(name: str, by: float, metrics: Sequence[str] = ("loss", "auroc", "accuracy")) -> Line:
        own = {one: {"client_mean": by, "worst": by} for one in metrics}
        each = {one: {"examples": 8, **dict.fromkeys(metrics, by)} for one in ("ann", "bob")}
        return Line(name, 3, {}, own, "", name, each)

    grid = by_client([line("alone", 0.25), Line("no rows", note="refused"), line("fedavg", float("nan"))])
    assert grid is not None
    assert shown(grid) == [
        ["own", "client", "own rows", "alone", "fedavg"],
        ["accuracy", "ann", "8", "0.2500", "nan"],
        ["accuracy", "bob", "8", "0.2500", "nan"],
        ["auroc", "ann", "8", "0.2500", "nan"],
        ["auroc", "bob", "8", "0.2500", "nan"],
    ]
    few = line("fedavg", 0.5)
    few.clients["ann"]["support"] = [{"class": "no", "count": 6}, {"class": "yes", "count": 2}]
    told = by_client([few])
    assert told is not None
    assert told.head[2:4] == ["own rows", "most frequent"]
    assert told.lines[0][2:4] == ["8 (no 6, yes 2)", "no 0.7500"]
    assert told.lines[1][3] == ""
    only = by_client([line("alone", 0.25, ["loss"])])
    assert only is not None
    assert [one[0] for one in only.lines] == ["loss", "loss"]
    assert by_client([Line("many", 3)]) is None


def test_all_rows_together_stand_beside_always_the_same_answer() -> None:
    spans = {"own": {"accuracy": wilson(7, 8), "auroc": area(0.9, 2, 6)}}
    found = [
        Line("hospital alone", 4),
        Line("federated, fedavg", 3, intervals=spans, frequent={"own": ("no", 0.75), "test": ("no", 0.5)}),
    ]
    told = together(found, 1000)
    assert told is not None
    grid, left = told
    assert (grid.head, left) == (["trained on", "accuracy", "auroc"], [])
    assert grid.lines == [
        ["federated, fedavg", span(wilson(7, 8)), span(area(0.9, 2, 6))],
        ["always the answer no", "0.750", ""],
    ]
    told = together(found, 60)
    assert told is not None
    assert told[1] == ["auroc"]
    assert together(found[:1], 1000) is None


def test_intervals_and_one_seed_are_told(cli: Cli, small: Path) -> None:
    chosen = "metrics=[accuracy, sensitivity, auroc]", "data.classes=2", "data.holdout=0.25"
    outcome = cli("compare", small, *chosen, "rounds=1", "-q")
    assert outcome.status == 0, outcome.err
    assert "all rows together, with 95 % intervals:" in outcome.out
    assert "always the answer " in outcome.out
    assert "most frequent: the class that most rows have" in outcome.out
    assert outcome.out.count("one seed, which says nothing of other seeds: `fedray sweep` with seed=1,2,3") == 1


def test_wrong_arguments_are_one_line(cli: Cli, small: Path) -> None:
    cli("compare", "nowhere.yaml").refused("no such config file")
    cli("compare", small, "data.test=0").refused("nothing to compare by")
    cli("compare", small, "--algorithms", "fedprx").refused("did you mean 'fedprox'")
    joined = "the values of --algorithms are joined by commas, without blanks: --algorithms fedprox,fedbn"
    cli("compare", small, "rounds=2", "--algorithms", "fedprox", "fedbn").refused(joined)
    cli("compare", small, "--algorithms", "fedprox,", "fedbn").refused(joined)
    cli("compare", small, "fedprox").refused("expected key=value, as in")
    assert "--algorithms" in cli("compare", "--help").out
