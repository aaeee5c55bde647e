"""Checkpoints: complete or absent, checked before use, without pickle.

A checkpoint is a folder ``round-00000012`` with ``tensors.safetensors``, or where they are large several such files
(:mod:`fedray.rundir.tensor_files`), ``state.json`` and ``manifest.json`` (SHA-256 of the others), and while the run
goes on ``noise.key``, where the noise of the next round is secret, with
``noise.safetensors``, of which noise that is correlated between rounds is made.  It is written under a temporary name,
forced to disk, and renamed.  Checkpoints share the segments of the clients' state; ``state.json`` has their seals.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.core import inject
from fedray.core.errors import ConfigError
from fedray.rundir import durable
from fedray.rundir.tensor_files import ALONE, Mapped, Shared, check, files_of, sha256_of

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2
"""The format that is written: when it rises, see :mod:`fedray.run.earlier`."""

READ = (1, FORMAT)
"""The formats that are read."""

NOISE_KEY = "noise.key"
"""The file of a checkpoint with the key of the next round's noise, for its owner alone, until the run ends."""

NOISE_MEMORY = "noise.safetensors"
"""The file of a checkpoint with the vectors of earlier rounds that later noise is made of, as secret as the key."""

_FILES = "tensors"
_PREFIX = "round-"
_log = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """The error of a checkpoint that could not be written; those before it are whole."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a round.

    Args:
        round: last finished round.
        tensors: ``model`` [P], ``rule.*`` and ``clients.*``; those of a large one that was read are
            read when they are asked for, see :class:`fedray.rundir.tensor_files.Mapped`.
        state: JSON-serialisable rest.
        key: the key of the next round's noise, where it is secret; a file of its own.
        memory: the vectors of earlier rounds that later noise is made of; a file of their own.
    """

    round: int
    tensors: Mapping[str, Tensor]
    state: dict[str, Any]
    key: bytes | None = field(default=None, repr=False)
    memory: dict[str, Tensor] = field(default_factory=dict, repr=False)


def folder_of(checkpoints: Path, round: int) -> Path:
    """Return the folder of the checkpoint of ``round``."""
    return checkpoints / f"{_PREFIX}{round:08d}"


def rounds_in(checkpoints: Path) -> list[int]:
    """Return the rounds that have a checkpoint folder, newest first."""
    found = [p.name.removeprefix(_PREFIX) for p in checkpoints.glob(f"{_PREFIX}*") if p.is_dir()]
    return sorted((int(name) for name in found if name.isdigit()), reverse=True)


def write(checkpoints: Path, checkpoint: Checkpoint, keep: int, history: int = 0) -> None:
    """Write a checkpoint, and once it is known to be whole and on disk delete all but the newest ``keep``.

    One that is named as the best by a checkpoint that stays is kept, too.

    Args:
        checkpoints: the folder of all.
        checkpoint: the new one.
        keep: the number of the newest that stay.
        history: those of rounds that are multiples of it stay, too; 0: none of them.

    Raises:
        CheckpointError: nothing usable was written (disk full, not writable, read back otherwise); earlier checkpoints
            are untouched.
    """
    target = folder_of(checkpoints, checkpoint.round)
    temporary = checkpoints / f"{durable.TEMPORARY}{target.name}"
    stale = temporary.with_name(f"{temporary.name}-stale")
    try:
        durable.sweep(checkpoints)
        temporary.mkdir(parents=True)
        shared = Shared.out(checkpoint.tensors)
        state = {"format": FORMAT, "round": checkpoint.round, **checkpoint.state}
        state |= {_FILES: shared.index} if shared.index else {}
        hashes = shared.write(temporary, checkpoint.round)
        content = json.dumps(state, indent=1).encode()
        durable.write(temporary / "state.json", _in_halves(content, checkpoint.round))
        if checkpoint.key is not None:
            durable.write(temporary / NOISE_KEY, checkpoint.key.hex().encode(), secret=True)
        if checkpoint.memory:
            durable.write(temporary / NOISE_MEMORY, checkpoint.memory, secret=True)
        hashes |= {path.name: sha256_of(path) for path in temporary.iterdir() if path.name not in hashes}
        manifest = json.dumps(hashes, indent=1).encode()
        durable.write(temporary / "manifest.json", manifest)
        durable.sync(temporary)
        _verify(temporary, {"state.json": content, "manifest.json": manifest})
        inject.point("checkpoint.before_rename", checkpoint.round)
        if target.exists():
            target.rename(stale)
        temporary.rename(target)
        inject.point("checkpoint.after_rename", checkpoint.round)
        durable.sync(checkpoints)
        shutil.rmtree(stale, ignore_errors=True)
    except OSError as error:
        if stale.exists() and not target.exists():
            with contextlib.suppress(OSError):
                stale.rename(target)
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"the checkpoint of round {checkpoint.round} could not be written: {error}") from error
    rounds = rounds_in(checkpoints)
    spared = {named for round in rounds[:keep] for named in _named_best(folder_of(checkpoints, round))}
    for round in rounds[keep:]:
        if round not in spared and not (history and round % history == 0):
            shutil.rmtree(folder_of(checkpoints, round), ignore_errors=True)


