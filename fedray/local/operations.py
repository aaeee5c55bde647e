"""The operations of a model that cost time in a stack, or memory, counted in one forward pass rather than measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fedray.data.columns.inputs import Inputs, call


@dataclass(frozen=True)
class Work:
    """The work of a forward pass for one example, on average over the operations of a kind; 0 without any.

    Args:
        unfolded: numbers in the unfolded input of a convolution: for each place of the output the inputs below the
            kernel, ``in_channels / groups * kernel size``.  A convolution with a single input channel a group counts as
            0: it has kernels of its own, in a stack too.
        scores: attention scores, ``heads * queries * keys``, of fused attention, which does not keep them in memory.
    """

    unfolded: float = 0.0
    scores: float = 0.0


def work(module: nn.Module, x: Inputs) -> Work:
    """Return the work of ``module`` on the examples ``x`` ``[B, ...]``, the same on every machine.

    >>> work(nn.Conv2d(3, 6, 5), torch.zeros(2, 3, 32, 32))  # 28 * 28 places, 3 * 5 * 5 inputs
    Work(unfolded=58800.0, scores=0.0)

    Args:
        module: the model, called once in training mode, without gradients; its buffers may move.
        x: inputs, at least one.
    """
    counting = _Count()
    with torch.no_grad(), torch.random.fork_rng(devices=[]), counting:
        call(module.train(), x)
    return Work(**{name: sum(counts) / len(counts) for name, counts in counting.found.items() if counts})


@dataclass(frozen=True)
class Products:
    """The multiplications of a forward pass for one example, in products with parameters and convolutions.

    Args:
        trained: those with parameters that train.
        frozen: those with others.
        weights: the numbers of all these parameters.
    """

    trained: float = 0.0
    frozen: float = 0.0
    weights: int = 0


def products(module: nn.Module, x: Inputs) -> Products:
    """Return the multiplications of ``module`` on the examples ``x`` ``[B, ...]``, the same on every machine.

    >>> products(nn.Sequential(nn.Linear(4, 3).requires_grad_(False), nn.Linear(3, 2)), torch.zeros(2, 4))
    Products(trained=6.0, frozen=12.0, weights=18)

    Args:
        module: the model, called once in training mode, without gradients; its buffers may move.
        x: inputs, at least one.
    """
    counting = _CountProducts(module)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), counting:
        call(module.train(), x)
    return Products(counting.trained / len(x), counting.frozen / len(x), sum(counting.weights.values()))


def largest(module: nn.Module, x: Inputs) -> int:
    """Return the numbers of the largest tensor in a forward pass without gradients, for one example.

    >>> largest(nn.Sequential(nn.Linear(2, 50), nn.Linear(50, 3)), torch.zeros(4, 2))
    50

    Args:
        module: the model, called once in evaluation mode.
        x: inputs ``[B, ...]``, at least one.
    """
    counting = _Count(elsewhere=[*module.parameters(), *module.buffers()])
    with torch.no_grad(), torch.random.fork_rng(devices=[]), counting:
        call(module.eval(), x)
    numbers: int = max(counting.largest, x.numel())
    return math.ceil(numbers / len(x))


def _place_of(memory: torch.UntypedStorage) -> int:
    """Return what tells memory from other memory; that of a shape alone is nowhere."""
    return memory._cdata if memory.device.type == "meta" else memory.data_ptr()


class _Count(TorchDispatchMode):
    """A count of operations while they run.

    Torch's ``FlopCounterMode`` would import the compiler, which takes 1.7 s.
    """

    def __init__(self, elsewhere: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, list[int]] = {"unfolded": [], "scores": []}
        self.largest = 0
        self._elsewhere = {_place_of(tensor.untyped_storage()) for tensor in elsewhere}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            # Views of parameters take no memory, and an expanded tensor has fewer numbers than its shape says.
            if isinstance(made, Tensor) and _place_of(memory := made.untyped_storage()) not in self._elsewhere:
                self.largest = max(self.largest, min(made.numel(), memory.nbytes() // made.element_size()))
        if func is torch.ops.aten.convolution.default:
            source, weight, across = args[0].shape, args[1].shape, args[6]
            places = math.prod((source if across else out.shape)[2:])
            self.found["unfolded"].append(places * math.prod(weight[1:]) if weight[1] > 1 else 0)
        elif func is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default:
            query, key = args[0].shape, args[1].shape
            self.found["scores"].append(math.prod(query[1:-1]) * key[-2])
        return out


class _CountProducts(TorchDispatchMode):
    """A count of multiplications with parameters while they run."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # By their own place: tensors that are mapped from a file share one storage.
        self._trains = {p.data_ptr(): p.requires_grad for p in module.parameters()}
        self.trained = self.frozen = 0
        self.weights: dict[int, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _PRODUCTS:
            for operand in args:
                place = operand.data_ptr() if isinstance(operand, Tensor) else None
                # Of a product a parameter is one of the factors, of which a bias has but one axis.
                if place not in self._trains or operand.dim() < 2:
                    continue
                each = math.prod(operand.shape[1:]) if func is _CONVOLUTION else operand.shape[0]
                self.weights[place] = operand.numel()
                if self._trains[place]:
                    self.trained += out.numel() * each
                else:
                    self.frozen += out.numel() * each
        elif func.namespace != "aten" and (packed := next(filter(self._is_frozen, args[1:]), None)) is not None:
            # A kernel of another library multiplies inputs, which come first, with weights of a shape of their own.
            if not (isinstance(args[0], Tensor) and isinstance(out, Tensor) and args[0].dim() and out.dim()):
                return out
            each = args[0].shape[-1]
            self.weights[packed.data_ptr()] = each * out.shape[-1]
            self.frozen += out.numel() * each
        return out

    def _is_frozen(self, operand: Any) -> bool:
        return isinstance(operand, Tensor) and self._trains.get(operand.data_ptr()) is False


_CONVOLUTION = torch.ops.aten.convolution.default
_PRODUCTS = {
    _CONVOLUTION,
    *(getattr(torch.ops.aten, name).default for name in ("mm", "addmm", "bmm", "baddbmm")),
}
