"""A client that trains alone, and is looked at in each step: loss, norms, and the first number that is none."""

from __future__ import annotations

import copy
import inspect
import math
import os
import pdb
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from fedray.aggregators.exact import LIMIT
from fedray.data.columns.inputs import Inputs, named, parts
from fedray.local.clients import Clients
from fedray.local.sequential import SequentialStepper
from fedray.local.step import Fit, Objective, Step
from fedray.local.task import LocalTask
from fedray.tasks import outputs_of

_FAR = 10.0
"""The times that a loss or an input is as large as all others, from which it stands out."""

Place = tuple[int, int]
"""A step: the number of its fit, and its number therein, from 1."""


@dataclass(frozen=True)
class SeenStep:
    """A local step.

    Args:
        fit: number of its fit, from 1.
        step: its number in the fit, from 1.
        examples: the places of its examples among the client's training rows, from 0.
        rows: the same among all of the client's rows, those that are held out included, as the data were given.
        loss: the loss before the step, the mean over the examples.
        gradient: L2 norm of the gradient of the parameters that are trained, before clipping.
        change: L2 norm of the change of these parameters.
        params: their L2 norm after the step.
    """

    fit: int
    step: int
    examples: list[int]
    rows: list[int]
    loss: float
    gradient: float
    change: float
    params: float

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON; numbers that are not finite become null."""
        return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in asdict(self).items()}


@dataclass(frozen=True)
class Trouble:
    """The first thing in a client's training that went wrong.

    Args:
        fit: number of the fit, from 1.
        step: number of the step, from 1.
        words: the same in words.
        example: the place of the example that it lies with, among the client's training rows, from 0; None: it may be
            any.
        row: the same among all of the client's rows, as :class:`SeenStep` has it.
    """

    fit: int
    step: int
    words: str
    example: int | None = None
    row: int | None = None


class Watched(SequentialStepper):
    """The training of one client, looked at.

    Args:
        task: the local training problem.
        module: its model.
        devices: the first is used.
        stop_at: the step before which the debugger takes over; None: nowhere.

    Attributes:
        seen: the steps so far.
        trouble: the first thing that went wrong.
        place: the step that was begun last.
    """

    def __init__(
        self, task: LocalTask, module: nn.Module, devices: Sequence[torch.device], stop_at: Place | None = None
    ) -> None:
        super().__init__(task, module, devices)
        self._stop_at = stop_at
        self._fits = 0
        self.seen: list[SeenStep] = []
        self.trouble: Trouble | None = None
        self.place: Place = (1, 1)

    def fit(self, c: Clients, fit: Fit) -> Any:
        """Train, see :meth:`fedray.local.steppers.Stepper.fit`."""
        self._fits += 1
        self._schedule = fit.schedule
        data, client = c.task.data, int(c.index[0])
        self._order, self._held = data.order(client).tolist(), int(data.holdout_sizes[client])
        return super().fit(c, fit)

    def _backward(self, x: Inputs, y: Tensor, round: int, number: int) -> Tensor:
        self._begin(number, x, y)
        self._loss = super()._backward(x, y, round, number)
        return self._loss

    def _objective(self, objective: Objective, step: Step, leaf: Tensor) -> tuple[Tensor, Tensor]:
        self._begin(step.number, step.batch.x[0], step.batch.y[0])
        self._loss, grad = super()._objective(objective, step, leaf)
        return self._loss, grad

    def _descend(self, optimizer: torch.optim.Optimizer) -> None:
        trained = self.row[: self._task.layout.trained]
        before, gradient = trained.clone(), self._first.gradient()
        super()._descend(optimizer)
        self.seen.append(
            SeenStep(
                *self.place,
                self._examples,
                [self._order[example] for example in self._examples],
                float(self._loss),
                _norm(gradient),
                _norm(trained - before),
                _norm(trained),
            )
        )
        if self.trouble is None:
            self._named: list[tuple[int, int]] = []
            words = self._wrong(before, gradient, trained)
            example, row = self._named[0] if self._named else (None, None)
            self.trouble = Trouble(*self.place, words, example, row) if words else None

    def _begin(self, number: int, x: Inputs, y: Tensor) -> None:
        count = int(self._schedule.count[0, number])
        self.place = (self._fits, number + 1)
        self._examples = [int(index) for index in self._schedule.index[0, number][:count]]
        self._x, self._y = x.detach().clone(), y
        if self._stop_at == self.place:
            before_step(self._first.module, x, y, self._examples, own_code(self._first.module, self._task.loss_fn))

    def _wrong(self, before: Tensor, gradient: Tensor, after: Tensor) -> str:
        """Say what first went wrong in a step; nothing, if nothing did."""
        for name, column in named(self._x).items():
            if where := _first_bad(column):
                example, *feature = where
                value = float(column[tuple(where)])
                at = f" at {tuple(feature) if len(feature) > 1 else feature[0]}" if feature else ""
                of = "" if name == "x" else f" of {name}"
                return f"an input{of} is {value:g}: {self._example(example)}{at}"
        if where := _first_bad(self._y):
            return f"a target is {float(self._y[tuple(where)]):g}: {self._example(where[0])}"
        if not math.isfinite(float(self._loss)):
            return f"the loss is {float(self._loss):g}{self._layer(before)}"
        for name, vector in (("gradient", gradient), ("parameters after the step", after)):
            if where := _first_bad(vector):
                entry = next(e for e in self._task.layout.parameters if e.start <= where[0] < e.stop)
                said = f"the {name} of {entry.name} is {float(vector[where[0]]):g}, the loss {float(self._loss):g}"
                return f"{said}{self._by_far(before)}"
        largest = int(after.abs().argmax())
        if abs(float(after[largest])) > LIMIT:
            entry = next(e for e in self._task.layout.parameters if e.start <= largest < e.stop)
            said = f"{entry.name} has gone to {float(after[largest]):.3g}, more than an update may hold"
            return f"{said}{self._by_far(before)}"
        return ""

    def _layer(self, params: Tensor) -> str:
        """Name the first module whose output is not finite, of a copy at parameters ``[D]``; else the example.

        The module's outputs may all be finite, and the loss of one of them not.
        """
        module = self._at(params)
        found: list[str] = []

        def look(name: str, part: nn.Module, output: Any) -> None:
            if not found and isinstance(output, Tensor) and (where := _first_bad(output)):
                said = f"{name} ({type(part).__name__})" if name else type(part).__name__
                found.append(f"{said} is the first layer whose output is not finite{self._from(output, where)}")

        for name, part in module.named_modules():
            if not any(True for _ in part.children()):
                part.register_forward_hook(lambda part, _, output, name=name: look(name, part, output))
        with torch.no_grad(), torch.random.fork_rng():
            output = outputs_of(module, self._x.to(self._first.device))
            return f", and {found[0]}" if found else self._by_itself(output)

    def _at(self, params: Tensor) -> nn.Module:
        """Return a copy of the module at parameters ``[D]``."""
        row = self.row.clone()
        row[: len(params)] = params
        module = copy.deepcopy(self._first.module)
        self._task.layout.attach(module, row)
        return module

    def _by_itself(self, output: Tensor) -> str:
        """Name the first training example whose loss by itself is not finite, though its outputs are."""
        for row in range(len(self._examples)):
            if (loss := self._own_loss(output, row)) is None:
                return ""
            if not math.isfinite(loss):
                low, high = float(output[row].min()), float(output[row].max())
                given = f"; the model gives {low:g} to {high:g} for it"
                return f", as it is of one example by itself{self._from(output, [row])}{given}"
        return ""

    def _own_loss(self, output: Tensor, row: int) -> float | None:
        """Return the loss of one example of the batch; None: there is no such thing."""
        try:
            return float(self._first.loss_of(output[row : row + 1], self._y[row : row + 1]))
        except Exception:  # of any kind, from the user's code: it need not take a single example
            return None

    def _by_far(self, params: Tensor) -> str:
        """Name the example of the batch whose loss, or else whose inputs, are the largest by far; or nobody."""
        count = len(self._examples)
        with torch.no_grad(), torch.random.fork_rng():
            output = outputs_of(self._at(params), self._x.to(self._first.device))
            losses = [loss for row in range(count) if (loss := self._own_loss(output, row)) is not None]
        if count == 1:
            return f", in a batch of one example{self._from(output, [0])}"
        columns = [column for column in parts(self._x) if column.is_floating_point() and column.numel()]
        inputs = [max((float(column[row].abs().max()) for column in columns), default=0.0) for row in range(count)]
        found = [("the loss of one example alone is", losses), ("inputs of one example are up to", inputs)]
        for words, numbers in found:
            if (place := _outlier(numbers)) is not None and len(numbers) == count:
                return (
                    f"; {words} {numbers[place]:.3g}, more than {_FAR:g} times any other{self._from(output, [place])}"
                )
        return ""

    def _from(self, output: Tensor, where: list[int]) -> str:
        """Name the training example that an output is of, and say how far its inputs go."""
        if not 0 < len(self._examples) <= len(output) or where[0] >= len(self._examples):
            return ""
        own = [column[where[0]] for column in parts(self._x) if column.is_floating_point()]
        if not own:
            return f": {self._example(where[0])}"
        low, high = min(float(one.min()) for one in own), max(float(one.max()) for one in own)
        return f": {self._example(where[0])}, whose inputs go from {low:g} to {high:g}"

    def _example(self, place: int) -> str:
        """Name an example of the batch, and its row where rows are held out."""
        example = self._examples[place]
        self._named.append((example, self._order[example]))
        row = f" (row {self._order[example]} of the client's {len(self._order)})" if self._held else ""
        return f"training example {example}{row}"


def before_step(model: nn.Module, x: Inputs, y: Tensor, examples: list[int], own: FunctionType | None = None) -> None:
    """Give a step to the debugger: ``model``, inputs ``x`` and targets ``y`` are at hand.

    ``c`` goes on to the first line of ``own``, where there is one: the user's code that is called next.
    """
    debugger = pdb.Pdb()
    if own is not None:
        file, line = own.__code__.co_filename, own.__code__.co_firstlineno
        if debugger.set_break(file, line, temporary=True, funcname=own.__code__.co_name) is None:
            debugger.message(f"c goes on to {own.__qualname__}, {file}:{line}")
    debugger.set_trace()


_OTHERS = tuple(f"{folder}{os.sep}" for folder in (Path(torch.__file__).parent, Path(__file__).parents[1]))


def own_code(model: nn.Module, loss: Any) -> FunctionType | None:
    """Return the forward of the first module whose code is neither torch's nor fedray's, else such a loss, or None.

    >>> own_code(nn.Sequential(nn.Linear(2, 1), nn.ReLU()), nn.functional.mse_loss) is None
    True
    """
    calls = [type(part).forward for part in model.modules()]
    calls.append(type(loss).forward if isinstance(loss, nn.Module) else getattr(loss, "function", loss))
    for call in map(inspect.unwrap, calls):
        if isinstance(call, FunctionType) and not call.__code__.co_filename.startswith(_OTHERS):
            return call
    return None


def _norm(vector: Tensor) -> float:
    return float(vector.double().norm())


def _outlier(numbers: list[float]) -> int | None:
    """Return the place of a number of at least two whose size is more than `_FAR` times that of any other.

    >>> _outlier([1.0, -50.0, 4.0]), _outlier([1.0, -50.0, 6.0]), _outlier([3.0])
    (1, None, None)
    """
    sizes = [abs(number) for number in numbers]
    *_, second, largest = sorted([0.0, 0.0, *sizes])
    return sizes.index(largest) if len(sizes) > 1 and largest > _FAR * second else None


def _first_bad(tensor: Tensor) -> list[int]:
    """Return the place of the first entry that is not finite; empty if all are."""
    if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
        return []
    return [int(index) for index in (~torch.isfinite(tensor)).nonzero()[0]]
