"""Gradient inversion: rows of clients, made anew from what a client sends or a round releases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.func import functional_call

from fedray.audit.membership import Among, rows_of
from fedray.audit.runs import check_whole, run
from fedray.core.errors import ConfigError, listed
from fedray.core.layout import Layout
from fedray.core.messages import DELTA, Block, Ints
from fedray.core.rng import torch_generator
from fedray.experiment.build import Config
from fedray.local.task import LocalTask
from fedray.models.prototype import last_of
from fedray.optim._eager import eager
from fedray.run.executor import InlineExecutor
from fedray.run.worker import Item, Job, Report
from fedray.rundir.scratch import scratch

_ADAM: Any = eager(torch.optim.Adam)


@dataclass(frozen=True)
class Intercepted:
    """The knowledge of an attacker of a round, and the rows that it is made of.

    Args:
        model: the model before the round, ``[P]``.
        change: of its shared parameters, by the training on the rows, ``[S]``.
        x: the inputs ``[B, ...]``.
        y: the targets ``[B, ...]``, which the attacker knows.
        clients: ids of the clients whose rows they are.
    """

    model: Tensor
    change: Tensor
    x: Tensor
    y: Tensor
    clients: tuple[str, ...]


@dataclass(frozen=True)
class Inverted:
    """Rows that were made anew.

    Args:
        x: the true inputs ``[B, ...]``.
        found: the ones made anew, each in the place of the true one that it is nearest to, ``[B, ...]``.
        psnr: peak signal-to-noise ratio of each in dB, ``[B]``; infinite where it is exact.
        flat: the ratio of the best image of one brightness, for comparison, ``[B]``.
        distance: ``1 - cosine`` between the gradient of the rows made anew and the change.
        exact: True for rows that follow from the gradient of a linear layer alone.
    """

    x: Tensor
    found: Tensor
    psnr: tuple[float, ...]
    flat: tuple[float, ...]
    distance: float
    exact: bool


def intercepted(config: Config, round: int, client: str | None, released: bool) -> Intercepted:
    """Do the rounds of a config up to ``round``, and return what an attacker of it has.

    Args:
        config: the experiment, bound, with the changes :data:`~fedray.audit.runs.HERE`.
        round: the round, from 1 on.
        client: the id of the client that is attacked; default: the first of the cohort.  Where ``released``, its whole
            cohort is.
        released: the change is that of the model, which everybody has who has the models before and after the round;
            else the update of one client as it arrives at the server.

    Raises:
        ConfigError: there is no such round or client; inputs are not one tensor of numbers; the server cannot see
            single updates.
        RunFailed: a round cannot go on.
    """
    plan = config.plan().bare()
    check_whole(plan)
    # Who is in a round is known before: of all clients, but by the seed, also where a run would hide it.
    plan = replace(plan, sampler=Among(plan.sampler, np.arange(len(plan.task.data))))
    if not 1 <= round <= plan.rounds:
        raise ConfigError(f"--round {round}: the config has rounds 1 to {plan.rounds}")
    ring = plan.algorithm.transforms.ring
    if ring is not None and not released:
        raise ConfigError(
            "transforms: the server sees masked updates, which tell nothing, and their sum: attack that, by "
            "--view released"
        )
    cohort = plan.staying(round, plan.cohort(round))
    if not len(cohort):
        raise ConfigError(f"--round {round}: nobody is in it; name another")
    names = [plan.task.data.client_id(one) for one in cohort.tolist()]
    if client is not None and client not in names:
        raise ConfigError(f"--client {client}: it is not in round {round}; there are {listed(names)}")
    who = int(cohort[0 if client is None else names.index(client)])
    plan, seen = replace(plan, rounds=round), list[Tensor]()
    models: dict[int, Tensor] = {}

    def executor(job: Job, devices: Sequence[torch.device]) -> InlineExecutor:
        return _Listening(job, devices, round, who, seen.append)

    def told(number: int, vector: Tensor) -> None:
        if number in (round - 1, round):
            models[number] = vector.detach().cpu().clone()

    with scratch() as place:
        run(plan, place, config.place.worker.threads, executor, told)
    shared = plan.layout.shared
    change = models[round][:shared] - models[round - 1][:shared] if released else seen[0]
    chosen = cohort.tolist() if released else [who]
    x, y = rows_of(plan.task, chosen)
    if not isinstance(x, Tensor) or not x.dtype.is_floating_point:
        raise ConfigError("data: the attack makes one tensor of numbers anew, such as images; these inputs are none")
    return Intercepted(models[round - 1], change, x, y, tuple(plan.task.data.client_id(one) for one in chosen))


class _Listening(InlineExecutor):
    """The executor that listens to what one client sends in a round."""

    def __init__(
        self, job: Job, devices: Sequence[torch.device], round: int, client: int, tell: Callable[[Tensor], None]
    ) -> None:
        super().__init__(job, devices)
        self._round, self._client, self._tell = round, client, tell

    def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
        """Do the items in order, and then the client's once more, for its update alone."""
        reports = super().run(items, stopping)
        for item in items:
            asked = isinstance(item, Block) and not item.survey and item.round == self._round
            if asked and isinstance(item, Block) and self._client in item.clients:
                update = self._worker.sent(np.array([self._client]), item)
                sent = update.parts[DELTA][0].detach().cpu().clone()
                self._tell(sent if update.start is None else sent - update.start)
        return reports


