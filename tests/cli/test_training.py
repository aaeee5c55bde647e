"""What a run prints and leaves behind, and how it goes on."""

from __future__ import annotations

import json
import logging
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

import fedray
from tests.cli.command import Cli, hashes, plain_module


def test_a_run_leaves_its_folder(cli: Cli, small: Path) -> None:
    outcome = cli("run", small, "run.dir=out", "checkpoint.every=1", "checkpoint.keep=2", "tracking=[tensorboard]")
    assert outcome.status == 0
    assert outcome.err == ""
    assert "run folder: out" in outcome.out
    out = small.parent / "out"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert line["clients"] == {"sampled": 8, "ok": 8, "failed": 0}
        assert line["examples"] == 96
        assert set(line["phases"]) == {"broadcast", "train", "aggregate", "evaluate", "checkpoint"}
        assert set(line["test"]) == {"loss", "accuracy"}
        assert line["bytes"] == {"down": 8 * 4 * 53, "up": 8 * 4 * 53, "network": 0}
        assert re.fullmatch("[0-9a-f]{64}", line["model_sha256"])
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["name"], summary["status"], summary["rounds"], summary["seed"]) == ("small", "finished", 3, 3)
    assert summary["final"] == lines[-1]
    assert summary["versions"]["torch"] == version("torch")
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["round-00000002", "round-00000003"]
    assert [path for path in out.glob("events.out.tfevents.*") if path.stat().st_size]
    assert "stacking: " in (out / "log.txt").read_text()
    resolved = OmegaConf.to_container(OmegaConf.load(out / "config.yaml"))
    assert isinstance(resolved, dict)
    assert resolved["failures"] == {
        "on_nonfinite": "drop",
        "on_failure": "abort",
        "min_share": 0.5,
        "block_timeout": None,
        "left_out": {},
        "dropout": 0.0,
    }
    plain_module().load_state_dict(load_file(out / "model.safetensors"))


def test_what_is_said_of_the_data_is_in_the_log_of_the_start_that_learnt_from_it(cli: Cli, small: Path) -> None:
    """A class that one file alone has, said before there is a run folder; the held-out rows make other data of it."""
    for name, odd in (("a", "yes"), ("b", "yse")):
        Path(f"{name}.csv").write_text(f"u,v,y\n0,1,no\n5,6,yes\n1,0,no\n6,6,{odd}\n")
    data = "data={name: csv, train: [a.csv, b.csv], target: y, holdout: 0.3}"
    assert cli("run", small, "run.dir=out", data, "-q").status == 0
    assert cli("resume", "out", "rounds=4", "-q").status == 0
    warnings = [line for line in Path("out/log.txt").read_text().splitlines() if " WARNING " in line]
    assert len(warnings) == 1
    assert "classes that one file alone has: 'yse' (b.csv)" in warnings[0]


def test_quiet_shows_nothing(cli: Cli, small: Path) -> None:
    outcome = cli("run", small, "run.dir=out", "--quiet")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")


def test_the_default_folder_is_named_by_config_and_time(cli: Cli, small: Path) -> None:
    assert cli("run", small, "rounds=1", "-q").status == 0
    (folder,) = (small.parent / "runs" / "small").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)


def test_resume_with_more_rounds_is_a_run_never_stopped(cli: Cli, small: Path) -> None:
    assert cli("run", small, "run.dir=whole", "rounds=5").status == 0
    assert cli("run", small, "run.dir=parts", "rounds=2").status == 0
    assert cli("resume", "parts", "rounds=5").status == 0
    assert hashes(small.parent / "parts") == hashes(small.parent / "whole")
    assert len(set(hashes(small.parent / "whole"))) == 5
    assert OmegaConf.load("parts/config.yaml").rounds == 5
    assert json.loads(Path("parts/summary.json").read_text())["resumed_from"] == 2
    whole, parts = load_file("whole/model.safetensors"), load_file("parts/model.safetensors")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_that_has_done_more_rounds_is_not_cut(cli: Cli, small: Path) -> None:
    cli("run", small, "run.dir=run", "-q")
    before = hashes(Path("run"))
    outcome = cli("resume", "run", "rounds=2", "local.optimizer.lr=0.2")
    outcome.refused("rounds=2: the run has done 3 rounds already")
    said = ["loading PyTorch", "reading data", "trying model, loss and optimizer"]
    assert outcome.out.splitlines() == said, "nothing is said to begin"
    assert len(outcome.err.splitlines()) == 1
    assert hashes(Path("run")) == before


def test_a_run_from_python_goes_on_without_its_callbacks_and_says_so(
    cli: Cli, small: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One whose parts all have names goes on here; the functions that it called do not."""
    data = {"name": "synthetic", "clients": 8, "examples": 12, "features": 6, "classes": 3, "test": 30}

    def enough(record: fedray.RoundRecord) -> bool:
        return record.round == 2

    args = fedray.TrainArgs(rounds=4)
    options: dict[str, Any] = {"cluster": "inline", "run_dir": "out", "progress": False}
    assert fedray.train(fedray.FederatedModel("logistic"), data, args, callbacks=[enough], **options).stopped
    assert cli("resume", "out", "-q").status == 0
    said = next(text for text in map(logging.LogRecord.getMessage, caplog.records) if text.startswith("the callbacks"))
    assert said.startswith("the callbacks of the Python that started this run (tests.cli.test_training.")
    assert said.endswith("without them; fedray.train(..., callbacks=[...], resume=True) has them")
    assert len(hashes(Path("out"))) == 4
