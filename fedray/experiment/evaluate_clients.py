"""The evaluation of a run's clients from a checkpoint, by the models that they would use."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from fedray.config.sections import BudgetSection, CheckpointSection, StopSection
from fedray.core.errors import ConfigError
from fedray.core.messages import STATISTICS
from fedray.core.record import VIEWS, RoundRecord
from fedray.experiment.build import Config
from fedray.experiment.evaluate import Which, checkpoint_of, device_named
from fedray.models.prototype import last_of
from fedray.run.executor import InlineExecutor
from fedray.run.loop import Rounds
from fedray.run.models import check_frozen, fingerprint
from fedray.run.origin import warn_of_changes, warn_of_code
from fedray.run.snapshot import first_state, restore
from fedray.run.worker import Job
from fedray.rundir.checkpoint import Checkpoint
from fedray.rundir.client_state import ClientStore, damage
from fedray.rundir.folder import RunFolder


def evaluate_clients(config: Config, folder: RunFolder, round: Which, device: str = "cpu") -> RoundRecord:
    """Evaluate the clients of a run as it stands at a checkpoint, with what they have kept, as the run itself does.

    Args:
        config: the run's config; ``evaluate.clients_every`` may be 0 in it.
        folder: the run's folder.
        round: of the checkpoint; ``best``: by ``checkpoint.best``; ``None``: the newest good one.
        device: ``cpu``, ``cuda`` or ``cuda:1``.

    Returns:
        A record with the sections of the views, and ``evaluated``.

    Raises:
        ConfigError: no such checkpoint, or one of another model; no rows to evaluate clients on; silos, whose rows lie
            elsewhere; what clients have kept is gone.
    """
    place, saved = device_named(device), checkpoint_of(folder, round)
    if getattr(config.data, "silos", None) and config.place.cluster.name != "inline":
        raise ConfigError(
            "--clients: the rows of silos lie at their nodes, where a run with evaluate.clients_every evaluates them; "
            "where all files can be read here, say cluster.name=inline"
        )
    record = record_of(config, folder, saved, place)
    if not record.evaluated.get("clients"):
        raise ConfigError("--clients: none of the clients could be evaluated; the warnings above say why")
    return record


def record_of(
    config: Config, folder: RunFolder, saved: Checkpoint, place: torch.device, *, same_data: bool = True
) -> RoundRecord:
    """Evaluate the clients of a config from a checkpoint, and return the record.

    Args:
        config: the config; ``evaluate.clients_every`` may be 0 in it.
        folder: the run's folder.
        saved: the checkpoint.
        place: the device.
        same_data: the training data are to be those of the run, or it is warned of it.

    Raises:
        ConfigError: the checkpoint is one of another model; what clients have kept is gone.
    """
    evaluate = replace(config.evaluate, clients_every=1, every=0, before=False)
    asked = replace(config, evaluate=evaluate, stop=StopSection(), checkpoint=CheckpointSection())
    encoding = saved.state.get("encoding") or folder.encoding()
    plan = asked.plan(encoding, folder.inputs(), saved.state.get("meaning"))
    plan = replace(plan, rounds=saved.round, budget=BudgetSection())
    if same_data:
        warn_of_changes(saved.state, plan.task.data)
    warn_of_code(folder.path, saved.round, config.code())
    module = last_of(plan.task.model_fn)
    check_frozen(saved.state, fingerprint(plan.layout.frozen_of(module)))
    if broken := damage(folder.state, saved.state["seals"]) if saved.state.get("seals") else None:
        raise ConfigError(f"{folder.path}: what clients kept up to round {saved.round} is not whole: {broken}")
    if plan.algorithm.statistics and STATISTICS not in saved.tensors:
        raise ConfigError(
            f"{folder.path}: its checkpoints lack the statistics of local.buffers={plan.algorithm.args.buffers} that "
            "models are evaluated with, as the run itself evaluates nothing"
        )
    job = Job(plan.task, plan.algorithm, folder.state, config.place.worker.threads)
    executor = InlineExecutor(job, [place])
    try:
        vector = executor.global_vector(plan.layout.size)
        vector.copy_(plan.layout.pack(dict(module.state_dict())))
        state = first_state(plan, vector, ClientStore(folder.state, job.state_widths()))
        restore(plan, state, saved)
        state.pending = RoundRecord(saved.round)
        with tempfile.TemporaryDirectory(prefix="fedray-evaluate-") as scratch:
            # Not in the run's own folder: it may go on meanwhile.
            (record,) = Rounds(plan, state, executor, save=lambda _: None, addressed=Path(scratch))
    finally:
        executor.close()
    return record


def views_told(record: RoundRecord) -> list[tuple[str, str]]:
    """Return the views of a record in words: the name of a view and a metric, and how it spreads.

    >>> spread = {"mean": 0.9, "client_mean": 0.8, "p10": 0.6, "worst": 0.5}
    >>> views_told(RoundRecord(3, clients_personal={"accuracy": spread}, evaluated={"clients": 4}))
    [('clients', '4'), ('personal accuracy', '0.9 (client_mean 0.8, p10 0.6, worst 0.5)')]
    """
    rows = [(name.replace("_", " "), f"{count:,}") for name, count in record.evaluated.items() if name != "fitted"]
    for view, section in VIEWS.items():
        for metric, spread in getattr(record, section).items():
            more = ", ".join(f"{name} {value:.6g}" for name, value in spread.items() if name != "mean")
            rows.append((f"{view} {metric}", f"{spread['mean']:.6g} ({more})"))
    return rows
