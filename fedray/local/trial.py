"""The trial of a run's program: two unequal clients, in a stack and alone, before anything starts."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedray.core.draws import drawn_since, put_back, traces
from fedray.core.errors import ConfigError, one_line, reason
from fedray.core.fields import Field
from fedray.core.messages import DELTA, PERSONAL, Broadcast, Parts
from fedray.core.rng import torch_generator
from fedray.data.columns.rows import CPU
from fedray.local.few import Few
from fedray.local.kernels import cuda_kernels
from fedray.local.losses import loss_on
from fedray.local.orders import Work
from fedray.local.program import ClientProgram, Profile
from fedray.local.task import LocalTask, Sharing, Stacking
from fedray.local.trainer import Trainer
from fedray.local.views import has_own, whole_models
from fedray.optim import SGD

_ROWS = (7, 3)
"""Examples of the two: in batches of four, one of them has padding in its first step, and the other one more step."""

_BATCH = 4
_TOLERANCE, _COARSE = 1e-4, 2e-2

_TRAPS = "see the traps in docs/write-your-own.md"
_WAY_OUT = f"{_TRAPS}, or let clients step one by one (local.stack: off)"


class Untried(ConfigError):
    """The error that a program could not be tried, for reasons that are none of its own."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(
            f"algorithm: what clients send and keep is known from a trial on two of them, whose plain fit fails here: "
            f"{one_line(reason)}"
        )


@dataclass(frozen=True)
class Obstacle:
    """A reason why clients do not step together.

    Args:
        reason: in words.
        of_way: it lies in how they were to do so: in another way they may.
    """

    reason: str
    of_way: bool = False


@dataclass(frozen=True)
class _Found:
    """The outcome of a trial.

    Args:
        reason: the difference of the two in a stack from what each is alone; None if there is none.
        changed: names of what the model, the loss, the optimizer function or the program remembered.
        drawn: the reason is a draw from a generator of the process.
    """

    reason: str | None
    changed: frozenset[str] = frozenset()
    drawn: bool = False


def obstacle(task: LocalTask, decays: bool, usual_batch: int) -> Obstacle | None:
    """Return the reason why two unequal clients are not in a stack what each is alone; None if they are.

    Args:
        task: the local training problem; of its ``stacking`` the lanes count.
        decays: the optimizer decays weights.
        usual_batch: examples in a step of the median client.

    Raises:
        ConfigError: the algorithm's program is the reason.
        Exception: whatever the user's model or loss raises in a stack.
    """
    try:
        found = _in_a_stack(task, decays, usual_batch)
    except Exception as error:
        if _plainly(task) or _only_in_a_stack(task, decays, usual_batch) is not None:
            raise
        if not _line_of(error, task.program):
            raise
        raise _refused(task.program, error, "in a stack of two clients, but alone", _WAY_OUT) from error
    if _plainly(task) or found.reason is None or found.drawn or found.changed:
        return None if found.reason is None else Obstacle(found.reason, of_way=not found.drawn)
    if (own := _only_in_a_stack(task, decays, usual_batch)) is not None:
        return Obstacle(own, of_way=True)
    raise ConfigError(
        f"algorithm: with {_name(task.program)} {found.reason}, though it is with a plain fit: a row of the block "
        f"reaches another one, or padding counts; {_WAY_OUT}"
    )


def profile_of(task: LocalTask, device: torch.device = CPU) -> Profile:
    """Run the algorithm's program on two clients, one by one, and return the names and widths of what it does with.

    Args:
        task: the local training problem.
        device: a device that the model runs on.

    Raises:
        ConfigError: it fails, or remembers something in itself.
        Untried: a plain fit fails as well, of which the model, the loss or the data are the reason.
    """
    if _plainly(task) and type(task.program).initial_state is ClientProgram.initial_state:
        return Profile()
    try:
        runs = _Runs(task, _ROWS, None, False, device=device)
        runs.alone()
        _check_numbers(task, device)
    except Exception as error:
        try:
            _Runs(_plain(task), _ROWS, None, False, device=device).alone()
        except Exception as plain:
            raise Untried(plain) from plain
        raise _refused(task.program, error, "on two clients", _TRAPS) from error
    if kept := sorted(name for name in runs.changed if name.startswith("algorithm")):
        raise ConfigError(
            f"algorithm: {_name(task.program)} remembers {kept[0]}, which each worker would have by itself; "
            "what a client keeps from round to round is its c.state"
        )
    if twice := [name for name in runs.surveys if name in {**task.receives, **task.addressed, **runs.sent}]:
        raise ConfigError(
            f"algorithm: the survey of {_name(task.program)} sends {twice[0]}, as its server or its client does; "
            "c.down and total have one of a name"
        )
    seen = runs.sent, runs.kept, runs.slots, runs.weighs, runs.surveys, runs.apart, runs.others
    return Profile(*seen, works=tuple(runs.works))


