"""Sums of clipped gradients of single examples, of C clients at once."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from fedray.core.layout import Layout
from fedray.core.losses import LossFn, per_example
from fedray.core.rng import torch_generator
from fedray.data.columns.inputs import Inputs, arguments, plain
from fedray.local.batched import Forward
from fedray.local.batches import share_out
from fedray.local.clipping import clip_factors
from fedray.local.dropout import NamedDropout
from fedray.local.ghost import Ghost, ghosts
from fedray.tasks import logits_of

Tensors = dict[str, Tensor]

FLOATS = 1 << 24
"""The most numbers that the examples of one pass need memory for: 64 MiB of float32."""

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class _Way:
    """The way in which the gradients of some parameters are taken.

    Args:
        rules: of the layers that have one, by name.
        shapes: of the outputs of these layers, for one example.
        names: by layer, its parameters that train.
        rest: the other parameters that train, whose gradients are made for each example.
        floats: the numbers that an example of a client needs memory for.
    """

    rules: Mapping[str, Ghost]
    shapes: Mapping[str, tuple[int, ...]]
    names: Mapping[str, frozenset[str]]
    rest: tuple[str, ...]
    floats: int


class OfExamples(Protocol):
    """The part of a loss of single examples that is needed here, see :class:`fedray.local.added.Added`."""

    @property
    def models(self) -> tuple[Tensor, ...]: ...

    @property
    def weight(self) -> float: ...

    def at(self, rows: slice | Tensor) -> OfExamples:
        """Return it for some of the clients."""

    def of(self, outputs: Tensor, targets: Tensor, *others: Tensor) -> Tensor:
        """Return the loss of each example, ``[A, B]``, by outputs of the model and of the others."""


@dataclass(frozen=True)
class Beside:
    """A loss of each example that is added to the task's, for the clients of a step.

    Args:
        loss: the loss.
        models: the parameters of the other models that it asks, ``[A, *shape]`` by name.
    """

    loss: OfExamples
    models: tuple[Tensors, ...]

    @classmethod
    def of(cls, loss: OfExamples | None, rows: slice | Tensor, layout: Layout, count: int) -> Beside | None:
        """Make it for the clients of some ``rows``, ``count`` of them; None: there is none."""
        if loss is None:
            return None
        at = loss.at(rows)
        return cls(at, tuple(layout.split(model[..., : layout.trained].expand(count, -1)) for model in at.models))


class ClippedGradients:
    """Sums over examples of their clipped gradients: ``sum_i g_i min(1, norm / |g_i|)`` for each client.

    Layers that :func:`fedray.local.ghost.ghost_of` knows never make the gradients of single examples; those of other
    parameters are made by vmap over examples and clients.  A batch goes through in pieces that fit into memory.  Each
    example runs through the module alone, a batch of one, so that none reaches the gradient of another; models of
    linear layers that :mod:`fedray.local.batched` knows, which cannot join rows, take all rows at once.

    Norms are float64 and over all parameters that train; a gradient that is not finite counts as zeros.

    Args:
        module: the model, in training mode; its parameters' own values are not used.
        loss_fn: (output, target) to the mean loss of a batch.
        batched: the model's forward pass over clients without vmap, if it has one.
        dropout: draws masks by name; None: the model drops nothing.
        context: the context of each forward pass.
    """

    def __init__(
        self,
        module: nn.Module,
        loss_fn: LossFn,
        batched: Forward | None = None,
        dropout: NamedDropout | None = None,
        context: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self._module, self._loss = module, loss_fn
        inplace = any(getattr(part, "inplace", False) for part in module.modules())
        self._batched = None if inplace else batched
        self._dropout, self._context = dropout, context
        self._ways: dict[Any, _Way] = {}

    def __call__(
        self,
        params: Tensors,
        buffers: Tensors,
        moved: tuple[str, ...],
        keys: Tensor,
        x: Inputs,
        y: Tensor,
        real: Tensor,
        norm: float,
        added: Beside | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return losses of examples ``[A, B]`` and sums of clipped gradients, ``[A, *shape]`` each of ``moved``.

        Args:
            params: the clients' parameters, ``[A, *shape]`` by name.
            buffers: the model's other tensors, the same for all.
            moved: the names of the parameters that train.
            keys: the clients' names in draws, ``[A]``.
            x: inputs ``[A, B, ...]``.
            y: targets ``[A, B, ...]``.
            real: False for padding, ``[A, B]``.
            norm: the largest norm that a gradient keeps; infinity: any.
            added: a loss of each example beside the task's.
        """
        params = {name: tensor.detach() for name, tensor in params.items()}
        inputs = plain(x)
        way = self._way(params, buffers, moved, inputs, y)
        clients, rows = y.shape[:2]
        pieces = math.ceil(rows / max(1, FLOATS // (clients * way.floats)))
        losses: list[Tensor] = []
        sums: Tensors = {}
        for piece in share_out(rows, pieces):
            part = _each(inputs, lambda t, piece=piece: t[:, piece])  # type: ignore[misc]
            turn = None if self._dropout is None else self._dropout.turn
            real_ones, start = real[:, piece], piece.start
            found, grads = self._piece(way, params, buffers, keys, part, y[:, piece], real_ones, norm, start, added)
            if self._dropout is not None:
                self._dropout.turn = turn
            losses.append(found)
            sums = grads if not sums else {name: sums[name].add_(grad) for name, grad in grads.items()}
        return torch.cat(losses, dim=1), [sums[name] for name in moved]

    def _piece(
        self,
        way: _Way,
        params: Tensors,
        buffers: Tensors,
        keys: Tensor,
        x: Tensor | Tensors,
        y: Tensor,
        real: Tensor,
        norm: float,
        start: int,
        added: Beside | None = None,
    ) -> tuple[Tensor, Tensors]:
        clients, rows = y.shape[:2]
        with torch.enable_grad(), self._context():
            if self._batched is not None and not way.rest:
                logits, seen = self._batched.with_layers(params, x, way.rules)  # type: ignore[arg-type]
                inputs, rest = {name: one for name, (one, _) in seen.items()}, []
                at = {name: out for name, (_, out) in seen.items()}
            else:
                own = {
                    name: params[name].unsqueeze(1).expand(-1, rows, *[-1] * (params[name].dim() - 1))
                    for name in way.rest
                }
                own = {name: tensor.detach().requires_grad_() for name, tensor in own.items()}
                at = {
                    name: torch.zeros(clients, rows, *shape, device=y.device, requires_grad=True)
                    for name, shape in way.shapes.items()
                }
                fixed = {name: tensor for name, tensor in params.items() if name not in own}
                places = torch.arange(start, start + rows, device=y.device)
                over = vmap(
                    vmap(partial(self._one, buffers), in_dims=(None, 0, 0, None, 0, 0)), in_dims=(0, 0, 0, 0, None, 0)
                )
                with sdpa_kernel(SDPBackend.MATH):
                    logits, inputs = over(fixed, own, at, keys, places, x)
                rest = list(own.values())
            losses = per_example(self._loss, logits.flatten(0, 1), y.flatten(0, 1)).view(clients, rows)
            if added is not None:
                others = [self._alone(model, buffers, keys, x) for model in added.models]
                losses = losses + added.loss.weight * added.loss.of(logits, y, *others)
        found = torch.autograd.grad(losses.sum(), [*at.values(), *rest], allow_unused=True, materialize_grads=True)
        slopes, made = dict(zip(at, found, strict=False)), dict(zip(way.rest, found[len(at) :], strict=True))
        with torch.no_grad():
            return losses.detach(), _clipped(way, inputs, slopes, made, real, norm)

    def _one(
        self,
        buffers: Tensors,
        params: Tensors,
        own: Tensors,
        at: Tensors,
        key: Tensor,
        place: Tensor,
        x: Tensor | Tensors,
    ) -> tuple[Tensor, Tensors]:
        """Run one example of one client, and return its output and the inputs of the layers with a rule."""
        if self._dropout is not None:
            self._dropout.client, self._dropout.place = key, place
        one = _each(x, lambda t: t.unsqueeze(0))
        with _seen(self._module, at) as inputs:
            logits = logits_of(functional_call(self._module, {**buffers, **params, **own}, *arguments(one)))
        return logits[0], inputs

    def _alone(self, params: Tensors, buffers: Tensors, keys: Tensor, x: Tensor | Tensors) -> Tensor:
        """Return the outputs of other models for each example alone, in evaluation mode, ``[A, B, ...]``."""
        with torch.no_grad(), self._at_rest():
            if self._batched is not None:
                return self._batched(params, x)  # type: ignore[arg-type]
            one = vmap(partial(self._one, buffers), in_dims=(None, None, None, None, None, 0))
            place = torch.zeros((), dtype=torch.int64)
            with sdpa_kernel(SDPBackend.MATH):
                outputs: Tensor = vmap(one, in_dims=(0, None, None, 0, None, 0))(params, {}, {}, keys, place, x)[0]
            return outputs

    @contextlib.contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Put the module into evaluation mode, in which nothing is dropped."""
        training = {part: part.training for part in self._module.modules()}
        self._module.eval()
        dropout, self._dropout = self._dropout, None
        try:
            yield
        finally:
            self._dropout = dropout
            for part, mode in training.items():
                part.training = mode

    # The way

    def _way(self, params: Tensors, buffers: Tensors, moved: tuple[str, ...], x: Tensor | Tensors, y: Tensor) -> _Way:
        shapes = [t.shape[2:] for t in ([x] if isinstance(x, Tensor) else x.values())]
        name = (moved, tuple(map(tuple, shapes)))
        if name not in self._ways:
            self._ways[name] = self._chosen(params, buffers, moved, x, y)
        return self._ways[name]

    def _chosen(
        self, params: Tensors, buffers: Tensors, moved: tuple[str, ...], x: Tensor | Tensors, y: Tensor
    ) -> _Way:
        """Find the layers with a rule by one example of one client, at which the rules must give the true gradient."""
        x, y = _each(x, lambda t: t[:1, :1]), y[:1, :1]
        draw = torch_generator(0, "local")
        # A head of zeros would hide what is below it.
        at = {name: t[:1] + 0.1 * torch.randn(t[:1].shape, generator=draw).to(t.device) for name, t in params.items()}
        with self._at_rest():
            calls: Counter[str] = Counter()
            leaves = {name: tensor[0].detach().requires_grad_(name in moved) for name, tensor in at.items()}
            with torch.enable_grad(), self._context(), _called(self._module) as called:
                one = _each(x, lambda t: t[0])
                logits = logits_of(functional_call(self._module, {**buffers, **leaves}, *arguments(one)))
                loss = per_example(self._loss, logits, y[0]).sum()
            true = torch.autograd.grad(loss, [leaves[n] for n in moved], allow_unused=True, materialize_grads=True)
            calls.update(name for name, _, _ in called)
            found = {name: (seen[None, None], out[None, None]) for name, seen, out in called}
            way = self._with(ghosts(self._module, calls, frozenset(moved)), found, at, moved)
            if way.rules:
                keys, real = torch.zeros(1, dtype=torch.int64, device=y.device), y.new_ones((1, 1), dtype=torch.bool)
                _, sums = self._piece(way, at, buffers, keys, x, y, real, math.inf, 0)
                if not all(_close(sums[name][0], grad) for name, grad in zip(moved, true, strict=True)):
                    # A weight that is also used past its layer.
                    way = self._with({}, found, at, moved)
            return way

    def _with(
        self,
        rules: Mapping[str, Ghost],
        found: Mapping[str, tuple[Tensor, Tensor]],
        params: Tensors,
        moved: tuple[str, ...],
    ) -> _Way:
        names = {layer: frozenset(key for key in ("weight", "bias") if _joined(layer, key) in moved) for layer in rules}
        covered = {_joined(layer, key) for layer, keys in names.items() for key in keys}
        rest = tuple(name for name in moved if name not in covered)
        shapes = {layer: tuple(found[layer][1].shape[2:]) for layer in rules}
        floats = sum(rule.floats(*found[layer]) for layer, rule in rules.items())
        floats += 2 * sum(params[name][0].numel() for name in rest)
        # A first guess of what lies between the layers.
        floats += 2 * sum(out.numel() for _, out in found.values())
        return _Way(rules, shapes, names, rest, max(1, floats))


def _clipped(way: _Way, inputs: Tensors, slopes: Tensors, made: Tensors, real: Tensor, norm: float) -> Tensors:
    """Return the sums of clipped gradients, of the layers with a rule and of those gradients that are made."""
    squares = torch.zeros(real.shape, dtype=torch.float64, device=real.device)
    for layer, rule in way.rules.items():
        squares += rule.squares(inputs[layer], slopes[layer], way.names[layer])
    for grad in made.values():
        squares += torch.linalg.vector_norm(grad.flatten(2), dim=2, dtype=torch.float64) ** 2
    norms = squares.sqrt()
    factors = clip_factors(norms, norm) * real
    if not bool(torch.isfinite(norms).all()):
        # 0 times infinity is not 0.
        lost = ~torch.isfinite(norms)
        inputs, slopes, made = ({name: _without(t, lost) for name, t in of.items()} for of in (inputs, slopes, made))
    sums = {}
    for layer, rule in way.rules.items():
        for key, total in rule.sums(inputs[layer], slopes[layer], factors, way.names[layer]).items():
            sums[_joined(layer, key)] = total
    for name, grad in made.items():
        sums[name] = torch.einsum("ab,abn->an", factors, grad.flatten(2)).view(len(grad), *grad.shape[2:])
    return sums


def _without(values: Tensor, lost: Tensor) -> Tensor:
    return values.masked_fill(lost.view(*lost.shape, *[1] * (values.dim() - 2)), 0)


def _joined(layer: str, key: str) -> str:
    return f"{layer}.{key}" if layer else key


def _close(one: Tensor, other: Tensor) -> bool:
    most = _TOLERANCE * (float(other.abs().max()) or 1.0) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=most)


def _each(x: Tensor | Tensors, change: Callable[[Tensor], Tensor]) -> Any:
    return change(x) if isinstance(x, Tensor) else {name: change(one) for name, one in x.items()}


@contextlib.contextmanager
def _seen(module: nn.Module, at: Tensors) -> Iterator[Tensors]:
    """Collect the inputs of some layers, and add to their outputs what gradients are taken to."""
    inputs: Tensors = {}
    handles = []
    for name, zero in at.items():

        def hook(_: nn.Module, args: Any, out: Tensor, name: str = name, zero: Tensor = zero) -> Tensor:
            inputs[name] = args[0].detach()
            return out + zero

        handles.append(module.get_submodule(name).register_forward_hook(hook))
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _called(module: nn.Module) -> Iterator[list[tuple[str, Tensor, Tensor]]]:
    """Collect name, input and output of each call of a layer that has a rule."""
    from fedray.local.ghost import ghost_of

    calls: list[tuple[str, Tensor, Tensor]] = []
    handles = []
    for name, layer in module.named_modules():
        if ghost_of(layer) is None:
            continue

        def hook(_: nn.Module, args: Any, out: Tensor, name: str = name) -> None:
            calls.append((name, args[0].detach(), out.detach()))

        handles.append(layer.register_forward_hook(hook))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
