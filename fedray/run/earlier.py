"""Checkpoints of earlier formats, as they would have been written in the present one.

When ``FORMAT`` rises, a function here reads the one before, or refuses it in one line that names the version of fedray
to finish the run with.
"""

from __future__ import annotations

from dataclasses import replace

from fedray.core.errors import ConfigError, listed
from fedray.core.layout import Layout
from fedray.core.messages import PERSONAL
from fedray.rundir.checkpoint import FORMAT, Checkpoint

CARRIED_ON = (
    "fedavg",
    "fedsgd",
    "fedprox",
    "scaffold",
    "fednova",
    "fedavgm",
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "feddyn",
    "fedcm",
    "mifa",
)
"""The algorithms whose runs of format 1 go on, with the same bits."""


def upgraded(saved: Checkpoint, layout: Layout, algorithm: str) -> Checkpoint:
    """Return a checkpoint in the present format.

    In format 1 frozen parameters had places in the vector, between the trained ones and the buffers, and a client that
    kept its buffers kept them as ``buffers``, together with those parameters.

    Args:
        saved: the checkpoint, of any format that is read.
        layout: of the configured model.
        algorithm: the name of the configured algorithm.

    Raises:
        ConfigError: it cannot be carried on.
    """
    if saved.state.get("format", FORMAT) == FORMAT:
        return saved
    said = "layout" in saved.state
    before = Layout.from_json(saved.state["layout"]) if said else None
    had_frozen = before is not None and any(entry.kind == "frozen" for entry in before.entries)
    keeps = saved.state.get("keeps", {})
    own = [name for name in keeps.get("clients", ()) if name.startswith("buffers[")]
    if algorithm not in CARRIED_ON or (own and had_frozen):
        raise ConfigError(
            f"the checkpoint is of format 1, of which this fedray carries on runs of {listed(CARRIED_ON)}, without "
            "frozen parameters beside local.buffers=local; finish this one with fedray 0.1, or train anew in another "
            "run.dir"
        )
    tensors, state = dict(saved.tensors), dict(saved.state)
    if before is not None:
        named = before.unpack(tensors["model"])
        if all(name in named and named[name].shape == e.shape for name, e in ((e.name, e) for e in layout.entries)):
            tensors["model"] = layout.pack(named)
    if own:
        width = own[0].removeprefix("buffers")
        clients = [f"{PERSONAL}{width}" if name in own else name for name in keeps["clients"]]
        state["keeps"] = {**keeps, "clients": clients}
    return replace(saved, tensors=tensors, state=state)
