"""One client on the ranks of a worker: each holds a shard of the model, and takes a share of every batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fedray.data.columns.inputs import Inputs
from fedray.local.batches import Batch, Trace, share_out
from fedray.local.clients import Clients
from fedray.local.dropout import recomputing
from fedray.local.replicas import Replica
from fedray.local.sequential import SequentialStepper
from fedray.local.step import Fit
from fedray.local.task import LocalTask
from fedray.models.bare import built_bare
from fedray.models.prototype import last_of


class ShardedStepper(SequentialStepper):
    """The training of one client by the ranks of torch's process group, all of which do the same calls.

    The model is sharded by FSDP2 (``torch.distributed.fsdp.fully_shard``; Zhao et al., arXiv:2304.11277): a rank holds
    its rows of each tensor, their gradients, and what the optimizer keeps of them.  A part of the model is gathered
    when a pass comes to it.  A batch is shared out as over several devices, and the gradients are added up: equal to
    one process up to rounding, and with one rank in its bits, but for models that write into a layer's output.

    An optimizer sees the rank's rows alone, so it must be elementwise; so must a program's hook on gradients.
    """

    _first: ShardedReplica

    @staticmethod
    def _replica(task: LocalTask, module: nn.Module, device: torch.device) -> Replica:
        return ShardedReplica(task, module, device)

    @property
    def replica(self) -> ShardedReplica:
        """The rank's shard of the model."""
        return self._first

    @staticmethod
    def fits(task: LocalTask, devices: Sequence[torch.device]) -> str | None:
        """Return why not: the process holds the whole model."""
        return "its worker is one process" if task.shard is None else None

    @classmethod
    def of(cls, task: LocalTask, devices: Sequence[torch.device]) -> ShardedStepper:
        """Make one on the rank's device."""
        make = built_bare if task.sharing.bare else last_of
        return cls(task, make(task.model_fn), devices[:1])

    def fit(self, c: Clients, fit: Fit) -> Trace:
        """See :meth:`fedray.local.steppers.Stepper.fit`.

        Raises:
            ValueError: the fit wants to see more of the model than a rank has.
        """
        if fit.objective is not None or fit.after is not None or fit.only is not None or fit.noise is not None:
            raise ValueError("with worker.ranks a fit has gradient hooks at most: no objective, after, only, or noise")
        self._first.enter()
        trace = super().fit(c, fit)
        self._first.leave()
        total = torch.from_numpy(trace.total)
        dist.all_reduce(total)
        return trace

    def _hooked(
        self, c: Clients, fit: Fit, number: int, batch: Batch, optimizer: torch.optim.Optimizer, lr: float
    ) -> Tensor:
        self._first.leave()  # the hook reads the row
        return super()._hooked(c, fit, number, batch, optimizer, lr)

    def _backward(self, x: Inputs, y: Tensor, round: int, number: int) -> Tensor:
        with self._first.gradients():
            return super()._backward(x, y, round, number)

    def _piece(self, x: Inputs, y: Tensor, piece: slice, round: int, number: int, by: Tensor | None) -> Tensor:
        """Add the gradients of a piece of a batch to those of all ranks; returns this one's part of the mean loss."""
        shard = self._task.shard
        assert shard is not None
        shares = share_out(piece.stop - piece.start, shard.ranks)
        # A rank without a share takes part in the passes all the same, with a row that counts nothing.
        idle = shard.rank >= len(shares)
        own = shares[0 if idle else shard.rank]
        share = slice(piece.start + own.start, piece.start + (own.start + 1 if idle else own.stop))
        if self._dropout is not None:
            self._dropout.at(round, number, share)
        with recomputing(self._dropout):
            look = self.look(number)
            loss = self._first.loss(x[share], y[share], (share.stop - share.start) / len(x), by)
            loss = loss * 0.0 if idle else loss
            look.forward_ends()
            if self._dropout is not None:
                self._dropout.forward_ends()
            loss.backward()
            look.backward_ends()
        return loss.detach()

    def _descend(self, optimizer: torch.optim.Optimizer) -> None:
        if (most := self._task.args.clip_grad_norm) is not None:
            grads = [parameter.grad for parameter in self._first.moved if parameter.grad is not None]
            square = nn.utils.get_total_norm(grads).double().square()
            dist.all_reduce(square)
            nn.utils.clip_grads_with_norm_(self._first.moved, most, square.sqrt().float())
        optimizer.step()


