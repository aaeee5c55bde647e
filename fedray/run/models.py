"""The model of a run as files: what is trained, and what is frozen, which is hashed and written once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from fedray.core.errors import ConfigError, listed
from fedray.core.layout import Layout
from fedray.models.shared import base_of
from fedray.run.base_files import BaseFiles
from fedray.rundir import durable
from fedray.rundir.names import FROZEN

_log = logging.getLogger("fedray")


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


def model_sha256(vector: Tensor, beside: Mapping[str, Tensor] = MappingProxyType({})) -> str:
    """Return the SHA-256 of a vector's bytes, little-endian, and of the tensors beside it in the order of their names.

    >>> model_sha256(torch.ones(2)) == hashlib.sha256(bytes([0, 0, 128, 63] * 2)).hexdigest()
    True
    """
    digest = hashlib.sha256()
    for tensor in (vector, *(beside[name] for name in sorted(beside))):
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def keep_frozen(run_dir: Path, layout: Layout, module: nn.Module) -> str | None:
    """Keep the frozen tensors of a run's model in its folder, unless they are; returns their fingerprint.

    Of those that the files of the model's base have, the folder has the places, and the hashes of the files.
    """
    tensors, path, known = layout.frozen_of(module), run_dir / FROZEN, BaseFiles.read(run_dir)
    if tensors and known is None and not path.exists() and (base := base_of(module)) is not None:
        found = BaseFiles.of(base, tensors)
        if found.places:
            rest = fingerprint(_without(tensors, found))
            known = replace(found, fingerprint=fingerprint(tensors), rest=rest)
            known.write(run_dir)
    rest_of = _without(tensors, known)
    if rest_of and not path.exists():
        durable.replace(path, {name: tensor.detach().cpu() for name, tensor in rest_of.items()})
    return fingerprint_in(run_dir, layout, module)


def fingerprint_in(run_dir: Path, layout: Layout, module: nn.Module) -> str | None:
    """Return the fingerprint of the frozen tensors of a model, for a run whose folder may know that of its base.

    Where the model was read from the same files as when the run was started these are not read again.
    """
    tensors, known, base = layout.frozen_of(module), BaseFiles.read(run_dir), base_of(module)
    if known is not None and base is not None:
        found = known.fingerprint_of(base, tensors, fingerprint(_without(tensors, known)))
        if found is not None:
            return found
    return fingerprint(tensors)


def _without(tensors: Mapping[str, Tensor], known: BaseFiles | None) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if known is None or name not in known.places}


def frozen_in(run_dir: Path, layout: Layout) -> dict[str, Tensor]:
    """Read the frozen tensors of a run's model from its folder, and from the files of its base.

    Raises:
        ConfigError: they are not there, or damaged.
    """
    known = BaseFiles.read(run_dir) if layout.frozen else None
    found = {} if known is None else known.load(layout.frozen)
    if found.keys() >= set(layout.frozen):
        return found
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return found | load_file(run_dir / FROZEN)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{run_dir / FROZEN}: the frozen tensors of the model cannot be read: {error}") from None


def check_frozen(saved: Mapping[str, Any], now: str | None) -> None:
    """Raise ConfigError if the fingerprint of what is frozen in a model is not that of a checkpoint's state."""
    if saved.get("frozen", now) != now:
        raise ConfigError(
            "model: what is frozen in it is not what it was when the run was started: resume with that model, "
            "or train anew in another run.dir"
        )


def load_frozen(saved: Mapping[str, Any], layout: Layout, module: nn.Module, run_dir: Path) -> None:
    """Put the frozen tensors of a run into a module, where the module's own are others.

    Raises:
        ConfigError: those in the run's folder are not what a checkpoint's state says of them.
    """
    now = fingerprint_in(run_dir, layout, module)
    if (known := saved.get("frozen", now)) == now:
        return
    found = frozen_in(run_dir, layout)
    if fingerprint(found) != known:
        raise ConfigError(f"{run_dir / FROZEN}: neither these frozen tensors nor the model's own are those of the run")
    _log.warning(
        "model: what is frozen in it is not what it was when the run was started; it is evaluated with that of %s",
        run_dir / FROZEN,
    )
    load_tensors(module, found, strict=False)


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], strict: bool = True) -> None:
    """Put saved tensors into a module, whose own are to be those that it saves beside parameters and buffers.

    Nothing could put these into it, such as the scales of quantized weights.

    Args:
        module: the module.
        tensors: by the names of its ``state_dict``.
        strict: refuse tensors that the module lacks, or that are not given.

    Raises:
        ConfigError: of what it saves beside them something is different.
        RuntimeError: names or shapes are not those of the module.
    """
    places = {
        name
        for name, _ in (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    }
    beside = {name: tensor for name, tensor in module.state_dict().items() if name not in places}
    other = [name for name, own in beside.items() if name in tensors and not _same(tensors[name], own)]
    if other:
        raise ConfigError(
            f"model: {listed(other)} cannot be put into the model, whose own are different: build it of the base that "
            "it had"
        )
    module.load_state_dict({name: tensor for name, tensor in tensors.items() if name not in beside}, strict=strict)


def _same(one: Tensor, other: Any) -> bool:
    return isinstance(other, Tensor) and torch.equal(one, other.to(one.device))


def no_model(layout: Layout, program_says: bool = True) -> str:
    """Say why a server's row is no whole model; nothing if it is one.

    >>> from fedray.core.regions import Regions
    >>> layout = Layout.of(nn.Linear(2, 1), Regions(personal=("bias",)))
    >>> no_model(layout)
    "bias of the server's model is as it was at the start: clients keep their own, which evaluations use"

    Args:
        layout: of the model.
        program_says: False where the algorithm says that it is none.
    """
    names = [entry.name for entry in layout.entries if entry.region == "personal" and entry.kind == "parameter"]
    if not names:
        return "" if program_says else "with this algorithm the server's row is no model that a client would use"
    verb = "is as it was" if len(names) == 1 else "are as they were"
    return f"{listed(names)} of the server's model {verb} at the start: clients keep their own, which evaluations use"


def write_model(layout: Layout, vector: Tensor, path: Path, frozen: Mapping[str, Tensor]) -> None:
    """Write the global model, frozen tensors included, as safetensors with the names of the module's ``state_dict``."""
    durable.replace(path, layout.state_dict(vector.detach().cpu(), frozen))
