"""One flat vector: the layout of an ``nn.Module`` in a contiguous float32 vector of length P."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fedray.core.columns import Spans
from fedray.core.errors import ConfigError
from fedray.core.messages import BUFFERS, DELTA
from fedray.core.regions import Entry, Region, Regions, described, spans_of

Only = Literal["shared", "personal"] | Callable[[Entry], bool]
"""The trained entries that a fit moves: those of a region, or those for which a function says True."""

EXACT = 2**24
"""Largest magnitude of integers in the vector."""

_COMPILED = "_orig_mod"
"""The name under which ``torch.compile`` holds the module that it wraps."""

_GROUPS: tuple[tuple[str, Region], ...] = (
    ("parameter", "shared"),
    ("parameter", "personal"),
    ("buffer", "shared"),
    ("buffer", "personal"),
    ("buffer", "frozen"),
)
"""The order of the vector."""


@dataclass(frozen=True)
class Layout:
    """Names, shapes and offsets of a module's state in a vector of ``size`` = P float32 values.

    The first ``shared`` = S values are the trained parameters that travel, those up to ``trained`` = D the ones that
    stay with their client; persistent buffers follow: those that are averaged, those of each client, those that are
    kept.  Within each of these the order is the module's.  Frozen tensors, of any type, stay in the module and have no
    place.  A tensor that the module has under two names appears once.

    Integer and boolean buffers (BatchNorm's ``num_batches_tracked``) stand in the vector as float32 and are rounded
    back to their type on the way out: exact up to 2**24, and refused beyond.

    >>> layout = Layout.of(nn.Linear(3, 2))
    >>> layout.size, [(entry.name, entry.start, entry.stop) for entry in layout.entries]
    (8, [('weight', 0, 6), ('bias', 6, 8)])
    >>> layout.unpack(torch.arange(8.0))["bias"]
    tensor([6., 7.])

    Args:
        entries: in the order of the vector.
        tied: further names of the module's ``state_dict``, each with the name of the tensor that it shares.
        wrapper: the start of all names where the module is wrapped by ``torch.compile`` or ``nn.DataParallel``.
        frozen: names of the saved tensors that have no place in the vector: frozen ones, and those that a module saves
            beside its parameters and buffers, such as the scales of quantized weights.
    """

    entries: tuple[Entry, ...]
    tied: tuple[tuple[str, str], ...] = ()
    wrapper: str = ""
    frozen: tuple[str, ...] = ()

    @classmethod
    def of(cls, module: nn.Module, regions: Regions | None = None) -> Layout:
        """Return the layout of ``module``.

        Args:
            module: the model; parameters without a gradient are frozen.
            regions: the region of each tensor; default: all that is not frozen is shared.

        Raises:
            ConfigError: a floating-point tensor that is not float32, a complex one, an integer beyond 2**24, or nothing
                to train.
        """
        regions = regions or Regions()
        placed: list[Entry] = []
        frozen: list[str] = []
        found = described(module)
        trains = {e.name.rpartition(".")[0] for e, tensor in found if e.kind == "parameter" and tensor.requires_grad}
        for entry, tensor in found:
            other = tensor.is_complex() or (tensor.is_floating_point() and tensor.dtype != torch.float32)
            of_frozen = entry.kind == "buffer" and other and entry.name.rpartition(".")[0] not in trains
            if regions.stays(entry) or of_frozen or (entry.kind == "parameter" and not tensor.requires_grad):
                frozen.append(entry.name)
                continue
            if other:
                raise ConfigError(
                    f"model: {entry.name} is {tensor.dtype}; the global vector is float32: build the model with "
                    ".float(), or freeze what is not trained (model.frozen)"
                )
            if (worst := _beyond(tensor)) is not None:
                raise ConfigError(
                    f"model: {entry.name} holds {worst:,}, and integers are exact up to {EXACT:,}; keep it in smaller "
                    "numbers, or out of the saved state (register_buffer(..., persistent=False))"
                )
            placed.append(replace(entry, region=regions(entry)))
        if not any(entry.kind == "parameter" for entry in placed):
            raise ConfigError("model: it has no parameter that needs a gradient, so there is nothing to train")
        placed.sort(key=lambda entry: _GROUPS.index((entry.kind, entry.region)))
        state = module.state_dict(keep_vars=True)
        frozen += _beside(state, found)
        first = {id(state[name]): name for name in (*(e.name for e in placed), *frozen) if name in state}
        again = ((name, first[id(tensor)]) for name, tensor in state.items() if id(tensor) in first)
        tied = tuple((name, other) for name, other in again if name != other)
        return cls(_in_order(placed), tied, _wrapper(module), tuple(frozen))

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Layout:
        """Make a layout of what ``to_json`` has returned."""
        entries = [
            Entry(name, tuple(shape), getattr(torch, dtype), kind, region=rest[0] if rest else "shared")
            for kind, name, dtype, shape, *rest in content["entries"]
        ]
        tied = tuple((name, other) for name, other in content.get("tied", content.get("shared", ())))
        return cls(_in_order(entries), tied, content.get("wrapper", ""), tuple(content.get("frozen", ())))

    def to_json(self) -> dict[str, Any]:
        """Return enough to make a ``state_dict`` of a vector where the module is not at hand."""
        entries = [[e.kind, e.name, str(e.dtype).removeprefix("torch."), list(e.shape), e.region] for e in self.entries]
        wrapped = {"wrapper": self.wrapper} if self.wrapper else {}
        return {"entries": entries, "tied": [list(n) for n in self.tied], "frozen": list(self.frozen), **wrapped}

    def like(self, module: nn.Module) -> Layout:
        """Return the layout of a module that has the same tensors in other shapes."""
        return self.shaped({name: tuple(tensor.shape) for name, tensor in self.tensors(module).items()})

    def shaped(self, shapes: Mapping[str, tuple[int, ...]]) -> Layout:
        """Return the layout of the same tensors in the shapes that their names have."""
        return replace(self, entries=_in_order(replace(entry, shape=shapes[entry.name]) for entry in self.entries))

    def only(self, entries: Iterable[Entry]) -> Layout:
        """Return the layout of some of its tensors, one behind the other."""
        return Layout(_in_order(entries))

    @cached_property
    def size(self) -> int:
        """P, the length of the vector."""
        return self.entries[-1].stop

    @cached_property
    def trained(self) -> int:
        """D <= P, the number of leading values that are trained."""
        return max(entry.stop for entry in self.entries if entry.kind == "parameter")

    @cached_property
    def shared(self) -> int:
        """S <= D, the number of leading values that are trained and travel: the length of an update."""
        return max((e.stop for e in self.entries if e.kind == "parameter" and e.region == "shared"), default=0)

    @cached_property
    def spans(self) -> dict[str, slice]:
        """The places of what travels, by the part of an update: trained parameters, and averaged buffers if any."""
        ends = [e.stop for e in self.entries if e.kind == "buffer" and e.region == "shared"]
        return {DELTA: slice(0, self.shared), **({BUFFERS: slice(self.trained, max(ends))} if ends else {})}

    @cached_property
    def travels(self) -> int:
        """The number of values that travel, trained parameters and buffers."""
        return sum(span.stop - span.start for span in self.spans.values())

    @cached_property
    def _home(self) -> Spans:
        """The places of what stays with its client, parameters and buffers."""
        return Spans(tuple(spans_of(entry for entry in self.entries if entry.region == "personal")))

    @property
    def personal(self) -> int:
        """The number of values that stay with their client, parameters and buffers."""
        return self._home.size

    def personal_of(self, models: Tensor) -> Tensor:
        """Return a copy of what stays with its client of models ``[C, P]``: ``[C, personal]``."""
        return self._home.of(models)

    def personal_in(self, models: Tensor) -> Tensor:
        """Return what stays with its client of models ``[C, P]``, in their memory if it is one piece of parameters."""
        place, *others = self._home.places
        if others or place.stop > self.trained:
            return self.personal_of(models)
        return models.narrow(1, place.start, place.stop - place.start)

    def put_personal(self, models: Tensor, values: Tensor) -> None:
        """Put values ``[C, personal]`` into models ``[C, P]``."""
        self._home.put(models, values)

    def chosen(self, only: Only | None) -> tuple[Entry, ...]:
        """Return the trained entries that a fit moves; None: all."""
        if only is None:
            return self.parameters
        if isinstance(only, str):
            if only not in ("shared", "personal"):
                raise ValueError(f"only={only!r}: it is 'shared', 'personal', or a function of an entry")
            return tuple(entry for entry in self.parameters if entry.region == only)
        return tuple(entry for entry in self.parameters if only(entry))

    @property
    def buffers(self) -> int:
        """B, the number of values in persistent buffers, which are the last of the vector."""
        return self.size - self.trained

    def among_buffers(self, names: Collection[str]) -> Tensor:
        """Return for each value in buffers ``[B]`` True if its buffer is one of ``names``."""
        found = [torch.full((e.stop - e.start,), e.name in names) for e in self.entries if e.kind == "buffer"]
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.bool)

    @cached_property
    def parameters(self) -> tuple[Entry, ...]:
        """The trained entries."""
        return tuple(entry for entry in self.entries if entry.kind == "parameter")

    @cached_property
    def rest(self) -> tuple[Entry, ...]:
        """The buffers."""
        return tuple(entry for entry in self.entries if entry.kind != "parameter")

    @cached_property
    def integers(self) -> tuple[Entry, ...]:
        """Entries that are not floating point in the module."""
        return tuple(entry for entry in self.entries if not entry.dtype.is_floating_point)

    def pack(self, tensors: dict[str, Tensor]) -> Tensor:
        """Return a new vector ``[P]`` of the tensors of a ``state_dict``."""
        return torch.cat([tensors[e.name].detach().reshape(-1).to(torch.float32) for e in self.entries])

    def unpack(self, vector: Tensor, entries: Iterable[Entry] | None = None) -> dict[str, Tensor]:
        """Return the tensors of a vector ``[P]`` by name.

        Float32 ones are views into it, integer ones are rounded copies.
        """
        chosen = self.entries if entries is None else entries
        found: dict[str, Tensor] = {}
        for e in chosen:
            view = vector[e.start : e.stop].view(e.shape)
            found[e.name] = view if e.dtype.is_floating_point else _to_integer(view, e.dtype)
        return found

    def state_dict(self, vector: Tensor, frozen: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the ``state_dict`` of a vector ``[P]`` for the plain module, no two tensors on the same memory.

        ``frozen`` has the tensors that have no place in the vector, as :meth:`frozen_of` gives them.

        >>> wrapped = Layout.of(nn.DataParallel(nn.Linear(2, 1)))
        >>> [entry.name for entry in wrapped.entries], sorted(wrapped.state_dict(torch.zeros(3)))
        (['module.weight', 'module.bias'], ['bias', 'weight'])
        """
        found = self.unpack(vector) | {name: frozen[name] for name in self.frozen if frozen is not None}
        found |= {name: found[other].clone() for name, other in self.tied if other in found}
        return {self._plain(name): tensor for name, tensor in found.items()}

    def _plain(self, name: str) -> str:
        """Return a name as it is without wrappers; a part of a module may be compiled, too."""
        inside = name.removeprefix(self.wrapper)
        return ".".join(word for word in inside.split(".") if word != _COMPILED)

    def frozen_of(self, module: nn.Module) -> dict[str, Tensor]:
        """Return the tensors of a module that have no place in the vector, by name."""
        state = module.state_dict()
        return {name: state[name].contiguous() for name in self.frozen}

    def split(self, matrix: Tensor) -> dict[str, Tensor]:
        """Return views ``[C, *shape]`` of the trained parameters of a matrix ``[C, D]``.

        They are one node in autograd's graph.
        """
        pieces = matrix.split_with_sizes([e.stop - e.start for e in self.parameters], dim=1)
        return {e.name: p.view(-1, *e.shape) for e, p in zip(self.parameters, pieces, strict=True)}

    def buffers_of(self, models: Tensor) -> dict[str, Tensor]:
        """Return the buffers ``[C, *shape]`` of models ``[C, P]``, each of its own type."""
        views = ((e, models[:, e.start : e.stop].view(-1, *e.shape)) for e in self.rest)
        return {e.name: v if e.dtype.is_floating_point else _to_integer(v, e.dtype) for e, v in views}

    def load(self, module: nn.Module, vector: Tensor) -> None:
        """Copy a vector ``[P]`` into ``module``."""
        with torch.no_grad():
            for name, tensor in self.tensors(module).items():
                tensor.copy_(self.unpack(vector, [self._by_name[name]])[name])

    def attach(self, module: nn.Module, vector: Tensor) -> None:
        """Make the float32 tensors of ``module`` views of ``vector`` ``[P]``: training then moves the vector itself."""
        for name, tensor in self.tensors(module).items():
            entry = self._by_name[name]
            if entry.dtype.is_floating_point:
                tensor.data = vector[entry.start : entry.stop].view(entry.shape)
            elif tensor.device != vector.device:
                tensor.data = tensor.data.to(vector.device)

    def read_back(self, module: nn.Module, vector: Tensor) -> None:
        """Copy into the vector what an attached ``module`` holds elsewhere: integer buffers, and buffers it has
        rebound.

        A module that says ``self.average = ...`` in its forward has a new tensor there; it is attached again.
        """
        tensors = self.tensors(module) if self.rest else {}
        for e in self.rest:
            view, tensor = vector[e.start : e.stop].view(e.shape), tensors[e.name]
            if tensor.data_ptr() != view.data_ptr():
                if (worst := _beyond(tensor)) is not None:
                    raise ValueError(f"the buffer {e.name} has reached {worst:,}; integers are exact up to {EXACT:,}")
                view.copy_(tensor.detach())
                if e.dtype.is_floating_point:
                    tensor.data = view

    def show(self, module: nn.Module, vector: Tensor, buffers: Tensor | None = None) -> None:
        """Make the parameters of ``module`` views of a vector, which stays as it is.

        Buffers are copies, as a module may count or average in its forward, also when it is evaluated.

        Args:
            module: the module.
            vector: float32 ``[P]``.
            buffers: values ``[B]`` in the place of the vector's last; default: those.
        """
        first = self.size - self.buffers
        for name, tensor in self.tensors(module).items():
            entry = self._by_name[name]
            given = buffers is not None and entry.kind == "buffer"
            source, shift = (buffers, first) if given else (vector, 0)
            assert source is not None
            values = source[entry.start - shift : entry.stop - shift].view(entry.shape)
            if not entry.dtype.is_floating_point:
                tensor.data = _to_integer(values, entry.dtype)
            else:
                tensor.data = values.clone() if entry.kind == "buffer" else values

    def write_integers(self, module: nn.Module, vector: Tensor) -> None:
        """Copy the integer entries of the vector into the buffers of an attached ``module``."""
        tensors = self.tensors(module) if self.integers else {}
        for e in self.integers:
            tensors[e.name].copy_(_to_integer(vector[e.start : e.stop].view(e.shape), e.dtype))

    def round_integers(self, buffers: Tensor) -> None:
        """Round the integer entries of buffers in place, after averaging: of all of them, or of the first ones."""
        for e in self.integers:
            buffers[e.start - self.trained : e.stop - self.trained].round_()

    @cached_property
    def _by_name(self) -> dict[str, Entry]:
        return {e.name: e for e in self.entries}

    def tensors(self, module: nn.Module) -> dict[str, Tensor]:
        """Return the module's tensors that have a place in the vector, by name."""
        named: dict[str, Tensor] = dict(module.named_parameters())
        named.update(module.named_buffers())
        return {e.name: named[e.name] for e in self.entries}


def _in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return entries with their places, one behind the other."""
    placed: list[Entry] = []
    for entry in entries:
        start = placed[-1].stop if placed else 0
        placed.append(replace(entry, start=start, stop=start + math.prod(entry.shape)))
    return tuple(placed)


def _beside(state: Mapping[str, Any], found: Iterable[tuple[Entry, Tensor]]) -> list[str]:
    """Return the names of saved tensors that are neither parameters nor buffers."""
    known = {id(tensor) for _, tensor in found}
    return [name for name, value in state.items() if isinstance(value, Tensor) and id(value) not in known]


def _beyond(tensor: Tensor) -> int | None:
    """Return an integer that float32 does not hold exactly; of a shape alone there is none."""
    if tensor.is_floating_point() or tensor.dtype.itemsize < 4 or not tensor.numel():
        return None
    if tensor.untyped_storage().device.type == "meta":
        return None
    least, most = (int(value) for value in torch.aminmax(tensor))
    worst = least if -least > most else most
    return worst if abs(worst) > EXACT else None


def _to_integer(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values > 0.5 if dtype == torch.bool else values.round().to(dtype)


def _wrapper(module: nn.Module) -> str:
    """Return the start of all names of a module that wrappers make."""
    prefix = ""
    while True:
        if _COMPILED in module._modules:
            prefix, module = f"{prefix}{_COMPILED}.", module.get_submodule(_COMPILED)
        elif isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            prefix, module = f"{prefix}module.", module.module
        else:
            return prefix
