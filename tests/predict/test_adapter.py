"""Adapters of a run in a folder that peft loads, with the outputs of the run's model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fedray
from fedray.core.errors import ConfigError
from fedray.predict.exported import export
from fedray.rundir.folder import RunFolder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of what peft asks transformers
@pytest.mark.parametrize(("kind", "targets"), [("llama", ["q_proj", "v_proj"]), ("gpt2", ["c_attn"])])
def test_peft_loads_the_adapters_and_gives_the_same_logits(tmp_path: Path, kind: str, targets: list[str]) -> None:
    import peft
    import transformers

    from tests.models.hosted import saved

    base = saved(tmp_path / "base", kind)
    (base / "tokenizer.json").write_text("{}")
    ids = np.random.default_rng(2).integers(1, 24, (8, 6))
    data = fedray.FederatedData.from_arrays({"input_ids": ids}, ids, clients=np.arange(8) % 2)
    model = {"name": "huggingface", "path": str(base), "lora": {"r": 2, "targets": targets}}
    args = fedray.TrainArgs(rounds=2, optimizer={"name": "sgd", "lr": 1.0}, batch_size=2)
    federated = fedray.FederatedModel(model, task="causal_lm")
    result = fedray.train(federated, data, args, cluster="inline", run_dir=str(tmp_path / "run"), progress=False)
    folder, out = RunFolder(tmp_path / "run"), tmp_path / "made" / "adapter"
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in export(folder, out, "peft")}
    plain = transformers.AutoModelForCausalLM.from_pretrained(base)
    x = torch.from_numpy(ids)
    with torch.no_grad():
        before, trained = plain(x).logits, result.model(input_ids=x)
        adapted = peft.PeftModel.from_pretrained(plain, out)
        loaded, merged = adapted(x).logits, adapted.merge_and_unload()(x).logits
    assert torch.equal(loaded, trained)
    assert not torch.allclose(loaded, before, atol=1e-4)
    assert torch.allclose(merged, trained, atol=1e-5)
    whole = export(folder, tmp_path / "whole", "huggingface")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in whole}
    (tmp_path / "like").touch()
    files = [*out.iterdir(), *whole, tmp_path / "like"]
    assert len({path.stat().st_mode for path in files}) == 1, "as the umask says, tensors too"
    alone = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert alone.config.use_cache
    with torch.no_grad():
        assert torch.allclose(alone(x).logits, trained, atol=1e-5)
        assert torch.equal(transformers.AutoModelForCausalLM.from_pretrained(base)(x).logits, before)
    with pytest.raises(ConfigError, match="there already; name a new folder, or say --force"):
        export(folder, out, "peft")
    assert export(folder, out, "peft", force=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of what peft asks transformers
@pytest.mark.parametrize(("kind", "targets"), [("llama", ["q_proj", "v_proj"]), ("gpt2", ["c_attn"])])
@pytest.mark.parametrize("name", ["fedexlora", "flora"])
def test_a_base_that_the_algorithm_has_changed_is_written_whole(
    tmp_path: Path, kind: str, targets: list[str], name: str
) -> None:
    import transformers

    from tests.models.hosted import saved

    base = saved(tmp_path / "base", kind)
    ids = np.random.default_rng(2).integers(1, 24, (8, 6))
    data = fedray.FederatedData.from_arrays({"input_ids": ids}, ids, clients=np.arange(8) % 2)
    model = {"name": "huggingface", "path": str(base), "lora": {"r": 2, "targets": targets}}
    args = fedray.TrainArgs(rounds=2, optimizer={"name": "sgd", "lr": 1.0}, batch_size=2)
    federated = fedray.FederatedModel(model, task="causal_lm")
    result = fedray.train(
        federated, data, args, algorithm=name, cluster="inline", run_dir=str(tmp_path / "run"), progress=False
    )
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(
        ConfigError, match="has changed the base, which adapters alone do not tell; take --to huggingface"
    ):
        export(folder, tmp_path / "adapter", "peft")
    export(folder, tmp_path / "whole", "huggingface")
    x = torch.from_numpy(ids)
    with torch.no_grad():
        trained = result.model(input_ids=x)
        alone = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "whole")(x).logits
        before = transformers.AutoModelForCausalLM.from_pretrained(base)(x).logits
    assert torch.allclose(alone, trained, atol=1e-5)
    assert not torch.allclose(alone, before, atol=1e-4)
    changed = {n: b for n, b in result.model.named_buffers() if n.endswith("base_residual")}
    assert len(changed) == 2 * len(targets)
    assert all(bool(change.any()) for change in changed.values())


def test_a_model_without_adapters_has_none_to_write(tmp_path: Path) -> None:
    data = fedray.FederatedData.from_arrays(np.zeros((4, 2)), [0, 1, 0, 1], clients=[0, 0, 1, 1])
    fedray.train(
        fedray.FederatedModel("logistic"),
        data,
        fedray.TrainArgs(rounds=1),
        cluster="inline",
        run_dir=str(tmp_path / "run"),
        progress=False,
    )
    with pytest.raises(ConfigError, match="is none of transformers; take --to safetensors"):
        export(RunFolder(tmp_path / "run"), tmp_path / "adapter", "peft")
    with pytest.raises(ConfigError, match="--with-scaling"):
        export(RunFolder(tmp_path / "run"), tmp_path / "adapter", "peft", scaling=True)
    assert not (tmp_path / "adapter").exists()
