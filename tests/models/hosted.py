"""Tiny models of transformers with random weights, in folders as ``save_pretrained`` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

VOCABULARY = 24


def tiny(kind: str, vocabulary: int = VOCABULARY, positions: int = 32) -> Any:
    """Return a tiny model of some kind, always the same, without dropout."""
    import transformers  # takes seconds

    with torch.random.fork_rng():
        torch.manual_seed(7)
        if kind == "llama":
            sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
            rest = {"num_key_value_heads": 2, "max_position_embeddings": positions, "tie_word_embeddings": False}
            return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=vocabulary, **sizes, **rest))
        if kind == "gpt2":
            off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
            config = transformers.GPT2Config(
                vocab_size=vocabulary, n_embd=16, n_layer=2, n_head=2, n_positions=positions, **off
            )
            return transformers.GPT2LMHeadModel(config)
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
        if kind == "bert":
            config = transformers.BertConfig(vocab_size=vocabulary, max_position_embeddings=positions, **shape, **off)
            return transformers.BertModel(config)
        assert kind == "vit"
        return transformers.ViTModel(transformers.ViTConfig(image_size=8, patch_size=4, num_channels=1, **shape, **off))


def saved(folder: Path, kind: str, dtype: torch.dtype = torch.float32, scale: float = 1.0, **sizes: int) -> Path:
    """Write a tiny model of some kind into a folder, its parameters times ``scale``."""
    model = tiny(kind, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    model.to(dtype).save_pretrained(folder)
    return folder


def trained(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters that are trained, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}
