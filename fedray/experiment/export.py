"""The export of a model: for plain PyTorch, with the encoding of new tables as its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedray.core.errors import ConfigError
from fedray.experiment.evaluate import Which, checkpoint_of
from fedray.run.models import frozen_in, no_model
from fedray.run.snapshot import layout_of, model_of
from fedray.rundir import durable
from fedray.rundir.checkpoint import Checkpoint
from fedray.rundir.folder import RunFolder, as_json
from fedray.rundir.names import ENCODING, INPUTS, OUTPUTS

SUFFIX = ".safetensors"


def lacking(folder: RunFolder, round: Which = None) -> str:
    """Say what an exported model lacks, where clients have what the server has not; nothing if it is whole."""
    saved = checkpoint_of(folder, round)
    return no_model(layout_of(saved), saved.state.get("global_model", True))


def export_model(folder: RunFolder, out: Path, round: Which = None, *, force: bool = False) -> list[Path]:
    """Write a checkpoint's model for ``load_state_dict``, and beside it what its inputs need.

    That is ``encoding.json`` for a model of tables, ``inputs.json`` where inputs were normalised, and ``outputs.json``
    where targets were standardised: ``output * std + mean`` is in their own unit.

    Args:
        folder: of the run; neither its data nor its code is needed.
        out: the file to write, ``.safetensors``.
        round: of the checkpoint; ``best``: by ``checkpoint.best``; the newest good one by default.
        force: replace what is there.

    Returns:
        The files that were written.

    Raises:
        ConfigError: there is no such checkpoint, another kind of file is asked for, or something is there already.
    """
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; name the file to write, as {out / 'model'}{SUFFIX}")
    if out.suffix != SUFFIX:
        raise ConfigError(
            f"{out}: the format is safetensors, so call the file {out.stem}{SUFFIX} "
            "and load it with safetensors.torch.load_file"
        )
    folder.config()
    saved = checkpoint_of(folder, round)
    layout = layout_of(saved)
    tensors = layout.state_dict(model_of(saved).detach().cpu(), frozen_in(folder.path, layout))
    needed = {ENCODING: saved.state.get("encoding") or folder.encoding(), INPUTS: folder.inputs(), **outputs_in(saved)}
    return write_all(out, tensors, {out.with_name(name): content for name, content in needed.items()}, force=force)


def outputs_in(saved: Checkpoint) -> dict[str, Any]:
    """Return the content of ``outputs.json``, by that name: nothing where outputs are in the unit of the targets."""
    task = (saved.state.get("meaning") or {}).get("task") or {}
    return {OUTPUTS: task if task.get("standardize_target") else None}


def write_all(out: Path, content: durable.Content, beside: Mapping[Path, Any], *, force: bool = False) -> list[Path]:
    """Write an exported model, and what it needs beside it, as JSON, unless that is nothing.

    Returns:
        The files that were written.

    Raises:
        ConfigError: something is there already, or a file cannot be written.
    """
    written = {path: as_json(needed) for path, needed in beside.items() if needed}
    there = [out] if out.exists() else []
    there += [path for path, needed in written.items() if path.exists() and path.read_bytes() != needed]
    if there and not force:
        raise ConfigError(
            f"{' and '.join(map(str, there))}: there already, and would be overwritten; choose another folder or name, "
            "or say --force"
        )
    path = out
    try:
        durable.replace(out, content)
        for path, needed in written.items():
            durable.replace(path, needed)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None
    return [out, *written]
