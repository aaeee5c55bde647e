"""Frozen tensors that copies of a module have in common: the base of adapters, which a process holds once."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

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


_placed: WeakValueDictionary[tuple[object, ...], Tensor] = WeakValueDictionary()
"""The tensors that lie on a device for all modules of this process, by the memory that they were copied from."""

_held: Any = WeakTensorKeyDictionary()
"""The origin of a tensor, which stays as long: of a module's parameter the one copy, and of this the first one."""


def placed(module: nn.Module, device: torch.device) -> nn.Module:
    """Move a module to a device, where all copies in this process have one copy of what they have in common.

    >>> frozen = share_frozen(nn.Linear(2, 1).requires_grad_(False))
    >>> placed(frozen, torch.device("meta")).weight.is_meta
    True

    Args:
        module: the module, which is changed.
        device: the device.
    """
    moved: dict[int, nn.Parameter] = {}
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None and moves_once(parameter) and parameter.device != device:
                if id(parameter) not in moved:
                    moved[id(parameter)] = _on(parameter, device)
                owner._parameters[name] = moved[id(parameter)]
    return module.to(device)


def moves_once(parameter: Tensor) -> bool:
    """Return whether a parameter is moved once for all copies: those of other classes, as quantized ones, move alone.

    >>> moves_once(share_frozen(nn.Linear(2, 1).requires_grad_(False)).weight), moves_once(nn.Linear(2, 1).weight)
    (True, False)
    """
    return is_shared(parameter) and type(parameter) is nn.Parameter


def _on(parameter: nn.Parameter, device: torch.device) -> nn.Parameter:
    """Return a parameter of a module's own on the one copy of its memory that a device has."""
    key = parameter.data_ptr(), parameter.dtype, parameter.shape, parameter.stride(), device
    if (there := _placed.get(key)) is None:
        there = _placed[key] = parameter.detach().to(device)
        # As long as the copy is there, no other tensor comes to lie where the first one does.
        _held[there] = parameter
    own = nn.Parameter(there, requires_grad=False)
    vars(own).update(vars(parameter))
    _held[own] = there
    return own


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
