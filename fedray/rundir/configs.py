"""The configs of a run, each with the round that it holds from: ``config.yaml``, ``config-from-6.yaml``..."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from fedray.core.errors import ConfigError, listed
from fedray.rundir import durable
from fedray.rundir.names import CONFIG, PYTHON, configs

_ROUNDS = ("rounds", "budget.last_round")


def keep_config(run_dir: Path, text: str, first: int, defaults: Collection[str] = ()) -> None:
    """Write the config that holds from round ``first`` on, beside those of the rounds before.

    A config in which only the number of rounds has changed, or that writes out new defaults, takes the place of the one
    before.  Configs of later rounds are deleted, as these rounds are done again.
    """
    before = _before(run_dir, first)
    last = run_dir / CONFIG
    if before is not None:
        last = run_dir / f"config-from-{first}.yaml" if changed_keys(before.read_text(), text, defaults) else before
    if not last.exists() or last.read_text() != text:
        durable.replace(last, text.encode())
    for start, path in configs(run_dir):
        if start >= first and path != last:
            path.unlink()


def config_changes(run_dir: Path, text: str, first: int, defaults: Collection[str] = ()) -> list[str]:
    """Return the keys that change in round ``first``, each with its old and its new value."""
    before = _before(run_dir, first)
    return [] if before is None else changed_keys(before.read_text(), text, defaults)


def rounds_before(run_dir: Path, first: int) -> int | None:
    """Return the number of rounds that the run was to have before round ``first``; None if nothing says so."""
    before = _before(run_dir, first)
    rounds = dict(_leaves(yaml.safe_load(before.read_text()), "")).get("rounds") if before else None
    return rounds if isinstance(rounds, int) else None


def changed_keys(old: str, new: str, defaults: Collection[str] = ()) -> list[str]:
    """Return what differs between two configs beside their numbers of rounds, which may grow.

    Args:
        old: the one before.
        new: the one after.
        defaults: keys that have their default in the one after: that the one before lacks them is no difference, as it
            may be of a fedray that did not know them.

    >>> changed_keys("rounds: 5\\nlocal: {lr: 0.05}", "rounds: 8\\nlocal: {lr: 0.01, steps: 3}")
    ['local.lr: 0.05 -> 0.01', 'local.steps: nothing -> 3']
    """
    before, after = (dict(_leaves(_comparable(yaml.safe_load(text)), "")) for text in (old, new))
    keys = [key for key in {**before, **after} if key.removeprefix("python.") not in _ROUNDS]
    missing = object()
    return [
        f"{key}: {_shown(before, key)} -> {_shown(after, key)}"
        for key in keys
        if before.get(key, missing) != after.get(key, missing) and (key in before or key not in defaults)
    ]


def with_given(content: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a run with parts that are given in the place of what it says of them.

    Args:
        content: the config.
        given: the parts, by dotted keys of the config, such as ``local.loss``.
    """
    found = {key: value for key, value in content.items() if key != PYTHON}
    for key, part in given.items():
        section, _, option = key.partition(".")
        found[section] = {**found.get(section, {}), option: part} if option else part
    return found


def check_given(run_dir: Path, content: Mapping[str, Any], given: Collection[str], function: str) -> None:
    """Check that all is given that Python alone had when it started a run.

    Args:
        run_dir: the run folder.
        content: the config of the run.
        given: the keys of what is given.
        function: the function of ``fedray`` that takes it.

    Raises:
        ConfigError: something lacks.
    """
    # What evaluations and trackers are told does not change what a round computes.
    needed = {key.partition("[")[0] for key in content.get(PYTHON) or {}} - {"metrics", "tracking"}
    if lacking := sorted(needed - set(given)):
        raise ConfigError(
            f"{run_dir} was started from Python, which alone has its {listed(lacking)}: give them to "
            f"fedray.{function}(run_dir, model, data, ...) there, as to fedray.train"
        )


def trackers_in(tracking: Any) -> Any:
    """Return the trackers that a config lists, also where it has the mapping that earlier versions wrote.

    >>> trackers_in({"trackers": ["csv"]}), trackers_in({"tensorboard": False}), trackers_in(["csv"])
    (['tensorboard', 'csv'], [], ['csv'])
    """
    if not isinstance(tracking, dict):
        return tracking
    return [*(["tensorboard"] if tracking.get("tensorboard", True) else []), *tracking.get("trackers", [])]


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config with its trackers as a list of sections: a change of spelling is no change."""
    listed = trackers_in(config.get("tracking"))
    if not isinstance(listed, list):
        return config
    return {**config, "tracking": [{"name": one} if isinstance(one, str) else one for one in listed]}


def _shown(leaves: dict[str, Any], key: str) -> str:
    return yaml.safe_dump(leaves[key], default_flow_style=True).split("\n")[0] if key in leaves else "nothing"


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list) and any(isinstance(one, dict) for one in node):
        for i, one in enumerate(node):
            yield from _leaves(one, f"{key}[{i}]")
    else:
        yield key, node


def _before(run_dir: Path, first: int) -> Path | None:
    earlier = [path for start, path in configs(run_dir) if start < first]
    return earlier[-1] if earlier else None
