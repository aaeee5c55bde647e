"""The text of ``fedray list``."""

from __future__ import annotations

import io

from rich.console import Console

from fedray.core.terminal import plain
from fedray.experiment.estimate import catalogue
from fedray.experiment.estimate.catalogue import summary


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
