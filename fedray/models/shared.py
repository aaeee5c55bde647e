"""Frozen tensors that copies of a module have in common: the base of adapters, which a process holds once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

_SHARED, _BASE = "fedray_shared", "fedray_base"


def share_frozen(module: nn.Module) -> nn.Module:
    """Let copies of a module, as a run makes them, lie on the memory of its frozen parameters; returns the module.

    Only who knows that nothing writes to them can say so: a module may move its frozen parameters by itself, as an
    average of others does.

    >>> from fedray.models.prototype import Prototype
    >>> module = nn.Linear(2, 1)
    >>> _ = module.weight.requires_grad_(False)
    >>> prototype = Prototype(lambda: share_frozen(module))
    >>> one, other = prototype(), prototype()
    >>> one.weight.data_ptr() == other.weight.data_ptr(), one.bias.data_ptr() == other.bias.data_ptr()
    (True, False)

    Args:
        module: a model, of which what is frozen has no gradient.
    """
    for parameter in module.parameters():
        if not parameter.requires_grad:
            setattr(parameter, _SHARED, True)
    return module


def memo_of(module: nn.Module) -> dict[int, Any]:
    """Return what ``copy.deepcopy`` of a module is to take in the place of its shared parameters, by their ``id``.

    They are parameters of their own on the same memory, and of the same class, as those of quantized layers are: who
    moves a copy to a device leaves the others where they are.  Attributes of a parameter on its memory stay there, too.
    """
    found: dict[int, Any] = {}
    for parameter in filter(is_shared, module.parameters()):
        found[id(parameter)] = Tensor._make_subclass(type(parameter), parameter.detach(), False)
        for value in vars(parameter).values():
            if isinstance(value, Tensor) and value.data_ptr() == parameter.data_ptr():
                found[id(value)] = value
    return found


def is_shared(tensor: Tensor) -> bool:
    """Return whether a tensor is one that copies have in common."""
    return getattr(tensor, _SHARED, False)


def shared_of(module: nn.Module) -> list[Tensor]:
    """Return the parameters of a module that copies have in common, to which nobody writes."""
    return [parameter for parameter in module.parameters() if is_shared(parameter)]


def read_from(module: nn.Module, folder: Path) -> nn.Module:
    """Note the folder that a module's base was read from, so that a run need not keep it once more; returns the module.

    >>> base_of(read_from(nn.Linear(2, 1), Path("tinyllama"))).name
    'tinyllama'
    """
    vars(module)[_BASE] = folder.absolute()
    return module


def base_of(module: nn.Module) -> Path | None:
    """Return the folder that a module's base was read from; None: nobody has said one."""
    return vars(module).get(_BASE)
