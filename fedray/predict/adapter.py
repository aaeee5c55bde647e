"""The adapters of a run as peft writes them, for whoever has the base."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from fedray.core.errors import ConfigError
from fedray.experiment.evaluate import Which, checkpoint_of
from fedray.models.huggingface import Hosted
from fedray.predict.kept import Rest, meaning_of, trained
from fedray.rundir.folder import RunFolder

PEFT = "peft"


def export_adapter(
    folder: RunFolder, out: Path, *, round: Which = None, model: Any = None, force: bool = False
) -> list[Path]:
    """Write the adapters of a checkpoint into a folder that ``peft.PeftModel.from_pretrained`` loads.

    Args:
        folder: of the run; its data is not needed, the base is.
        out: the folder to write.
        round: of the checkpoint; ``best``: by ``checkpoint.best``; the newest good one by default.
        model: makes the module, where the config does not say it.
        force: replace a folder of that name.

    Returns:
        The files that were written.

    Raises:
        ConfigError: no such checkpoint, a model without adapters, or something is there already.
    """
    if out.exists() and (not force or not (out / "adapter_config.json").is_file()):
        raise ConfigError(
            f"{out}: there already; name a new folder"
            + ("" if force else ", or say --force to replace one that has adapters")
        )
    folder.config()
    saved, rest = checkpoint_of(folder, round), Rest.of(folder)
    meaning, task = meaning_of(folder, saved, rest)
    module = trained(folder, saved, rest, meaning, task, model)
    if not isinstance(module, Hosted) or not hasattr(module.model, "peft_config"):
        raise ConfigError("--to peft: the model of this run has no adapters; take --to safetensors")
    made = Path(mkdtemp(prefix=f".{out.name}.", dir=_parent(out)))
    try:
        module.model.save_pretrained(made, save_embedding_layers=False)
        if out.exists():
            shutil.rmtree(out)
        made.rename(out)
        out.chmod(0o755)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return sorted(out.iterdir())


def _parent(out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out.parent}: cannot be made: {error.strerror or error}") from None
    return out.parent
