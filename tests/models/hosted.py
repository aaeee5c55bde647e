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


def t5(transformers: Any, vocabulary: int, positions: int) -> Any:
    """Return a T5, an encoder and a decoder."""
    config = transformers.T5Config(
        vocab_size=vocabulary,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=2,
        num_heads=2,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    return transformers.T5ForConditionalGeneration(config)


_BOTH = {"d_model": 16, "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
_BOTH |= dict.fromkeys(("encoder_layers", "decoder_layers"), 1)
_BOTH |= dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2)
_BOTH |= dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 24)
_TOLD = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 1}


def bart(transformers: Any, vocabulary: int, positions: int) -> Any:
    """Return a BART, an encoder and a decoder."""
    config = transformers.BartConfig(vocab_size=vocabulary, max_position_embeddings=positions, **_BOTH, **_TOLD)
    return transformers.BartForConditionalGeneration(config)


def whisper(transformers: Any, vocabulary: int, positions: int) -> Any:
    """Return a Whisper, which hears 16 frames of 4 bands."""
    config = transformers.WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=4,
        max_source_positions=8,
        max_target_positions=positions,
        suppress_tokens=[],
        begin_suppress_tokens=[],
        **_BOTH,
        **_TOLD,
    )
    return transformers.WhisperForConditionalGeneration(config)


OTHERS: dict[str, Callable[[Any, int, int], Any]] = {
    "bert_masked": bert_with("BertForMaskedLM"),
    "t5": t5,
    "bart": bart,
    "whisper": whisper,
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
