"""The state of a run as a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fedray.core.errors import ConfigError, counted
from fedray.core.layout import Layout
from fedray.core.messages import STATISTICS
from fedray.core.noise import NoiseKeys
from fedray.core.record import RoundRecord
from fedray.run.budget import Totals
from fedray.run.by_client import columns, from_columns
from fedray.run.earlier import upgraded
from fedray.run.evaluation import with_statistics
from fedray.run.models import model_sha256
from fedray.run.plan import Plan
from fedray.run.sent import Ledger
from fedray.run.state import ServerState
from fedray.run.watch import Watch
from fedray.rundir.checkpoint import Checkpoint
from fedray.rundir.client_state import ClientStore

_SERVER, _AGGREGATOR, _TRANSFORMS, _CLIENTS, _TRAINED = "rule.", "aggregator.", "kept.", "clients.", "trained."
_SENT = "ledger."


def first_state(plan: Plan, vector: Tensor, store: ClientStore) -> ServerState:
    """Return the state before the first round.

    Args:
        plan: the plan.
        vector: the first model ``[P]``, which is moved along from then on.
        store: the index of the clients' state, empty.
    """
    device = str(vector.device)
    transforms = plan.algorithm.transforms.start(device)
    state = ServerState(plan.start(vector), store, kept=plan.initial_kept(device), transforms=transforms)
    state.sent = Ledger.of(len(plan.task.data), plan.task.fragments)
    state.noise = NoiseKeys(plan.task.seed)
    if plan.algorithm.statistics:
        state.statistics = vector[-plan.layout.buffers :].clone()
    return state


def snapshot(plan: Plan, state: ServerState, origin: Mapping[str, Any]) -> Checkpoint:
    """Make a checkpoint of ``state``; ``origin`` says what wrote it."""
    clients, segments = state.store.index()
    tensors = {
        "model": state.vector,
        **_prefixed(_SERVER, state.server.state_dict()),
        **_prefixed(_AGGREGATOR, state.kept),
        **_prefixed(_TRANSFORMS, state.transforms),
        **_prefixed(_CLIENTS, clients),
        **_prefixed(_SENT, state.sent.tensors()),
    }
    if state.statistics is not None:
        tensors[STATISTICS] = state.statistics
    if state.trained is not None:
        tensors |= _prefixed(_TRAINED, columns(state.trained))
    rest = {
        "pending": state.pending.to_json() if state.pending else None,
        "segments": segments,
        "seals": state.store.seals(),
        "keeps": _keeps(plan, state),
        "federation": plan.task.data.keys_sha256 if state.store.fields else None,
        "layout": plan.layout.to_json(),
        "global_model": plan.task.program.global_model,
        "totals": state.totals.to_json(),
        "sent": state.sent.to_json(),
        "halvings": state.halvings,
        "view_halvings": state.view_halvings,
        "watches": {key: state.watches[key].to_json(m) for key, m in plan.monitors.items() if key in state.watches},
        **origin,
    }
    cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    state.noise.forget(state.round + 1)
    memory = {name: torch.from_numpy(vector) for name, vector in state.noise.memory.items()}
    return Checkpoint(state.round, cpu, rest, state.noise.key if plan.secret else None, memory)


def check_rounds(plan: Plan, done: int) -> None:
    """Raise ConfigError if a run has done more rounds than it is to do in all."""
    if done > plan.rounds:
        raise ConfigError(f"rounds={plan.rounds}: the run has done {counted(done, 'round')} already")


def restore(plan: Plan, state: ServerState, saved: Checkpoint) -> None:
    """Put a checkpoint of ``snapshot`` into a state that was just started.

    Raises:
        ConfigError: the plan cannot go on from there, as its model or its algorithm is another.
    """
    saved = upgraded(saved, plan.layout, plan.algorithm.name)
    model = saved.tensors["model"]
    if model.shape != state.vector.shape:
        raise ConfigError(
            f"the checkpoint's model has {len(model):,} values, the configured one {len(state.vector):,}: "
            "resume with the model the run was started with"
        )
    check_rounds(plan, saved.round)
    wanted = _keeps(plan, state)
    kept = saved.state.get("keeps", wanted)
    for who in sorted({**kept, **wanted}):
        found, needed = kept.get(who, []), wanted.get(who, [])
        if found != needed:
            raise ConfigError(
                f"the checkpoint has kept {_words(found)} for the {who}, the config wants {_words(needed)}\n"
                "resume with the algorithm, aggregator, transforms and local.buffers that the run was started with, "
                "or train anew in another run.dir"
            )
    if state.store.fields and saved.state.get("federation") not in (None, plan.task.data.keys_sha256):
        raise ConfigError(
            "the checkpoint holds the state of other clients than those of the config, or in another order: "
            "resume with the clients that the run was started with, or train anew in another run.dir"
        )
    state.vector.copy_(model)
    if state.statistics is not None and STATISTICS in saved.tensors:
        state.statistics.copy_(saved.tensors[STATISTICS])
    state.server.load_state_dict(_WithPrefix(saved.tensors, _SERVER))
    state.kept = _copies(_WithPrefix(saved.tensors, _AGGREGATOR), state.vector.device)
    state.transforms = _copies(_WithPrefix(saved.tensors, _TRANSFORMS), state.vector.device)
    if state.store.fields:
        rows = _copies(_WithPrefix(saved.tensors, _CLIENTS), torch.device("cpu"))
        state.store.restore(rows, saved.state["segments"], saved.state.get("seals"))
    state.round = saved.round
    if plan.remembers and 0 < saved.round < plan.rounds and not saved.memory:
        raise ConfigError(
            f"the run has ended after round {saved.round}, and forgotten its noise, of which that of further rounds "
            "would be made: train anew in another run.dir"
        )
    # Of a run that had ended the key is gone: rounds that it goes on with have a new one.
    memory = {name: tensor.numpy() for name, tensor in saved.memory.items()}
    state.noise = NoiseKeys(plan.task.seed, saved.key, saved.round + 1, memory)
    state.totals = Totals.from_json(saved.state.get("totals", {}))
    state.sent.restore(_WithPrefix(saved.tensors, _SENT), saved.state.get("sent"), saved.round)
    state.halvings = saved.state.get("halvings", 0)
    state.view_halvings = saved.state.get("view_halvings", 0)
    watches = saved.state.get("watches", {})
    state.watches = {key: Watch.from_json(watches.get(key), monitor) for key, monitor in plan.monitors.items()}
    pending = saved.state["pending"]
    state.pending = RoundRecord.from_json(pending) if pending else None
    if trained := _WithPrefix(saved.tensors, _TRAINED):
        state.trained = from_columns(_copies(trained, torch.device("cpu")))


def _copies(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return tensors in memory of their own: while a file is mapped, NFS does not delete it, nor its folder."""
    return {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}