def check_single_gradients(task: LocalTask, device: torch.device = CPU) -> None:
    """Take steps of two clients whose rows are protected one by one (``privacy.unit: example``).

    Args:
        task: the local training problem.
        device: a device that the model runs on.

    Raises:
        ConfigError: the model or the loss does not run where the gradient of each row is taken by itself.
    """
    try:
        _Runs(_plain(task), _ROWS, None, False, device=device).alone()
    except Exception as error:
        raise ConfigError(
            "model: privacy.unit=example takes the gradient of each row by itself, under torch.func.vmap, where the "
            f"model or its loss fails, as activation checkpointing does: {one_line(error)}"
        ) from error


def profiled(task: LocalTask, device: torch.device = CPU) -> LocalTask:
    """Return the task with its :func:`profile_of`, by which clients also receive the means of a survey."""
    profile = profile_of(task, device)
    return replace(task, profile=profile, receives={**task.receives, **profile.surveys})


def _check_numbers(task: LocalTask, device: torch.device) -> None:
    """Raise ValueError where newcomers send or keep what is no number in their first round.

    Where a server broadcasts something, or clients answer a survey, that round is unknown here.
    """
    if task.receives or task.addressed or task.program.surveyed:
        return
    for moved in _Runs(task, _ROWS, None, False, True, device).alone():
        if wrong := [name for name, part in moved.items() if not part.isfinite().all()]:
            plain = _Runs(_plain(task), _ROWS, None, False, True, device).alone()
            if all(part.isfinite().all() for moved in plain for part in moved.values()):
                raise ValueError(f"{wrong[0]} is not finite after a few examples, where a plain fit's model is")


def _only_in_a_stack(task: LocalTask, decays: bool, usual_batch: int) -> str | None:
    """Return the reason why plain fits are no others in a stack than alone; None if they are."""
    try:
        return _in_a_stack(_plain(task), decays, usual_batch).reason
    except Exception as error:
        return one_line(error)


def _plainly(task: LocalTask) -> bool:
    """Tell if clients only fit the model, and are evaluated with it."""
    return task.program.plain and not has_own(task)


def _plain(task: LocalTask) -> LocalTask:
    return replace(task, program=ClientProgram(), receives={}, addressed={})


def _in_a_stack(task: LocalTask, decays: bool, usual_batch: int) -> _Found:
    found = _compared(_Runs(task, _ROWS, None, decays))
    if found.reason is None and found.changed:
        # What a step leaves in the model shows in the next ones.
        found = _compared(_Runs(task, _ROWS, 3, decays))
    if found.reason is None:
        # Without padding the loss itself is called, and it may look at values.
        found = _compared(_Runs(task, (usual_batch,) * 2, 1, decays))
    return found


def _compared(runs: _Runs) -> _Found:
    stacked, drawn = runs.stacked()
    if drawn:
        return _Found(f"it draws from {drawn[0]}, which knows one client at a time", drawn=True)
    changed = frozenset(runs.changed)
    for row, alone in enumerate(runs.alone()):
        for name, values in alone.items():
            if not _close(stacked[name][row], values[0], runs.tolerance):
                kept = f": it remembers {min(changed)}" if changed else ""
                return _Found(f"client {runs.clients[row]} stacked is not what it is alone{kept}", changed)
    return _Found(None, changed)


def tolerance(tensors: Iterable[Tensor]) -> float:
    """Return the largest difference, relative to the largest value, that rounding makes in a model of these tensors."""
    return _COARSE if any(one.is_floating_point() and one.dtype.itemsize < 4 for one in tensors) else _TOLERANCE


