"""fedray predict, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.csv
import pytest

from tests.cli.command import Cli

TABLES = {
    "a": "age,sex,ill\n30,f,no\n70,m,yes\n75,f,yes\n",
    "b": "age,sex,ill\n20,m,no\n80,f,yes\n35,m,no\n",
    "new": "patient,sex,age\np1,f,33\np2,,81\n",
}


def test_scores_of_new_patients(cli: Cli, small: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, text in TABLES.items():
        Path(f"{name}.csv").write_text(text)
    data = "data={name: csv, train: [a.csv, b.csv], target: ill, categorical: [sex]}"
    own = "algorithm={name: ditto}"
    assert cli("run", small, "run.dir=out", data, own, "-q").status == 0
    Path("a.csv").unlink()
    outcome = cli("predict", "out", "new.csv")
    assert outcome.status == 0
    assert outcome.out.splitlines()[0] == '"patient","predicted","no","yes"'
    cli("predict", "out", "new.csv", "-o", "scores.csv")
    assert Path("scores.csv").read_text() == outcome.out
    found = pyarrow.csv.read_csv("scores.csv").to_pydict()
    assert found["patient"] == ["p1", "p2"]
    assert [abs(no + yes - 1) < 1e-12 for no, yes in zip(found["no"], found["yes"], strict=True)] == [True, True]
    cli("predict", "out", "new.csv", "-o", "scores.csv").refused("scores.csv: there already", "--force")
    wrote = cli("predict", "out", "new.csv", "-o", "scores.csv", "--force", "--client", "b")
    assert wrote.out == "wrote scores.csv: 2 rows, by the model after round 3\n"
    assert Path("scores.csv").read_text() != outcome.out
    Path("new.csv").write_text(TABLES["new"].replace(",f,", ",x,"))
    cli("predict", "out", "new.csv").refused("new.csv, line 2, column 'sex': unknown category 'x'; known: f, m")
    cli("predict", "out", "newer.csv").refused("newer.csv does not exist")
    assert json.loads(Path("out/encoding.json").read_text())["target"] == "ill"
    Path("new.csv").write_text("sex;age\nf;3.300\n")
    cli("predict", "out", "new.csv").refused("new.csv, column 'age': '3.300' may be")
    assert "new.csv is written otherwise than the training tables: delimiter semicolon, not comma" in caplog.text
    points, groups = (cli("predict", "out", "new.csv", "--csv", f"decimal={mark}") for mark in (".", ","))
    assert (points.status, groups.status) == (0, 0)
    assert points.out != groups.out
    cli("predict", "out", "new.csv", "--csv", "decimal").refused("--csv decimal: a key and a value are needed")
    cli("predict", "out", "new.csv", "--csv", "decima=,").refused("csv.decima")


def test_a_threshold_is_said_for_predictions_and_evaluations(cli: Cli, small: Path) -> None:
    for name, text in TABLES.items():
        Path(f"{name}.csv").write_text(text)
    data = "data={name: csv, train: [a.csv, b.csv], test: b.csv, target: ill, categorical: [sex], holdout: 0.4}"
    assert cli("run", small, "run.dir=out", data, "model=logistic", "-q").status == 0
    for threshold, said in (("0.0001", "yes"), ("0.9999", "no")):
        lines = cli("predict", "out", "new.csv", "--threshold", threshold).out.splitlines()[1:]
        assert [line.split(",")[1] for line in lines] == [f'"{said}"'] * 2
        told = json.loads(cli("evaluate", "out", "--threshold", threshold, "--json").out)["test"]
        assert (told["sensitivity"], told["specificity"]) == ((1.0, 0.0) if said == "yes" else (0.0, 1.0))
        intervals = json.loads(cli("evaluate", "out", "--threshold", threshold, "--json").out)["intervals"]
        assert {name: one["of"] for name, one in intervals.items()} == {
            "accuracy": 3,
            "auc": 3,
            "auroc": 3,
            "sensitivity": 1,
            "specificity": 2,
        }
        assert intervals["auc"]["few"] == "2 of class no, 1 of class yes"
        assert "accuracy" in (shown := cli("evaluate", "out", "--threshold", threshold).out)
        assert " to 1.000, of 1)" in shown or "(0.000 to " in shown
        assert "Wilson's intervals, 95 %" in shown
        clients = json.loads(cli("evaluate", "out", "--clients", "--threshold", threshold, "--json").out)["clients"]
        assert {one["sensitivity"] for one in clients} <= {1.0 if said == "yes" else 0.0, None}
    cli("predict", "out", "new.csv", "--threshold", "2").refused("threshold=2.0: a probability above 0 and below 1")
    numbers = data.replace("target: ill, categorical: [sex]", "target: age, ignore: [ill], categorical: [sex]")
    assert cli("run", small, "run.dir=numbers", numbers, "model=logistic", "-q").status == 0
    cli("predict", "numbers", "new.csv", "--threshold", "0.3").refused("the second of two classes, and there are 6")


def test_classes_of_texts_and_what_a_model_says_after_them(cli: Cli, small: Path) -> None:
    rows = [
        {"id": place, "text": text, "mood": mood} for place, (text, mood) in enumerate([("oh", "sad"), ("ja", "glad")])
    ]
    Path("moods.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = "data={name: text, train: moods.jsonl, tokenizer: bytes, target: mood}"
    assert cli("run", small, "run.dir=out", text, "model={name: transformer, dim: 8, heads: 2}", "-q").status == 0
    outcome = cli("predict", "out", "moods.jsonl")
    assert outcome.status == 0, outcome.err
    assert outcome.out.splitlines()[0] == '"row","id","mood","predicted","glad","sad"'
    cli("predict", "out", "moods.jsonl", "--generate", "4").refused("was not trained by task: causal_lm")
    language = ("data={name: text, train: moods.jsonl, tokenizer: bytes}", "task=causal_lm", "rounds=1")
    assert cli("run", small, "run.dir=lm", *language, "model={name: decoder, dim: 8, heads: 2}", "-q").status == 0
    ways = ("--temperature", "1", "--top-p", "0.5", "--stop", "zzz", "--stop", "yyy")
    said = cli("predict", "lm", "moods.jsonl", "--generate", "4", *ways)
    assert said.status == 0, said.err
    assert said.out.splitlines()[0] == '"row","prompt","completion"'
    cli("predict", "lm", "moods.jsonl", *ways[:2]).refused("they are for text that is generated; say --generate 40")
    drawn = cli("predict", "lm", "moods.jsonl", "--generate", "4", *ways[2:4])
    drawn.refused("top_p=0.5: it is of tokens that are drawn")