def model_of(saved: Checkpoint) -> Tensor:
    """Return the global vector ``[P]`` of a checkpoint as it is evaluated and exported."""
    return with_statistics(saved.tensors["model"], saved.tensors.get(STATISTICS))


def hash_of(saved: Checkpoint) -> str:
    """Return the hash that the record of a checkpoint's round has."""
    beside = {} if saved.state.get("global_model", True) else _WithPrefix(saved.tensors, _SERVER)
    return model_sha256(saved.tensors["model"], beside)


def layout_of(saved: Checkpoint) -> Layout:
    """Read the layout of the model from a checkpoint, where there is no plan.

    Raises:
        ConfigError: a checkpoint of a fedray that did not write this down.
    """
    if "layout" not in saved.state:
        raise ConfigError(
            f"the checkpoint of round {saved.round} is of an earlier fedray and does not name its tensors; "
            "one that `fedray resume RUN_DIR rounds=MORE` writes does"
        )
    return Layout.from_json(saved.state["layout"])


def _keeps(plan: Plan, state: ServerState) -> dict[str, list[str]]:
    """Return names of what is kept between rounds, in the order of the disk, and for clients lengths and types."""
    # A checkpoint of before knew float32 alone, and did not say so.
    clients = [f"{name}{field}".removesuffix(" float32") for name, field in state.store.fields.items()]
    kept = {"server": sorted(state.server.state_dict()), "clients": clients}
    for who, tensors in (("aggregator", state.kept), ("transforms", state.transforms)):
        # Not where it is empty: a fedray without such parts is to read what it could have written.
        if tensors:
            kept[who] = [f"{name}[{tensor.numel()}]" for name, tensor in sorted(tensors.items())]
    return kept


def _words(names: list[str]) -> str:
    return ", ".join(names) or "nothing"


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


class _WithPrefix(Mapping[str, Tensor]):
    """The tensors whose names begin so, without that; each is read when it is asked for, as there may be large ones."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        self._tensors, self._prefix = tensors, prefix

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._prefix + name]

    def __contains__(self, name: object) -> bool:
        return f"{self._prefix}{name}" in self._tensors

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(self._prefix) for name in self._tensors if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)
