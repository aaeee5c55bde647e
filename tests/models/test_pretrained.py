"""Models of folders of transformers, of shapes alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.data.spec import DataSpec
from fedray.models import HuggingFace, Lora
from fedray.models.shapes import Shaped

TOKENS = DataSpec(shape=(6,), outputs=24, vocabulary=24)
CLASSES = DataSpec(shape=(6,), outputs=3, vocabulary=24)
IMAGES = DataSpec(shape=(1, 8, 8), outputs=3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of what peft asks transformers
@pytest.mark.parametrize(
    ("kind", "head", "spec", "lora"),
    [
        ("llama", "causal_lm", TOKENS, None),
        ("llama", "causal_lm", TOKENS, Lora(r=2, targets=["q_proj", "embed_tokens"])),
        ("gpt2", "causal_lm", TOKENS, Lora(r=2, targets=["c_attn"])),
        ("bert", "sequence_classification", CLASSES, Lora(r=2, targets=["query"])),
        ("vit", "image_classification", IMAGES, Lora(r=2, targets=["q_proj"])),
    ],
)
def test_shapes_have_the_layout_of_the_weights_and_need_none(
    tmp_path: Path, kind: str, head: str, spec: DataSpec, lora: Lora | None
) -> None:
    from tests.models.hosted import saved

    saved(tmp_path / "base", kind)
    model = HuggingFace(str(tmp_path / "base"), lora=lora, head=head)
    if kind == "bert":
        config = tmp_path / "base" / "config.json"
        config.write_text(config.read_text().replace("{", '{"pad_token_id": 0,', 1))
    read = model.build(spec)
    (tmp_path / "base" / "model.safetensors").unlink()
    shaped = Shaped(model).build(spec)
    assert Layout.of(shaped) == Layout.of(read)
    assert {n: (p.dtype, p.requires_grad) for n, p in shaped.named_parameters()} == {
        n: (p.dtype, p.requires_grad) for n, p in read.named_parameters()
    }
    with pytest.raises(ConfigError, match="cannot be read as a"):
        model.build(spec)
