"""What each command prints and leaves behind."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import nn

import fedray
from tests.cli.command import Cli, hashes

COMMANDS = [
    "run",
    "resume",
    "evaluate",
    "export",
    "plan",
    "list",
    "config",
    "quickstart",
    "status",
    "sweep",
    "submit",
    "doctor",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(cli: Cli, command: str) -> None:
    outcome = cli(command, "--help")
    assert outcome.status == 0
    assert "Usage: " in outcome.out
    assert command in cli("--help").out


def test_the_version_and_a_bad_command(cli: Cli) -> None:
    assert re.fullmatch(r"fedray \d+\.\d+\.\d+\S*\n", cli("--version").out)
    outcome = cli("trian")
    assert outcome.status == 2
    assert "trian" in outcome.err


TIED = """\
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False), nn.Linear(2, 2)
        self.two.weight = self.one.weight
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.steps += 1
        return self.head(self.two(self.one(x)))
"""


def plain_module() -> nn.Module:
    """The configured model as a user would write it."""
    module = nn.Sequential()
    module.add_module("linear1", nn.Linear(6, 5))
    module.add_module("activation1", nn.ReLU())
    module.add_module("head", nn.Linear(5, 3))
    return module


def test_a_run_leaves_its_folder(cli: Cli, small: Path) -> None:
    outcome = cli("run", small, "run.dir=out", "checkpoint.every=1", "checkpoint.keep=2", "tracking.tensorboard=true")
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
    cli("resume", "run", "rounds=2", "-q").refused("rounds=2: the run has done 3 rounds already")
    assert hashes(Path("run")) == before


def test_export_writes_any_checkpoint(cli: Cli, small: Path) -> None:
    cli("run", small, "run.dir=out", "checkpoint.every=1")
    assert cli("export", "out", "last.safetensors").out == "wrote last.safetensors\n"
    assert cli("export", "out", "before.safetensors", "--round", 2).status == 0
    assert Path("last.safetensors").read_bytes() == Path("out/model.safetensors").read_bytes()
    assert Path("before.safetensors").read_bytes() != Path("last.safetensors").read_bytes()
    plain_module().load_state_dict(load_file("before.safetensors"))


def test_export_needs_the_run_folder_alone(cli: Cli, small: Path, tmp_path: Path) -> None:
    """Data and the model's code moved away; a tensor under two names, and integers, come back as they were."""
    module = f"tied_{tmp_path.name}"
    Path(f"{module}.py").write_text(TIED)
    for name in ("a", "b"):
        Path(f"{name}.csv").write_text("u,v,y\n0,1,no\n5,6,yes\n1,0,no\n6,6,yes\n")
    data = "data={name: csv, train: [a.csv, b.csv], target: y}"
    run = cli("run", small, data, f"model={module}:Tied", "run.dir=out", "checkpoint.every=1", "-q")
    assert (run.status, run.err) == (0, "")
    assert cli("export", "out", "two.safetensors", "--round", 2).status == 0
    for path in (*Path().glob("*.csv"), Path(f"{module}.py"), small):
        path.unlink()
    sys.modules.pop(module)
    assert cli("export", "out", "last.safetensors").status == 0
    assert cli("export", "out", "two_again.safetensors", "--round", 2).status == 0
    assert Path("last.safetensors").read_bytes() == Path("out/model.safetensors").read_bytes()
    assert Path("two_again.safetensors").read_bytes() == Path("two.safetensors").read_bytes()
    names: dict[str, Any] = {}
    exec(TIED, names)
    plain = names["Tied"]()
    plain.load_state_dict(load_file("two_again.safetensors"))
    assert plain.steps.item() > 0
    assert plain.state_dict().keys() == {"one.weight", "two.weight", "steps", "head.weight", "head.bias"}


def test_export_of_a_run_from_python(cli: Cli, small: Path) -> None:
    data = fedray.FederatedData.from_arrays([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1], [0, 0, 1, 1])
    model = fedray.FederatedModel(lambda: nn.Linear(1, 2))
    fedray.train(model, data, fedray.TrainArgs(rounds=1), cluster="inline", run_dir="out", progress=False)
    assert cli("export", "out", "x.safetensors").status == 0
    assert Path("x.safetensors").read_bytes() == Path("out/model.safetensors").read_bytes()


def test_a_checkpoint_that_does_not_name_its_tensors(cli: Cli, small: Path) -> None:
    cli("run", small, "run.dir=out", "-q")
    (folder,) = Path("out/checkpoints").iterdir()
    state = json.loads((folder / "state.json").read_text())
    del state["layout"]
    (folder / "state.json").write_text(json.dumps(state))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["state.json"] = hashlib.sha256((folder / "state.json").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    cli("export", "out", "x.safetensors").refused(
        "round 3 is of an earlier fedray", "fedray resume RUN_DIR rounds=MORE"
    )
    assert not Path("x.safetensors").exists()
    assert cli("resume", "out", "rounds=4", "-q").status == 0
    assert cli("export", "out", "x.safetensors").status == 0


def test_what_is_not_there_is_named(cli: Cli, small: Path) -> None:
    cli("run", small, "run.dir=out")
    for command in ("resume", "evaluate"):
        cli(command, "nowhere").refused("nowhere", "is no run folder")
    cli("evaluate", "out", "--round", 7).refused("no checkpoint of round 7", "there are: 3")
    cli("export", "out", "nowhere/x.safetensors").refused("nowhere/x.safetensors", "cannot be written")


def test_config_prints_every_default(cli: Cli, small: Path) -> None:
    outcome = cli("config", small, "algorithm=fedprox")
    assert outcome.status == 0
    shown = OmegaConf.to_container(OmegaConf.create(outcome.out))
    assert isinstance(shown, dict)
    assert shown["algorithm"] == {"name": "fedprox", "weight": "auto", "mu": 0.01}
    assert shown["local"]["optimizer"] == {
        "name": "sgd",
        "lr": 0.1,
        "momentum": 0.5,
        "weight_decay": 0.0,
        "nesterov": False,
    }
    again = small.parent / "again.yaml"
    again.write_text(outcome.out)
    assert cli("config", again).out == outcome.out