class ShardedReplica(Replica):
    """A rank's shard of a module in training.

    Args:
        task: the part of the local training problem that is the rank's.
        module: the whole model, which may be bare; it becomes this replica's, and is sharded.
        device: the rank's device.

    Attributes:
        row: the rank's part of the vector, as it is between fits.
        trained: its rows of the parameters that need a gradient, on the memory of the sharded module.
    """

    def _place(self, device: torch.device) -> tuple[Tensor, list[nn.Parameter]]:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        layout, shard = self._task.layout, self._task.shard
        assert shard is not None
        mesh = init_device_mesh(device.type, (shard.ranks,))
        for part in (*units(self.module), self.module):
            part.register_forward_hook(_in_own_memory)
            sharded = fully_shard(part, mesh=mesh)
            # A sum, said twice: a mean is a sum with gloo in some versions of torch (pytorch/pytorch#162338).
            sharded.set_gradient_divide_factor(1.0)
            sharded.set_force_sum_reduction_for_comms(True)
        if any(parameter.is_meta for parameter in self.module.parameters()):
            self.module._apply(partial(_filled, device))
        named = dict(self.module.named_parameters())
        self._held = [named[entry.name] for entry in layout.parameters]
        rows = [_rows(parameter) for parameter in self._held]
        return torch.cat([part.detach().flatten() for part in rows]), rows

    def _elsewhere(self) -> Iterable[Tensor]:
        return self.module.parameters()

    def enter(self, other: Tensor | None = None) -> None:
        """Put the row into the module, or another one ``[k]``."""
        row = self.row if other is None else other
        with torch.no_grad():
            for entry, part in zip(self._task.layout.parameters, self.trained, strict=True):
                part.copy_(row[entry.start : entry.stop].view(entry.shape))

    @contextmanager
    def showing(self, row: Tensor) -> Iterator[None]:
        """Let the module have a row ``[k]``, and be in evaluation mode inside; who trains next puts another there."""
        self.enter(row)
        modes = {part: part.training for part in self.module.modules()}
        self.module.eval()
        yield
        for part, training in modes.items():
            part.training = training

    def scatter(self) -> None:
        """Let go of what a pass without a backward one has gathered last: FSDP2 keeps that of the outermost module."""
        self.module.reshard()  # type: ignore[operator]

    def leave(self) -> None:
        """Put what the module holds into the row."""
        with torch.no_grad():
            for entry, part in zip(self._task.layout.parameters, self.trained, strict=True):
                self.row[entry.start : entry.stop].copy_(part.flatten())

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Let the rows of the parameters have the gradients of the passes inside, and of no others."""
        for parameter in self._held:
            parameter.grad = None
        yield
        for parameter, own in zip(self._held, self.trained, strict=True):
            own.grad = None if parameter.grad is None else parameter.grad.to_local()  # type: ignore[attr-defined]


def _in_own_memory(part: nn.Module, args: object, output: object) -> object:
    """Return a layer's output, views copied: where one is written into, FSDP2 loses its hook for the backward pass."""
    if isinstance(output, tuple):
        return tuple(_in_own_memory(part, args, one) for one in output)
    return output.clone() if isinstance(output, Tensor) and output._is_view() else output


def units(module: nn.Module) -> list[nn.Module]:
    """Return the parts of a model that are gathered one at a time, inner ones first: the layers of its lists.

    A layer that shares a parameter with something else is none.

    >>> inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> [type(part).__name__ for part in units(nn.ModuleDict({"a": nn.ModuleList([inner]), "b": nn.Linear(2, 2)}))]
    ['Linear', 'Sequential']
    """
    names = defaultdict[int, list[str]](list)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    found = []
    for path, part in module.named_modules():
        for key, layer in part.named_children() if isinstance(part, nn.ModuleList | nn.Sequential) else ():
            start = f"{path}.{key}." if path else f"{key}."
            own = [name for parameter in layer.parameters() for name in names[id(parameter)]]
            if own and all(name.startswith(start) for name in own):
                found.append(layer)
    return found[::-1]


def _filled(device: torch.device, tensor: Tensor) -> Tensor:
    """Return a tensor with values: zeros of its own where it is of a shape alone."""
    return torch.zeros_like(tensor, device=device) if tensor.is_meta else tensor


def _rows(parameter: nn.Parameter) -> nn.Parameter:
    """Return a rank's rows of a sharded parameter, on its memory, as an optimizer takes them."""
    return nn.Parameter(parameter.detach().to_local())  # type: ignore[attr-defined]
