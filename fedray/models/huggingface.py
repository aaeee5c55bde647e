"""Models of Hugging Face transformers from a local folder, whole or with LoRA adapters on a frozen base."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fedray.config.registry import nearest
from fedray.core.errors import ConfigError, listed, one_line
from fedray.data.spec import Column, DataSpec
from fedray.models.converted import lies_in, of_converted
from fedray.models.fit import check_dropout
from fedray.models.heads import AUTO, DECODED, HEADS, Head, check_head
from fedray.models.hosted import Hosted
from fedray.models.pretrained import of_shapes, of_weights
from fedray.models.quantized import Quantization, count_as, keep_still, kept_whole, loading, quiet
from fedray.models.registry import models
from fedray.models.shapes import builds_shapes, shapes_alone
from fedray.models.shared import read_from, share_frozen

_SAID = ("input_ids", *sorted(DECODED))
"""The columns of tokens that a model has to know."""


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al., arXiv:2106.09685): ``W x + alpha / r * B A x``, of which A and B are trained.

    A is drawn by the run's seed, B is 0 at the start, so that the first model is the base.

    >>> Lora(r=4, targets=["q_proj", "v_proj"]).alpha
    16.0

    Args:
        r: rank of each adapter, at least 1.
        alpha: scale of the adapters, times r, above 0.
        targets: ends of the names of the layers that get one, such as ``q_proj``.
        dropout: share of an adapter's inputs that is dropped, in [0, 1).
    """

    r: int = 8
    alpha: float = 16.0
    targets: list[str] = field(default_factory=list)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError(f"lora.r={self.r}: it must be at least 1")
        if not self.alpha > 0:
            raise ValueError(f"lora.alpha={self.alpha:g}: it must be above 0")
        check_dropout(self.dropout)


