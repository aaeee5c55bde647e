"""Exports of models, and what is beside them, so that they predict wherever they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedray.core.errors import ConfigError, listed, one_line
from fedray.data.augment_chain import Augment, chosen
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.saved import load_encoding
from fedray.experiment.evaluate import Which, checkpoint_of, device_named
from fedray.experiment.export import export_model, outputs_in, write_all
from fedray.models.lora import add_residuals
from fedray.predict import programs
from fedray.predict.adapter import FOLDERS, export_folder
from fedray.predict.kept import Rest, built, encoding_of, example_of, meaning_of, trained
from fedray.predict.predictor import Outputs, Predictor, outputs_of
from fedray.run.evaluation import rows_at_once
from fedray.run.meaning import Meaning
from fedray.run.models import load_tensors
from fedray.rundir.folder import RunFolder
from fedray.rundir.names import ENCODING, INPUTS

FORMAT = 1

TENSORS = "safetensors"
PROGRAMS: dict[str, tuple[str, Callable[..., bytes], Callable[[bytes], programs.Run]]] = {
    "exported-program": (".pt2", programs.exported_program, programs.run_program),
    "onnx": (".onnx", programs.onnx, programs.run_onnx),
}
SUFFIXES = {TENSORS: ".safetensors", **{name: suffix for name, (suffix, _, _) in PROGRAMS.items()}}


def export(
    folder: RunFolder,
    out: Path,
    to: str | None = None,
    *,
    round: Which = None,
    scaling: bool = False,
    model: Any = None,
    force: bool = False,
) -> list[Path]:
    """Write a checkpoint's model, and beside it what predictions by it need.

    That is ``OUT.json`` with the meaning of inputs and outputs, ``encoding.json`` for a model of tables, and
    ``inputs.json`` where inputs were normalised.

    Args:
        folder: of the run; its data is not needed.
        out: the file to write.
        to: ``safetensors``: its tensors, for ``load_state_dict``; ``exported-program``: as torch.export makes it;
            ``onnx``; ``peft``: a folder of adapters; ``huggingface``: one of the whole model, adapters merged in; by
            default as the file is called.  Programs need the code of the model, and are run once and compared with
            it.
        round: of the checkpoint; ``best``: by ``checkpoint.best``; the newest good one by default.
        scaling: make the scaling of numbers and the values of missing ones the first layer of a program, whose inputs
            are then numbers as they stand in a table, NaN where missing, and 0 or 1 for each category.
        model: makes the module, where the config does not say it.
        force: replace what is there.

    Returns:
        The files that were written.

    Raises:
        ConfigError: no such checkpoint or format, a model that cannot be exported, or something is there already.
    """
    if to in FOLDERS:
        if scaling:
            raise ConfigError(f"--with-scaling: {to} has no such layer; take --to exported-program, or onnx")
        return export_folder(folder, out, to, round=round, model=model, force=force)
    kind = kind_of(out, to)
    folder.config()
    if kind == TENSORS:
        if scaling:
            raise ConfigError("--with-scaling: tensors have no first layer; take --to exported-program, or onnx")
        written = export_model(folder, out, round, force=force)
        saved = checkpoint_of(folder, round)
        if "meaning" not in saved.state:  # of an earlier fedray: it is for load_state_dict alone
            return written
        content = _about(folder, saved.round, Meaning.from_json(saved.state["meaning"]), kind, False)
        return [*written, *write_all(out.with_name(f"{out.name}.json"), content, {}, force=True)]
    saved, rest = checkpoint_of(folder, round), Rest.of(folder)
    meaning, task = meaning_of(folder, saved, rest)
    encoding, inputs = encoding_of(folder, saved), folder.inputs()
    if scaling and encoding is None and not inputs:
        raise ConfigError("--with-scaling: inputs of this model are not scaled; leave it out")
    columns = [column.name for column in meaning.spec.columns]
    if scaling and encoding is not None and columns:
        raise ConfigError("--with-scaling: this model takes several columns of inputs; leave it out")
    module = trained(folder, saved, rest, meaning, task, model).eval()
    first = programs.scaling_of(encoding) if scaling and encoding is not None else None
    before = Augment(chosen(inputs or ())) if scaling else Augment()
    program = programs.Program(module, first, before, columns).eval()
    content = PROGRAMS[kind][1](program, example_of(meaning), programs.of_any_length(meaning.spec))
    beside = {
        out.with_name(f"{out.name}.json"): json.loads(_about(folder, saved.round, meaning, kind, scaling)),
        out.with_name(ENCODING): saved.state.get("encoding") or folder.encoding(),
        out.with_name(INPUTS): None if scaling else inputs,
        **{out.with_name(name): content for name, content in outputs_in(saved).items()},
    }
    return write_all(out, content, beside, force=force)


def kind_of(out: Path, to: str | None) -> str:
    """Return the format of an export, by its name or that of its file.

    Raises:
        ConfigError: there is no such format, or the file is called otherwise.
    """
    known = ", ".join(f"{name} ({suffix})" for name, suffix in SUFFIXES.items())
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; name the file to write, as {out / 'model'}{SUFFIXES[to or TENSORS]}")
    kinds = [name for name, suffix in SUFFIXES.items() if suffix == out.suffix]
    if to is None and not kinds:
        raise ConfigError(
            f"{out}: the format is safetensors, so call the file {out.stem}{SUFFIXES[TENSORS]} and load it with "
            f"safetensors.torch.load_file; or choose another one: {known}"
        )
    if to is not None and to not in SUFFIXES:
        raise ConfigError(f"--to {to}: there is no such format; there are {known}, and folders: {', '.join(FOLDERS)}")
    if to is not None and kinds != [to]:
        raise ConfigError(f"{out}: with --to {to} call the file {out.stem}{SUFFIXES[to]}")
    return to or kinds[0]


def _about(folder: RunFolder, round: int, meaning: Meaning, kind: str, scaled: bool) -> bytes:
    """Return the JSON beside an export."""
    rest = Rest.of(folder)
    about = {
        "format": FORMAT,
        "kind": kind,
        "round": round,
        "scaled": scaled,
        "seed": rest.seed,
        "batch_size": rest.batch_size,
        "precision": rest.local.precision,
        "model": None if "model" in rest.python else rest.section("model"),
        **meaning.to_json(),
    }
    return json.dumps(about, indent=1, ensure_ascii=False).encode()


def load_export(path: Path, round: Which, client: str | None, model: Any, device: str) -> Predictor:
    """Return the predictor of an export, see :func:`fedray.load`.

    Raises:
        ConfigError: the files beside it are not there, or it cannot be used here.
    """
    if round is not None or client is not None:
        raise ConfigError(f"{path}: an export is one model; rounds and clients are those of a run folder")
    about = _read(path)
    meaning = Meaning.from_json(about)
    task, kind, scaled = meaning.task, about["kind"], about["scaled"]
    encoding = load_encoding(path.with_name(ENCODING)) if path.with_name(ENCODING).exists() else None
    if encoding is None and (encoded := (meaning.taken or {}).get("encode")):
        raise ConfigError(
            f"{path}: {listed(encoded)} are encoded as a table's, and there is no {ENCODING} beside it; take along all "
            "files that fedray export has written, or give the run folder"
        )
    inputs = path.with_name(INPUTS)
    augment = Augment(chosen(json.loads(inputs.read_bytes()))) if inputs.exists() and not scaled else Augment()
    if kind == TENSORS:
        outputs = _of_tensors(path, about, meaning, model, device, augment)
    else:
        if device != "cpu":
            raise ConfigError(f"--device {device}: {kind} runs on the CPU here; load a run folder, or safetensors")
        run = PROGRAMS[kind][2](path.read_bytes())
        names = [column.name for column in meaning.spec.columns]
        outputs = outputs_of(_Run(run, names), augment=augment)
    if scaled and encoding is not None:
        encoding = _unscaled(encoding)
    return Predictor(task, outputs, encoding, int(about["round"]), meaning.taken or {})


class _Run(torch.nn.Module):
    """A program as a module, whose columns come by name in any order."""

    def __init__(self, run: programs.Run, names: list[str]) -> None:
        super().__init__()
        self._run, self._names = run, names

    def forward(self, *x: Tensor, **columns: Tensor) -> Tensor:
        return self._run(*x, *(columns[name] for name in self._names if name in columns))


def _of_tensors(
    path: Path, about: dict[str, Any], meaning: Meaning, model: Any, device: str, augment: Augment
) -> Outputs:
    from safetensors.torch import load_file

    place = device_named(device)
    module = built(about["model"] if model is None else model, meaning, meaning.task, about["seed"])
    try:
        tensors = load_file(path)
        add_residuals(module, tensors.keys())
        load_tensors(module, tensors)
    except (RuntimeError, OSError, ValueError) as error:
        raise ConfigError(f"{path}: these are no tensors of this model: {one_line(error)}") from None
    module = module.to(place)
    rows = rows_at_once(about["batch_size"], module, example_of(meaning).to(place))
    options = {"seed": about["seed"], "round": about["round"] + 1, "device": place, "precision": about["precision"]}
    return outputs_of(module, rows=rows, augment=augment, **options)


def _unscaled(encoding: Encoding) -> Encoding:
    """Return an encoding without the scaling that a program does itself."""
    return replace(encoding, numeric={name: (0.0, 1.0, fill) for name, (_, _, fill) in encoding.numeric.items()})


def _read(path: Path) -> dict[str, Any]:
    beside = path.with_name(f"{path.name}.json")
    try:
        content: dict[str, Any] = json.loads(beside.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no {beside.name} beside it, which says what its inputs are; take along all files that "
            "fedray export has written, or give the run folder"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{beside}: cannot be read: {error}") from None
    if content.get("format") != FORMAT or content.get("kind") not in SUFFIXES:
        raise ConfigError(f"{beside}: it is not what this fedray writes beside an export (format {FORMAT})")
    return content
