"""Samples in the records of runs: whose rows, which words, and the same whoever says them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fedray
from fedray.core.errors import ConfigError

MODEL = {"name": "decoder", "dim": 16, "heads": 2, "layers": 1}
ROWS = [("Q: a? A: ", "b"), ("Q: cd? A: ", "dc"), ("Q: x? A: ", "xyz"), ("Q: fg? A: ", "gf")]


def written(folder: Path) -> fedray.FederatedData:
    lines = [json.dumps({"prompt": prompt, "completion": said}) for prompt, said in ROWS]
    for name in ("ann", "bob"):
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    files = [folder / "ann.jsonl", folder / "bob.jsonl"]
    return fedray.FederatedData.from_text(files, test=folder / "ann.jsonl", tokenizer="bytes")


def run(folder: Path, data: fedray.FederatedData, task: Any, **options: Any) -> fedray.Result:
    args = fedray.TrainArgs(rounds=2, batch_size=2, optimizer={"name": "adamw", "lr": 0.01}, **options)
    model = fedray.FederatedModel(MODEL, task=task)
    return fedray.train(model, data, args, cluster="inline", run_dir=folder, progress=False)


def test_an_evaluation_says_what_comes_after_prompts_of_the_test_set(tmp_path: Path) -> None:
    data = written(tmp_path)
    task = {"name": "causal_lm", "samples": 3, "new_tokens": 5}
    result = run(tmp_path / "run", data, task)
    for record in result.history:
        assert [one["row"] for one in record.samples] == [0, 2, 3]
        assert [(one["prompt"], one["reference"]) for one in record.samples] == [ROWS[row] for row in (0, 2, 3)]
    greedy = result.history[-1].samples
    found = fedray.load(result.run_dir).generate([{"prompt": ROWS[row][0]} for row in (0, 2, 3)], 5)
    assert [one["completion"] for one in greedy] == list(found.predicted)
    assert greedy == json.loads((result.run_dir / "metrics.jsonl").read_text().splitlines()[-1])["samples"]
    assert (
        "samples: each evaluation goes on after prompts of 3 rows of the test set, for up to 5 tokens"
        in (result.run_dir / "log.txt").read_text()
    )
    plain = run(tmp_path / "plain", data, "causal_lm")
    assert [r.model_sha256 for r in plain.history] == [r.model_sha256 for r in result.history]
    assert plain.history[-1].test == result.history[-1].test
    assert not plain.history[-1].samples


def test_draws_are_those_of_the_seed_and_the_round(tmp_path: Path) -> None:
    data = written(tmp_path)
    task = {"name": "causal_lm", "samples": 2, "new_tokens": 12, "temperature": 1.0}
    first, again = (run(tmp_path / name, data, task).history for name in "ab")
    assert [record.samples for record in first] == [record.samples for record in again]
    other = run(tmp_path / "c", data, task, seed=1).history
    assert first[-1].samples[0]["completion"] != other[-1].samples[0]["completion"]


def test_a_sample_ends_before_a_word_and_is_drawn_from_the_likeliest(tmp_path: Path) -> None:
    data = written(tmp_path)
    whole = {"name": "causal_lm", "samples": 3, "new_tokens": 12, "temperature": 1.0}
    said = [one["completion"] for one in run(tmp_path / "whole", data, whole).history[-1].samples]
    word = next(letter for letter in said[0] if letter.isascii() and letter.isprintable())
    found = run(tmp_path / "run", data, {**whole, "stop": [word]}).history[-1].samples
    assert [one["completion"] for one in found] == [one.split(word)[0] for one in said]
    least = run(tmp_path / "least", data, {**whole, "top_p": 1e-6}).history[-1].samples
    assert least == run(tmp_path / "greedy", data, {**whole, "temperature": 0.0}).history[-1].samples


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top_p": 0.5}, r"top_p=0\.5: it is of tokens that are drawn"),
        ({"top_p": 0.0, "temperature": 1.0}, r"top_p=0\.0: it must be above 0"),
        ({"stop": [""]}, r"stop=\[''\]: a list of words"),
    ],
)
def test_ways_to_draw_that_are_none(tmp_path: Path, options: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run(tmp_path / "a", written(tmp_path), {"name": "causal_lm", "samples": 1, **options})


def test_samples_without_a_test_set_or_its_evaluation_are_refused(tmp_path: Path) -> None:
    data, task = written(tmp_path), {"name": "causal_lm", "samples": 1}
    with pytest.raises(ConfigError, match=r"task.samples: prompts are the beginnings of rows of a test set"):
        run(tmp_path / "a", fedray.FederatedData.from_text(tmp_path / "ann.jsonl", tokenizer="bytes"), task)
    with pytest.raises(ConfigError, match=r"say data.test and evaluate.every"):
        run(tmp_path / "b", data, task, evaluate_every=0)
