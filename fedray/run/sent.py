"""The ledger of what has left each client: the answers before the run, and what it sent in the rounds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedray.core.fragments import Fragment, Fragments
from fedray.core.layout import Layout
from fedray.core.messages import DELTA, Ints
from fedray.run.plan import Plan
from fedray.run.withheld import NOTE
from fedray.rundir import durable
from fedray.rundir.client_table import ClientRows
from fedray.rundir.names import SENT, SENT_WITHHELD

MOST_CLIENTS = 10_000
"""The number of clients up to which each has its own line; of more, sums alone are kept."""

_OF_CLIENTS = ("rounds", "surveys", "evaluations", "bytes", "by_client")
"""The counts of those who took part, which tell of the cohorts."""

_TOLD = ["examples", "loss", "weight"]


@dataclass
class Ledger:
    """The number of times that each client sent something, in the rounds that stand.

    A round that was lost, and done again, counts once, so that the ledger is a function of the config and the seed.

    >>> ledger = Ledger.of(3)
    >>> ledger.count(np.array([0, 2]), np.array([0, 1, 2]))
    >>> ledger.rounds.tolist(), ledger.surveys.tolist()
    ([1, 0, 1], [1, 1, 1])

    Args:
        rounds: rounds in which its update was accepted, int64 ``[N]``; for very many clients one sum, ``[1]``.
        surveys: rounds in which it answered the survey.
        evaluations: evaluations that it took part in.
        fragments: of the model, of which one travels in each round; None: all of it does.
        last: the last round in which each client's update was accepted, int64 ``[N]``, 0: none.
        turns: the number of rounds in which each client sent each of them, int64 ``[N, P]``.
        since: the first round that is counted.
        metrics: the numbers that it told in evaluations, by view and metric.
        asked: questions to silos, or to tables in their place, see :func:`fedray.data.sites.note`, by the round before
            which they were asked.
    """

    rounds: Ints = field(default_factory=lambda: np.zeros(1, np.int64))
    surveys: Ints = field(default_factory=lambda: np.zeros(1, np.int64))
    evaluations: Ints = field(default_factory=lambda: np.zeros(1, np.int64))
    fragments: Fragments | None = None
    last: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    turns: Ints = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    since: int = 1
    metrics: list[str] = field(default_factory=list)
    asked: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def of(cls, clients: int, fragments: Fragments | None = None) -> Ledger:
        """Return an empty ledger of so many clients, which send a fragment of the model each, where it has some."""
        size = clients if clients <= MOST_CLIENTS else 1
        found = cls(np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, np.int64), fragments)
        if fragments is not None:
            found.last = np.zeros(clients, np.int64)
            found.turns = np.zeros((clients, len(fragments.members)), np.int64)
        return found

    @property
    def single(self) -> bool:
        """True where each client has its own counts."""
        return len(self.rounds) > 1

    def ask(self, round: int, questions: Sequence[Mapping[str, Any]]) -> None:
        """Note what silos were asked before a round."""
        if questions:
            self.asked[str(round)] = [dict(one) for one in questions]

    def count(self, accepted: Ints, surveyed: Ints, round: int = 0) -> None:
        """Count a finished round.

        Args:
            accepted: clients whose updates were taken ``[C]``.
            surveyed: clients that answered its survey ``[C]``.
            round: its number.
        """
        if self.fragments is not None:
            self.last[accepted] = round
            self.turns[accepted, self.fragments.choose(round)] += 1
        self._count(self.rounds, accepted)
        self._count(self.surveys, surveyed)

    def evaluated(self, rows: Sequence[ClientRows]) -> None:
        """Count an evaluation of clients, by what each got in its views."""
        if rows:
            self._count(self.evaluations, rows[0].clients)
            told = [f"{one.view}.{name}" for one in rows for name in (*one.metrics, *one.tables, *one.cells)]
            self.metrics = list(dict.fromkeys([*self.metrics, *told]))

    def _count(self, counts: Ints, clients: Ints) -> None:
        if self.single:
            counts[clients] += 1
        else:
            counts[0] += len(clients)

    def tensors(self) -> dict[str, Tensor]:
        """Return its counts for a checkpoint."""
        found = {"rounds": self.rounds, "surveys": self.surveys, "evaluations": self.evaluations}
        found |= {} if self.fragments is None else {"last": self.last, "turns": self.turns}
        return {name: torch.from_numpy(counts.copy()) for name, counts in found.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the rest of it for a checkpoint."""
        return {"since": self.since, "metrics": self.metrics, "asked": self.asked}

    def restore(self, counts: Mapping[str, Tensor], rest: Mapping[str, Any] | None, round: int) -> None:
        """Go on from a checkpoint of a round; from one of an earlier fedray, which had no ledger, from there on."""
        if rest is None or counts["rounds"].shape != self.rounds.shape:
            self.since = round + 1
            return
        for name in self.tensors():
            setattr(self, name, counts[name].numpy().copy())
        self.since, self.metrics, self.asked = rest["since"], list(rest["metrics"]), dict(rest["asked"])


