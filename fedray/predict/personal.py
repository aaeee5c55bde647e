"""Predictions by the model that a client of a run would use: its personal one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedray.config.registry import nearest
from fedray.core.errors import ConfigError, listed
from fedray.core.messages import Ints
from fedray.data.augment_chain import chosen
from fedray.data.columns.base import ClientData
from fedray.data.columns.probe import MadeUp, drawn
from fedray.data.columns.rows import CPU, Rows, decode
from fedray.experiment.build import Config
from fedray.experiment.evaluate import Which, checkpoint_of, device_named
from fedray.experiment.evaluate_clients import record_of
from fedray.experiment.given import GivenModel
from fedray.predict.kept import Rest, encoding_of, meaning_of
from fedray.predict.predictor import Predictor
from fedray.predict.rows import taken_by
from fedray.run.federation import Federation
from fedray.run.meaning import Meaning
from fedray.rundir.folder import RunFolder

HERE: Mapping[str, Any] = {"cluster": {"name": "inline"}, "tracking": []}
"""The sections of a config that say where and by whom a run is watched, in the place of its own."""


def personal(folder: RunFolder, client: str, round: Which, model: Any, device: str) -> Predictor:
    """Return the predictor of the personal model of a client, see :func:`fedray.load`."""
    place, saved = device_named(device), checkpoint_of(folder, round)
    rest = Rest.of(folder)
    meaning, task = meaning_of(folder, saved, rest)
    federation = Federation.read(folder.path)
    if federation is None:
        raise ConfigError(
            f"{folder.path}: --client: clients of this run have no models of their own (a run that was trained by an "
            "earlier fedray says so from its next round on); leave it out"
        )
    number = numbered(federation, client)
    _check_python(rest)
    sections = _here(rest)
    if model is not None:
        sections["model"] = GivenModel(model) if callable(model) else model
    augment = chosen((rest.section("data") or {}).get("augment") or ()) if "data" not in rest.python else ()

    def training() -> ClientData:
        """Return the training data, which few algorithms need for a personal model."""
        name = sections["algorithm"]["name"] if isinstance(sections["algorithm"], Mapping) else sections["algorithm"]
        try:
            config = Config.bind(folder.path.name, {}, {**sections, **HERE, "data": rest.section("data")})
            return config.load_data()
        except ConfigError as error:
            raise ConfigError(
                f"--client: with {name} a client's model is found by its training rows, which cannot be read here: "
                f"{error}"
            ) from None

    def outputs(x: Tensor) -> Tensor:
        told = Told()
        asked = Asked(federation, number, meaning, x, training, told.begin)
        data = asked.with_augment(augment)
        content = {**sections, **HERE, "data": data, "metrics": [told]}
        config = Config.bind(folder.path.name, {}, content)
        record = record_of(config, folder, saved, place, same_data=False)
        if not record.evaluated.get("clients"):
            raise ConfigError(f"--client: the model of {client} could not be used; the warnings above say why")
        return told.outputs(len(x))

    return Predictor(task, outputs, encoding_of(folder, saved), saved.round, taken_by(meaning, rest))


def _here(rest: Rest) -> dict[str, Any]:
    """Return the sections of a config but for the data, so that its clients can be evaluated in this process."""
    sections = rest.sections(without=("data", "driver", "budget", *HERE))
    for key, option in (("worker", "gpus"), ("failures", "block_timeout")):
        sections[key] = {name: value for name, value in (sections.get(key) or {}).items() if name != option}
    return sections


def numbered(federation: Federation, client: str) -> int:
    """Return the number of a client.

    Raises:
        ConfigError: there is none of that name.
    """
    count = len(federation.sizes)
    if federation.ids is None:
        if client.isdecimal() and int(client) < count:
            return int(client)
        raise ConfigError(f"--client: there is no {client!r}; clients are numbers from 0 to {count - 1}")
    names = [name.decode() for name in federation.ids.tolist()]
    if client not in names:
        raise ConfigError(f"--client: there is no {client!r}{nearest(client, names)}; there are {listed(names)}")
    return names.index(client)


def _check_python(rest: Rest) -> None:
    """Raise ConfigError where only Python has a part that a client's model may depend on."""
    lost = [key for key in rest.python if key not in ("data", "model", "local.optimizer") and "tracking" not in key]
    if lost:
        raise ConfigError(
            f"--client: only Python has {listed(lost)} of this run, so that its clients cannot be made again"
        )


