"""The text of ``fedray plan``."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fedray.core.terminal import plain
from fedray.experiment.build import Config
from fedray.experiment.estimate import describe
from fedray.experiment.estimate.memory import memory
from tests.cli.command import SMALL, Cli
from tests.experiment.estimate.plans import prepared


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


def line(text: str, name: str) -> str:
    found = re.findall(rf"^  {name} +(.*)$", text, flags=re.MULTILINE)
    assert len(found) == 1, (name, text)
    return str(found[0])


def test_the_pool_of_all_rows_is_none_of_the_clients(cli: Cli, small: Path) -> None:
    outcome, federated = cli("plan", small, "algorithm=centralized"), cli("plan", small)
    assert outcome.status == 0, outcome.err
    assert line(outcome.out, "clients") == line(federated.out, "clients") == "8"
    assert line(outcome.out, "training") == line(federated.out, "training")
    assert line(outcome.out, "cohort") == "one, which has the rows of 8 clients"


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["algorithm=scaffold"],
        ["algorithm=fednova"],
        ["algorithm={name: fedadam}", "sampler={name: uniform, clients: 3}"],
        ["transforms=[{name: topk, fraction: 0.25}]"],
        ["aggregator=median"],
        ["aggregator={name: centered_clip, radius: 1.0}"],
    ],
    ids=" ".join,
)
@pytest.mark.one_in(3)
def test_bytes_and_sizes_are_those_of_the_run(cli: Cli, small: Path, overrides: list[str]) -> None:
    text = cli("plan", small, *overrides).out
    assert cli("run", small, "run.dir=out", "rounds=1", *overrides, "-q").status == 0
    record = json.loads(Path("out/metrics.jsonl").read_text().splitlines()[0])
    for way in ("down", "up"):
        each = int(re.findall(r": ([\d,]+) bytes", line(text, way))[0].replace(",", ""))
        assert each * record["clients"]["ok"] == record["bytes"][way]
    _, plan, server = prepared(small, *overrides)
    on_disk = (next(Path("out/checkpoints").iterdir()) / "tensors.safetensors").stat().st_size
    estimate = memory(plan, server, 1).checkpoint
    # The header of a safetensors file, which names the tensors, comes on top.
    assert estimate < on_disk < estimate + 1000
    assert memory(plan, server, 1).state == sum(path.stat().st_size for path in Path("out").glob("state/*"))


def test_it_says_what_the_run_does(cli: Cli, small: Path) -> None:
    outcome = cli("plan", small, "algorithm={name: fedprox, mu: 0.3}", "local.stack=3", "data.holdout=0.25")
    text = outcome.out
    assert outcome.status == 0
    assert outcome.err == ""
    assert "\x1b" not in text
    assert line(text, "clients") == "8"
    assert line(text, "training") == "72 examples; a client has 9"
    assert line(text, "test") == "30 examples; 30 are the own ones of 8 clients; held out on clients: 24"
    assert "label shares per client (all 8 clients; one bar each)" in text
    assert line(text, "parameters") == "D = 53 trained"
    assert line(text, "vector").startswith("P = 53 float32 values, 212 bytes")
    assert line(text, "name").startswith("fedprox(weight=auto, mu=0.3): FedProx")
    assert line(text, "client program").startswith("Pull the clients' parameters")
    assert line(text, "weight").startswith("examples: ")
    assert line(text, "local steps") == "a client does 2"
    assert line(text, "blocks") == "3 in round 1 (clients: 2 of 3, 1 of 2)"
    assert line(text, "stepping").startswith("all clients stacked: 3 clients step at once")
    assert re.search(r"for 3 clients, 6 local steps, 1 thread", line(text, "one block"))
    assert [path.name for path in Path.cwd().iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(("trim", "told"), [(0.1, "nothing: this is the plain mean"), (0.3, "2 largest and as many")])
def test_it_says_how_a_robust_aggregator_counts(trim: float, told: str, cli: Cli, small: Path) -> None:
    text = cli("plan", small, f"aggregator={{name: trimmed_mean, trim: {trim}}}").out
    assert line(text, "weight").startswith("every client counts the same")
    assert f"of a cohort of 8 it leaves out {told}" in text


@pytest.mark.parametrize(("name", "weighed"), [("geometric_median", True), ("krum, byzantine: 2", False)])
def test_it_says_whether_clients_count_by_their_examples(name: str, weighed: bool, cli: Cli, small: Path) -> None:
    text = cli("plan", small, f"aggregator={{name: {name}}}").out
    assert line(text, "weight").startswith("examples: " if weighed else "every client counts the same")


def test_a_cohort_too_small_for_the_aggregator_is_said_before_anything_starts(cli: Cli, small: Path) -> None:
    for command in (["plan", small], ["run", small, "run.dir=out", "-q"]):
        outcome = cli(*command, "aggregator={name: krum, byzantine: 3}")
        assert outcome.status == 2
        assert outcome.err == (
            "fedray: aggregator: Krum(byzantine=3) needs 9 updates at least, and a cohort has 8: take a larger cohort, "
            "or an aggregator that expects fewer attackers\n"
        )
    assert not Path("out").exists()


def test_it_names_the_attackers(cli: Cli, small: Path) -> None:
    text = cli("plan", small, "attack={name: sign_flip, clients: 0.25}").out
    assert re.fullmatch(r"sign_flip\(clients=0.25, scale=4.0\) by 2 of 8 clients: \S+, \S+", line(text, "attack"))
    text = cli("plan", small, "attack={name: alie, clients: []}", "aggregator=median").out
    assert line(text, "attack") == "alie(clients=[], z=null) by 0 of 8 clients: nobody"


def test_it_says_why_clients_step_one_by_one(cli: Cli, small: Path) -> None:
    assert line(cli("plan", small, "local.stack=off").out, "stepping") == (
        "all clients one by one: local.stack turns it off"
    )


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["local.stack=off"], "a client's batch is shared out over the GPUs of its worker, 4 at most"),
        (["local.stack=4"], "of several GPUs a worker uses the first alone: clients step stacked, which gains more"),
    ],
)
def test_it_says_what_several_gpus_do(cli: Cli, small: Path, overrides: list[str], says: str) -> None:
    found = torch.cuda.device_count()
    outcome = cli("plan", small, "worker.gpus=4", *overrides)
    assert outcome.status == 0
    assert line(outcome.out, "devices").startswith(says)
    if found < 4:
        assert line(outcome.out, "a round") == f"not measured: worker.gpus is 4, and this machine has {found} GPUs"


def test_one_gpu_needs_no_word(cli: Cli, small: Path) -> None:
    assert "  devices " not in cli("plan", small, "worker.gpus=0.5").out


def test_an_empty_cohort_is_no_mistake(cli: Cli, small: Path) -> None:
    outcome = cli("plan", small, "sampler={name: poisson, rate: 1.0e-9}")
    assert outcome.status == 0
    assert line(outcome.out, "blocks").startswith("none")
    assert "no cohort has a client" in line(outcome.out, "a round")


def test_regression_has_no_labels(cli: Cli, small: Path) -> None:
    Path("a.csv").write_text("u,y\n1,0.5\n2,1.5\n3,2.25\n")
    outcome = cli("plan", small, "data={name: csv, train: [a.csv], target: y, task: regression}")
    assert outcome.status == 0
    assert "label shares" not in outcome.out


def test_a_client_that_fails_is_said(cli: Cli, small: Path) -> None:
    module = f"nan_{small.parent.name}"
    Path(f"{module}.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Undefined(nn.Linear):\n"
        "    def forward(self, x):\n"
        "        return super().forward(x) * float('nan')\n"
        "def build(spec):\n    return Undefined(spec.shape[0], spec.outputs)\n"
    )
    outcome = cli("plan", small, f"model={module}:build", "local.stack=4")
    assert "4 failed, first client '0' (update)" in line(outcome.out, "one block")


def test_a_last_batch_of_one_row_is_said_with_the_number_of_clients(cli: Cli, small: Path) -> None:
    module = f"normed_{small.parent.name}"
    Path(f"{module}.py").write_text(
        "from torch import nn\n"
        "def build(spec):\n"
        "    return nn.Sequential(nn.Linear(spec.shape[0], 4), nn.BatchNorm1d(4), nn.Linear(4, spec.outputs))\n"
    )
    sizes = prepared(small)[1].task.data.sizes
    batch = int(sizes.max()) - 1
    options = (f"model={module}:build", f"local.batch_size={batch}")
    count = int((sizes % batch == 1).sum())
    told = f"local.last_batch=keep: the last batch of {count} of {len(sizes)} clients"
    for command in ("plan", "run"):
        cli(command, small, *options).refused(told, "set local.last_batch=merge, or drop")
    assert cli("plan", small, *options, "local.last_batch=merge").status == 0


def test_a_step_that_raises_is_an_error(cli: Cli, small: Path) -> None:
    module = f"raising_{small.parent.name}"
    Path(f"{module}.py").write_text(
        "from torch import nn\n"
        "class Picky(nn.Linear):\n"
        "    def forward(self, x):\n"
        "        if len(x) > 2:\n            raise RuntimeError('too many')\n"
        "        return super().forward(x)\n"
        "def build(spec):\n    return Picky(spec.shape[0], spec.outputs)\n"
    )
    cli("plan", small, f"model={module}:build").refused("client '0': a training step fails", "too many")


def test_a_plan_leaves_the_threads_and_the_generator_alone(cli: Cli, small: Path) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    cli("plan", small, "worker.threads=2", "model={name: mlp, hidden: [4], dropout: 0.5}")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), before)


def test_it_shows_the_learning_rates_of_a_schedule(cli: Cli, small: Path) -> None:
    assert "learning rate" not in cli("plan", small).out
    text = cli("plan", small, "local.lr_schedule={name: step, step_size: 1, gamma: 0.5}", "local.optimizer.lr=0.2").out
    assert line(text, "learning rate").startswith("step(warmup=0, step_size=1, gamma=0.5): 0.2 in round 1, ")


def test_it_says_what_is_waited_for_and_that_the_best_is_kept(cli: Cli, small: Path) -> None:
    text = cli("plan", small, "stop.metric=test.loss", "checkpoint={keep: 3, best: test.accuracy}").out
    for key in ("stop.metric", "checkpoint.best"):
        assert f"until a round is evaluated before the next: {key} decides by it" in text
    assert line(text, "checkpoint").endswith(" on disk, 3 kept and the best")
    plain = cli("plan", small).out
    assert "waits" not in plain
    assert "the best" not in plain