def parts(plan: Plan, layout: Layout, fragment: Fragment | None = None) -> Iterator[dict[str, Any]]:
    """Yield each part that a client sends in a round: its name, when, numbers, type and bytes.

    Args:
        plan: the plan.
        layout: of the model that the client trains.
        fragment: the one of the round; None: the longest, or there are none.
    """
    algorithm, seen = plan.algorithm, plan.algorithm.profile

    def part(name: str, numbers: int, when: str = "training", dtype: torch.dtype = torch.float32) -> dict[str, Any]:
        said, size = str(dtype).removeprefix("torch."), dtype.itemsize * numbers
        return {"name": name, "in": when, "numbers": numbers, "dtype": said, "bytes": size}

    for name, width in seen.surveys.items():
        yield part(name, width, "survey")
    for name, width in algorithm.sends(layout).items():
        ring = algorithm.transforms.ring
        if name == DELTA and fragment is not None and ring is None:
            width = fragment.columns.size
        encoded = algorithm.transforms.encoded(width, up=True) if name == DELTA else 4 * width
        encoded = encoded if ring is None else ring.value_bytes * width
        yield part(name, width) | ({"dtype": "encoded", "bytes": encoded} if encoded != 4 * width else {})
    for name in seen.slots:
        yield part(f"{name}.slot", 1)
    if seen.weighs:
        yield part("weight", 1)
    for name, each in seen.apart.items():
        yield part(name, each.width, dtype=each.dtype)


def content(plan: Plan, ledger: Ledger, round: int) -> dict[str, Any]:
    """Return what ``sent.json`` holds after a round."""
    task = plan.task
    layouts = (task.layout,) if task.submodels is None else task.submodels.layouts
    kinds = [list(parts(plan, layout)) for layout in layouts]
    sizes = np.array([sum(one["bytes"] for one in kind) for kind in kinds])
    members = () if task.fragments is None else task.fragments.members
    pieces = [list(parts(plan, task.layout, fragment)) for fragment in members]
    lengths = np.array([sum(one["bytes"] for one in piece) for piece in pieces], dtype=np.int64)
    told: dict[str, Any] = {
        "round": round,
        "since": ledger.since,
        "clients": task.data.members,
        "before": ledger.asked,
        "told": {"training": _TOLD, "evaluation": ledger.metrics},
        "variants": [{"bytes": int(size), "parts": kind} for size, kind in zip(sizes, kinds, strict=True)],
        "rounds": int(ledger.rounds.sum()),
        "surveys": int(ledger.surveys.sum()),
        "evaluations": int(ledger.evaluations.sum()),
    }
    if members:
        told["fragments"] = [{"bytes": int(n), "parts": piece} for n, piece in zip(lengths, pieces, strict=True)]
    if len(ledger.rounds) == len(task.data):
        clients = np.arange(len(task.data))
        variants = task.variants(clients)
        sent = ledger.turns @ lengths if members else ledger.rounds * sizes[variants]
        told["bytes"] = int(sent.sum())
        told["by_client"] = {
            "client": [task.data.client_id(client) for client in clients.tolist()],
            "variant": variants.tolist(),
            **{name: counts.tolist() for name, counts in ledger.tensors().items()},
            "bytes": sent.tolist(),
        }
    elif len(sizes) == 1:
        told["bytes"] = int((ledger.turns @ lengths).sum() if members else ledger.rounds[0] * sizes[0])
    return told


def write_sent(run_dir: Path, plan: Plan, ledger: Ledger, round: int) -> None:
    """Write ``sent.json``; under ``privacy`` what tells of clients goes to a file of its own.

    Raises:
        OSError: it cannot be written.
    """
    told = content(plan, ledger, round)
    if plan.privacy is not None:
        whole = json.dumps({"note": NOTE, **told}, ensure_ascii=False).encode()
        durable.replace(run_dir / SENT_WITHHELD, whole, secret=True)
        told = {name: value for name, value in told.items() if name not in _OF_CLIENTS}
    durable.replace(run_dir / SENT, json.dumps(told, ensure_ascii=False).encode())
