"""The model of a run as files: what is trained, and what is frozen, which is hashed and written once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.rundir import durable
from fedray.rundir.names import FROZEN


def fingerprint(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the SHA-256 of named tensors, of their types, shapes and bytes; None if there are none.

    >>> fingerprint({"scale": torch.ones(2, dtype=torch.bfloat16)})[:12]
    'b45a8a43d469'
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest() if tensors else None


def keep_frozen(run_dir: Path, layout: Layout, module: nn.Module) -> str | None:
    """Write the frozen tensors of a run's model into its folder, unless they are there; returns their fingerprint."""
    tensors, path = layout.frozen_of(module), run_dir / FROZEN
    if tensors and not path.exists():
        durable.replace(path, {name: tensor.detach().cpu() for name, tensor in tensors.items()})
    return fingerprint(tensors)


def frozen_in(run_dir: Path, layout: Layout) -> dict[str, Tensor]:
    """Read the frozen tensors of a run's model from its folder.

    Raises:
        ConfigError: they are not there, or damaged.
    """
    if not layout.frozen:
        return {}
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(run_dir / FROZEN)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{run_dir / FROZEN}: the frozen tensors of the model cannot be read: {error}") from None


def write_model(layout: Layout, vector: Tensor, path: Path, frozen: Mapping[str, Tensor]) -> None:
    """Write the global model, frozen tensors included, as safetensors with the names of the module's ``state_dict``."""
    durable.replace(path, layout.state_dict(vector.detach().cpu(), frozen))
