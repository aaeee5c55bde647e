"""The evaluation of a run's clients from a checkpoint, by the models that they would use."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedray.config.sections import BudgetSection, CheckpointSection, StopSection
from fedray.core.errors import ConfigError
from fedray.core.messages import STATISTICS
from fedray.core.record import VIEWS, RoundRecord, finite
from fedray.core.terminal import Grid
from fedray.experiment.build import Config
from fedray.experiment.evaluate import Which, checkpoint_of, device_named
from fedray.metrics import Metric
from fedray.metrics.confused import Confused
from fedray.metrics.intervals import Interval, intervals, of_classes, shown, to_json, usual
from fedray.models.prototype import last_of
from fedray.run.executor import InlineExecutor
from fedray.run.loop import Rounds
from fedray.run.models import check_frozen, fingerprint_in
from fedray.run.origin import warn_of_changes, warn_of_code
from fedray.run.snapshot import first_state, restore
from fedray.run.worker import Job
from fedray.rundir.checkpoint import Checkpoint
from fedray.rundir.client_state import ClientStore, damage
from fedray.rundir.client_table import ClientRows
from fedray.rundir.each_client import MOST_SHOWN, SUPPORT, Got, each_client, of_each_class
from fedray.rundir.folder import RunFolder

MOST_CLASSES = 12
"""The most classes of whose confusion matrices those of single clients are shown."""


NameOf = Callable[[int], str]
"""The id of a client by its number."""

Each = Callable[[list[ClientRows], NameOf], None]
"""A function that takes the numbers of single clients."""


def _forget(rows: list[ClientRows], name_of: NameOf) -> None:
    pass


def evaluate_clients(
    config: Config,
    folder: RunFolder,
    round: Which,
    device: str = "cpu",
    each: Each = _forget,
    *,
    threshold: float | None = None,
) -> RoundRecord:
    """Evaluate the clients of a run as it stands at a checkpoint, with what they have kept, as the run itself does.

    Args:
        config: the run's config; ``evaluate.clients_every`` may be 0 in it.
        folder: the run's folder.
        round: of the checkpoint; ``best``: by ``checkpoint.best``; ``None``: the newest good one.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        each: takes the numbers of each client; not called where the config has ``privacy``.
        threshold: of two classes that of the answers, in the place of the task's own.

    Returns:
        A record with the sections of the views, and ``evaluated``.

    Raises:
        ConfigError: no such checkpoint, or one of another model; no rows to evaluate clients on; silos, whose rows lie
            elsewhere; what clients have kept is gone.
    """
    place, saved = device_named(device), checkpoint_of(folder, round)
    if getattr(config.data, "silos", None) and not config.place.launcher.in_process:
        raise ConfigError(
            "--clients: the rows of silos lie at their nodes, where a run with evaluate.clients_every evaluates them; "
            "where all files can be read here, say cluster.name=inline"
        )
    record = record_of(config, folder, saved, place, each=each, threshold=threshold)
    if not record.evaluated.get("clients"):
        raise ConfigError("--clients: none of the clients could be evaluated; the warnings above say why")
    return record


def record_of(
    config: Config,
    folder: RunFolder,
    saved: Checkpoint,
    place: torch.device,
    *,
    same_data: bool = True,
    each: Each = _forget,
    threshold: float | None = None,
) -> RoundRecord:
    """Evaluate the clients of a config from a checkpoint, and return the record.

    Args:
        config: the config; ``evaluate.clients_every`` may be 0 in it.
        folder: the run's folder.
        saved: the checkpoint.
        place: the device.
        same_data: the training data are to be those of the run, or it is warned of it.
        each: takes the numbers of each client.
        threshold: of two classes that of the answers; None: the task's own.

    Raises:
        ConfigError: the checkpoint is one of another model; what clients have kept is gone.
    """
    evaluate = replace(config.evaluate, clients_every=1, every=0, before=False)
    asked = replace(config, evaluate=evaluate, stop=StopSection(), checkpoint=CheckpointSection())
    encoding = saved.state.get("encoding") or folder.encoding()
    plan = asked.plan(encoding, folder.inputs(), saved.state.get("meaning"))
    plan = replace(plan, rounds=saved.round, budget=BudgetSection())
    if threshold is not None:
        plan = replace(plan, task=replace(plan.task, task=plan.task.about.at(threshold)))
    if same_data:
        warn_of_changes(saved.state, plan.task.data)
    warn_of_code(folder.path, saved.round, config.code())
    module = last_of(plan.task.model_fn)
    check_frozen(saved.state, fingerprint_in(folder.path, plan.layout, module))
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
        state = first_state(plan, vector, ClientStore(folder.state, job.state_fields()))
        restore(plan, state, saved)
        state.pending = RoundRecord(saved.round)
        with tempfile.TemporaryDirectory(prefix="fedray-evaluate-") as scratch:
            # Not in the run's own folder: it may go on meanwhile.
            (record,) = Rounds(
                plan,
                state,
                executor,
                save=lambda _: None,
                keep=lambda _, rows: each(rows, plan.task.data.client_id),
                addressed=Path(scratch),
            )
    finally:
        executor.close()
    return record


def views_told(record: RoundRecord) -> list[tuple[str, str]]:
    """Return the views of a record in words: the name of a metric, and how it spreads.

    >>> spread = {"mean": 0.9, "client_mean": 0.8, "p10": 0.6, "worst": 0.5}
    >>> views_told(RoundRecord(3, clients_personal={"accuracy": spread}, evaluated={"clients": 4}))
    [('clients', '4'), ('clients_personal.accuracy', '0.9 (client_mean 0.8, p10 0.6, worst 0.5)')]
    """
    rows = [(name.replace("_", " "), f"{count:,}") for name, count in record.evaluated.items() if name != "fitted"]
    for section in VIEWS.values():
        for metric, spread in getattr(record, section).items():
            more = ", ".join(f"{name} {value:.6g}" for name, value in spread.items() if name != "mean")
            rows.append((f"{section}.{metric}", f"{spread['mean']:.6g} ({more})"))
    return rows


def each_told(rows: Sequence[ClientRows], name_of: NameOf, width: int) -> tuple[Grid, list[str]] | None:
    """Return a table of what each client got, and the names of the columns that there is no room for.

    None where there are more clients than ``MOST_SHOWN``, or nobody's numbers are known.

    >>> import numpy as np
    >>> from fedray.core.terminal import plain
    >>> found = {"loss": np.array([0.25, 0.5]), "accuracy": np.array([1.0, np.nan])}
    >>> rows = ClientRows("global", np.array([0, 1]), np.array([8, 5]), found)
    >>> table, left = each_told([rows], ["ann", "bob"].__getitem__, 80)
    >>> print(plain(table), end="")
    ┏━━━━━━━━┳━━━━━━━━━━┳━━━━━━┳━━━━━━━━━━┓
    ┃ client ┃ examples ┃ loss ┃ accuracy ┃
    ┡━━━━━━━━╇━━━━━━━━━━╇━━━━━━╇━━━━━━━━━━┩
    │ ann    │ 8        │ 0.25 │ 1        │
    │ bob    │ 5        │ 0.5  │ nan      │
    └────────┴──────────┴──────┴──────────┘

    Args:
        rows: of each view; its metrics are named with it, unless the only view is the global one.
        name_of: the id of a client.
        width: in characters.
    """
    clients = {client for one in rows for client in one.clients.tolist()}
    if not clients or len(clients) > MOST_SHOWN:
        return None
    found = [
        Got(
            name_of(client),
            one.view,
            int(one.examples[place]),
            {name: float(values[place]) for name, values in one.metrics.items()},
            of_each_class(one.cells[SUPPORT][place]) if SUPPORT in one.cells else "",
        )
        for one in rows
        for place, client in enumerate(one.clients.tolist())
    ]
    return each_client(found, width, digits=6)


def views_json(record: RoundRecord) -> dict[str, Any]:
    """Return the views of a record ready for JSON: its round, those evaluated, and how each metric spreads.

    >>> spread = {"mean": 0.5, "worst": float("nan")}
    >>> views_json(RoundRecord(3, clients_test={"loss": spread}, evaluated={"clients": 4}))
    {'round': 3, 'evaluated': {'clients': 4}, 'clients_test': {'loss': {'mean': 0.5, 'worst': None}}}
    """
    told = record.to_json()
    return {name: told[name] for name in ("round", "evaluated", *VIEWS.values(), "tables") if name in told}


def intervals_of(rows: ClientRows, chosen: Sequence[Metric] | None) -> list[dict[str, Interval]]:
    """Return the intervals of the shares that each client got in a view, and at the end those of all together.

    >>> import numpy as np
    >>> cells = {"support": [[{"class": "no", "count": 5}, {"class": "yes", "count": 3}]]}
    >>> found = ClientRows("global", np.array([0]), np.array([8]), {"accuracy": np.array([0.75])}, cells=cells)
    >>> [round(one["accuracy"].low, 3) for one in intervals_of(found, None)]
    [0.409, 0.409]

    Args:
        rows: of the view; where the examples of each class are not known, there are none.
        chosen: the metrics; None: those that readers of two classes expect.
    """
    cells = rows.cells.get(SUPPORT)
    if not cells or not all(cells):
        return []
    classes = [str(cell["class"]) for cell in max(cells, key=lambda own: len(own or ())) or ()]
    known = of_classes(usual() if chosen is None else chosen, classes)
    support = np.array([[own[k]["count"] if own and k < len(own) else 0 for k in range(len(classes))] for own in cells])
    means = {name: float(np.average(values, weights=rows.examples)) for name, values in rows.metrics.items()}
    each = [{name: float(values[place]) for name, values in rows.metrics.items()} for place in range(len(cells))]
    counts = [*zip(each, support.tolist(), rows.examples.tolist(), strict=True)]
    counts.append((means | dict(rows.whole), support.sum(axis=0).tolist(), int(rows.examples.sum())))
    return [intervals(known, numbers, own, examples) for numbers, own, examples in counts]


def intervals_told(
    rows: Sequence[ClientRows], name_of: NameOf, chosen: Sequence[Metric] | None
) -> list[tuple[str, Grid]]:
    """Return a table for each view of the shares that clients got, with their intervals; of all together at the end.

    Of more than ``MOST_SHOWN`` clients it has the last line alone.

    Args:
        rows: of each view.
        name_of: the id of a client.
        chosen: the metrics; None: those that readers of two classes expect.
    """
    found = []
    for one in rows:
        each = intervals_of(one, chosen)
        names = list(dict.fromkeys(name for own in each for name in own))
        if not names:
            continue
        lines = [
            [who, *(shown(own[name]) if name in own else "nan" for name in names)]
            for who, own in zip([*map(name_of, one.clients.tolist()), "all"], each, strict=True)
        ]
        lines = lines if len(one.clients) <= MOST_SHOWN else lines[-1:]
        found.append((VIEWS[one.view], Grid(["client", *names], lines)))
    return found


def each_json(
    rows: Sequence[ClientRows], name_of: NameOf, chosen: Sequence[Metric] | None = None
) -> list[dict[str, Any]]:
    """Return what each client got in each view, ready for JSON; a metric that is not known of a client is null.

    What is a share of its examples has an interval under ``intervals``, where the examples of each class are known.

    >>> import numpy as np
    >>> found = {"loss": np.array([0.25]), "auroc": np.array([np.nan])}
    >>> rows = ClientRows("global", np.array([0]), np.array([8]), found)
    >>> each_json([rows], ["ann"].__getitem__)
    [{'client': 'ann', 'view': 'global', 'examples': 8, 'loss': 0.25, 'auroc': None}]

    Args:
        rows: of each view.
        name_of: the id of a client.
        chosen: the metrics; None: those that readers of two classes expect.
    """
    found = {
        one.view: [{"intervals": to_json(own)} if own else {} for own in intervals_of(one, chosen)] for one in rows
    }
    return [
        {
            "client": name_of(client),
            "view": one.view,
            "examples": int(one.examples[place]),
            **finite({name: float(values[place]) for name, values in one.metrics.items()}),
            **{name: cells[place] for name, cells in one.cells.items()},
            **(found[one.view][place] if found[one.view] else {}),
        }
        for one in rows
        for place, client in enumerate(one.clients.tolist())
    ]


def matrices_told(rows: Sequence[ClientRows], name_of: NameOf) -> list[tuple[str, Grid | None]]:
    r"""Return the confusion matrix of each client, a table for each metric and view with its name.

    There is none where there are more than ``MOST_SHOWN`` clients; None stands for a table of more than
    ``MOST_CLASSES`` classes.

    >>> from fedray.core.terminal import plain
    >>> import numpy as np
    >>> classes, counts = ["no", "yes"], [[8, 0], [0, 5]]
    >>> cells = [[{"true": name, "predicted": name, "count": n}] for name, n in (("no", 8), ("yes", 5))]
    >>> of = {"tables": {"confusion": {"classes": classes, "counts": counts}}, "cells": {"confusion": cells}}
    >>> rows = ClientRows("global", np.array([0, 1]), np.array([8, 5]), {}, **of)
    >>> ((name, table),) = matrices_told([rows], ["ann", "bob"].__getitem__)
    >>> print(name, plain(table), sep="\n", end="")
    confusion
    ┏━━━━━━━━┳━━━━━━━━━━━━━━━━━━┳━━━━┳━━━━━┓
    ┃ client ┃ true \ predicted ┃ no ┃ yes ┃
    ┡━━━━━━━━╇━━━━━━━━━━━━━━━━━━╇━━━━╇━━━━━┩
    │ ann    │ no               │ 8  │ 0   │
    │        │ yes              │ 0  │ 0   │
    │ bob    │ no               │ 0  │ 0   │
    │        │ yes              │ 0  │ 5   │
    └────────┴──────────────────┴────┴─────┘

    Args:
        rows: of each view.
        name_of: the id of a client.
    """
    found: list[tuple[str, Grid | None]] = []
    for one in rows:
        for title, cells in one.cells.items() if len(one.clients) <= MOST_SHOWN else ():
            classes = [str(name) for name in one.tables.get(title, {}).get("classes", ())]
            matrices = [Confused.of_cells(own or (), classes) for own in cells]
            first = next((matrix for matrix in matrices if matrix is not None), None)
            if first is None:
                continue
            name = f"{one.view} {title}" if len(rows) > 1 else title
            if len(classes) > MOST_CLASSES:
                found.append((name, None))
                continue
            lines = [
                ["" if number else name_of(client), row, *(f"{count:,}" for count in matrix.counts[number].tolist())]
                for client, matrix in zip(one.clients.tolist(), matrices, strict=True)
                if matrix is not None
                for number, row in enumerate(matrix.rows)
            ]
            found.append((name, Grid(["client", f"{first.y} \\ {first.x}", *first.columns], lines)))
    return found