def best_of(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a checkpoint's state says of the best model: ``metric``, ``best``, ``round``; None: nothing yet."""
    found: dict[str, Any] | None = state.get("watches", {}).get("checkpoint.best")
    return found if found and found["best"] is not None else None


def _named_best(folder: Path) -> list[int]:
    """Return the round that a checkpoint names as the best: whoever goes on from it needs that one, too."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        best = best_of(json.loads((folder / "state.json").read_bytes()))
        return [best["round"]] if best else []
    return []


def _in_halves(data: bytes, round: int) -> Iterator[bytes]:
    """Yield the bytes of a file in two halves: a fault may be put in before each."""
    half = len(data) // 2
    inject.point("checkpoint.open", round)
    yield data[:half]
    inject.point("checkpoint.half_written", round)
    yield data[half:]


def _verify(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Compare a folder's files with what they should hold.

    Raises:
        OSError: they are something else.
    """
    if not all((folder / name).read_bytes() == data for name, data in contents.items()):
        raise OSError("what is read back is not what was written")


def read(checkpoints: Path, round: int, clients: Path | None = None) -> Checkpoint:
    """Read and check the checkpoint of ``round``.

    Args:
        checkpoints: the folder of all.
        round: its round.
        clients: the folder of the clients' segments, to check them too; None for who needs the model alone.

    Raises:
        ValueError: it is torn, corrupt, or of another format version.
    """
    folder = folder_of(checkpoints, round)
    secret = [name for name in (NOISE_KEY, NOISE_MEMORY) if (folder / name).exists()]
    manifest, contents = _contents(folder, ("state.json", *secret))
    state = json.loads(contents["state.json"])
    if state.get("format") not in READ:
        read = " and ".join(map(str, READ))
        raise ValueError(f"{folder.name} has format {state.get('format')}; this fedray reads {read}")
    if state["round"] != round:
        raise ValueError(f"{folder.name} holds round {state['round']}")
    # Here, because who asks how a run stands, or lists its checkpoints, needs no torch.
    from safetensors.torch import load

    from fedray.rundir.client_state import damage

    tensors: Mapping[str, Tensor]
    if index := state.pop(_FILES, None):
        check(folder, files_of(index), manifest)
        tensors = Mapped(folder, index)
    else:
        tensors = load(_contents(folder, [ALONE])[1][ALONE])
    if clients is not None and (found := damage(clients, state.get("seals", {}))):
        raise ValueError(f"{folder.name}: {found}")
    key = bytes.fromhex(contents[NOISE_KEY].decode()) if NOISE_KEY in secret else None
    memory = load(contents[NOISE_MEMORY]) if NOISE_MEMORY in secret else {}
    return Checkpoint(round, tensors, state, key, memory)


def _contents(folder: Path, names: Iterable[str]) -> tuple[Mapping[str, str], dict[str, bytes]]:
    """Read the manifest and files of a checkpoint; ValueError unless they are what was written."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        contents = {name: (folder / name).read_bytes() for name in names}
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder.name} is incomplete: {error}") from error
    if not isinstance(manifest, dict):
        raise ValueError(f"{folder.name}/manifest.json is no list of files")
    for name, data in contents.items():
        if hashlib.sha256(data).hexdigest() != manifest.get(name):
            raise ValueError(f"{folder.name}/{name} does not match its checksum")
    return manifest, contents


def newest_state(checkpoints: Path) -> dict[str, Any]:
    """Return what the newest checkpoint holds beside tensors, which are not read; empty if there is none."""
    for round in rounds_in(checkpoints):
        with contextlib.suppress(ValueError):
            _, contents = _contents(folder_of(checkpoints, round), ["state.json"])
            content: dict[str, Any] = json.loads(contents["state.json"])
            return content
    return {}


def forget_keys(checkpoints: Path) -> None:
    """Delete the keys of noise in all checkpoints, and what it is made of: nobody can take it off from then on.

    Where the noise is seeded there is no key, and no secret.
    """
    for folder in (folder_of(checkpoints, round) for round in rounds_in(checkpoints)):
        if (folder / NOISE_KEY).exists():
            (folder / NOISE_MEMORY).unlink(missing_ok=True)
            durable.sync(folder)
            (folder / NOISE_KEY).unlink()
            durable.sync(folder)


def drop_after(checkpoints: Path, round: int) -> None:
    """Delete the checkpoints of later rounds: once a run goes on from ``round`` they are known to be of no use.

    They would count among those that are kept, in the place of good ones.
    """
    for later in rounds_in(checkpoints):
        if later > round:
            _log.warning("the unusable checkpoint of round %d is deleted", later)
            shutil.rmtree(folder_of(checkpoints, later), ignore_errors=True)


def segments(checkpoints: Path) -> list[str]:
    """Return the client-state segments that any checkpoint refers to; one that cannot be read refers to none."""
    found: list[str] = []
    for round in rounds_in(checkpoints):
        try:
            found += json.loads((folder_of(checkpoints, round) / "state.json").read_bytes())["segments"]
        except (OSError, ValueError, KeyError, TypeError):
            _log.warning("the checkpoint of round %d cannot be read", round)
    return found


def newest(checkpoints: Path, clients: Path | None = None) -> Checkpoint | None:
    """Return the newest whole checkpoint, with a warning for each newer one that is not; None if there is no folder.

    ``clients`` as for ``read``.

    Raises:
        ConfigError: there are checkpoints, but none is whole.
    """
    rounds = rounds_in(checkpoints)
    for round in rounds:
        try:
            return read(checkpoints, round, clients)
        except ValueError as error:
            _log.warning("checkpoint unusable, trying the one before: %s", error)
    # Beside a driver: it may have written a newer one by now, and deleted those that were listed.
    if rounds_in(checkpoints)[:1] > rounds[:1]:
        return newest(checkpoints, clients)
    if rounds:
        raise ConfigError(
            f"{checkpoints}: none of the {len(rounds)} checkpoints is whole; start again in a new run folder"
        )
    return None
