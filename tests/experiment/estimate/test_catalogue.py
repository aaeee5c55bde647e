"""The text of ``fedray list``."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest
from rich.console import Console

from fedray.core.terminal import plain
from fedray.experiment.estimate import catalogue
from fedray.experiment.estimate.catalogue import KINDS, summary
from tests.cli.command import Cli


def test_a_terminal_shows_every_word_whole() -> None:
    out = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with out.capture() as captured:
        out.print(catalogue())
    assert captured.get().split() == plain(catalogue()).split()


def test_a_summary_is_a_paragraph_not_a_line() -> None:
    class Part:
        """A sentence that goes on
        in ``its`` second line.

        More.
        """

    assert summary(Part) == "A sentence that goes on in its second line."


def test_a_summary_has_names_in_the_place_of_links() -> None:
    class Part:
        """As :class:`fedray.server.Adam`, :class:`~fedray.core.layout.Layout` and :func:`tag` say."""

    assert summary(Part) == "As fedray.server.Adam, Layout and tag say."


@pytest.mark.parametrize("kind", KINDS)
def test_list_has_a_line_for_each_part(cli: Cli, kind: str) -> None:
    """Its name and a sentence about it, which is never cut; options stand below, if it has any."""
    first, *lines = cli("list", kind).out.splitlines()
    assert first == kind
    told: dict[str, str] = {
        found[1]: found[2] for line in lines if (found := re.fullmatch(r"  ([\w-]+) +(\S.*)", line))
    }
    assert list(told) == (list(KINDS[kind]) or ["none"])  # of callbacks all are one's own
    assert all(text.endswith(".") for text in told.values())
    assert len(lines) - len(told) == sum(
        bool(dataclasses.fields(part)) for part in KINDS[kind].values() if dataclasses.is_dataclass(part)
    )


def test_list_shows_defaults_and_what_is_needed(cli: Cli) -> None:
    everything = cli("list")
    assert everything.status == 0
    assert ":`" not in everything.out
    assert re.search(r"\n  fedprox +FedProx \(.*\.\n +weight=auto, mu=0.01\n", everything.out)
    assert re.search(r"\n  uniform +A fixed .*\n +clients=<needed>\n", everything.out)
    assert [line for line in everything.out.splitlines() if line in KINDS] == list(KINDS)
    cli("list", "algoritms").refused("'algoritms'", "did you mean 'algorithms'?")
