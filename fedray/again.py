"""Rounds of a run, done again from Python: whether they have the same bits, and how a client fares in one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.api import FederatedModel, check_kind
from fedray.core.errors import ConfigError
from fedray.data import ClientData

if TYPE_CHECKING:
    from fedray.replay.looked import Looked
    from fedray.replay.verify import Verdict

_PARTS = ("algorithm", "transforms", "aggregator", "server", "attack", "sampler")


def verify(
    run_dir: str | Path,
    model: FederatedModel | None = None,
    data: ClientData | None = None,
    *,
    rounds: int | None = 3,
    **parts: Any,
) -> Verdict:
    """Do some rounds of a run again, in this process, and compare their models with the recorded hashes.

    A run that :func:`fedray.train` was given objects for has neither model nor data in its folder: they are given
    again, as are parts that no config can name.  Other data than those whose fingerprint its checkpoints have are told
    among the ``doubts``.  Nothing is written into the run folder.

    >>> from tempfile import TemporaryDirectory
    >>> from torch import nn
    >>> from fedray import FederatedData, FederatedModel, TrainArgs, train
    >>> data = FederatedData.from_arrays([[0.0], [1.0], [0.0], [1.0]], [0, 1, 0, 1], clients=["a", "a", "b", "b"])
    >>> model = FederatedModel(lambda: nn.Linear(1, 2))
    >>> with TemporaryDirectory() as folder:
    ...     args, run_dir = TrainArgs(rounds=3, stack=2), f"{folder}/run"
    ...     _ = train(model, data, args, cluster="inline", run_dir=run_dir, progress=False)
    ...     verdict = verify(run_dir, model, data)
    >>> verdict.word, [check.round for check in verdict.checks]
    ('equal', [1, 2, 3])

    Args:
        run_dir: the run folder.
        model: as :func:`fedray.train` was given it; default: the config of the run names it.
        data: likewise.
        rounds: so many, of those that cost least, which are those soon after a checkpoint or the start; None: all.
        parts: likewise ``algorithm``, ``transforms``, ``aggregator``, ``server``, ``attack`` and ``sampler``.

    Returns:
        ``word``: ``"equal"``, ``"close"`` or ``"different"``; ``checks`` of rounds, ``checkpoints``, ``doubts``.

    Raises:
        ConfigError: there is no run, something that Python alone has is not given, or what is given is another one.
        RunFailed: a round fails.
    """
    from fedray.replay import verify as again
    from fedray.replay.recorded import Recorded

    given = _given(model, data, parts)
    if rounds is not None and (type(rounds) is not int or rounds < 1):
        raise ConfigError(f"rounds: a number from 1 on is needed, or None for all; got {rounds!r}")
    recorded = Recorded.read(Path(run_dir))
    return again.verify(recorded, again.chosen(recorded, rounds, given), given=given)


def debug(
    run_dir: str | Path,
    model: FederatedModel | None = None,
    data: ClientData | None = None,
    *,
    round: int | None = None,
    client: str | int | None = None,
    pdb: bool = False,
    **parts: Any,
) -> Looked:
    """Look at a client in a round of a run, as the command ``fedray debug`` does.

    The rounds since the checkpoint before are done again, in this process; then the round, with the client in its
    block; then the client alone, step by step.  Nothing is written into the run folder.

    >>> from tempfile import TemporaryDirectory
    >>> from torch import nn
    >>> from fedray import FederatedData, FederatedModel, TrainArgs, train
    >>> data = FederatedData.from_arrays([[0.0], [1.0], [0.0], [1.0]], [0, 1, 0, 1], clients=["a", "a", "b", "b"])
    >>> model = FederatedModel(lambda: nn.Linear(1, 2))
    >>> with TemporaryDirectory() as folder:
    ...     args, run_dir = TrainArgs(rounds=3, stack=2), f"{folder}/run"
    ...     _ = train(model, data, args, cluster="inline", run_dir=run_dir, progress=False)
    ...     seen = debug(run_dir, model, data, round=2, client="b")
    >>> seen.word, seen.block, [step.examples for step in seen.steps]
    ('equal', ['a', 'b'], [[0, 1]])

    Args:
        run_dir: the run folder.
        model: as :func:`fedray.train` was given it; default: the config of the run names it.
        data: likewise.
        round: the round, from 1 on; default: that of the first client that failed, or in which the run failed.
        client: the client's id; default: the first that fails in it.
        pdb: give the client's training alone to Python's debugger, where it goes wrong.
        parts: as for :func:`verify`.

    Returns:
        ``word``: ``"equal"``, ``"close"``, ``"different"`` or ``"unrecorded"``; ``steps`` with loss and norms,
        ``trouble``, ``trace``, ``gap`` to the client's block, ``doubts``.  As text it is what the command shows.

    Raises:
        ConfigError: there is no such run, round or client, something that Python alone has is not given, or what is
            given is another one.
        RunFailed: a round before fails.
    """
    from fedray.replay import debug as again
    from fedray.replay.recorded import Recorded

    given = _given(model, data, parts)
    if round is not None and type(round) is not int:
        raise ConfigError(f"round: a number from 1 on is needed, got {round!r}")
    recorded = Recorded.read(Path(run_dir))
    number, who = again.chosen(recorded, round, None if client is None else str(client), given)
    return again.debug(recorded, number, who, pdb, given=given)


def _given(model: FederatedModel | None, data: ClientData | None, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is given, by dotted keys of the config."""
    if unknown := [name for name in parts if name not in _PARTS]:
        raise ConfigError(f"{unknown[0]}: no part that rounds depend on; these are model, data, {', '.join(_PARTS)}")
    given = {"data": data, **parts}
    if model is not None:
        check_kind(model, FederatedModel, "model", "fedray.FederatedModel(lambda: nn.Linear(4, 2))")
        given |= {"model": model.part(), "task": model.task}
        given |= {"local.optimizer": model.optimizer_fn, "local.loss": model.loss_fn}
    return {key: part for key, part in given.items() if part is not None}
