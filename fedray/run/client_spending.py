"""The privacy that each client of a run spends by itself: its ledger, what is told of it, and when it has to end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fedray.core.errors import ConfigError, counted
from fedray.core.messages import BlockReport, Ints
from fedray.core.record import RoundRecord
from fedray.privacy.client_ledger import ClientLedger, Line, Releases, dearest
from fedray.privacy.client_statement import client_statement
from fedray.privacy.ledger import Cost
from fedray.privacy.randomized import Local
from fedray.privacy.releases import Release
from fedray.run.plan import Plan
from fedray.run.spending import TOLD, BudgetExceeded, Spending
from fedray.rundir.names import LEDGER, PRIVACY


class Costs(Protocol):
    """The releases of clients in a round, one after the other."""

    def planned(self, round: int, clients: Ints) -> Sequence[Release]:
        """Return the most that clients ``[C]`` will release in a round, before it begins."""

    def released(self, report: BlockReport) -> Mapping[int, Release]:
        """Return what the clients of a block have released."""


class OfUpdates:
    """The costs of clients that each noise all that they send, once a round."""

    def __init__(self, local: Local) -> None:
        self._release = local.release

    def planned(self, round: int, clients: Ints) -> Sequence[Release]:
        """Return one release of each client."""
        return [self._release] * len(clients)

    def released(self, report: BlockReport) -> Mapping[int, Release]:
        """Return one release of each client that sent something."""
        return dict.fromkeys(report.released, self._release)


class ClientSpending:
    """The privacy that clients spend, each by itself.

    Args:
        plan: of the run.
        costs: of a round.
        ledger: of the run.
        budget: the epsilon that no client is to exceed; None: there is no limit.
    """

    def __init__(self, plan: Plan, costs: Costs, ledger: ClientLedger, budget: float | None) -> None:
        assert plan.privacy is not None
        self._plan, self._costs, self.ledger, self._budget = plan, costs, ledger, budget
        self._section = plan.privacy
        self._every = max(1, plan.rounds // TOLD)
        self._refused: str | None = None
        self._most = self._dearest(ledger.clients.values())
        self._looked: dict[int, bool] = {}

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
            ledger = ClientLedger.read(path) if path.exists() else ClientLedger.begin(path)
        (folder / PRIVACY).unlink(missing_ok=True)  # what was claimed of the rounds before does not hold of more
        limit = plan.budget.epsilon
        return cls(plan, costs, ledger, plan.privacy.epsilon if limit is None else limit)

    def _dearest(self, of_clients: Iterable[Releases]) -> float:
        return dearest(of_clients, self._section.delta, self._section.accountant)

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
        for report in reports:
            for client, release in self._costs.released(report).items():
                name = self._plan.task.data.client_id(client)
                groups.setdefault(release, {})[name] = report.released[client]
        lines = self.ledger.new(Line(round, release, clients) for release, clients in groups.items())
        after = [self.ledger.of(name, [line.release]) for line in lines for name in line.clients]
        most = max(self._most, self._dearest(after)) if lines else self._most
        if self._budget is not None and most > self._budget and lines:
            self._refused = (
                f"budget.epsilon: what clients did in round {round} would take one of them to {most:.4g}, above "
                f"{self._budget:g}; {self._most:.4g} are spent"
            )
            raise BudgetExceeded(self._refused)
        self.ledger.write(lines)
        self._most = most

    def used_up(self, round: int) -> str | None:
        """Return, in words, that some client would exceed the budget after ``round``; None if none would."""
        if self._refused is not None:
            return self._refused
        if self._budget is None or round >= self._plan.rounds or not self._exceeds(round + 1):
            return None
        return f"budget.epsilon: in one more round a client would exceed {self._budget:g}; {self._most:.4g} are spent"

    def _exceeds(self, round: int) -> bool:
        if round not in self._looked:
            plan = self._plan
            staying = plan.staying(round, plan.cohort(round))
            asked = np.setdiff1d(staying, np.array(sorted(plan.left_out.get(round, ())), dtype=np.int64))
            after = []
            for client, release in zip(asked.tolist(), self._costs.planned(round, asked), strict=True):
                name = plan.task.data.client_id(client)
                # What was released already, and is done again as it was, costs nothing.
                if not self.ledger.released(round, name):
                    after.append(self.ledger.of(name, [release]))
            assert self._budget is not None
            self._looked = {round: bool(after) and self._dearest(after) > self._budget}
        return self._looked[round]

    def tell(self, record: RoundRecord) -> None:
        """Write what the client that pays most has spent into the record of a round, where it is due."""
        round = record.round
        last = round == self._plan.rounds or self.used_up(round) is not None
        if last or round == 1 or round % self._every == 0:
            told = record.metrics.setdefault("privacy", {})
            told |= {"epsilon": self._most, "delta": self._section.counted_at}

    @property
    def epsilon(self) -> float:
        """The epsilon of the client that pays most, so far."""
        return self._most

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
    return Spending.of(plan, folder, saved)
