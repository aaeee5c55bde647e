"""A frozen base that is held in another form than that of its files: made once, kept on disk, mapped from there.

A process that converted it for itself would hold it for itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from fedray.core.errors import ConfigError, one_line
from fedray.models.pretrained import of_weights
from fedray.rundir.names import CACHE, cache_folder

_FORM = "quantization_config"
"""The argument of ``from_pretrained`` that a folder of quantized weights names itself."""

_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
"""Types, as safetensors names them."""


def lies_in(folder: Path, dtype: torch.dtype) -> bool:
    """Return whether all weights in a folder are stored in a type, or are no numbers with a point.

    Args:
        folder: of safetensors files.
        dtype: the type.
    """
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                kind = opened.get_slice(name).get_dtype()
                if kind.startswith(("F", "BF")) and kind != _NAMES[dtype]:
                    return False
    return True


def of_converted(maker: Any, folder: Path, dtype: torch.dtype, options: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return what :func:`fedray.models.pretrained.of_weights` does, mapped from files that have the weights so.

    They are made by the first process that asks, and kept below ``$FEDRAY_CACHE`` by path, sizes and times of the
    folder's files, and the versions that read them.  What the folder lacks is in no file, and drawn each time.

    Args:
        maker: a class of transformers, such as ``AutoModelForCausalLM``.
        folder: the folder.
        dtype: type of the weights.
        options: further arguments of ``from_pretrained``, such as how to quantize.

    Raises:
        ConfigError: there is no room for them, or no leave to write there.
    """
    place = cache_folder("bases") / _key(maker, folder, dtype, options)
    if not place.is_dir():
        # What is drawn here is not kept, and must not move what is drawn after it.
        with torch.random.fork_rng(devices=[]):
            made, new = of_weights(maker, folder, dtype, options)
        _write(place, made, new, folder, dtype)
        del made
    return of_weights(maker, place, dtype, {name: value for name, value in options.items() if name != _FORM})


def _key(maker: Any, folder: Path, dtype: torch.dtype, options: Mapping[str, Any]) -> str:
    files = [(file.name, stat.st_size, stat.st_mtime_ns) for file, stat in _stats(folder)]
    form = options[_FORM].to_dict() if _FORM in options else None
    versions = [version(name) for name in ("torch", "transformers", *(["bitsandbytes"] if form else []))]
    said = [str(folder.resolve()), files, maker.__name__, str(dtype), form, versions]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def _stats(folder: Path) -> list[tuple[Path, Any]]:
    files = sorted([folder / "config.json", *folder.glob("*.safetensors")])
    return [(file, file.stat()) for file in files]


def _write(place: Path, made: Any, new: list[str], folder: Path, dtype: torch.dtype) -> None:
    """Write a model without its ``new`` weights: all of the folder or nothing, whoever writes it as well."""
    begun = place.with_name(f"{place.name}.{uuid.uuid4().hex}")
    try:
        begun.mkdir(parents=True)
        # A state dict that is given is not looked at where weights are quantized.
        made._keys_to_ignore_on_save = [*(made._keys_to_ignore_on_save or []), *new]
        made.save_pretrained(begun, max_shard_size="1GB")
        begun.rename(place)
    except (OSError, SafetensorError) as error:
        if not place.is_dir():
            raise ConfigError(
                f"model: {folder} as {str(dtype).removeprefix('torch.')}, which is kept to be held once on a node, "
                f"cannot be written below {place.parent}: {one_line(error)}; make room, or name another "
                f"folder by {CACHE}"
            ) from None
    finally:
        shutil.rmtree(begun, ignore_errors=True)
