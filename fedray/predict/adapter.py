"""Models of transformers as others load them: adapters as peft writes them, or whole, with adapters merged in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedray.core.errors import ConfigError
from fedray.experiment.evaluate import Which, checkpoint_of
from fedray.models.hosted import Hosted
from fedray.models.huggingface import HuggingFace
from fedray.models.lora import changes_base, merge_residuals
from fedray.models.quantized import is_quantized
from fedray.predict.kept import Rest, meaning_of, trained
from fedray.rundir import durable
from fedray.rundir.folder import RunFolder

PEFT, WHOLE = "peft", "huggingface"
FOLDERS = {PEFT: "adapter_config.json", WHOLE: "config.json"}
"""The formats that are folders, and the file by which each is known."""

_TOKENIZER = ("tokenizer*", "special_tokens_map.json", "chat_template.jinja", "vocab.*", "merges.txt", "*.model")


def export_folder(
    folder: RunFolder, out: Path, to: str, *, round: Which = None, model: Any = None, force: bool = False
) -> list[Path]:
    """Write the model of a checkpoint into a folder that others load.

    Args:
        folder: of the run; its data is not needed, the base is.
        out: the folder to write.
        to: ``peft``: the adapters, for ``peft.PeftModel.from_pretrained``; ``huggingface``: the whole model, adapters
            added to the weights in the type of the base, for ``from_pretrained`` of transformers, with its tokenizer.
        round: of the checkpoint; ``best``: by ``checkpoint.best``; the newest good one by default.
        model: makes the module, where the config does not say it.
        force: replace a folder of that name.

    Returns:
        The files that were written.

    Raises:
        ConfigError: no such checkpoint, a model that is none of transformers, or has no adapters, or something is there
            already.
    """
    if out.exists() and (not force or not (out / FOLDERS[to]).is_file()):
        raise ConfigError(
            f"{out}: there already; name a new folder" + ("" if force else ", or say --force to replace one like it")
        )
    folder.config()
    saved, rest = checkpoint_of(folder, round), Rest.of(folder)
    meaning, task = meaning_of(folder, saved, rest)
    module = trained(folder, saved, rest, meaning, task, model)
    if not isinstance(module, Hosted):
        raise ConfigError(f"--to {to}: the model of this run is none of transformers; take --to safetensors")
    adapted = hasattr(module.model, "peft_config")
    if to == PEFT and not adapted:
        raise ConfigError("--to peft: the model of this run has no adapters; take --to huggingface, or safetensors")
    if to == PEFT and changes_base(module):
        raise ConfigError(
            "--to peft: the algorithm of this run has changed the base, which adapters alone do not tell; take --to "
            "huggingface, or safetensors"
        )
    if to == WHOLE and is_quantized(module):
        raise ConfigError(
            "--to huggingface: with the base of this run the adapters would be rounded to its few bits; take --to "
            "peft, or safetensors"
        )
    if to == PEFT:
        return _written(out, lambda made: module.model.save_pretrained(made, save_embedding_layers=False))
    # Merging a weight writes to a copy of it: the base may be the memory of its file.
    merge_residuals(module)
    whole = module.model.merge_and_unload(safe_merge=True) if adapted else module.model
    base = _base(rest, model)

    def write(made: Path) -> None:
        whole.save_pretrained(made)
        if base is not None:
            _like_the_base(made, base)

    return _written(out, write)


def _base(rest: Rest, model: Any) -> Path | None:
    """Return the folder of the model that a run has begun with; None: its config does not say it."""
    said = rest.section("model") if model is None else model
    path = said.path if isinstance(said, HuggingFace) else said.get("path") if isinstance(said, dict) else None
    return None if path is None or not Path(path).is_dir() else Path(path)


def _like_the_base(made: Path, base: Path) -> None:
    """Give a model the tokenizer of its base, and what it says of caches in generation, of which training has none."""
    for pattern in _TOKENIZER:
        for file in base.glob(pattern):
            shutil.copyfile(file, made / file.name)
    config, before = json.loads((made / "config.json").read_text()), json.loads((base / "config.json").read_text())
    if "use_cache" in config:
        config["use_cache"] = before.get("use_cache", True)
        (made / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _written(out: Path, write: Callable[[Path], Any]) -> list[Path]:
    """Write a folder, which is there as a whole or not at all, and return its files."""
    try:
        with durable.folder(out, over=True) as made:
            write(made)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror or error}") from None
    return sorted(out.iterdir())
