"""A run that was done, from Python: its model evaluated, its rounds done again, and how a client fares in one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from fedray.api import FederatedModel, Named, check_kind
from fedray.config.layers import NO_LISTENERS, load_layers
from fedray.core.errors import ConfigError
from fedray.data import ClientData
from fedray.metrics.base import Function, Metric
from fedray.rundir.configs import check_given, with_given
from fedray.rundir.folder import RunFolder
from fedray.rundir.names import config_path

if TYPE_CHECKING:
    from fedray.replay.looked import Looked
    from fedray.replay.verify import Verdict

_PARTS = ("algorithm", "transforms", "aggregator", "server", "attack", "sampler")


def evaluate(
    run_dir: str | Path,
    model: FederatedModel | None = None,
    data: ClientData | str | Path | None = None,
    *,
    round: int | Literal["best"] | None = None,
    metrics: Sequence[Metric | Function | Named] | None = None,
    device: str = "cpu",
    threshold: float | None = None,
    **parts: Any,
) -> dict[str, float]:
    """Evaluate the model of a run on a test set, as the command ``fedray evaluate`` does.

    A run that :func:`fedray.train` was given objects for has neither model nor data in its folder: they are given
    again, as are parts that no config can name.

    >>> from tempfile import TemporaryDirectory
    >>> from fedray import FederatedData, FederatedModel, TrainArgs, train
    >>> x, y = [[0.0], [1.0], [0.0], [1.0]], [0, 1, 0, 1]
    >>> data = FederatedData.from_arrays(x, y, clients=["a", "a", "b", "b"], test=(x, y))
    >>> model = FederatedModel("logistic", {"name": "sgd", "lr": 1.0})
    >>> with TemporaryDirectory() as folder:
    ...     result = train(model, data, TrainArgs(rounds=30), cluster="inline", run_dir=f"{folder}/run", progress=False)
    ...     found = evaluate(result.run_dir, model, data)
    >>> found["examples"], found["accuracy"], found["loss"] == result.history[-1].test["loss"]
    (4.0, 1.0, True)

    Args:
        run_dir: the run folder.
        model: as :func:`fedray.train` was given it; default: the config of the run names it.
        data: other data, whose test set counts, or the path of another test set; default: those of the run.
        round: of a checkpoint; ``"best"``: that of ``checkpoint.best``; None: the newest.
        metrics: to be measured beside the loss; default: those of the run, as far as its config names them.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        threshold: of two classes the probability of the second one above which it is the answer; default: that of the
            run's task.
        parts: likewise ``algorithm``, ``transforms``, ``aggregator``, ``server``, ``attack`` and ``sampler``.

    Returns:
        ``examples``, ``loss`` and the metrics, by the names that they have in the section ``test`` of a record; of two
        classes also the exact ``auc``.

    Raises:
        ConfigError: there is no run, no such checkpoint, no test set, no such device, no whole model on the server, or
            something that Python alone has is not given.
    """
    from fedray.experiment.build import Config
    from fedray.experiment.evaluate import evaluate_run

    if round is not None and round != "best" and type(round) is not int:
        raise ConfigError(f'round: the number of a round, "best" or None is needed, got {round!r}')
    folder, elsewhere = RunFolder(Path(run_dir)), isinstance(data, str | Path)
    given = _given(model, None if isinstance(data, str | Path) else data, parts)
    given |= {} if metrics is None else {"metrics": list(metrics)}
    check_given(folder.path, yaml.safe_load(folder.config()) or {}, given, "evaluate")
    # In quotes: a path is none of what YAML may read in it.
    changes = [f"data.test={json.dumps(str(data), ensure_ascii=False)}"] if elsewhere else []
    raw, content = load_layers(config_path(folder.path), [*NO_LISTENERS, *changes])
    if given:
        raw, content = {}, with_given(content, given)
    config = Config.bind(folder.path.name, raw, content)
    return evaluate_run(config, folder, round, device, warn=data is None, threshold=threshold).numbers


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
        client: the client's id; default: the first that failed in it.
        pdb: give the client's training alone to Python's debugger, where it goes wrong.
        parts: as for :func:`verify`.

    Returns:
        ``word``: ``"equal"``, ``"close"``, ``"different"`` or ``"unrecorded"``; ``steps`` with loss and norms,
        ``trouble``, ``trace``, ``gap`` to the client's block, ``doubts``; ``recurs``: False where the client failed in
        the run, and done again does not.  As text it is what the command shows.

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
