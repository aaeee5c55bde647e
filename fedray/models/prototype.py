"""A module that is built once in a process, and copied where another is needed."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from fedray.core.errors import ConfigError
from fedray.models.shared import memo_of


class Prototype:
    """A function that builds a module at its first call, and gives a copy of it at each.

    Building may take minutes, as that of a pretrained model from disk does.  What is pickled is how to build it:
    another process builds its own.

    >>> calls = []
    >>> prototype = Prototype(lambda: calls.append(1) or nn.Linear(2, 1))
    >>> prototype() is prototype(), len(calls)
    (False, 1)

    Args:
        build: builds the module with its first parameters, the same at each call.
    """

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        self._build = build
        self._kept: nn.Module | None = None
        self._copies = True

    def __call__(self) -> nn.Module:
        """Return a module with its first parameters, which the caller may change.

        Raises:
            ConfigError: copies would not do, and building gives the same module each time.
        """
        kept = self._kept
        if self._copies and kept is not None:
            return _copied(kept)
        built = self._build()
        if self._copies:
            self._kept = built
            return self._first_copy(built)
        if built is kept:
            raise ConfigError(
                "model: the same module is returned at each call, and it cannot be copied, as a function in it holds "
                "on to it; make a new module at each call"
            )
        self._kept = built
        return built

    def _first_copy(self, built: nn.Module) -> nn.Module:
        try:
            copied = _copied(built)
        except Exception:  # of any kind: a module may say itself how it is copied
            copied = built
        self._copies = not (any(map(hooked, built.parameters())) or _reaches(copied, built))
        return copied if self._copies else built

    def check(self, x: Tensor) -> None:
        """Find out whether a copy stands for itself; if not, each module is built from now on.

        A function that holds on to the module, such as ``self.f = lambda x: self.linear(x)``, goes on working with the
        module that was copied: gradients of the copy's output would reach that one.

        Args:
            x: inputs of a batch.
        """
        kept = self._kept
        if kept is None or not self._copies:
            return
        held = [p for p in kept.parameters() if p.requires_grad]
        try:
            with torch.enable_grad():
                output = _copied(kept).eval()(x)
                reached = torch.autograd.grad(output.sum(), held, allow_unused=True) if output.requires_grad else ()
        except Exception:  # what the module itself does with x is known to work: it is the copy that does not
            self._copies = False
            return
        self._copies = all(gradient is None for gradient in reached)

    def anew(self) -> nn.Module:
        """Return a module that is built, whether or not one is kept, and is not kept itself."""
        return self._build()

    def peek(self) -> nn.Module:
        """Return a module with its first parameters, which the caller only reads: the one that is kept, if there is."""
        return self._build() if self._kept is None or not self._copies else self._kept

    def take(self) -> nn.Module:
        """Return the module itself, where no further one is needed soon; the next call builds another."""
        taken = self.peek()
        self._kept = None
        return taken

    def forget(self) -> None:
        """Keep no module, where none is needed soon."""
        self._kept = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": None}


def last_of(model_fn: Callable[[], nn.Module]) -> nn.Module:
    """Return a module of a function that is not called again soon: the one that a prototype keeps."""
    return model_fn.take() if isinstance(model_fn, Prototype) else model_fn()


def peek(model_fn: Callable[[], nn.Module]) -> nn.Module:
    """Return a module of a function, which the caller only reads: the one that a prototype keeps, and goes on to."""
    return model_fn.peek() if isinstance(model_fn, Prototype) else model_fn()


def forget(model_fn: Callable[[], nn.Module]) -> None:
    """Let a prototype keep no module; the next call builds one."""
    if isinstance(model_fn, Prototype):
        model_fn.forget()


def hooked(parameter: Tensor) -> bool:
    """Return whether a parameter has hooks, which a copy, or a tensor that stands in for it, lacks.

    >>> weight = nn.Parameter(torch.zeros(2))
    >>> _ = weight.register_hook(lambda gradient: gradient.clamp(-1.0, 1.0))
    >>> hooked(weight)
    True
    """
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


def _copied(module: nn.Module) -> nn.Module:
    """Return a deep copy, with the attributes of the parameters, which torch leaves out.

    Parameters that copies have in common lie on the same memory.
    """
    memo = memo_of(module)
    copied = copy.deepcopy(module, memo)
    for parameter in module.parameters():
        if attributes := vars(parameter):
            vars(memo[id(parameter)]).update(copy.deepcopy(attributes, memo))
    return copied


def _reaches(copied: nn.Module, module: nn.Module) -> bool:
    """Return whether something in a copy still refers to the module, as a function does that holds on to it."""
    held = {id(one) for one in (*module.modules(), *module.parameters(), *module.buffers())}
    seen: dict[int, object] = {}
    waiting: list[Any] = [copied]
    while waiting:
        value = waiting.pop()
        if id(value) in held:
            return True
        if id(value) in seen or isinstance(value, type | ModuleType):
            continue
        seen[id(value)] = value
        if isinstance(value, FunctionType):  # not its globals: they refer to all that a program has
            waiting += [value.__closure__, value.__defaults__, value.__kwdefaults__, vars(value)]
        elif isinstance(value, weakref.ref):
            waiting.append(value())
        else:
            waiting += gc.get_referents(value)
    return False
