"""Text through the commands: a run that is killed and goes on, what is told of it, and predictions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import Cli, hashes

ROOT = Path(__file__).resolve().parents[2]

CHATS = [
    ("ann", "what is two and two ?", "four ."),
    ("ann", "is five two ?", "no ."),
    ("ann", "is two two ?", "yes ."),
    ("bob", "what is three ?", "three is three ."),
    ("bob", "is no yes ?", "no , no ."),
    ("cleo", "two and three ?", "five ."),
]

CONFIG = """\
seed: 3
data: {name: text, train: chats.jsonl, test: chats.jsonl, clients: {column: who}, max_length: 24}
model: {name: huggingface, path: base, lora: {r: 2, targets: [q_proj, v_proj]}}
task: causal_lm
algorithm: {name: fedavg, weight: tokens}
local: {batch_size: 2, optimizer: {name: adamw, lr: 0.05}}
rounds: 3
cluster: {name: inline}
checkpoint: {every: 1}
tracking: []
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of what peft asks transformers
@pytest.mark.parametrize(
    ("where", "status"),
    [
        pytest.param("cluster.name=inline", -signal.SIGKILL, id="inline"),
        pytest.param("cluster={name: ray, workers: 2}", 1, id="ray"),  # the command outlives the driver's process
    ],
)
def test_adapters_learn_from_chats_are_killed_and_go_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, where: str, status: int
) -> None:
    from tests.data.text.hosted import TEMPLATE
    from tests.data.text.hosted import saved as saved_words
    from tests.models.hosted import saved

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDRAY_CACHE", str(tmp_path / "kept"))
    saved(tmp_path / "base", "llama")
    saved_words(tmp_path / "base", TEMPLATE)
    turns = [(who, {"role": "user", "content": q}, {"role": "assistant", "content": a}) for who, q, a in CHATS]
    lines = [json.dumps({"who": who, "messages": chat}) for who, *chat in turns]
    Path("chats.jsonl").write_text("\n".join(lines))
    Path("text.yaml").write_text(CONFIG)
    assert cli("run", "text.yaml", "run.dir=whole", "-q").status == 0
    Path("faults.json").write_text('[{"point": "driver.aggregate", "round": 2, "action": "kill"}]')
    command = [sys.executable, "-m", "fedray", "run", "text.yaml", where, "run.dir=halves", "-q"]
    env = {**os.environ, "FEDRAY_FAULTS": str(tmp_path / "faults.json"), "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(command, env=env, capture_output=True, check=False)
    assert killed.returncode == status, killed.stderr.decode()
    assert hashes(Path("halves")) == hashes(Path("whole"))[:1]
    outcome = cli("resume", "halves", "-q")
    assert outcome.status == 0, outcome.err
    assert hashes(Path("halves")) == hashes(Path("whole"))
    assert len(set(hashes(Path("whole")))) == 3
    log = Path("halves/log.txt").read_text()
    assert "text, tokens by base: of 2 files read from" in log
    assert "no checkpoint yet" not in log
    records = [json.loads(line) for line in Path("whole/metrics.jsonl").read_text().splitlines()]
    losses = [record["test"]["loss"] for record in records]
    assert losses[-1] < losses[0]
    assert records[0]["weight"] == 22  # tokens of answers, and an end of each
    predicted = cli("predict", "whole", "chats.jsonl")
    assert predicted.status == 0, predicted.err
    assert predicted.out.splitlines()[0] == '"row","targets","perplexity"'
    assert len(predicted.out.splitlines()) == 1 + len(CHATS)
    told = cli("data", "text.yaml")
    assert told.status == 0, told.err
    assert "median length" in told.out
