"""The text of ``fedray plan``."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext

import numpy as np
import torch
from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.padding import Padding
from rich.text import Text

from fedray.aggregators import Aggregator
from fedray.config.registry import dump
from fedray.core.errors import counted, listed
from fedray.core.messages import Ints
from fedray.core.terminal import pairs
from fedray.data import ClientData
from fedray.data.picture import label_picture
from fedray.experiment.build import Config
from fedray.experiment.capacity import check_gpus_used, worker_count
from fedray.experiment.estimate.catalogue import call, summary
from fedray.experiment.estimate.memory import Memory, memory
from fedray.experiment.estimate.pace import FirstRound, Pace, measure
from fedray.experiment.estimate.room import Given, Need, needs
from fedray.experiment.estimate.secure import secure_rows
from fedray.experiment.estimate.spending import privacy_rows
from fedray.local.schedule import step_bounds
from fedray.models.shapes import shapes_alone
from fedray.run.plan import Plan
from fedray.rundir.held_rows import LIMIT
from fedray.server import Server
from fedray.tasks import Task

_PICTURED = 100_000
_PROCESS = "about 0.25 GB"

Row = tuple[str, str]


def describe(config: Config) -> RenderableType:
    """Describe the work and the cost of a run of ``config``, for a terminal; as :func:`planned` does."""
    return planned(config)[0]


def planned(config: Config, sizes: bool = False, given: Given | None = None) -> tuple[RenderableType, list[Need]]:
    """Return a description of the work and the cost of a run of ``config``, and what its nodes and devices need.

    Loads the data, builds the model, and trains the first block of the first round twice, to time it; nothing is
    kept, no run folder is made.  By sizes alone the model is built without weights and memory, and nothing is timed.

    Args:
        config: the run.
        sizes: count by sizes alone.
        given: the memory of machines that are not this one; None: nothing is said of any.

    Raises:
        ConfigError: whatever a run would refuse to start with, apart from the machines it asks for.
    """
    check_gpus_used(config.place, config.data)
    plan, workers = config.plan(sizes=sizes), worker_count(config.place)
    with shapes_alone() if sizes else nullcontext():
        vector = torch.empty(plan.layout.size) if sizes else plan.layout.pack(dict(plan.task.model_fn().state_dict()))
        server = plan.start(vector)
        costs = memory(plan, server, workers)
    first = FirstRound.of(plan)
    evaluated = config.evaluate.clients_every > 0 or (config.evaluate.every > 0 and plan.task.data.test is not None)
    found = needs(config.place, costs, workers, evaluated, given or Given())
    told = Group(
        Text(f"{config.name}: {counted(plan.rounds, 'round')}, seed {plan.task.seed}"),
        _section("data", _data(plan.task.data, plan.task.about)),
        *([] if sizes else _labels(plan.task.data)),
        _section("model", _model(plan, costs)),
        _section("algorithm", _algorithm(config, plan)),
        *([_section("privacy", rows)] if (rows := list(privacy_rows(plan))) else []),
        *([_section("secure sum", rows)] if (rows := list(secure_rows(plan))) else []),
        _section("round", _round(plan, first)),
        _section("memory", _memory(config, costs, workers) + [(need.where, need.words) for need in found]),
        _section("time", [("a round", _UNTIMED)] if sizes else _time(config, plan, first, server, workers)),
    )
    return told, found


_UNTIMED = (
    "not known by sizes alone; nor whether model, loss and data fit together, whether clients may step at once, and "
    "what weights are in the folder"
)


def _section(title: str, rows: list[Row]) -> RenderableType:
    return Group(Text(), Text(title, style="bold"), Padding(pairs(rows, width=12), (0, 0, 0, 2)))


def _data(data: ClientData, task: Task) -> list[Row]:
    held, own, sizes = int(data.holdout_sizes.sum()), data.test_sizes, data.sizes[: data.members]
    whose = f"; {int(own.sum()):,} are the own ones of {counted(int((own > 0).sum()), 'client')}" if own.any() else ""
    silos = listed((f"{name} ({silo})" for name, silo in data.silos.items()), none="")
    return [
        ("clients", f"{data.members:,}"),
        *([("silos", silos)] if silos else []),
        ("an example", f"{data.spec.inputs} to {task.targets}"),
        ("training", f"{int(sizes.sum()):,} examples; a client has {_spread(sizes)}"),
        ("test", f"{0 if data.test is None else len(data.test):,} examples{whose}; held out on clients: {held:,}"),
    ]


def _labels(data: ClientData) -> list[RenderableType]:
    if data.spec.task != "classification":
        return []
    if len(data) > _PICTURED:
        return [_section("labels", [("not counted", f"for more than {_PICTURED:,} clients")])]
    ids = [data.client_id(number) for number in range(data.members)]
    return [Text(), Text(label_picture(data.label_counts()[: data.members], data.spec.classes, clients=ids))]


def _model(plan: Plan, costs: Memory) -> list[Row]:
    layout = plan.layout
    sizes = Counter[str]()
    for entry in layout.entries:
        sizes[entry.kind] += entry.stop - entry.start
    rest = f"{sizes['buffer']:,} in buffers, {sizes['frozen']:,} frozen"
    return [
        ("parameters", f"D = {layout.trained:,} trained"),
        ("vector", f"P = {layout.size:,} float32 values, {decimal(4 * layout.size)}; {rest}"),
        *([("beside it", _frozen(costs))] if costs.frozen else []),
        *([("variants", words)] if (words := plan.task.trains) else []),
    ]


def _frozen(costs: Memory) -> str:
    held = "held once on a node, mapped from its file" if costs.mapped else "held by each process"
    on_gpus = f", {decimal(costs.apart)} of it by each model there" if costs.apart else ""
    return f"{decimal(costs.frozen)} that is frozen and does not travel; {held}, and by each process on a GPU{on_gpus}"


def _algorithm(config: Config, plan: Plan) -> list[Row]:
    algorithm = plan.algorithm
    transforms = ", ".join(_part(transform) for transform in config.transforms)
    return [
        ("name", f"{_part(config.algorithm)}: {summary(config.algorithm)}"),
        ("client program", "fit the model" if algorithm.program.plain else summary(type(algorithm.program).client)),
        ("transforms", transforms or "none"),
        ("aggregator", f"{_part(config.aggregator)}: {summary(config.aggregator)}"),
        *_trimmed(config.aggregator, plan.sampler.expected(plan.task.data.sizes)),
        *_attack(config, plan),
        *_server(plan),
        ("weight", f"{algorithm.weight}: {_WEIGHTS[algorithm.weight]}" if algorithm.aggregator.weighted else _ALIKE),
        ("optimizer", f"{_part(config.optimizer)} on the clients"),
        *([("learning rate", f"{_part(config.lr_schedule)}: {rate}")] if (rate := plan.task.rate.words) else []),
    ]


def _server(plan: Plan) -> list[Row]:
    algorithm = plan.algorithm
    if not algorithm.program.uses_server:
        return [("server", summary(type(algorithm.program).step))]
    rates = [("server rate", rate)] if (rate := plan.server_rate.words) else []
    return [("server", f"{_part(algorithm.server)}: {summary(algorithm.server)}"), *rates]


def _attack(config: Config, plan: Plan) -> list[Row]:
    if plan.attackers is None:
        return []
    data, attackers = plan.task.data, plan.attackers.clients.tolist()
    names = listed((data.client_id(client) for client in attackers), none="nobody")
    return [("attack", f"{_part(config.attack)} by {len(attackers):,} of {counted(len(data), 'client')}: {names}")]


def _trimmed(aggregator: Aggregator, cohort: float) -> list[Row]:
    left_out = aggregator.left_out(int(cohort))
    if left_out is None:
        return []
    told = f"{left_out} largest and as many smallest values" if left_out else "nothing: this is the plain mean"
    return [("", f"of a cohort of {cohort:g} it leaves out {told}")]


_ALIKE = "every client counts the same, whatever its weight, with this aggregator"
_WEIGHTS = {
    "examples": "a client counts by its number of training examples",
    "uniform": "every client counts the same",
    "tokens": "a client counts by the target positions of its training examples that the loss counts",
    "own": "the algorithm weighs clients itself",
}


def _round(plan: Plan, first: FirstRound | None) -> list[Row]:
    sizes = plan.task.data.sizes
    expected = plan.sampler.expected(sizes)
    stacking, sharing = plan.task.stacking, plan.task.sharing
    everyone = np.arange(len(sizes))
    # For each client on average, and beside that what depends on the cohort.
    carried, cohort = _usual(plan, everyone), max(1, round(expected))
    beside = plan.exchanged(cohort, round(cohort * (1.0 - plan.failures.dropout)))
    each = {way: carried[way] // len(sizes) + beside[way] // cohort for way in ("down", "up")}
    down, up = (round(expected * (carried[way] / len(sizes) + beside[way] / cohort)) for way in ("down", "up"))
    mean = "on average " if plan.task.submodels is not None or plan.task.fragments is not None else ""
    how = "all clients stacked" if stacking.stacked else "all clients one by one"
    return [
        ("cohort", _cohort(plan, expected)),
        *([("", f"{dropout:g} of them drop out")] if (dropout := plan.failures.dropout) else []),
        ("local steps", f"a client does {_steps(plan, sizes)}"),
        ("blocks", _blocks(plan, first)),
        ("stepping", f"{how}: {stacking.reason}"),
        *([("devices", sharing.reason)] if sharing.reason else []),
        *(("waits", f"until a round is evaluated before the next: {key} decides by it") for key in plan.monitors),
        *(("warning", text) for text in plan.warnings),
        ("down", f"{decimal(down)}: {mean}{each['down']:,} bytes to each client"),
        *_whole(plan),
        ("up", f"{decimal(up)}: {mean}{each['up']:,} bytes from each client"),
        ("all rounds", f"{decimal(plan.rounds * down)} down, {decimal(plan.rounds * up)} up"),
    ]


def _usual(plan: Plan, everyone: Ints) -> dict[str, int]:
    """Return the bytes of a round of all who took part in the one before, as the mean over the fragments in turn."""
    turns = 1 if plan.task.fragments is None else len(plan.task.fragments.members)
    rounds = [plan.carried(everyone, everyone, turn + 1, np.full_like(everyone, turn)) for turn in range(1, turns + 1)]
    return {way: sum(one[way] for one in rounds) // turns for way in ("down", "up")}


def _whole(plan: Plan) -> list[Row]:
    """Say what those receive who did not take part in the round before, where that is more."""
    if plan.task.fragments is None:
        return []
    whole = plan.algorithm.download(plan.layout)
    return [("", f"who takes part for the first time receives the whole model, {whole:,} bytes")]


def _cohort(plan: Plan, expected: float) -> str:
    data = plan.task.data
    if data.members < len(data):
        return f"one, which has the rows of {counted(data.members, 'client')}"
    return f"{expected:,.6g} of {counted(len(data), 'client')} expected ({_part(plan.sampler)})"


def _steps(plan: Plan, sizes: Ints) -> str:
    least, most = step_bounds(plan.task.args, sizes, plan.task.data.keys(np.arange(len(sizes))))
    drawn = "" if (least == most).all() else ", by draws"
    return f"{_spread(np.concatenate([least, most]))}{drawn}" if drawn else _spread(most)


def _blocks(plan: Plan, first: FirstRound | None) -> str:
    if first is None:
        return "none: no cohort has a client"
    sizes = Counter(len(block.clients) for block in first.blocks)
    counted = ", ".join(f"{count:,} of {size:,}" for size, count in sorted(sizes.items(), reverse=True))
    return f"{len(first.blocks):,} in round {first.number} (clients: {counted})"


def _memory(config: Config, costs: Memory, workers: int) -> list[Row]:
    worker, driver = sum(costs.worker.values()), sum(costs.driver.values())
    inline, ranks = config.place.launcher.in_process, config.place.worker.ranks
    bytes = workers * ranks * worker + driver
    total = f"{decimal(bytes)}, and {_PROCESS} for Python and torch in each process, and the data"
    best = " and the best" if config.checkpoint.monitor else ""
    keep, several = config.checkpoint.keep, counted(workers, "worker")
    return [
        ("a worker" if ranks == 1 else f"each of {ranks} ranks", f"{decimal(worker)}: {_listed(costs.worker)}"),
        ("the driver", f"{decimal(driver)}: {_listed(costs.driver)}"),
        (
            "together",
            f"{'worker and driver in one process' if inline else f'{several} and the driver'}: {total}",
        ),
        ("checkpoint", f"{decimal(costs.checkpoint)} on disk, {keep:,} kept{best}"),
        *([("model", _at_rest(costs))] if costs.frozen else []),
        ("client state", _state(costs.state, inline)),
    ]


def _at_rest(costs: Memory) -> str:
    whole = f"{decimal(costs.driver['model'] + costs.frozen)} on disk in the end, with what is frozen"
    return whole if costs.mapped else f"{whole}; that once more by itself, {decimal(costs.frozen)}"


def _state(bytes: int, inline: bool) -> str:
    if not bytes:
        return "none"
    # Up to two and a half rows are stored for each client, and what is dead stays for two rounds.
    where = "in memory" if inline else "in memory, if all workers are on the driver's node"
    most = decimal(min(LIMIT, 3 * bytes))
    return f"{decimal(bytes)} on disk once every client has taken part, and up to {most} {where}"


def _time(config: Config, plan: Plan, first: FirstRound | None, server: Server, workers: int) -> list[Row]:
    if first is None:
        return [("a round", "no training: no cohort has a client")]
    if ranks := config.place.ranks(plan.task.data):
        return [("a round", f"not measured: {max(ranks.values())} ranks train a client, and this is one process")]
    wanted, found = config.place.worker.gpus, torch.cuda.device_count()
    if wanted > found:
        return [("a round", f"not measured: worker.gpus is {wanted:g}, and this machine has {counted(found, 'GPU')}")]
    pace = measure(plan, config.place, server, first)
    threads = config.place.worker.threads
    done = f"{counted(pace.clients, 'client')}, {counted(pace.steps, 'local step')}, {counted(threads, 'thread')}"
    measured = f"{_seconds(pace.block)} for {done}"
    return [
        ("one block", f"{measured}, measured{_failed(pace)}"),
        (
            "a round",
            f"about {_seconds(pace.round)} of training on {counted(workers, 'worker')}, by its blocks' local steps",
        ),
        ("all rounds", f"about {_seconds(plan.rounds * pace.round)}; start, aggregation and evaluation come on top"),
    ]


def _failed(pace: Pace) -> str:
    if not pace.failures:
        return ""
    one = pace.failures[0]
    return f"; {len(pace.failures)} failed, first client {one.name!r} ({one.stage}): {one.error}"


def _part(part: object) -> str:
    options = dump(part)
    return call(str(options.pop("name")), options)


def _spread(values: Ints) -> str:
    low, middle, high = int(values.min()), float(np.median(values)), int(values.max())
    return f"{low:,} to {high:,}, median {middle:,.6g}" if low < high else f"{low:,}"


def _listed(costs: dict[str, int]) -> str:
    return ", ".join(f"{name} {decimal(amount)}" for name, amount in costs.items() if amount)


def _seconds(seconds: float) -> str:
    """Return a duration in a unit that suits it.

    >>> _seconds(0.0042), _seconds(9.0), _seconds(600), _seconds(90_000)
    ('4.2 ms', '9 s', '10 min', '25 h')
    """
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 120:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:,.3g} h"
