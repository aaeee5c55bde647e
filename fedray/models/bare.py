"""Modules built bare, whose parameters have no values yet: for a process that holds a part of them alone.

The model of a rank is built so.  The values of what is trained come to it in its rows.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.weak import WeakIdKeyDictionary

from fedray.core.errors import one_line
from fedray.models.prototype import Prototype
from fedray.models.shapes import has_values


@contextmanager
def bare() -> Iterator[None]:
    """Let the parameters of modules that are built in the context have a shape and no values; all else has its own.

    A parameter loses its values as a module takes it, so that memory has one of them at a time.  What fills it behind
    that, as ``torch.nn.init`` does, neither takes time nor draws.

    >>> with bare():
    ...     layer = nn.BatchNorm1d(3)
    >>> has_values(layer.weight), layer.running_var
    (False, tensor([1., 1., 1.]))
    """
    known = WeakIdKeyDictionary()  # one that several modules take stays one

    def emptied(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if type(parameter) is not nn.Parameter or not has_values(parameter):
            return None
        if parameter not in known:
            known[parameter] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
            vars(known[parameter]).update(vars(parameter))
        found: nn.Parameter = known[parameter]
        return found

    handle = register_module_parameter_registration_hook(emptied)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


def built_bare(model_fn: Callable[[], nn.Module]) -> nn.Module:
    """Return a module of a function, built bare; a prototype keeps nothing of it."""
    with bare():
        return model_fn.anew() if isinstance(model_fn, Prototype) else model_fn()


def not_bare(model_fn: Callable[[], nn.Module], whole: nn.Module) -> str | None:
    """Build a model bare, and return the reason for which that does not stand for the whole one; None: it does.

    It does if nothing but the values of trained parameters is another: of all that the two modules refer to, frozen
    parameters, buffers, tensors, numbers and ties of weights included.

    >>> class Scaled(nn.Linear):
    ...     def __init__(self):
    ...         super().__init__(2, 2)
    ...         self.scale = float(self.weight.detach().abs().max())
    >>> not_bare(lambda: nn.Linear(2, 2), nn.Linear(2, 2)), not_bare(Scaled, Scaled())
    (None, 'its code looks at values of parameters (RuntimeError: Tensor.item() cannot be called on meta tensors)')

    Args:
        model_fn: builds the model.
        whole: a module of it, with its values.
    """
    try:
        built = built_bare(model_fn)
    except Exception as error:  # of any kind: it is the user's code
        return f"its code looks at values of parameters ({one_line(error)})"
    for name, parameter in built.named_parameters():
        if not parameter.requires_grad and not has_values(parameter):
            return f"{name} is frozen, and gets its values there"
    try:
        same = _described(built) == _described(whole)
    except Exception as error:  # of any kind: an object may say itself how it is pickled
        return f"something in it cannot be compared ({one_line(error)})"
    return None if same else "what it has beside its parameters is another without their values, or at each call"


def _described(module: nn.Module) -> bytes:
    """Return what a module is, trained parameters by their shapes alone."""
    into = BytesIO()
    _Description(into).dump(module)
    return into.getvalue()


class _Description(pickle.Pickler):
    """A pickle that is compared, and never loaded."""

    def __init__(self, into: BytesIO) -> None:
        super().__init__(into, protocol=4)
        self._seen: dict[int, tuple[int, Tensor]] = {}

    def persistent_id(self, obj: Any) -> Any:
        """Return what stands for a tensor."""
        if not isinstance(obj, Tensor):
            return None
        number, _ = self._seen.setdefault(id(obj), (len(self._seen), obj))
        trained = isinstance(obj, nn.Parameter) and obj.requires_grad
        values = "of shapes" if trained or not has_values(obj) else _digest(obj)
        about = (type(obj).__name__, str(obj.dtype), tuple(obj.shape), obj.stride(), obj.requires_grad)
        return number, *about, "trained" if trained else values, sorted(vars(obj))

    def reducer_override(self, obj: Any) -> Any:
        """Return what stands for a class, a function, a module."""
        if isinstance(obj, type) and obj not in (str, object):  # by which the others are told
            return str, (f"{obj.__module__}.{obj.__qualname__}",)
        if isinstance(obj, FunctionType):
            held = tuple(cell.cell_contents for cell in obj.__closure__ or ())
            return object, (), (id(obj.__code__), held, obj.__defaults__, obj.__kwdefaults__, vars(obj))
        if isinstance(obj, nn.Module):
            state: Any = obj.__getstate__()
            # Hooks lie under numbers that no two have in common.
            parts = {key: list(value.values()) if key.endswith("_hooks") else value for key, value in state.items()}
            return object, (), (type(obj), parts)
        return NotImplemented


def _digest(tensor: Tensor) -> str:
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return sha256(values.numpy().data).hexdigest()
