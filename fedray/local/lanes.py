"""Lanes: one ordinary forward of C * B rows, in which only modules that own trained parameters go client by client."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fedray.core.draws import put_back
from fedray.core.errors import one_line
from fedray.core.hidden_state import HiddenState
from fedray.core.layout import Layout
from fedray.data.columns.inputs import Inputs, call, like
from fedray.local.lane_rules import Rule, rule_of
from fedray.models.quantized import mixes_rows
from fedray.models.shared import shared_of
from fedray.tasks import logits_of

Tensors = Mapping[str, Tensor]

_PROBES = (2, 3)
"""Examples of two forwards: what follows their number are rows, what does not is the same for all examples."""


@dataclass(frozen=True)
class Lanes:
    """The modules of a model that go client by client, found by :func:`lanes_of` before a run.

    Args:
        leads: by the name of each such module, the rows of its inputs for each example of a batch; 0: its inputs are
            the same whatever the batch is, such as the numbers of positions.
    """

    leads: Mapping[str, int]


def lanes_of(module: nn.Module, layout: Layout, x: Inputs) -> Lanes | str:
    """Return the modules that go client by client, or the reason why a model does not run in lanes.

    >>> lanes_of(nn.Sequential(nn.Linear(3, 2)), Layout.of(nn.Sequential(nn.Linear(3, 2))), torch.zeros(1, 3))
    Lanes(leads={'0': 1})
    >>> lanes_of(nn.Bilinear(3, 3, 2), Layout.of(nn.Bilinear(3, 3, 2)), torch.zeros(1, 3))
    'weight: Bilinear is not known in lanes'

    Args:
        module: the model in training mode, called three times without gradients; what it remembers is put back.
        layout: its layout.
        x: at least one example.
    """
    leaves = _leaves(module, layout)
    if isinstance(leaves, str):
        return leaves
    seen: list[dict[str, set[int | None]]] = []
    hidden = HiddenState({"model": module}, [*layout.tensors(module).values(), *shared_of(module)])
    with hidden.put_back(), put_back(), torch.no_grad(), catch_warnings():
        # Activation checkpointing says that nothing here needs a gradient.
        simplefilter("ignore")
        for rows in _PROBES:
            seen.append({leaf.name: set() for leaf in leaves})
            with ExitStack() as hooked:
                for leaf in leaves:
                    handle = leaf.module.register_forward_pre_hook(
                        partial(_look, seen[-1][leaf.name]), with_kwargs=True
                    )
                    hooked.callback(handle.remove)
                call(module, like(x, partial(_again, times=(rows,))))
        leads = {leaf.name: _lead(*(found[leaf.name] for found in seen)) for leaf in leaves}
        for leaf in leaves:
            if leads[leaf.name] is None:
                return f"{leaf.name or 'the model'}: its inputs do not come row by row"
        lanes = Lanes({name: lead for name, lead in leads.items() if lead is not None})
        named = {
            entry.name: tensor for entry, tensor in zip(layout.parameters, _parameters(module, layout), strict=True)
        }
        params = {name: tensor.detach().expand(2, *tensor.shape) for name, tensor in named.items()}
        two = like(x, partial(_again, times=(2, 2)))
        forward = LaneForward(module, layout, lanes)
        try:
            with forward.installed(), _Outside({id(tensor): name for name, tensor in named.items()}):
                forward(params, two)
        except _UsedOutside as used:
            return str(used)
        except Exception as error:
            return f"it does not run in lanes ({one_line(error)[:120]})"
    return lanes


def _again(x: Tensor, times: tuple[int, ...]) -> Tensor:
    """Return the first of some rows so many times."""
    return x[:1].expand(*times, *x.shape[1:]).contiguous()


def _parameters(module: nn.Module, layout: Layout) -> list[Tensor]:
    tensors = layout.tensors(module)
    return [tensors[entry.name] for entry in layout.parameters]


@dataclass(frozen=True)
class _Leaf:
    """A module that goes client by client.

    Args:
        name: its name in the model.
        module: itself.
        rule: the way in which it does.
        own: the names of the layout's entries by the names that it has for them.
    """

    name: str
    module: nn.Module
    rule: Rule
    own: Mapping[str, str]


def _leaves(module: nn.Module, layout: Layout) -> list[_Leaf] | str:
    """Return the modules that own trained parameters, under whatever name, or why one of them cannot be done."""
    parts = dict(module.named_modules())
    if compiled := [name for name, part in parts.items() if type(part).__name__ == "OptimizedModule"]:
        return f"{compiled[0] or 'the model'} is compiled"
    if mixed := [name for name, part in parts.items() if mixes_rows(part)]:
        return f"{mixed[0]}: which inputs are outliers is decided for all rows of a batch (int8)"
    trained = dict(zip(map(id, _parameters(module, layout)), layout.parameters, strict=True))
    found = []
    for name, part in parts.items():
        own = {leaf: trained[id(p)].name for leaf, p in part._parameters.items() if p is not None and id(p) in trained}
        # It uses the parameters of the module inside it without calling that.
        joins = isinstance(part, nn.MultiheadAttention) and any(id(p) in trained for p in part.parameters())
        if not own and not joins:
            continue
        rule, first = rule_of(part), next(iter(own.values()), name)
        if not isinstance(rule, Rule):
            return f"{first}: {rule}"
        if strange := [leaf for leaf in own if leaf not in rule.leaves]:
            return f"{own[strange[0]]}: {type(part).__name__} has no such parameter in lanes"
        found.append(_Leaf(name, part, rule, own))
    return found


def _look(seen: set[int | None], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    first = args[0] if args else next(iter(kwargs.values()), None)
    seen.add(len(first) if isinstance(first, Tensor) and first.dim() else None)


def _lead(two: set[int | None], three: set[int | None]) -> int | None:
    """Return the rows for each example of what a module is called with; 0: the same for all; None: neither."""
    if not two and not three:
        return 1  # it is not called, or by a module that lanes take the place of
    if len(two) != 1 or len(three) != 1:
        return None
    (first,), (second,) = two, three
    if first is None or second is None:
        return None
    if first == second:
        return 0
    each, rest = divmod(first, _PROBES[0])
    return each if not rest and second == each * _PROBES[1] else None


@dataclass
class Lane:
    """The clients and rows of a forward, which a backward that computes parts of it again goes back to.

    Args:
        params: the parameters of each client, ``[C, *shape]``, by the layout's names.
        clients: C.
        rows: C * B.
    """

    params: Tensors = field(default_factory=dict)
    clients: int = 0
    rows: int = 0


class LaneForward:
    """A module's forward pass over a leading axis of clients: one ordinary call of it with the rows of all of them.

    >>> module = nn.Linear(2, 1, bias=False)
    >>> layout = Layout.of(module)
    >>> forward = LaneForward(module, layout, lanes_of(module, layout, torch.zeros(1, 2)))
    >>> with forward.installed():
    ...     forward({"weight": torch.tensor([[[1.0, 1.0]], [[0.0, 3.0]]])}, torch.ones(2, 3, 2)).shape
    torch.Size([2, 3, 1])

    Args:
        module: the model; of its trained parameters nothing is read.
        layout: its layout.
        lanes: the modules of it that go client by client.

    Attributes:
        at: the clients and rows of the last forward.
    """

    def __init__(self, module: nn.Module, layout: Layout, lanes: Lanes) -> None:
        leaves = _leaves(module, layout)
        if isinstance(leaves, str):
            raise ValueError(leaves)
        self._module = module
        self._leaves = [(leaf, lanes.leads[leaf.name]) for leaf in leaves]
        self.at = Lane()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the module run in lanes, and let a backward compute parts of it again, for the length of the context."""
        # In evaluations layers of torch's transformers would use parameters of the modules inside them by themselves.
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        for leaf, lead in self._leaves:
            vars(leaf.module)["forward"] = partial(self._run, leaf, lead)
        try:
            yield
        finally:
            for leaf, _ in self._leaves:
                vars(leaf.module).pop("forward", None)
            torch.backends.mha.set_fastpath_enabled(fast)
            self.at = Lane()

    def __call__(self, params: Tensors, x: Inputs) -> Tensor:
        """Return the outputs ``[C, B, ...]`` for inputs ``[C, B, ...]``, within :meth:`installed`."""
        shape = (x if isinstance(x, Tensor) else next(iter(x.columns.values()))).shape[:2]
        self.at = Lane(params, shape[0], shape[0] * shape[1])
        output = logits_of(call(self._module, x.flatten(0, 1)))
        if len(output) != self.at.rows:
            raise ValueError(f"the model gives {len(output)} outputs for {self.at.rows} rows")
        apart: Tensor = output.unflatten(0, shape)
        return apart

    def _run(self, leaf: _Leaf, lead: int, *args: Any, **kwargs: Any) -> Any:
        at = self.at
        own = {inner: at.params[name] for inner, name in leaf.own.items()}
        if not args:
            first, *_ = kwargs
            args = (kwargs.pop(first),)
        x, *rest = args
        if lead:
            if len(x) != lead * at.rows:
                raise ValueError(
                    f"{leaf.name or 'the model'}: {len(x)} rows for {at.rows} examples, not {lead} for each"
                )
            return leaf.rule.rows(leaf.module, own, at.clients, x, *rest, **kwargs)
        # The same for all examples: once for each client, and then for all of its rows.
        alike = x if len(x) == 1 and x.dim() > 1 else x.unsqueeze(0)
        each: Tensor = leaf.rule.rows(
            leaf.module, own, at.clients, alike.expand(at.clients, *alike.shape[1:]), *rest, **kwargs
        )
        of_all: Tensor = each.unsqueeze(1).expand(-1, at.rows // at.clients, *each.shape[1:]).flatten(0, 1)
        return of_all


class _UsedOutside(Exception):
    """A trained parameter is used by another module than the one that owns it."""


class _Outside(TorchFunctionMode):
    """A context in which tensors made of parameters raise: in lanes nobody but their modules may use them.

    Args:
        names: of the parameters, by the id of each.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self._names = names

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) or (isinstance(found, list | tuple) and any(isinstance(o, Tensor) for o in found)):
            for one in _flat((*args, *(kwargs or {}).values())):
                if id(one) in self._names:
                    raise _UsedOutside(f"{self._names[id(one)]} is used outside the module that owns it")
        return found


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value
