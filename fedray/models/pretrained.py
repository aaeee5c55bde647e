"""The model of a folder of transformers: with its weights, or of shapes alone, from what the folder says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch


def of_weights(maker: Any, folder: Path, dtype: torch.dtype, options: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return the model with the weights of its folder, and the names of those that the folder lacks.

    Args:
        maker: a class of transformers, such as ``AutoModelForCausalLM``.
        folder: the folder.
        dtype: type of the weights.
        options: further arguments of ``from_pretrained``, entries of the model's config among them.
    """
    model, told = maker.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
    )
    return model, sorted(told["missing_keys"])


def of_shapes(maker: Any, folder: Path, dtype: torch.dtype, options: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return the model of shapes alone, by its ``config.json``; arguments as for :func:`of_weights`.

    Which weights the folder lacks is told by the architecture that it names: where that is another one, all that do not
    belong to the base.
    """
    config = import_module("transformers").AutoConfig.from_pretrained(folder, local_files_only=True, **options)
    model = maker.from_config(config, dtype=dtype)
    named = json.loads((folder / "config.json").read_text()).get("architectures") or []
    if type(model).__name__ in named:
        return model, []
    base = f"{model.base_model_prefix}."
    return model, sorted(name for name, _ in model.named_parameters() if not name.startswith(base))
