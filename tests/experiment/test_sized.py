"""Plans by sizes alone."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path

import numpy as np
import pytest

from fedray.core.errors import ConfigError
from fedray.experiment.build import Config
from fedray.experiment.estimate.memory import memory
from fedray.models.shapes import shapes_alone
from tests.cli.command import Cli
from tests.experiment.estimate.plans import prepared

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
    "torch_dtype": "bfloat16",
    "eos_token_id": 2,
}
OPT = {
    "architectures": ["OPTForCausalLM"],
    "model_type": "opt",
    "hidden_size": 2048,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "ffn_dim": 8192,
    "word_embed_proj_dim": 2048,
    "vocab_size": 50272,
    "eos_token_id": 2,
}
CONFIG = """\
data: {name: tokens, clients: 8, examples: 16, length: 512, vocabulary: 32000, test: 4}
model: {name: huggingface, path: base, dtype: bfloat16, lora: {r: 16, alpha: 32, targets: [q_proj, v_proj]}}
task: causal_lm
algorithm: fedit
rounds: 2
local: {batch_size: 4, precision: bf16, optimizer: {name: adamw, lr: 0.0002}}
worker: {gpus: 1}
"""


def base(folder: Path, said: dict[str, object]) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(said))


def number(text: str, pattern: str) -> int:
    (found,) = re.findall(pattern, text)
    return int(found.replace(",", ""))


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["local.optimizer={name: adam}", "local.stack=4"],
        ["algorithm={name: fedadam}", "transforms=[int8]"],
        ["aggregator=median", "local.keep_optimizer=true", "local.optimizer={name: sgd, lr: 0.1, momentum: 0.9}"],
    ],
    ids=" ".join,
)
def test_all_but_the_passes_is_what_the_plan_of_the_model_counts(small: Path, overrides: list[str]) -> None:
    stack = [] if any("stack" in one for one in overrides) else ["local.stack=off"]
    _, plan, server = prepared(small, *overrides, *stack)
    expected = memory(plan, server, 2)
    sized = Config.load(small, [*overrides, *stack]).plan(sizes=True)
    with shapes_alone():
        found = memory(sized, sized.start(sized.layout.pack(dict(sized.task.model_fn().state_dict()))), 2)
    assert sized.layout == plan.layout
    assert {**found.worker, "activations": 0} == {**expected.worker, "activations": 0}
    assert found.worker["activations"] >= expected.worker["activations"]
    assert (found.driver, found.checkpoint, found.state) == (expected.driver, expected.checkpoint, expected.state)
    everyone = np.arange(8)
    assert sized.traffic(everyone, everyone) == plan.traffic(everyone, everyone)


def test_an_algorithm_that_has_to_be_tried_is_refused(small: Path) -> None:
    with pytest.raises(ConfigError, match="--sizes: what clients of scaffold send and keep is seen in a trial"):
        Config.load(small, ["algorithm=scaffold"]).plan(sizes=True)


def test_the_command_says_what_is_not_known(cli: Cli, small: Path) -> None:
    outcome = cli("plan", small, "--sizes", "local.stack=4")
    assert outcome.status == 0, outcome.err
    assert "not known by sizes alone" in outcome.out
    assert "4 at once, as local.stack says" in outcome.out


@pytest.mark.slow
def test_seven_billion_are_planned_by_their_config_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    base(Path("base"), LLAMA)
    Path("lora.yaml").write_text(CONFIG)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = cli("plan", "lora.yaml", "--sizes", "--device-memory", "80", "--node-memory", "64")
    assert outcome.status == 0, outcome.err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kilobytes; the base has 13.5 GB
    trained = 32 * 2 * 16 * (4096 + 4096)
    assert number(outcome.out, r"D = ([\d,]+) trained") == trained
    assert number(outcome.out, r"down .*: ([\d,]+) bytes to each client") == 4 * trained
    assert number(outcome.out, r"up .*: ([\d,]+) bytes from each client") == 4 * trained
    assert "13.5 GB that is frozen and does not travel; held once on a node" in outcome.out
    cli("plan", "lora.yaml", "--sizes", "--device-memory", "24").refused("a GPU needs", "--device-memory")


@pytest.mark.slow
def test_a_full_run_of_a_billion_is_planned_by_its_config_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    base(Path("base"), OPT)
    text = re.sub(r"model: .*", "model: {name: huggingface, path: base}", CONFIG).replace("fedit", "fedavg")
    Path("full.yaml").write_text(text.replace("32000", "50272"))
    told = {}
    for checkpointing in ("false", "true"):
        changed = f"model.gradient_checkpointing={checkpointing}"
        outcome = cli("plan", "full.yaml", changed, "--sizes", "--device-memory", "80", "--node-memory", "256")
        assert outcome.status == 0, outcome.err
        assert number(outcome.out, r"D = ([\d,]+) trained") == 1_315_758_080
        (told[checkpointing],) = re.findall(r"activations ([\d.]+) GB", outcome.out)
    assert float(told["true"]) < 0.6 * float(told["false"])
    shared = cli("plan", "full.yaml", "cluster={name: ray}", "worker={ranks: 4, gpus: 1}", "--sizes")
    assert "each of 4 ranks" in shared.out