class Told:
    """A metric that remembers the outputs that it is given."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def begin(self) -> None:
        """Forget what there was: rows are opened, and their outputs come next."""
        self._parts.clear()

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Remember outputs, and return a number for each example."""
        self._parts.append(output.detach().cpu().float().clone())
        return torch.zeros(len(output), device=output.device)

    def outputs(self, count: int) -> Tensor:
        """Return the outputs of the ``count`` rows that were opened last."""
        return torch.cat(self._parts)[:count]


class Asked(ClientData):
    """The clients of a run, one of whom is evaluated on rows that are to be predicted.

    Args:
        federation: the clients.
        client: the one.
        meaning: of the rows.
        x: the rows' inputs, as stored, ``[N, ...]``.
        training: gives the clients with their training rows, where these are needed.
        opened: called when the rows are opened.
    """

    counted = False

    def __init__(
        self,
        federation: Federation,
        client: int,
        meaning: Meaning,
        x: Tensor,
        training: Callable[[], ClientData],
        opened: Callable[[], None],
    ) -> None:
        held = np.zeros_like(federation.sizes)
        held[client] = len(x)
        super().__init__(federation.sizes, meaning.spec, holdout_sizes=held, ids=federation.ids)
        self._x, self._meaning, self._training, self._opened = x, meaning, training, opened
        self._client = client

    @cached_property
    def _clients(self) -> ClientData:
        return self._training()

    def rows(self, clients: Ints, device: torch.device = CPU) -> Rows:
        return _Later(lambda: self._clients.rows(clients, device))

    def holdout(self, clients: Ints) -> tuple[Tensor, Tensor, Ints]:
        self._opened()
        place = np.flatnonzero(clients == self._client)
        x = self._x if len(place) else self._x[:0]
        return decode(x.clone()), targets(self._meaning, len(x)), np.repeat(place, len(x))

    def label_counts(self) -> Ints:
        return self._clients.label_counts()

    def fingerprint(self) -> Mapping[str, str]:
        return {}

    def probe(self) -> ClientData:
        return _Tried(self, self._meaning)

    def with_holdout(self, fraction: float, seed: int) -> ClientData:
        raise TypeError("the rows that are evaluated are there already")


def targets(meaning: Meaning, count: int) -> Tensor:
    """Return made-up targets ``[count, ...]`` for rows that have none."""
    kind = torch.int64 if meaning.spec.task == "classification" else torch.float32
    return torch.zeros(count, *(meaning.target or ()), dtype=kind)


class _Later(Rows):
    """Training rows that are opened once somebody takes some, which few algorithms do for a personal model."""

    __slots__ = ("_open",)

    def __init__(self, opening: Callable[[], Rows]) -> None:
        self._open = cache(opening)

    def of(self, places: Ints) -> Rows:
        return _Later(lambda: self._open().of(places))

    def take(self, rows: Ints) -> tuple[Tensor, Tensor]:
        return self._open().take(rows)

    def pick(self, clients: Ints, rows: Ints) -> tuple[Tensor, Tensor]:
        return self._open().pick(clients, rows)


class _Tried(MadeUp):
    """Made-up rows of any kind, to try a model on."""

    def __init__(self, like: ClientData, meaning: Meaning) -> None:
        spec = meaning.spec
        self._like = like
        generator = torch.Generator().manual_seed(0)
        self._x = drawn(spec, _POOL, generator)
        self._y = targets(meaning, _POOL)
        ClientData.__init__(self, like.sizes, spec, ids=like.ids)

    def label_counts(self) -> Ints:
        counts = np.zeros((len(self), self.spec.outputs), dtype=np.int64)
        counts[:, 0] = self.sizes
        return counts


_POOL = 256
