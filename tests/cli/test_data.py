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