def first_linear(module: nn.Module, width: int) -> str | None:
    """Return the name of a linear layer with a bias that the inputs, ``width`` numbers each, go through first.

    >>> first_linear(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), 4)
    '1'
    """
    for name, part in module.named_modules():
        if next(part.parameters(recurse=False), None) is not None:
            fits = isinstance(part, nn.Linear) and part.bias is not None and part.in_features == width
            return name if fits else None
    return None


def exact_input(weight: Tensor, bias: Tensor) -> Tensor:
    """Return the input of a linear layer that the gradient of one example has: ``dL/dW_i / dL/db_i`` of any row i.

    The row is the one with the largest ``|dL/db_i|`` (Phong et al., IEEE TIFS 2018; Geiping et al., arXiv:2003.14053,
    proposition 3.1).  The scale of the gradient cancels, and so do a clip and a learning rate.

    >>> exact_input(torch.tensor([[2.0, 4.0], [0.0, 0.0]]), torch.tensor([2.0, 0.0]))
    tensor([1., 2.])

    Args:
        weight: gradient of the weight ``[o, d]``.
        bias: gradient of the bias ``[o]``.
    """
    row = int(bias.abs().argmax())
    return weight[row] / bias[row]


@dataclass(frozen=True)
class Inversion:
    """The search for rows whose gradient is that of an update.

    The rows minimise ``1 - cos(g(x), -u) + tv TV(x)`` (Geiping et al., arXiv:2003.14053, equation 4): g is the gradient
    of the mean loss at the model before the round, u the change, TV the mean absolute difference of neighbouring
    pixels.  Adam takes the signs of gradients, with a rate that falls to a tenth three times, and inputs are held
    within their range, as there; the best of ``restarts`` counts.  Deep leakage (Zhu et al., arXiv:1906.08935) takes
    the squared difference in the place of the cosine, which needs the learning rate.  After several local steps u is
    taken for one gradient, which it is not quite.

    One row of a model that begins with a linear layer follows from its gradient alone, :func:`exact_input`, and is not
    searched for.

    Args:
        steps: of Adam, at least 1.
        restarts: searches, from normal draws named by the seed; at least 1.
        tv: weight of the total variation, at least 0.
    """

    steps: int = 400
    restarts: int = 1
    tv: float = 1e-4

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1 or self.tv < 0.0:
            raise ConfigError(
                f"steps={self.steps}, restarts={self.restarts}, tv={self.tv:g}: steps and restarts are at least 1, "
                "and tv at least 0"
            )

    def __call__(self, task: LocalTask, seen: Intercepted, round: int) -> Inverted:
        """Make rows anew from what was intercepted in a round."""
        # Steps are too small to be shared by cores, and their bits should not depend on how many there are.
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._of(task, seen, round)
        finally:
            torch.set_num_threads(before)

    def _of(self, task: LocalTask, seen: Intercepted, round: int) -> Inverted:
        module = last_of(task.model_fn)
        task.layout.load(module, seen.model)
        module.eval()
        name = first_linear(module, seen.x[0].numel()) if len(seen.x) == 1 else None
        change, gradient_of = -seen.change, _gradient(module, task, seen)
        if name is not None:
            parts = task.layout.unpack(torch.cat([change, seen.model[len(change) :]]))
            start = f"{name}." if name else ""
            found = exact_input(parts[f"{start}weight"], parts[f"{start}bias"]).view(seen.x.shape)
        else:
            found = self._search(change, gradient_of, seen, task.seed, round)
        if not bool(torch.isfinite(found).all()):
            found = torch.zeros_like(found)
        distance = float(_distance(gradient_of(found), change).detach())
        return _judged(seen.x, found, distance, name is not None)

    def _search(
        self, change: Tensor, gradient_of: Callable[[Tensor], Tensor], seen: Intercepted, seed: int, round: int
    ) -> Tensor:
        low, high = float(seen.x.min()), float(seen.x.max())
        best, least = torch.zeros_like(seen.x), float("inf")
        for attempt in range(self.restarts):
            generator = torch_generator(seed, "inversion", round=round, client=attempt)
            normal = torch.randn(seen.x.shape, generator=generator)
            x = (normal * (high - low) / 4.0 + (low + high) / 2.0).clamp_(low, high).requires_grad_()
            adam = _ADAM([x], lr=0.1 * (high - low))
            falls = {self.steps * part // 8 for part in (3, 5, 7)}
            for step in range(self.steps):
                adam.param_groups[0]["lr"] *= 0.1 if step in falls else 1.0
                cost = _distance(gradient_of(x), change) + self.tv * total_variation(x) / (high - low)
                (slope,) = torch.autograd.grad(cost, [x])
                x.grad = slope.sign()
                adam.step()
                with torch.no_grad():
                    x.clamp_(low, high)
            if (reached := float(_distance(gradient_of(x), change).detach())) < least:
                best, least = x.detach().clone(), reached
        return best


def total_variation(x: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels of images ``[B, ..., H, W]``; 0 of anything else.

    Rows of as many numbers as a square has are taken for square images.
    """
    images = as_images(x)
    if images is None:
        return x.new_zeros(())
    return images.diff(dim=-1).abs().mean() + images.diff(dim=-2).abs().mean()


def as_images(x: Tensor) -> Tensor | None:
    """Return rows as images ``[B, H, W]`` or ``[B, 1 or 3, H, W]``, or None where they are none.

    >>> as_images(torch.zeros(2, 64)).shape, as_images(torch.zeros(2, 30))
    (torch.Size([2, 8, 8]), None)
    """
    if x.dim() == 2 and (side := round(x.shape[1] ** 0.5)) ** 2 == x.shape[1] and side > 1:
        return x.view(len(x), side, side)
    return x if x.dim() == 3 or (x.dim() == 4 and x.shape[1] in (1, 3)) else None


def _gradient(module: nn.Module, task: LocalTask, seen: Intercepted) -> Callable[[Tensor], Tensor]:
    """Return the function from rows to the gradient of their mean loss, ``[S]``."""
    layout: Layout = task.layout
    entries = [entry for entry in layout.parameters if entry.stop <= layout.shared]
    by_name = dict(module.named_parameters())
    params = {entry.name: by_name[entry.name].detach().clone().requires_grad_() for entry in entries}

    def gradient(x: Tensor) -> Tensor:
        loss = task.loss_fn(functional_call(module, params, (x,)), seen.y)
        found = torch.autograd.grad(loss, list(params.values()), create_graph=x.requires_grad)
        return torch.cat([one.reshape(-1) for one in found])

    return gradient


def _distance(gradient: Tensor, change: Tensor) -> Tensor:
    return 1.0 - torch.nn.functional.cosine_similarity(gradient, change, dim=0, eps=torch.finfo(torch.float32).tiny)


def _judged(x: Tensor, found: Tensor, distance: float, exact: bool) -> Inverted:
    """Return rows made anew with their quality, each beside the true one that it is nearest to."""
    flat, made = x.flatten(1).double(), found.flatten(1).double()
    errors = (flat[:, None] - made[None]).square().mean(dim=2).numpy()
    order: Ints = linear_sum_assignment(errors)[1]
    peak = float(flat.max() - flat.min())
    one = flat.mean(dim=1, keepdim=True)
    plain = (flat - one).square().mean(dim=1).tolist()
    psnr = tuple(decibels(peak, float(errors[row, place])) for row, place in enumerate(order.tolist()))
    return Inverted(x, found[torch.from_numpy(order)], psnr, tuple(decibels(peak, e) for e in plain), distance, exact)


def decibels(peak: float, error: float) -> float:
    """Return the peak signal-to-noise ratio of a mean squared error, in dB; infinite where that is 0.

    >>> decibels(1.0, 0.01), decibels(1.0, 0.0)
    (20.0, inf)
    """
    return float("inf") if error == 0.0 else float(10.0 * np.log10(peak**2 / error)) if peak else float("-inf")
