"""Tiny models of transformers with random weights, in folders as ``save_pretrained`` writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

VOCABULARY = 24

_LAYERS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_OFF = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def bert_with(head: str) -> Callable[[Any, int, int], Any]:
    """Return what makes a BERT that ends in some class of transformers."""

    def made(transformers: Any, vocabulary: int, positions: int) -> Any:
        config = transformers.BertConfig(
            vocab_size=vocabulary, max_position_embeddings=positions, pad_token_id=0, **_LAYERS, **_OFF
        )
        return getattr(transformers, head)(config)

    return made


def segformer(transformers: Any, vocabulary: int, positions: int) -> Any:
    """Return a SegFormer without a head, of 16 x 16 pixels."""
    config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[3, 3],
        strides=[2, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=8,
        num_channels=1,
        drop_path_rate=0.0,
        classifier_dropout_prob=0.0,
        **_OFF,
    )
    return transformers.SegformerModel(config)


def films(transformers: Any, vocabulary: int, positions: int) -> Any:
    """Return a VideoMAE without a head, of 2 frames of 8 x 8 pixels."""
    shape = {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_frames": 2, "tubelet_size": 1}
    return transformers.VideoMAEModel(transformers.VideoMAEConfig(**shape, **_LAYERS, **_OFF))


def sounds(transformers: Any, vocabulary: int, positions: int) -> Any:
    """Return a wav2vec2 without a head, which makes a frame of 4 samples."""
    names = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop")
    config = transformers.Wav2Vec2Config(
        conv_dim=[8, 8],
        conv_stride=[2, 2],
        conv_kernel=[2, 2],
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
        mask_time_prob=0.0,
        final_dropout=0.0,
        **dict.fromkeys(names, 0.0),
        **_LAYERS,
    )
    return transformers.Wav2Vec2Model(config)


OTHERS: dict[str, Callable[[Any, int, int], Any]] = {
    "bert_masked": bert_with("BertForMaskedLM"),
    "segformer": segformer,
    "videomae": films,
    "wav2vec2": sounds,
}


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
        if kind in OTHERS:
            return OTHERS[kind](transformers, vocabulary, positions)
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
