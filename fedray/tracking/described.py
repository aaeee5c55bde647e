"""The numbers of records in words, as TensorBoard shows them beside their curves."""

from __future__ import annotations

import inspect

from fedray.core.record import OWN, VIEWS

_ROWS = "their held-out rows, or own test sets"
_MODELS = {
    OWN: f"The model that each client would use, its own or else the global one, evaluated on its rows: {_ROWS}.",
    "clients_test": f"The global model, evaluated on every client's rows: {_ROWS}.",
    "clients_personal": f"Each client's own model, evaluated on its rows: {_ROWS}.",
    "clients_finetuned": f"The model after more training at each client, evaluated on its rows: {_ROWS}.",
}
_SPREAD = {
    "mean": "Of the rows of all clients together: a client counts by its rows.",
    "client_mean": "The mean over clients: each counts once.",
    "std": "The standard deviation over clients: each counts once.",
    "p10": "The 10th percentile: one client in ten has less.",
    "p50": "The median client.",
    "p90": "The 90th percentile: one client in ten has more.",
    "worst": "The mean over the tenth of the clients that fare worst.",
}
_SAID = {
    "train/loss": "Mean loss of all local steps of the round, on the clients' training rows, while the models of the "
    "clients move: not the loss of one model. It is over examples, or over their positions that count.",
    "train/lr": "Learning rate of the clients.",
    "evaluated/clients": "Clients that were evaluated.",
    "evaluated/missing": "Clients that nobody could reach to evaluate them.",
    "evaluated/without": "Clients that have no rows to be evaluated on.",
    "evaluated/taken_part": "Clients evaluated that keep something of a round before; the others are newcomers.",
    "evaluated/fitted": "Training examples that the evaluation used.",
    "clients/sampled": "Clients drawn for the round.",
    "clients/ok": "Clients whose updates were taken.",
    "clients/failed": "Clients whose training failed: the run folder has the reason of each.",
    "clients/dropped": "Clients who dropped out, under failures.dropout.",
    "clients/weight": "Sum of the weights of the updates that were taken.",
    "time/round_seconds": "Seconds of the round, by the clock on the wall.",
    "time/broadcast": "Seconds until every worker had the model.",
    "time/train": "Seconds in which clients trained.",
    "time/aggregate": "Seconds in which updates became one, and the model moved.",
    "time/evaluate": "Seconds of workers for evaluations, which may overlap with the next round's training.",
    "time/checkpoint": "Seconds of the checkpoint, in the background.",
    "bytes/down": "Bytes that the clients of the round would receive over a network.",
    "bytes/up": "Bytes that the clients of the round would send over a network.",
    "bytes/network": "Bytes that did cross from node to node.",
    "usage/nodes": "Nodes that took part.",
    "usage/retries": "Blocks of clients done again because a worker was lost.",
    "usage/cpu_seconds": "Seconds of processors that workers used.",
    "usage/gpu_seconds": "GPUs reserved, times seconds.",
    "usage/joules": "Energy, where it is measured.",
    "usage/idle": "Seconds of the train phase in which a worker had no work.",
    "usage/rss": "The most memory that a worker has had so far, in bytes.",
    "usage/gpu_memory": "The most GPU memory that a worker has had so far, in bytes.",
    "usage/gpu_use": "The share of the last moments of the round in which a worker's GPUs ran a kernel.",
}
_OVER_WORKERS = {"mean": "The mean over workers.", "max": "The worker with the most."}


def description(name: str) -> str:
    """Return what one of the :func:`scalars` of a record is, in Markdown.

    >>> description("test/accuracy").splitlines()[0]
    'The global model after the round, on the central test set.'
    >>> description("clients_test/loss/p90").splitlines()[-3::2]
    ['The 90th percentile: one client in ten has more.', 'In records: `clients_test.loss.p90`.']
    >>> description("krum/kept")
    'Told of each round by `krum`, a part of the run.'
    """
    section, _, rest = name.partition("/")
    recorded = f"In records: `{name.replace('/', '.')}`."
    if name in _SAID:
        return _SAID[name]
    if section == "test":
        return _joined("The global model after the round, on the central test set.", _metric(rest), recorded)
    metric, _, spread = rest.rpartition("/")
    if section == OWN and spread in _SPREAD:  # no record has it, tables of sweeps do
        return _joined(_MODELS[OWN], _metric(metric), _SPREAD[spread])
    if section in _MODELS and spread in _SPREAD:
        return _joined(_MODELS[section], _metric(metric), _SPREAD[spread], recorded)
    if section == "usage" and spread in _OVER_WORKERS and (said := _SAID.get(f"usage/{metric}")):
        return _joined(said, _OVER_WORKERS[spread])
    if name.startswith("usage/failures/"):
        return f"Clients that failed in the stage `{spread}`."
    if section == "time":
        return f"Seconds of the phase `{rest}`."
    return f"Told of each round by `{section}`, a part of the run."


def description_of_client(view: str, metric: str, client: str) -> str:
    """Return what the number of a single client is, in Markdown.

    >>> description_of_client("global", "loss", "ann").splitlines()[-1]
    'The client `ann` alone.'
    """
    return _joined(_MODELS[VIEWS[view]], _metric(metric), f"The client `{client}` alone.")


def _metric(name: str) -> str:
    """Return the first paragraph of what a metric says of itself; one of a name that is not known has its name only."""
    from fedray.metrics import metrics

    if name == "loss":
        return "`loss`: the mean of the loss, lower is better."
    known = metrics.get(name)
    words = inspect.cleandoc(known.__doc__ or "").partition("\n\n")[0] if known is not None else ""
    return f"`{name}`: {' '.join(words.split())}" if words else f"The metric `{name}`."


def _joined(*paragraphs: str) -> str:
    return "\n\n".join(paragraphs)
