"""The origin of a checkpoint: the machine, the training data, and the encoding of their tables."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedray.core.errors import ConfigError, listed
from fedray.data import ClientData
from fedray.run.plan import Plan
from fedray.rundir.code import code_at
from fedray.sampling import Sampler


def origin(data: ClientData, hardware: Mapping[str, str], sampler: Sampler) -> dict[str, Any]:
    """Return what a checkpoint keeps of the data that its rounds were trained on, of the sampler, and the hardware."""
    return {
        "machine": dict(hardware),
        "encoding": data.encoding,
        "fingerprint": dict(data.fingerprint()),
        "cohorts": sampler.fingerprint(),
    }


def compare(
    saved: Mapping[str, Any], data: ClientData, hardware: Mapping[str, str], sampler: Sampler
) -> Iterator[tuple[int, str]]:
    """Yield what is to be said where a run goes on, each with its level: the data or the hardware are others.

    Args:
        saved: the state of the checkpoint.
        data: the data that the run goes on with.
        hardware: the hardware that it goes on with.
        sampler: the sampler that it goes on with.

    Raises:
        ConfigError: the tables were encoded in another way, so that the model would read other inputs.
    """
    if "fingerprint" not in saved:
        tables = "" if data.encoding is None else "; the encoding of their tables was learnt from them anew"
        words = "the checkpoint is of an earlier fedray: the training data are taken as they are now"
        yield logging.INFO, words + tables
    elif not _same_encoding(saved["encoding"], data.encoding):
        raise ConfigError(
            "the tables are encoded otherwise than those that the run was trained on\n"
            "use the run's encoding: `FederatedData.from_csv(..., encoding=RUN_DIR / 'encoding.json')`, "
            "or train anew in another run_dir"
        )
    elif found := changes(saved["fingerprint"], data.fingerprint()):
        words = f"the training data are not those of the checkpoint ({found}): the rounds from here on learn from them"
        yield logging.WARNING, words
    if None not in (known := saved.get("cohorts"), now := sampler.fingerprint()) and known != now:
        words = (
            "what cohorts are drawn by, such as the file of sampler.name=trace, is not what it was: the rounds from "
        )
        yield logging.WARNING, words + "here on are drawn by what it says now, those before stay as they are"
    if saved["machine"] != hardware:
        there = f"{saved['machine']}; now {dict(hardware)}"
        words = f"the checkpoint was written on other hardware or versions ({there}): results may differ in bits"
        yield logging.WARNING, words


def warn_of_changes(saved: Mapping[str, Any], data: ClientData) -> None:
    """Warn where the training data are not those of a checkpoint that is evaluated."""
    before = saved.get("fingerprint", {})
    if before and (words := changes(before, dict(data.fingerprint()))):
        logging.getLogger("fedray").warning("the training data are not those that the model was trained on (%s)", words)


def other_curves(plan: Plan, rounds: int | None, first: int) -> Iterator[tuple[int, str]]:
    """Yield what is to be said of learning rates whose curve is another one from round ``first`` on.

    Args:
        plan: the plan that the run goes on with.
        rounds: the number of rounds before; None: nothing says it.
        first: the round that comes next.
    """
    for rate, what in ((plan.task.rate, "the learning rate"), (plan.server_rate, "the server's learning rate")):
        if rounds is not None and (words := rate.stretched(rounds, first, what)):
            yield logging.WARNING, words


def changed_code(run_dir: Path, round: int, now: Mapping[str, str]) -> str:
    """Return in words which code of the user's own is not that of a round of a run; nothing if all of it is.

    Args:
        run_dir: the run folder.
        round: the round.
        now: the SHA-256 of each file now.

    Raises:
        ConfigError: ``code.json`` cannot be read.
    """
    before = code_at(run_dir, round)
    found = changes(before, now) if before is not None else ""
    return f"your own code is not that of round {round} ({found})" if found else ""


def other_code(run_dir: Path, saved: Mapping[str, Any], now: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Yield what is to be said where a run goes on with other code of the user's own.

    Args:
        run_dir: the run folder.
        saved: the state of the checkpoint; empty: there is none, and whoever submitted the run made its folder.
        now: the SHA-256 of each file now.

    Raises:
        ConfigError: as :func:`changed_code`.
    """
    if saved and (words := changed_code(run_dir, saved["round"], now)):
        yield logging.WARNING, f"{words}: the rounds from here on are trained with it as it is now"
    elif not saved and (words := changes(code_at(run_dir, 1) or now, now)):
        words = f"your own code is not that which the run was submitted with ({words}): it is trained as it is now"
        yield logging.WARNING, words


def warn_of_code(run_dir: Path, round: int, now: Mapping[str, str]) -> None:
    """Warn where a model is used with other code of the user's own than it was trained with.

    Args:
        run_dir: the run folder.
        round: the round after which the model is as it is.
        now: the SHA-256 of each file that is needed now, which may be fewer than the training needed.

    Raises:
        ConfigError: as :func:`changed_code`.
    """
    before = code_at(run_dir, round) or {}
    if words := changed_code(run_dir, round, {**before, **now}):
        logging.getLogger("fedray").warning("%s, which made the model: results may be others", words)


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return what differs between two fingerprints, in words; nothing if nothing does.

    >>> changes({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})
    'changed: b; new: c'
    """
    found = {
        "changed": [name for name in before if now.get(name, before[name]) != before[name]],
        "gone": [name for name in before if name not in now],
        "new": [name for name in now if name not in before],
    }
    return "; ".join(f"{what}: {listed(names)}" for what, names in found.items() if names)


def _same_encoding(saved: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> bool:
    """Tell if rows become the same inputs; in which format it was saved, and how files are written, does not matter."""
    if saved is None or now is None:
        return saved == now
    # Here, as it imports pyarrow, and most runs have no tables.
    from fedray.data.encoding.encoding import Encoding

    both = [{**Encoding.from_json(one).to_json(), "files": None, "csv": None} for one in (saved, now)]
    return both[0] == both[1]
