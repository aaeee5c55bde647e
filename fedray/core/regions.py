"""The regions of a model's tensors: what travels, what stays with its client, and what never changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fedray.core.errors import ConfigError, listed

Region = Literal["shared", "personal", "frozen", "kept"]
"""``shared``: it travels and is averaged; ``personal``: it stays with its client; ``frozen``: it never changes.

``kept``, which an algorithm says of a buffer: the server alone changes it, and clients receive it."""

Kind = Literal["parameter", "frozen", "buffer"]
"""``parameter``: one that is trained; ``frozen`` stood in the vectors of checkpoints of format 1."""


@dataclass(frozen=True)
class Entry:
    """One named tensor of a module: its shape, its region, and its half-open place in the vector.

    Args:
        name: as in the module's ``state_dict``.
        shape: of the tensor.
        dtype: of the tensor; in the vector it is float32.
        kind: a trained parameter, or a buffer.
        start: first value of the vector.
        stop: the one behind the last.
        region: of the tensor.
        head: it belongs to the head, see :func:`head_of`.
        owner: the class of the part that has it, as ``nn.Linear``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: Kind
    start: int = 0
    stop: int = 0
    region: Region = "shared"
    head: bool = field(default=False, compare=False)
    owner: type[nn.Module] = field(default=nn.Module, compare=False)


RegionOf = Callable[[Entry], Region]
Prepare = Callable[[nn.Module], object]

_HEADS = ("head", "module.head", "_orig_mod.head")
"""The names of a module's part ``head``, as it is and where the module is wrapped."""


def head_of(module: nn.Module) -> str:
    """Return the name of a module's head: its part ``head``, or else the last part that has trained parameters itself.

    >>> head_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.Softmax(1)))
    '2'
    """
    head: str = ""
    for name, part in module.named_modules():
        if name in _HEADS and any(p.requires_grad for p in part.parameters()):
            return str(name)
        if any(parameter.requires_grad for parameter in part.parameters(recurse=False)):
            head = name
    return head


_BUFFERS: dict[str, Region] = {"mean": "shared", "local": "personal", "keep": "frozen"}


@dataclass(frozen=True)
class Regions:
    """The region of each tensor of a model, by the config's patterns first, then by the algorithm.

    A buffer that neither names is shared, personal or frozen as ``local.buffers`` says: mean, local, or keep.

    >>> regions = Regions(frozen=("0.*",), personal=("*.bias",))
    >>> [regions(Entry(name, (2,), torch.float32, "parameter")) for name in ("0.weight", "1.weight", "1.bias")]
    ['frozen', 'shared', 'personal']

    Args:
        of: the algorithm's choice.  A buffer that it says is ``kept`` has a place in the vector, as one that is frozen.
        frozen: patterns of names, with ``*`` for anything.
        personal: likewise; what is frozen stays so.
        buffers: ``local.buffers``.
        prepare: the algorithm's own change of a module, before all else.
    """

    of: RegionOf | None = None
    frozen: Sequence[str] = ()
    personal: Sequence[str] = ()
    buffers: Literal["mean", "local", "keep"] = "mean"
    prepare: Prepare | None = None

    def __call__(self, entry: Entry) -> Region:
        """Return the region of an entry."""
        if matches(entry.name, self.frozen):
            return "frozen"
        if matches(entry.name, self.personal):
            return "personal"
        chosen: Region = self.of(entry) if self.of is not None else "shared"
        if chosen == "kept":
            if entry.kind != "buffer":
                raise ConfigError(f"algorithm: {entry.name} is a parameter, and only buffers can be kept by the server")
            return "frozen"
        if chosen == "shared" and entry.kind == "buffer":
            return _BUFFERS[self.buffers]
        return chosen

    def stays(self, entry: Entry) -> bool:
        """Return True for an entry that stays in the module and in no vector.

        Buffers under ``local.buffers: keep`` have a place in it, as evaluations put the clients' statistics there.
        """
        by_name = matches(entry.name, self.frozen)
        return by_name or (self.of is not None and self.of(entry) == "frozen" and self(entry) == "frozen")

    def freeze(self, module: nn.Module) -> nn.Module:
        """Prepare a module, and take the gradient from its parameters that are frozen; returns the module.

        Raises:
            ConfigError: a pattern that is the name of nothing, or the model lacks what the algorithm needs.
        """
        if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
            return module  # it has no shapes yet, which the preflight says
        if self.prepare is not None:
            self.prepare(module)
        found = list(described(module))
        names = [entry.name for entry, _ in found]
        for key, patterns in (("frozen", self.frozen), ("personal", self.personal)):
            for pattern in patterns:
                if not any(matches(name, (pattern,)) for name in names):
                    raise ConfigError(f"model.{key}: nothing is called {pattern!r}; the model has {listed(names)}")
        for entry, tensor in found:
            if entry.kind == "parameter" and self.stays(entry):
                tensor.requires_grad_(False)
        return module


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Return True if a name, or a part that it lies in, is one of the patterns.

    >>> matches("body.fc.weight", ["body"]), matches("body.fc.weight", ["*.weight"]), matches("body2.bias", ["body"])
    (True, True, False)
    """
    words = name.split(".")
    starts = [".".join(words[: count + 1]) for count in range(len(words))]
    return any(fnmatchcase(start, pattern) for pattern in patterns for start in starts)


def described(module: nn.Module) -> list[tuple[Entry, Tensor]]:
    """Return parameters and saved buffers of a module as entries without a place, each with its tensor.

    A tensor under two names appears once.
    """
    state, head = module.state_dict(keep_vars=True), head_of(module)
    parts = dict(module.named_modules(remove_duplicate=False))
    found = []
    tensors: list[tuple[Kind, list[tuple[str, Tensor]]]] = [
        ("parameter", list(module.named_parameters())),
        ("buffer", [(name, buffer) for name, buffer in module.named_buffers() if name in state]),
    ]
    for kind, named in tensors:
        for name, tensor in named:
            owner = name.rpartition(".")[0]
            of_head = owner == head or owner.startswith(f"{head}.")
            entry = Entry(name, tuple(tensor.shape), tensor.dtype, kind, head=of_head, owner=type(parts[owner]))
            found.append((entry, tensor))
    return found


def spans_of(entries: Iterable[Entry]) -> list[slice]:
    """Return the places of entries in the vector, neighbours as one.

    >>> places = [(0, 2), (2, 3), (5, 6)]
    >>> spans_of(Entry("", (1,), torch.float32, "parameter", start, stop) for start, stop in places)
    [slice(0, 3, None), slice(5, 6, None)]
    """
    spans: list[slice] = []
    for entry in entries:
        start = spans.pop().start if spans and spans[-1].stop == entry.start else entry.start
        spans.append(slice(start, entry.stop))
    return spans
