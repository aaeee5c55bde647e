"""Verification of a run: some of its rounds are done again, and their models compared with the recorded hashes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fedray.core.errors import ConfigError
from fedray.replay.doubts import Doubt
from fedray.replay.recorded import Recorded, sampled, stretches
from fedray.replay.rounds import Replay
from fedray.run.snapshot import hash_of
from fedray.rundir import checkpoint

CLOSE = 0.01
"""Relative difference of training losses up to which rounds with other bits are called close."""

Word = Literal["equal", "close", "different"]


@dataclass(frozen=True)
class Check:
    """A round that was done again.

    Args:
        round: its number.
        start: the round after which one began; 0: the start of the run.
        then: the recorded SHA-256 of the model.
        now: the one of now.
        loss_then: the recorded training loss; None: there is none, or it is not finite.
        loss_now: the one of now.
    """

    round: int
    start: int
    then: str
    now: str
    loss_then: float | None
    loss_now: float | None

    @property
    def same(self) -> bool:
        """True for the same bits."""
        return self.then == self.now

    @property
    def gap(self) -> float:
        """The relative difference of the losses."""
        if self.loss_then is None or self.loss_now is None:
            return 0.0 if self.loss_then == self.loss_now else math.inf
        return abs(self.loss_now - self.loss_then) / max(abs(self.loss_then), 1e-12)


@dataclass(frozen=True)
class Verdict:
    """The result of a verification.

    Args:
        checks: the rounds.
        checkpoints: for each checkpoint what is wrong with it; None: it is whole, and has the model of its round.
        doubts: reasons for which bits may be others.
    """

    checks: list[Check]
    checkpoints: dict[int, str | None] = field(default_factory=dict)
    doubts: list[Doubt] = field(default_factory=list)

    @property
    def word(self) -> Word:
        """``equal``: the same bits; ``close``: others, in another place, with about the same losses; ``different``."""
        whole = not any(self.checkpoints.values())
        if whole and all(check.same for check in self.checks):
            return "equal"
        near = whole and all(check.same or check.gap <= CLOSE for check in self.checks)
        return "close" if near and self.doubts and all(doubt.place for doubt in self.doubts) else "different"

    @property
    def reasons(self) -> str:
        """The reasons for other bits, in words."""
        return "; ".join(doubt.words for doubt in self.doubts)

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        checks = [{**asdict(check), "same": check.same} for check in self.checks]
        return {
            "verdict": self.word,
            "rounds": checks,
            "checkpoints": self.checkpoints,
            "doubts": [doubt.words for doubt in self.doubts],
        }


def chosen(recorded: Recorded, count: int | None, given: Collection[str] = ()) -> list[int]:
    """Return the rounds to verify, see :func:`fedray.replay.recorded.sampled`.

    Args:
        recorded: the run.
        count: so many; None: all.
        given: as for :meth:`Recorded.check_config`.

    Raises:
        ConfigError: there are none, or rounds cannot be done again.
    """
    recorded.check_config(given)
    rounds = sampled(recorded, count)
    if not rounds:
        why = "no round is recorded yet" if not recorded.records else "no record has a hash of its model"
        raise ConfigError(f"{recorded.folder.path}: {why}, so there is nothing to compare with")
    return rounds


def verify(
    recorded: Recorded,
    rounds: list[int],
    tell: Callable[[int], None] = lambda round: None,
    given: Mapping[str, Any] | None = None,
) -> Verdict:
    """Do rounds of a run again.

    Args:
        recorded: the run.
        rounds: those that count; what must be done again on the way to them is compared, too.
        tell: is given the number of each round that was done.
        given: as for :class:`Replay`.

    Raises:
        ConfigError: the run's config, data or code do not fit any more.
        RunFailed: a round fails.
    """
    replay = Replay(recorded, given=given)
    checks: list[Check] = []
    doubts: dict[Doubt, None] = {}
    for start, last in stretches(recorded, rounds).items():
        doubts |= dict.fromkeys(replay.doubts(start, last))
        for one in replay.rounds(start, last):
            record = recorded.whole.get(one.record.round, {})
            if then := record.get("model_sha256"):
                losses = (record.get("train", {}).get("loss"), one.record.to_json().get("train", {}).get("loss"))
                checks.append(Check(one.record.round, start, then, one.record.model_sha256 or "", *losses))
            tell(one.record.round)
    return Verdict(checks, dict(_checkpoints(recorded)), list(doubts))


def _checkpoints(recorded: Recorded) -> Iterator[tuple[int, str | None]]:
    """Yield each checkpoint with what is wrong with it: damage, or another model than that of its round."""
    for round, wrong in recorded.anchors.items():
        if round == 0:
            continue
        then = recorded.records.get(round, {}).get("model_sha256")
        if wrong is None and then is not None:
            found = hash_of(checkpoint.read(recorded.folder.checkpoints, round))
            wrong = None if found == then else "it holds another model than the recorded one"
        yield round, wrong
