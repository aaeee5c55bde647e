"""Classes of ``torch.optim`` that leave torch's compiler alone."""

from __future__ import annotations

import inspect

import torch
from torch.optim import Optimizer


def eager(kind: type[Optimizer]) -> type[Optimizer]:
    """Return a ``torch.optim`` class with the same arithmetic and without what it does for ``torch.compile``.

    That part imports torch's compiler with a process's first optimizer: 1.5 s of a worker's start, more where those 800
    files come over a network.  Nothing here is compiled.

    Args:
        kind: the class; not for ``differentiable=True``.

    Returns:
        The class; its ``eager_of`` is ``kind``.
    """
    step = inspect.unwrap(kind.step)

    @torch.no_grad()
    def without_grad(self: Optimizer, closure: None = None) -> None:
        step(self, closure)

    # Where this is set, torch does not wrap the step once more, for profiles and for hooks of whoever has the object:
    # nobody has ours, and a step of a small model takes as long as the wrapper.
    without_grad.hooked = True  # type: ignore[attr-defined]
    plain = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    members = {name: inspect.unwrap(getattr(kind, name)) for name in plain}
    return type(kind.__name__, (kind,), {"step": without_grad, **members, "eager_of": kind})
