"""The budget of a run: what it has used so far, and the limit that it has reached, if any."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from fedray.config.sections import BudgetSection
from fedray.core.record import RoundRecord

LAST_ROUND = "budget.last_round"


def machine_of(kind: str) -> str:
    """Return a kind of hardware without the ranks that its workers had.

    >>> machine_of("x86_64 AVX2, 2 ranks"), machine_of("x86_64, AVX2")
    ('x86_64 AVX2', 'x86_64, AVX2')
    """
    machine, _, last = kind.rpartition(", ")
    return machine if last.endswith(" ranks") else kind


@dataclass
class Totals:
    """Sums over the rounds of a run, those before a resume included; rounds that were lost or dropped are not counted.

    Args:
        wall_seconds: of the rounds.
        cpu_seconds: processor time of the workers.
        gpu_seconds: reserved GPUs times seconds.
        joules: energy of the workers' GPUs, as far as it was measured.
        idle: seconds that workers waited.
        network: bytes between nodes.
        retries: blocks done again because a worker was lost.
        failures: the number of times that clients gave no update, by stage.
        rss: largest peak memory of a worker, in bytes.
        gpu_memory: largest peak GPU memory of a worker, in bytes.
        examples: training examples used, counted once for each local epoch.
        seconds: of all drivers, from their start to their end or last checkpoint.
        hardware: the kinds that workers ran on, in the order in which they came.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    joules: float = 0.0
    idle: float = 0.0
    network: int = 0
    retries: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    rss: int = 0
    gpu_memory: int = 0
    examples: int = 0
    seconds: float = 0.0
    hardware: list[str] = field(default_factory=list)

    def add(self, record: RoundRecord) -> bool:
        """Count a round; return whether its workers were of another kind than those before, or of several."""
        usage, kinds = record.usage, len(self.hardware)
        self.hardware += [kind for kind in usage.get("hardware", ()) if kind not in self.hardware]
        # Ranks of workers differ by the config, and each client has those of its own worker.
        found = self.hardware if kinds else {machine_of(kind) for kind in self.hardware}
        self.wall_seconds += record.seconds
        self.cpu_seconds += usage.get("cpu_seconds", 0.0)
        self.gpu_seconds += usage.get("gpu_seconds", 0.0)
        self.joules += usage.get("joules", 0.0)
        self.idle += sum(usage.get("idle", ()))
        self.examples += record.examples
        self.network += record.bytes.get("network", 0)
        self.retries += usage.get("retries", 0)
        for stage, count in usage.get("failures", {}).items():
            self.failures[stage] = self.failures.get(stage, 0) + count
        self.rss = max([self.rss, *usage.get("rss", ())])
        self.gpu_memory = max([self.gpu_memory, *usage.get("gpu_memory", ())])
        return len(found) > max(kinds, 1)

    def to_json(self) -> dict[str, Any]:
        """Return the totals ready for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Totals:
        """Make totals of what ``to_json`` has returned."""
        return cls(**data)


def used_up(budget: BudgetSection, totals: Totals, round: int = 0) -> str | None:
    """Return the first limit that is reached after a round, in words; None if there is room for another one.

    >>> used_up(BudgetSection(gpu_hours=2), Totals(gpu_seconds=7300.0))
    'budget.gpu_hours is used up: 2.03 of 2'
    """
    limits = {
        "gpu_hours": (budget.gpu_hours, totals.gpu_seconds),
        "cpu_hours": (budget.cpu_hours, totals.cpu_seconds),
        "wall_hours": (budget.wall_hours, totals.wall_seconds),
    }
    for name, (limit, seconds) in limits.items():
        if limit is not None and seconds >= 3600 * limit:
            return f"budget.{name} is used up: {seconds / 3600:.3g} of {limit:g}"
    if budget.last_round is not None and round >= budget.last_round:
        return f"{LAST_ROUND} is done: {budget.last_round}"
    return None
