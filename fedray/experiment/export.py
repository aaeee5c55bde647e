"""The export of a model: for plain PyTorch, with the encoding of new tables as its inputs."""

from __future__ import annotations

from pathlib import Path

from fedray.core.errors import ConfigError
from fedray.experiment.evaluate import Which, checkpoint_of
from fedray.run.models import frozen_in, no_model, write_model
from fedray.run.snapshot import layout_of, model_of
from fedray.rundir import durable
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
    frozen = frozen_in(folder.path, layout)
    encoding = saved.state.get("encoding") or folder.encoding()
    task = (saved.state.get("meaning") or {}).get("task") or {}
    needed = {ENCODING: encoding, INPUTS: folder.inputs(), OUTPUTS: task if task.get("standardize_target") else None}
    written = {out.with_name(name): as_json(content) for name, content in needed.items() if content}
    there = [out] if out.exists() else []
    there += [path for path, content in written.items() if path.exists() and path.read_bytes() != content]
    if there and not force:
        raise ConfigError(
            f"{' and '.join(map(str, there))}: there already, and would be overwritten; choose another folder or name, "
            "or say --force"
        )
    path = out
    try:
        write_model(layout, model_of(saved), out, frozen)
        for path, content in written.items():
            durable.replace(path, content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None
    return [out, *written]
