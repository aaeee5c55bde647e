"""fedray data, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.command import Cli


def test_a_report_in_the_terminal_as_a_page_and_as_json(cli: Cli, small: Path) -> None:
    outcome = cli("data", small, "-o", "data.html")
    assert outcome.status == 0
    assert outcome.out.startswith("8 clients, ")
    assert outcome.out.endswith("wrote data.html\n")
    assert Path("data.html").read_text().startswith("<!")
    content = json.loads(cli("data", small, "--json").out)
    assert len(content["clients"]) == 8
    assert sum(map(sum, content["labels"].values())) == sum(content["clients"].values())
    assert not Path("runs").exists()


def test_what_cannot_be_is_refused(cli: Cli, small: Path) -> None:
    cli("data", small, "-o", "data.pdf").refused("data.pdf: a page is written to a file called .html", "--json")
    cli("data", small, "data.clients=0").refused("clients")
    cli("data", "none.yaml").refused("none.yaml")


def test_data_that_a_run_refuses_are_shown_and_the_exit_status_says_so(cli: Cli, small: Path) -> None:
    Path("a.csv").write_text("u,v,y\n1,2,no\n3,4,yes\n")
    Path("b.csv").write_text("u,y\n5,no\n7,yes\n")
    data = "data={name: csv, train: [a.csv, b.csv], target: y}"
    outcome = cli("data", small, data, "-o", "data.html")
    assert outcome.status == 2
    assert "A run of this config is refused: b.csv has no column 'v'" in outcome.out.replace("\n", " ")
    assert Path("data.html").exists()
    assert cli("data", small, data, "data.missing_columns=impute").status == 0
