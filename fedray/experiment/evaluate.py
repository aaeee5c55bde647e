"""The evaluation of a model on a test set, outside of training."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedray.core.errors import ConfigError, listed
from fedray.core.layout import Layout
from fedray.core.losses import LossFn
from fedray.core.metrics import auc, example_values
from fedray.data.columns.rows import Examples
from fedray.data.sources.tables import TableSource
from fedray.experiment.build import Config
from fedray.run.origin import changes
from fedray.run.plan import Plan
from fedray.rundir import checkpoint
from fedray.rundir.checkpoint import Checkpoint
from fedray.rundir.folder import RunFolder

_ROWS = 4096
_log = logging.getLogger("fedray")


def evaluate_model(module: nn.Module, test: Examples, task: str, loss: LossFn) -> dict[str, float]:
    """Return mean metrics of a module over examples.

    They are ``examples``, ``loss``, ``accuracy`` (and ``auc`` for two classes) or ``mse``. The AUC ranks by the second
    class's logit minus the first's.
    """
    values: dict[str, list[Tensor]] = {}
    margins: list[Tensor] = []
    module.eval()
    with torch.no_grad():
        for start in range(0, len(test), _ROWS):
            x, y = test.slice(start, min(start + _ROWS, len(test)))
            output = module(x)
            for name, value in example_values(loss, task, output, y).items():
                values.setdefault(name, []).append(value.double())
            if task == "classification" and output.dim() == 2 and output.shape[1] == 2:
                margins.append(output[:, 1] - output[:, 0])
    result = {"examples": float(len(test)), **{name: float(torch.cat(v).mean()) for name, v in values.items()}}
    if margins:
        labels = np.asarray(test.y)
        result["auc"] = auc(torch.cat(margins).double().numpy(), labels)
    return result


def checkpoint_of(folder: RunFolder, round: int | None) -> Checkpoint:
    """Read a checkpoint of a run, the newest good one by default.

    Raises:
        ConfigError: there is no such checkpoint.
    """
    known = checkpoint.rounds_in(folder.checkpoints)
    if round is None:
        found = checkpoint.newest(folder.checkpoints)
    elif round in known:
        try:
            found = checkpoint.read(folder.checkpoints, round)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    else:
        found = None
    if found is None:
        which = "" if round is None else f" of round {round}"
        raise ConfigError(f"{folder.path}: no checkpoint{which}; there are: {listed(known, none='none')}")
    return found


def vector_of(plan: Plan, folder: RunFolder, round: int | None) -> Tensor:
    """Return the global vector ``[P]`` of a checkpoint, the newest good one by default.

    Raises:
        ConfigError: there is no such checkpoint, or it does not belong to the plan's model.
    """
    return _fitting(checkpoint_of(folder, round), plan.layout, folder)


def _fitting(saved: Checkpoint, layout: Layout, folder: RunFolder) -> Tensor:
    vector = saved.tensors["model"]
    if len(vector) != layout.size:
        raise ConfigError(f"{folder.path}: its model has {len(vector):,} values, the configured one {layout.size:,}")
    return vector


def evaluate_run(config: Config, folder: RunFolder, round: int | None) -> dict[str, float]:
    """Evaluate a run's checkpoint on its config's test set.

    Of a model of tables nothing is read but the test table, by the encoding that is a part of the model.

    Raises:
        ConfigError: no test set, or no checkpoint.
    """
    saved = checkpoint_of(folder, round)
    encoding = saved.state.get("encoding") or folder.encoding()
    if encoding is not None and isinstance(config.data, TableSource):
        test, spec = config.data.read_test(encoding)
        layout = Layout.of(config.model_fn(spec)())
        now = {name: _sha256(path) for name, path in config.data.files().items() if path.is_file()}
        before = {name: mark for name, mark in saved.state.get("fingerprint", {}).items() if name in now}
        matters = "; the result does not depend on them"
    else:
        plan = config.plan(encoding)
        test, spec, layout = plan.task.data.test, plan.task.data.spec, plan.layout
        now, before = dict(plan.task.data.fingerprint()), saved.state.get("fingerprint", {})
        matters = ""
    if before and (words := changes(before, now)):
        _log.warning("the training data are not those that the model was trained on (%s)%s", words, matters)
    if test is None:
        raise ConfigError("data.test: this run has no test set; give one with --data PATH")
    module = config.model_fn(spec)()
    layout.load(module, _fitting(saved, layout, folder))
    return evaluate_model(module, test, spec.task, config.loss_fn(spec))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
