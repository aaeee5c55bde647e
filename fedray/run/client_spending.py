"""The privacy that each client of a run spends by itself: its ledger, what is told of it, and when it has to end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fedray.core.errors import ConfigError, counted
from fedray.core.messages import BlockReport, Ints
from fedray.core.record import RoundRecord
from fedray.local.schedule import poisson_rates
from fedray.privacy.client_ledger import ClientLedger, Line, Releases, dearest
from fedray.privacy.client_statement import client_statement
from fedray.privacy.ledger import Cost, Ledger
from fedray.privacy.randomized import Local
from fedray.privacy.releases import Release
from fedray.run.plan import Plan
from fedray.run.private_steps import planned_steps
from fedray.run.spending import BudgetExceeded, Spending, told_of
from fedray.rundir import durable
from fedray.rundir.names import LEDGER, PRIVACY


class Costs(Protocol):
    """The releases of clients: a kind for each, and how many of them there are in a round."""

    def kind(self, client: int) -> Release:
        """Return one release of a client."""

    def planned(self, round: int, clients: Ints) -> Ints:
        """Return the number of releases of clients in a round, ``[C]``, as it is known before."""

    def released(self, report: BlockReport) -> Mapping[int, int]:
        """Return the number of releases of each client of a block that released something."""


class OfUpdates:
    """The costs of clients that each noise all that they send, once a round."""

    def __init__(self, local: Local) -> None:
        self._release = local.release

    def kind(self, client: int) -> Release:
        """Return the release, the same of all clients."""
        return self._release

    def planned(self, round: int, clients: Ints) -> Ints:
        """Return one release of each client."""
        return np.ones(len(clients), dtype=np.int64)

    def released(self, report: BlockReport) -> Mapping[int, int]:
        """Return one release of each client that sent something."""
        return dict.fromkeys(report.released, 1)


class OfSteps:
    """The costs of clients that noise the gradient of each step, of a batch that is drawn by coins."""

    def __init__(self, plan: Plan) -> None:
        task = plan.task
        assert task.private is not None
        self._plan, self._multiplier = plan, task.private.noise_multiplier
        self._rates = poisson_rates(task.args, task.data.sizes, task.data.keys(np.arange(len(task.data))))

    def kind(self, client: int) -> Release:
        """Return one step of a client."""
        return Release(self._multiplier, float(self._rates[client]))

    def planned(self, round: int, clients: Ints) -> Ints:
        """Return the steps of clients in all fits of a round."""
        return planned_steps(self._plan, round, clients)

    def released(self, report: BlockReport) -> Mapping[int, int]:
        """Return the steps of each client that it has taken."""
        return {client: steps for client, steps in report.taken.items() if steps}


class ClientSpending:
    """The privacy that clients spend, each by itself.

    Args:
        plan: of the run.
        costs: of a round.
        ledger: of the run.
        budget: the epsilon that no client is to exceed; None: there is no limit.
        done: the number of rounds that are done.
    """

    def __init__(self, plan: Plan, costs: Costs, ledger: ClientLedger, budget: float | None, done: int = 0) -> None:
        assert plan.privacy is not None
        self._plan, self._costs, self.ledger, self._budget = plan, costs, ledger, budget
        self._section = plan.privacy
        self._refused: str | None = None
        self._looked: dict[int, bool] = {}
        self._safe = self._planned(done) if budget is not None else {}

    def _planned(self, done: int) -> dict[int, int]:
        """Return the number of releases by which each client stays within the budget, if all that is planned does."""
        counts = np.zeros(len(self._plan.task.data), dtype=np.int64)
        for round in range(done + 1, self._plan.rounds + 1):
            asked = self._asked(round)
            counts[asked] += self._costs.planned(round, asked)
        kinds = {client: self._costs.kind(client) for client in np.flatnonzero(counts).tolist()}
        names = {client: self._name(client) for client in kinds}
        after = [self.ledger.of(names[i], [replace(kind, count=int(counts[i]))]) for i, kind in kinds.items()]
        if self._exceeded(after):
            return {}
        had = {client: self.ledger.count(names[client], kind) for client, kind in kinds.items()}
        return {client: count + int(counts[client]) for client, count in had.items() if count is not None}

    def _name(self, client: int) -> str:
        return self._plan.task.data.client_id(client)

    def _asked(self, round: int) -> Ints:
        """Return the clients that are asked in a round, as it is known before."""
        plan = self._plan
        staying = plan.staying(round, plan.cohort(round))
        return np.setdiff1d(staying, np.array(sorted(plan.left_out.get(round, ())), dtype=np.int64))

    def _exceeded(self, of_clients: Iterable[Releases]) -> bool:
        """Tell if one of the clients is beyond the budget, by a quick look where that will do."""
        left, section = [*of_clients], self._section
        if self._budget is None or not left or dearest(left, section.delta, "rdp") <= self._budget:
            return False
        return section.accountant == "rdp" or dearest(left, section.delta, section.accountant) > self._budget

    def _after(self, counts: Mapping[int, int]) -> list[Releases]:
        """Return all releases of each client after further ones, of those who might exceed the budget with them."""
        found = []
        for client, count in counts.items():
            kind, name = self._costs.kind(client), self._name(client)
            had = self.ledger.count(name, kind) if client in self._safe else None
            if had is None or had + count > self._safe[client]:
                found.append(self.ledger.of(name, [replace(kind, count=count)]))
        return found

    @classmethod
    def of(cls, plan: Plan, costs: Costs, folder: Path, saved: Mapping[str, Any] | None) -> ClientSpending:
        """Return what clients spend, with the ledger in the folder of the run.

        Args:
            plan: of the run.
            costs: of a round.
            folder: of the run.
            saved: the state of the checkpoint that it goes on from; None: it begins.

        Raises:
            ConfigError: the ledger is missing, another one, or cut short; or the rounds before had none.
        """
        assert plan.privacy is not None
        known, done = (None, 0) if saved is None else (saved.get("privacy"), int(saved["round"]))
        if done and known is None:
            raise ConfigError(
                f"privacy: the run has done {counted(done, 'round')} without a ledger, so that nobody could say what "
                "it costs: train anew in another run.dir"
            )
        path = folder / LEDGER
        if known is not None:
            ledger = ClientLedger.resume(path, known["ledger"], known["releases"])
        else:
            ledger = ClientLedger.resume(path) if path.exists() else ClientLedger.begin(path)
        (folder / PRIVACY).unlink(missing_ok=True)  # what was claimed of the rounds before does not hold of more
        limit = plan.budget.epsilon
        return cls(plan, costs, ledger, plan.privacy.epsilon if limit is None else limit, done)

    def write(self, round: int, id: str, cost: Cost) -> None:
        """Refuse a release of the server: where clients add the noise there is none."""
        raise TypeError("clients release what they send themselves")

    def take(self, round: int, reports: Sequence[BlockReport]) -> None:
        """Write down what clients have released in a round, before anything is made of it.

        Raises:
            BudgetExceeded: some client would exceed the budget.
            OSError: the disk is full, or fails.
        """
        groups: dict[Release, dict[str, str]] = {}
        counts: dict[int, int] = {}
        for report in reports:
            for client, count in self._costs.released(report).items():
                name, id = self._name(client), report.released[client]
                if not self.ledger.has(round, name, id):
                    groups.setdefault(replace(self._costs.kind(client), count=count), {})[name] = id
                    counts[client] = count
        if self._budget is not None and self._exceeded(self._after(counts)):
            self._refused = (
                f"budget.epsilon: with what clients did in round {round} one of them would exceed {self._budget:g}; "
                f"{self.epsilon:.4g} are spent"
            )
            raise BudgetExceeded(self._refused)
        self.ledger.write(Line(round, release, clients) for release, clients in groups.items())

    def used_up(self, round: int) -> str | None:
        """Return, in words, that some client would exceed the budget after ``round``; None if none would."""
        if self._refused is not None:
            return self._refused
        if self._budget is None or round >= self._plan.rounds or not self._exceeds(round + 1):
            return None
        return f"budget.epsilon: in one more round a client would exceed {self._budget:g}; {self.epsilon:.4g} are spent"

    def _exceeds(self, round: int) -> bool:
        if round not in self._looked:
            asked = self._asked(round)
            planned = zip(asked.tolist(), self._costs.planned(round, asked).tolist(), strict=True)
            # What was released already, and is done again as it was, costs nothing.
            counts = {i: count for i, count in planned if count and not self.ledger.released(round, self._name(i))}
            self._looked = {round: self._exceeded(self._after(counts))}
        return self._looked[round]

    def tell(self, record: RoundRecord) -> None:
        """Write what the client that pays most has spent into the record of a round."""
        section, paid = self._section, self.ledger.paid
        told = told_of(
            lambda by: dearest(paid, section.delta, by),
            # What each client releases whole is counted in closed form, as quickly.
            section.accountant if section.unit == "example" else "rdp",
            self._plan.rounds,
            record.round,
            last=self.used_up(record.round) is not None,
        )
        record.metrics.setdefault("privacy", {}).update(told, delta=section.counted_at)

    @property
    def epsilon(self) -> float:
        """The epsilon of the client that pays most, so far."""
        return dearest(self.ledger.paid, self._section.delta, self._section.accountant)

    def to_json(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return {"ledger": self.ledger.id, "releases": len(self.ledger)}

    def statement(self) -> dict[str, Any]:
        """Return what can be claimed of the run, in words that a reviewer can use."""
        return client_statement(self._section, self.ledger, len(self._plan.task.data))


def spending_of(plan: Plan, folder: Path, saved: Mapping[str, Any] | None) -> Spending | ClientSpending | None:
    """Return what a run spends, with its ledger in its folder; None without ``privacy`` that is accounted for.

    Args:
        plan: of the run.
        folder: of the run.
        saved: the state of the checkpoint that it goes on from; None: it begins.

    Raises:
        ConfigError: the ledger is missing, another one, or cut short; or the rounds before had no privacy, or were the
            only ones to have some.
    """
    local = next((part for part in plan.algorithm.transforms if isinstance(part, Local)), None)
    if local is not None:
        return ClientSpending.of(plan, OfUpdates(local), folder, saved)
    if plan.task.private is not None:
        return ClientSpending.of(plan, OfSteps(plan), folder, saved)
    return Spending.of(plan, folder, saved)


def claim(folder: Path, ledger: Ledger | ClientLedger, statement: Mapping[str, Any]) -> None:
    """Leave the ledger of a run that has ended or was stopped as all that was made, and write what can be claimed.

    Args:
        folder: of the run.
        ledger: of the run.
        statement: the claim.

    Raises:
        OSError: the disk is full, or fails.
    """
    ledger.settle()
    durable.replace(folder / PRIVACY, json.dumps(statement, indent=1).encode())