def _close(one: Tensor, other: Tensor, rounding: float) -> bool:
    rounding = max(rounding, tolerance([other]))
    one, other = one.double(), other.double()
    close = rounding * (float(other.nan_to_num().abs().max()) or 1.0) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=close, equal_nan=True)


class _Runs:
    """The program on two clients, cut to so many ``rows`` each, for one pass over them or for some ``steps``."""

    def __init__(
        self,
        task: LocalTask,
        rows: tuple[int, int],
        steps: int | None,
        decays: bool,
        first: bool = False,
        device: torch.device = CPU,
    ) -> None:
        self._first, self._device = first, device
        few = Few(task, rows)
        self.clients = few.pair
        self.changed: set[str] = set()
        # Plain descent shows the gradients, where Adam would blow up rounding.  Decay stays, as it tells apart a
        # parameter that the loss does not use: alone it is left as it is.
        plain = SGD(lr=0.1, weight_decay=0.1 if decays else 0.0)
        batch = _BATCH if steps is None else max(rows)
        # In full precision: what bfloat16 rounds away would hide what is looked for, as would a clip of gradients.
        args = replace(
            task.args, epochs=1, steps=steps, batch_size=batch, last_batch="keep", by_client={}, keep_optimizer=False
        )
        args = replace(args, precision="fp32", clip_grad_norm=None)
        private = None if task.private is None else task.private.without_noise()
        here = replace(task, loss_fn=loss_on(task.loss_fn, device))
        self._task = replace(here, args=args, optimizer_fn=plain, data=few, statistics=False, private=private)  # type: ignore[arg-type]
        state = dict(task.model_fn().state_dict())
        model, self.tolerance = task.layout.pack(state), tolerance(state.values())
        down = {"model": model, **_drawn(task, task.receives)}
        self._down = Broadcast(1, {name: part.to(device) for name, part in down.items()}, 1.0)
        draw = torch_generator(task.seed, "local", 1)
        own = {name: 0.01 * torch.randn(2, width, generator=draw) for name, width in task.addressed.items()}
        self._addressed = {name: part.to(device) for name, part in own.items()}
        self.kept: dict[str, Field] = {}
        self.sent: dict[str, int] = {}
        self.slots: dict[str, int] = {}
        self.apart: dict[str, Field] = {}
        self.others = 0
        self.works: list[Work] = []
        self.surveys: dict[str, int] = {}
        self.weighs = False

    @contextlib.contextmanager
    def _apart(self) -> Iterator[None]:
        """Leave the generators, and the switches of a GPU, as they are now."""
        gpus = [self._device] if self._device.type == "cuda" else []
        with put_back(gpus), cuda_kernels("fp32", self._task.args.deterministic) if gpus else contextlib.nullcontext():
            yield

    def stacked(self) -> tuple[Parts, list[str]]:
        """Return what the two send and keep, and the generators of the process that were drawn from."""
        stacking = Stacking(2, True, "", self._task.stacking.lanes)
        block = Trainer(replace(self._task, stacking=stacking), [self._device])
        with self._apart():
            before = traces()
            moved = self._moved(block, slice(0, 2))
            drawn = [*drawn_since(before), *sorted(block.hidden.drawn)]
        self.changed |= block.hidden.changed
        return moved, drawn

    def alone(self) -> list[Parts]:
        """Return what each sends and keeps."""
        alone = Trainer(replace(self._task, stacking=Stacking(1, False, ""), sharing=Sharing()), [self._device])
        with self._apart():
            found = [self._moved(alone, slice(row, row + 1)) for row in range(2)]
        self.changed |= alone.hidden.changed
        return found

    def _moved(self, trainer: Trainer, rows: slice) -> Parts:
        clients, down, asked = self.clients[rows], self._heard(rows), Parts()
        if self._task.program.surveyed:
            with trainer.block(clients, down, self._state(trainer, rows)) as c:
                trainer.ask(c)
            asked = c.sent
            self.surveys = {name: part.shape[1] for name, part in asked.items()}
            means = {name: part.to(self._device) for name, part in _drawn(self._task, self.surveys).items()}
            down = replace(down, parts={**down.parts, **means})
            asked = {f"{name} of the survey": part.clone() for name, part in asked.items()}
        with trainer.block(clients, down, self._state(trainer, rows)) as c:
            trainer.run(c)
        kept = {f"{name} that it keeps": part for name, part in c.state.items()}
        self.sent = {name: part.shape[1] for name, part in c.sent.items() if name != DELTA}
        self.slots, self.weighs = {name: count for name, (_, count) in c.slots.items()}, c.weight is not None
        # The next run takes the memory of the models.
        told = {f"slot of {name}": slot.float().unsqueeze(1) for name, (slot, _) in c.slots.items()}
        told |= {} if c.weight is None else {"weight": c.weight.unsqueeze(1)}
        self.others = max(self.others, c.others)
        self.works = max(self.works, c.works, key=len)
        self.apart = {name: Field.of(part) for name, part in c.apart.items()}
        told |= {f"{name} that it sends apart": part for name, part in c.apart.items()}
        found = {"model": c.model - self._down.parts["model"], **c.sent, **kept, **told, **asked}
        found = {name: part.clone() for name, part in found.items()}
        return found | self._evaluated(trainer, rows, dict(c.state))

    def _heard(self, rows: slice) -> Broadcast:
        """Return what some of the two receive."""
        own = {name: part[rows] for name, part in self._addressed.items()}
        return replace(self._down, parts={**self._down.parts, **own}) if own else self._down

    def _evaluated(self, trainer: Trainer, rows: slice, state: Parts) -> Parts:
        """Return the models that the two are evaluated with, and the sums of their outputs."""
        if not has_own(self._task):
            return {}
        with trainer.block(self.clients[rows], self._heard(rows), state) as c:
            models = whole_models(c, self._task.program.personal(c)).clone()
            self.others = max(self.others, c.others)
            with torch.no_grad():
                outputs = [
                    (self._task.program.predict(step), step.batch.count) for step in c.scan(models, (c.rows, c.counts))
                ]
        sums = [[out[row, :n].sum(dim=0).flatten() for row, n in enumerate(count)] for out, count in outputs]
        return {"personal": models, "outputs": torch.stack([torch.stack(rows) for rows in sums]).sum(dim=0)}

    def _state(self, trainer: Trainer, rows: slice) -> Parts:
        """Return the state of newcomers, a little changed, and of each otherwise.

        Where it is 0, a program that uses it would not show it, and where all have the same, one that joins them.
        """
        clients = self.clients[rows]
        newcomers = torch.zeros(len(clients), dtype=torch.bool, device=self._device)
        own = self._task.layout.personal
        first = {PERSONAL: torch.zeros(len(clients), own, device=self._device)} if own else {}
        with trainer.block(clients, self._heard(rows), first, known=newcomers) as c:
            self.kept = {name: Field.of(part) for name, part in c.state.items()}
            state = {name: part.clone() for name, part in c.state.items()}
            if not self._first:
                # Whole numbers may be indices, which leave their range: they are as newcomers have them.
                real = {name: field.width for name, field in self.kept.items() if field.dtype.is_floating_point}
                for name, drawn in _drawn(self._task, real, 2).items():
                    state[name] += drawn[rows].to(state[name])
            return state | ({} if c.home is None else {PERSONAL: c.home.clone()})


def _drawn(task: LocalTask, widths: Mapping[str, int], *clients: int) -> Parts:
    """Return something small for what a run would have sent or kept, so that a program that uses it shows it."""
    draw = torch_generator(task.seed, "local")
    return {name: 0.01 * torch.randn(*clients, width, generator=draw) for name, width in widths.items()}


def _refused(program: ClientProgram, error: Exception, where: str, advice: str) -> ConfigError:
    line = _line_of(error, program)
    at = f" ({line})" if line else ""
    return ConfigError(f"algorithm: {_name(program)} does not run {where}: {reason(error)}{at}; {advice}")


def _name(program: ClientProgram) -> str:
    return str(getattr(program, "name", type(program).__name__))


def _line_of(error: Exception, program: ClientProgram) -> str | None:
    """Return the line of the program that raised; None if it was code that the program calls."""
    own = [kind.__dict__.get(half) for kind in type(program).__mro__ for half in ("client", "survey")]
    code = [getattr(one, "__code__", None) for one in own]
    files = {one.co_filename for one in code if one is not None}
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename.rpartition('/')[2]}, line {last.lineno}" if last.filename in files else None
