"""Models of transformers with random weights, as fedray reads them from a folder."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from typing import Any

from torch import nn

from fedray.data.spec import DataSpec
from fedray.models.huggingface import HuggingFace, Lora


def pretrained(
    kind: str, width: int, layers: int, heads: int, inner: int, vocabulary: int, rank: int = 0, targets: str = ""
) -> Callable[[], nn.Module]:
    """A model of transformers with random weights, from a folder as ``save_pretrained`` writes it.

    Args:
        kind: ``llama``, ``bert``, ``gpt2`` or ``vit`` (of 3 x 8 x 8 in patches of 2: 16 places and the first).
        width: of a position.
        layers: their number.
        heads: of each attention.
        inner: width within a layer.
        vocabulary: tokens that it knows.
        rank: of adapters beside ``targets`` of a frozen base; 0: all parameters are trained.
        targets: names of layers, separated by blanks.
    """

    def build() -> nn.Module:
        import transformers as hf  # takes seconds

        sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
        sizes |= {"intermediate_size": inner}
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        spec = DataSpec((16,), vocabulary, vocabulary=vocabulary)
        if kind == "llama":
            model: Any = hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=vocabulary, **sizes))
        elif kind == "gpt2":
            shape = {"n_embd": width, "n_layer": layers, "n_head": heads, "n_inner": inner, "vocab_size": vocabulary}
            model = hf.GPT2LMHeadModel(hf.GPT2Config(**shape, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
        elif kind == "bert":
            model = hf.BertForSequenceClassification(hf.BertConfig(vocab_size=vocabulary, **sizes, **off))
            spec = DataSpec((16,), 2, vocabulary=vocabulary)
        else:
            assert kind == "vit"
            model = hf.ViTForImageClassification(hf.ViTConfig(image_size=8, patch_size=2, num_labels=6, **sizes, **off))
            spec = DataSpec((3, 8, 8), 6)
        with tempfile.TemporaryDirectory() as folder:
            hf.utils.logging.disable_progress_bar()
            model.save_pretrained(folder)
            lora = Lora(r=rank, targets=targets.split()) if rank else None
            # Of its own: the folder is gone when the model is used.
            return copy.deepcopy(HuggingFace(folder, lora=lora).build(spec))

    return build
