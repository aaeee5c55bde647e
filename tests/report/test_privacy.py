"""Privacy of runs, in words."""

from __future__ import annotations

import json
from pathlib import Path

from fedray.report import Table, Words
from fedray.report.privacy import privacy_blocks
from fedray.report.told import settings_of
from tests.report.folders import told as read
from tests.report.folders import write_run

NOISE = "transforms: [{name: clip, norm: 1.0}, {name: gaussian, multiplier: 0.3}]\nsampler: {name: poisson}\n"


def test_clip_and_noise_are_named_with_their_numbers(tmp_path: Path) -> None:
    table, words = privacy_blocks(settings_of(read(write_run(tmp_path / "a", config=NOISE))))
    assert isinstance(table, Table)
    assert table.rows == [["clip", "norm=1.0", "poisson"], ["gaussian", "multiplier=0.3", "poisson"]]
    assert isinstance(words, Words)
    assert "does not account" in words.text


def test_where_there_is_none_it_is_said(tmp_path: Path) -> None:
    (words,) = privacy_blocks(settings_of(read(write_run(tmp_path / "a", config="transforms: [{name: topk}]\n"))))
    assert isinstance(words, Words)
    assert words.text.startswith("No update is clipped, no noise is added")


def test_settings_without_it_are_named_beside_those_that_have_it(tmp_path: Path) -> None:
    runs = read(write_run(tmp_path / "a", config=NOISE), write_run(tmp_path / "b"))
    *_, words = privacy_blocks(settings_of(runs))
    assert isinstance(words, Words)
    assert words.text.endswith("are not clipped, and have no noise added.")


def test_the_ledger_says_what_has_left(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    asked = {"question": "sums", "answer": "sums of columns", "columns": ["age"], "values": [4, 4], "bytes": [90, 120]}
    before = {**asked, "question": "outline", "columns": []}
    del before["values"]  # of an earlier version
    part = {"name": "delta", "in": "training", "numbers": 35, "dtype": "float32", "bytes": 140}
    by_client = {"client": ["<a>"], "variant": [0], "rounds": [3], "surveys": [0], "evaluations": [1], "bytes": [420]}
    told = {"since": 1, "before": {"1": [asked, before, asked]}, "variants": [{"bytes": 140, "parts": [part]}]}
    told |= {"by_client": by_client, "told": {"training": ["loss"], "evaluation": ["global.loss"]}}
    (folder / "sent.json").write_text(json.dumps(told))
    _, parts, clients = privacy_blocks(settings_of(read(folder)))
    assert isinstance(parts, Table)
    assert parts.rows[:4] == [
        ["before round 1: sums (age), 1 of 2", "sums of columns", 4, "an answer", 120],
        ["before round 1: outline", "sums of columns", None, "an answer", 120],
        ["before round 1: sums (age), 2 of 2", "sums of columns", 4, "an answer", 120],
        ["delta", "each round, training", 35, "float32", 140],
    ]
    assert [row[0] for row in parts.rows[4:]] == ["loss", "clients_test.loss"]
    assert isinstance(clients, Table)
    assert [list(row) for row in clients.rows] == [["<a>", 3, 0, 1, 420]]
