"""The text of ``fedray plan``."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from fedray.core.terminal import plain
from fedray.experiment.build import Config
from fedray.experiment.estimate import describe
from tests.cli.command import SMALL


@pytest.mark.parametrize("width", [76, 100])
def test_a_terminal_shows_the_words_of_the_plain_text_whole(tmp_path: Path, width: int) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(SMALL.replace("cluster:", "algorithm: {name: scaffold}\ntransforms: [topk, clip]\ncluster:"))
    plan = describe(Config.load(config))
    out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with out.capture() as captured:
        out.print(plan)
    shown = captured.get()
    assert max(map(len, shown.splitlines())) <= width
    assert shown.split() == plain(plan).split()
