"""Commands that look at runs and configs, and start nothing."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import nn

import fedray
from fedray.rundir.client_table import read_clients
from tests.cli.command import Cli, plain_module

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


def test_export_writes_any_checkpoint(cli: Cli, small: Path) -> None:
    cli("run", small, "run.dir=out", "checkpoint.every=1")
    assert cli("export", "out", "last.safetensors").out == "wrote last.safetensors and last.safetensors.json\n"
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


def test_who_listened_to_a_run_need_not_be_there_to_look_at_it(cli: Cli, small: Path, tmp_path: Path) -> None:
    module = f"listeners_{tmp_path.name}"
    Path(f"{module}.py").write_text("def tell(record):\n    pass\n")
    data = "data={name: synthetic, clients: 3, examples: 4, features: 2, classes: 2, test: 8}"
    assert cli("run", small, data, f"callbacks=[{module}:tell]", "run.dir=out", "-q").status == 0
    Path(f"{module}.py").unlink()
    sys.modules.pop(module)
    assert cli("evaluate", "out").status == 0
    assert cli("verify", "out").status == 0
    assert fedray.evaluate("out")["examples"] == 8
    again = cli("resume", "out", "rounds=9")
    assert again.status == 2
    assert f"callbacks[0].name: no module {module!r}" in again.err


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


def test_the_best_model_is_kept_exported_and_evaluated_by_that_name(cli: Cli, small: Path) -> None:
    noisy = "local.optimizer.lr=1.5"
    run = cli("run", small, "run.dir=out", "rounds=12", noisy, "checkpoint={every: 1, keep: 1, best: test.accuracy}")
    best = json.loads(Path("out/summary.json").read_text())["best"]
    records = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    assert best["value"] == max(record["test"]["accuracy"] for record in records)
    assert best["round"] < 12, "the best is not to be the last"
    told = f"test.accuracy {best['value']:.4g} in round {best['round']}, in best.safetensors"
    assert told in " ".join(run.out.split())
    assert f"best test.accuracy {best['value']:.4g}, in round {best['round']}" in " ".join(
        cli("status", "out").out.split()
    )
    assert cli("export", "out", "best.safetensors", "--round", "best").status == 0
    assert Path("best.safetensors").read_bytes() == Path("out/best.safetensors").read_bytes()
    assert Path("best.safetensors").read_bytes() != Path("out/model.safetensors").read_bytes()
    assert f"accuracy {best['value']:.6g}" in " ".join(cli("evaluate", "out", "--round", "best").out.split())
    told = json.loads(cli("evaluate", "out", "--round", "best", "--json").out)
    assert (told["round"], told["test"]["accuracy"]) == (best["round"], best["value"])
    wrong = cli("evaluate", "out", "--round", "beast")
    assert (wrong.status, "'beast' is no round: give its number, or best" in wrong.err) == (2, True)
    assert cli("run", small, "run.dir=plain", "-q").status == 0
    cli("export", "plain", "x.safetensors", "--round", "best").refused("plain: no round is its best", "checkpoint.best")


def _matrix(cells: list[dict[str, Any]]) -> list[int]:
    found = {(cell["true"], cell["predicted"]): cell["count"] for cell in cells}
    return [found.get((str(true), str(guess)), 0) for true in range(3) for guess in range(3)]


def test_the_clients_of_a_run_are_evaluated_by_their_own_models(cli: Cli, small: Path) -> None:
    options = ["algorithm=fedper", "data.holdout=0.3", "evaluate.clients_every=1", "run.dir=out", "-q"]
    options.append("metrics=[accuracy,confusion_matrix]")
    run = cli("run", small, *options)
    assert run.status == 0
    refused = cli("evaluate", "out")
    assert refused.status == 2
    assert refused.err.endswith("evaluate the models of its clients: fedray evaluate out --clients\n")
    shown, _, matrices = cli("evaluate", "out", "--clients").out.partition("personal confusion_matrix of each client")
    shown = shown.partition("global confusion_matrix of each client")[0]
    record = json.loads(Path("out/metrics.jsonl").read_text().splitlines()[-1])
    assert f"clients_personal.accuracy  {record['clients_personal']['accuracy']['mean']:.6g} (client_mean " in shown
    table = read_clients("out").to_pylist()
    own = {row["client"]: row for row in table if row["view"] == "personal" and row["round"] == record["round"]}
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if line.startswith("│")]
    head = next(line for line in shown.splitlines() if line.startswith("┃"))
    at = [cell.strip() for cell in head.split("┃")[1:-1]].index("clients_personal.accuracy")
    assert {line[0]: line[at] for line in lines} == {name: f"{row['accuracy']:.6g}" for name, row in own.items()}
    cells = [word for line in matrices.splitlines()[4:-1] for word in line.split("│")[3:-1]]
    counts = [int(word.replace(",", "")) for word in cells]
    assert sum(counts) == sum(row["examples"] for row in own.values())
    assert counts == [n for row in own.values() for n in _matrix(row["confusion_matrix"])]
    told = json.loads(cli("evaluate", "out", "--clients", "--json").out)
    assert told["clients_personal"] == record["clients_personal"]
    assert {one["client"]: one["accuracy"] for one in told["clients"] if one["view"] == "personal"} == {
        name: row["accuracy"] for name, row in own.items()
    }
    exported = cli("export", "out", "model.safetensors")
    assert exported.out == "wrote model.safetensors and model.safetensors.json\n"
    assert "of the server's model are as they were at the start: clients keep their own" in exported.err
    assert (
        "--data: with --clients each is evaluated on the rows that data.holdout"
        in cli("evaluate", "out", "--clients", "--data", 9).err
    )
    assert "--device: this machine has no 'tpu'" in cli("evaluate", "out", "--clients", "--device", "tpu").err
