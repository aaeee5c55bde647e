"""The main job from one command: five hospitals train one diagnosis model, compared with each alone and with pooled
data.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from fedray.algorithms.composition import Composition
from fedray.config.layers import to_yaml
from fedray.core.errors import ConfigError
from fedray.core.stages import along
from fedray.core.terminal import standard_output
from fedray.core.waiting import waiting
from fedray.data import ClientData, FederatedData
from fedray.data.tables.hospitals import TARGET, write_hospitals
from fedray.experiment.build import Config
from fedray.experiment.evaluate import evaluate_model, vector_of
from fedray.experiment.experiment import Experiment
from fedray.run.executor import InlineExecutor
from fedray.run.plan import Plan
from fedray.rundir import durable
from fedray.rundir.folder import RunFolder

HEAD = "# Written by `fedray quickstart`: five hospitals train one diagnosis model; no row leaves its hospital.\n"

EXPERIMENT = {
    "seed": 1,
    "model": {"name": "mlp", "hidden": [32, 16]},
    "algorithm": {"name": "fedavg"},
    "local": {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05, "weight_decay": 0.01}},
    "rounds": 40,
}


def hospitals(folder: Path, train: Callable[[Experiment], None]) -> None:
    """Write the hospitals' tables and the experiment into ``folder``, train, and print the comparison.

    Args:
        folder: for data, config and results; an earlier quickstart's run in it is replaced.
        train: runs the experiment, with progress.

    Raises:
        ConfigError: the folder holds something else, which would be lost, or cannot be written.
    """
    config_file = folder / "hospitals.yaml"
    _check_free(folder, config_file)
    console = standard_output()
    try:
        silos, test = write_hospitals(folder / "data")
        data = {"name": "csv", "train": [str(path) for path in silos], "test": str(test), "target": TARGET}
        durable.replace(config_file, (HEAD + to_yaml({"data": data, **EXPERIMENT})).encode())
    except OSError as error:
        raise ConfigError(f"--dir: {folder} cannot be written: {error.strerror or error}") from None
    console.print(f"Wrote the tables of {len(silos)} hospitals and a test set to {folder / 'data'}, and {config_file}")
    config = Config.load(config_file)
    target = RunFolder(folder / "run")
    shutil.rmtree(target.path, ignore_errors=True)
    with waiting():
        experiment = config.experiment(target)
    train(experiment)
    with waiting():
        compared = _comparison(config, experiment, silos, test)
    console.print(compared)
    console.print("Every row is tested on the same held-out patients, whom no hospital has seen.")
    if (activate := environment_to_activate()) is not None:
        console.print(f"\nFirst:           source {activate}", soft_wrap=True, end="")
    console.print(f"\nSee the rounds:  tensorboard --logdir {target.path}", soft_wrap=True)
    console.print(f"Change things:   fedray run {config_file} algorithm.name=fedprox local.epochs=4", soft_wrap=True)


def environment_to_activate() -> Path | None:
    """Return the script that puts ``fedray`` on the PATH of a shell; None where it is there, or no script is."""
    script = Path(sys.executable).parent / "activate"
    return script if shutil.which("fedray") is None and script.exists() else None


def _check_free(folder: Path, config_file: Path) -> None:
    used = any(folder.iterdir()) if folder.is_dir() else folder.exists()
    ours = config_file.is_file() and config_file.read_bytes().startswith(HEAD.encode())
    if used and not ours:
        raise ConfigError(f"--dir: {folder} holds something that no quickstart wrote; choose a new or an empty folder")


def _comparison(config: Config, experiment: Experiment, silos: list[Path], test: Path) -> Table:
    plan = experiment.run.plan
    classes = list(plan.task.data.spec.classes)
    table = Table(title="Diagnosis on the held-out test set")
    for name in ("trained on", "patients", "accuracy", "AUC", "loss"):
        table.add_column(name, justify="left" if name == "trained on" else "right")
    others: dict[str, ClientData] = {
        f"{path.stem} alone": FederatedData.from_csv([path], test=test, target=TARGET, classes=classes)
        for path in silos
    }
    others["all data pooled in one place"] = _pooled(plan.task.data)
    for name in along(list(others), "training on each hospital alone, and on all rows in one place"):
        data = others[name]
        table.add_row(*_row(name, data, _alone(experiment, config.algorithm_parts(), data)))
    scores = _scores(plan, experiment.run.folder)
    table.add_row(*_row("the five hospitals, federated", plan.task.data, scores), style="bold")
    return table


def _row(name: str, data: ClientData, scores: dict[str, float]) -> list[str]:
    return [name, str(int(data.sizes.sum())), *(f"{scores[metric]:.3f}" for metric in ("accuracy", "auc", "loss"))]


def _alone(experiment: Experiment, algorithm: Composition, data: ClientData) -> dict[str, float]:
    """Train the same model, epochs and batches on one data set: a federation of one client, in this process."""
    plan = replace(experiment.run.plan, task=replace(experiment.run.plan.task, data=data), algorithm=algorithm)
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run")
        folder.claim(experiment.run.config, experiment.run.code)
        for _ in replace(experiment.run, plan=plan, folder=folder, trackers=()).records(InlineExecutor):
            pass
        return _scores(plan, folder)


def _scores(plan: Plan, folder: RunFolder) -> dict[str, float]:
    module = plan.task.model_fn()
    plan.layout.load(module, vector_of(plan, folder, None))
    test = plan.task.data.test
    assert test is not None
    return evaluate_model(module, test, plan.task.measures).numbers


def _pooled(data: ClientData) -> FederatedData:
    """Put all rows together as one client."""
    everyone = np.arange(len(data))
    rows = data.rows(everyone)
    parts = [rows.take(np.arange(size)[None, :].repeat(client + 1, axis=0)) for client, size in enumerate(data.sizes)]
    x, y = (torch.cat([part[side][-1] for part in parts]) for side in (0, 1))
    return FederatedData(x, y, np.array([len(x)]), data.spec, test=data.test)