@models.register("huggingface")
@dataclass(frozen=True)
class HuggingFace:
    """A model of transformers, read from a folder that ``save_pretrained`` wrote (``pip install fedray[llm]``).

    Nothing is downloaded, and no code of the folder runs: it needs ``config.json`` and safetensors.  With ``lora`` the
    base is frozen in ``dtype``, mapped from its file, or from one that has it so, held once on a node, in no vector;
    adapters, and a new head, are float32 and are what clients train.  Without it all parameters are trained, in
    float32.  Logits come in float32.

    >>> HuggingFace("./tinyllama", dtype="bfloat16", lora=Lora(r=4, targets=["q_proj"])).lora.r
    4

    Args:
        path: the folder.
        dtype: type of the base: ``float32``, ``bfloat16`` or ``float16``.
        quantization: the linear layers of the base, output layer and new heads aside, in 8 bits (``int8``: LLM.int8(),
            arXiv:2208.07339) or in 4 (``nf4``, ``fp4``: QLoRA, arXiv:2305.14314, with double quantization), which
            bitsandbytes multiplies in ``dtype``, and of 8 bits in float16 (``pip install fedray[quantization]``).
        lora: the adapters; None: all parameters are trained.
        head: the end of the model: ``causal_lm``, ``seq2seq_lm``, ``speech_seq2seq``, ``masked_lm``,
            ``sequence_classification``, ``token_classification``, ``multiple_choice``, ``question_answering``,
            ``next_sentence_prediction``, ``image_classification``, ``semantic_segmentation``, ``video_classification``,
            ``audio_classification`` or ``audio_frame_classification``; ``auto``: as ``config.json`` names its
            architecture, and for texts that have a target of their own ``sequence_classification`` in the place of a
            language model, or of none.  A head that the folder lacks is drawn by the run's seed, one of classes for as
            many as the data has.
        gradient_checkpointing: compute activations again in the backward pass, to hold less of them.
    """

    path: str
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    lora: Lora | None = None
    head: str = AUTO
    gradient_checkpointing: bool = False
    quantization: Quantization | None = None

    name: ClassVar[str] = "huggingface"

    def __post_init__(self) -> None:
        check_head(self.head)
        if self.lora is None and self.dtype != "float32":
            raise ValueError(
                f"dtype={self.dtype}: without lora all parameters are trained, in float32; add lora: {{targets: [...]}}"
                ", or leave dtype out and take local.precision: bf16"
            )
        if self.lora is None and self.quantization is not None:
            raise ValueError(
                f"quantization={self.quantization}: weights of so few bits cannot be trained; add lora: "
                "{targets: [...]}, or leave quantization out"
            )

    def __getstate__(self) -> dict[str, Any]:
        # Workers may have another working directory.
        return {**vars(self), "path": str(Path(self.path).absolute())}

    def build(self, spec: DataSpec) -> nn.Module:
        """Return the module, which takes token ids or pixels, or columns by the names of transformers.

        Raises:
            ConfigError: a package is missing, or the folder, or weights in it; the data has other inputs; there is
                nothing for an adapter.
        """
        transformers, peft = _packages(self.lora is not None)
        folder, name = Path(self.path), self._head(spec, transformers)
        head = HEADS[name]
        head.check(spec)
        with _quiet(transformers):
            try:
                model, new = self._read(getattr(transformers, head.maker), head.options(spec))
            except ConfigError:
                raise
            except (OSError, RuntimeError, ValueError, KeyError, ImportError, SafetensorError) as error:
                raise ConfigError(f"model.path: {folder} cannot be read as a {name} model: {one_line(error)}") from None
            if new and head.says == "tokens":
                raise ConfigError(f"model.path: {folder} lacks the weights {listed(new)}: save the whole model there")
            _check_vocabulary(spec, model.config, folder)
            if getattr(model.config, "use_cache", False):
                model.config.use_cache = False
            pad = _padding(model.config, folder) if head.padding else None
            start = _start(model.config, folder) if head.decodes else None
            cache = _cache_of(model) if head.says == "tokens" and not head.decodes else None
            if self.lora is not None:
                model = _adapted(peft, model, self.lora, head, new)
            if self.gradient_checkpointing:
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return read_from(share_frozen(Hosted(model, pad, cache, head.gives, start, getattr(torch, self.dtype))), folder)

    def _read(self, maker: Any, options: dict[str, Any]) -> tuple[Any, list[str]]:
        """Return the base, and the names of the weights that the folder lacks; arguments as for ``of_weights``."""
        folder, dtype = Path(self.path), getattr(torch, self.dtype)
        if self.quantization is None and builds_shapes():
            return of_shapes(maker, folder, dtype, options)
        if self.quantization is None:
            as_it_lies = self.lora is None or lies_in(folder, dtype)
            return (of_weights if as_it_lies else of_converted)(maker, folder, dtype, options)
        with shapes_alone():
            shapes, new = of_shapes(maker, folder, dtype, options)
        whole = kept_whole(shapes, new)
        if builds_shapes():
            count_as(shapes, self.quantization, whole)
            return shapes, new
        model, new = of_converted(maker, folder, dtype, options | loading(self.quantization, dtype, whole))
        keep_still(model)
        return model, new

    def _head(self, spec: DataSpec, transformers: Any) -> str:
        """Return what the model is to end in.

        Raises:
            ConfigError: there is no such folder, or it does not say.
        """
        file = Path(self.path) / "config.json"
        if not file.is_file():
            raise ConfigError(
                f"model.path: there is no {file}; a folder as save_pretrained writes it is needed, as nothing is "
                "downloaded"
            )
        if self.head != AUTO:
            return self.head
        try:
            named = json.loads(file.read_text())["architectures"]
        except (KeyError, ValueError, TypeError):
            named = []
        architectures = list(map(str, named or []))
        found = next(
            (name for name, head in HEADS.items() if any(head.makes(transformers, one) for one in architectures)), None
        )
        speaks = found is None or HEADS[found].says == "tokens"
        if speaks and spec.tokens is not None and (spec.classes or spec.task == "regression"):
            return "sequence_classification"
        if found is not None:
            return found
        raise ConfigError(
            f"model.head: {file} names {listed(architectures, 'no architecture')}; say what the model is "
            f"to end in: {', '.join(HEADS)}"
        )


def _packages(adapted: bool) -> tuple[Any, Any]:
    """Import what is needed, which takes seconds.

    Raises:
        ConfigError: it is not installed.
    """
    quiet()
    try:
        return import_module("transformers"), import_module("peft") if adapted else None
    except ImportError as error:
        raise ConfigError(
            f"model.name: huggingface needs the packages transformers and peft ({one_line(error)}); install them: "
            "pip install 'fedray[llm]'"
        ) from None


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Say nothing while a model is read: what is missing becomes an error, or is what was asked for."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what peft asks transformers
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def _adapted(peft: Any, model: Any, lora: Lora, head: Head, new: list[str]) -> Any:
    """Return the model, frozen, with adapters, and with the parts that are ``new`` trained."""
    layers = {name: module for name, module in model.named_modules() if _takes(module)}
    known = sorted({name.rpartition(".")[2] for name in layers if not name.rpartition(".")[2].isdigit()})
    if not lora.targets:
        raise ConfigError(f"model.lora.targets: name the layers that get adapters; the model has {', '.join(known)}")
    chosen = []
    for target in lora.targets:
        found = [m for name, m in layers.items() if name == target or name.endswith(f".{target}")]
        if not found:
            hint = nearest(target, known)
            raise ConfigError(
                f"model.lora.targets: no layer is called {target!r}{hint}; the model has {', '.join(known)}"
            )
        chosen += found
    kept = sorted({name.rpartition(".")[0] for name in new})
    config = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        target_modules=list(lora.targets),
        lora_dropout=lora.dropout,
        task_type=head.peft,
        modules_to_save=kept or None,
        fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in chosen),
    )
    adapted = peft.get_peft_model(model, config)
    for module in adapted.modules():
        trained = [p for p in module.parameters(recurse=False) if p.requires_grad and p.dtype != torch.float32]
        if trained:
            module.float()
            module.register_forward_pre_hook(_to_float)
    return adapted


def _to_float(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Hand a trained part float32, whatever the type of the base."""
    return tuple(x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs)


def _padding(config: Any, folder: Path) -> int:
    """Return the padding of a model that ends in a class of a text, which looks for the end there.

    Where its config names none, it is the token that ends a text, as is usual.

    Raises:
        ConfigError: it names neither.
    """
    ends = getattr(config, "eos_token_id", None)
    for token in (getattr(config, "pad_token_id", None), ends[0] if isinstance(ends, list) and ends else ends):
        if isinstance(token, int) and token >= 0:
            config.pad_token_id = token
            return token
    raise ConfigError(
        f"model.path: {folder / 'config.json'} names neither pad_token_id nor eos_token_id, by which the model finds "
        "the end of a text: set pad_token_id there, to that of the tokenizer"
    )


def _start(config: Any, folder: Path) -> int:
    """Return the token before the first one that a decoder says.

    Raises:
        ConfigError: the config names none.
    """
    found = getattr(config, "decoder_start_token_id", None)
    if isinstance(found, int):
        return found
    raise ConfigError(
        f"model.path: {folder / 'config.json'} names no decoder_start_token_id, with which its decoder begins: set it "
        "there, as it was in training"
    )


def _cache_of(model: Any) -> str | None:
    """Return the name by which a model takes keys and values beside the places of tokens; None: it does not."""
    takes = signature(model.forward).parameters
    if "position_ids" not in takes:
        return None
    return next((name for name in ("cache", "past_key_values") if name in takes), None)


def _takes(module: nn.Module) -> bool:
    """Tell if a layer can have an adapter."""
    return isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d) or type(module).__name__ == "Conv1D"


def _check_vocabulary(spec: DataSpec, config: Any, folder: Path) -> None:
    """Raise ConfigError where the data has tokens, or is longer, than the model knows."""
    known = getattr(config, "vocab_size", None)
    longest = getattr(config, "max_position_embeddings", None)
    columns = spec.columns or (Column("x", spec.shape, spec.vocabulary),)
    said = [one for one in columns if not spec.columns or one.name in _SAID]
    tokens = max((one.vocabulary for one in said), default=0)
    length = max((one.shape[-1] for one in said if one.vocabulary and one.shape), default=0)
    if known is not None and tokens > known:
        raise ConfigError(
            f"model.path: {folder} knows {known:,} tokens, and the data has numbers up to {tokens - 1:,}: take the "
            "model's own tokenizer"
        )
    if longest is not None and length > longest:
        raise ConfigError(
            f"model.path: {folder} knows {longest:,} positions, and sequences have {length:,}: cut them; of "
            "text, data.max_length does"
        )
