"""Guards against what a client program may say and nobody would hear."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from fedray.core.errors import RunFailed
from fedray.core.fields import DTYPES, Fields
from fedray.core.layout import Layout
from fedray.core.messages import BUFFERS, DELTA, PERSONAL, STATISTICS, Floats, Ints, Parts

Given = TypeVar("Given")

RESERVED = ("model", BUFFERS, PERSONAL, STATISTICS, DELTA)
"""The names of what the engine itself sends and keeps; a program may send ``delta`` in the place of the update."""


def check_in_place(returned: object, changed: Tensor, hook: str) -> None:
    """Raise TypeError if a hook returns a tensor other than the one that it is given to change.

    >>> grad = torch.ones(1, 2)
    >>> check_in_place(grad.mul_(2.0), grad, "gradient")
    >>> check_in_place(grad * 2.0, grad, "gradient")
    Traceback (most recent call last):
    TypeError: gradient=... changes its tensor in place, and what it returns is not used: write grad.copy_(...)
    """
    if isinstance(returned, Tensor) and not same_memory(returned, changed):
        what = "grad" if hook == "gradient" else "step.params"
        raise TypeError(
            f"{hook}=... changes its tensor in place, and what it returns is not used: write {what}.copy_(...)"
        )


def call_hook(hook: Callable[[Given], object], given: Given, called: str, instead: str) -> None:
    """Call a hook that returns nothing; raise RunFailed if it does, in any round, as nobody would hear it.

    >>> call_hook(lambda update: {"seen": 1.0}, None, "client(c)", "use c.send")
    Traceback (most recent call last):
    fedray.core.errors.RunFailed: client(c) returns something of type dict, which nobody would hear: use c.send

    Args:
        hook: the hook.
        given: its argument.
        called: the hook in words, for the error.
        instead: the way that is heard, for the error.
    """
    returned = hook(given)
    if returned is not None:
        raise RunFailed(
            f"{called} returns something of type {type(returned).__name__}, which nobody would hear: {instead}"
        )


def check_name(name: str, call: str, allowed: tuple[str, ...] = ()) -> None:
    """Raise ValueError if a name is one of the engine's, or none.

    >>> check_name("control", "send")
    >>> check_name("model", "send")
    Traceback (most recent call last):
    ValueError: send: the name 'model' is the engine's (model, buffers, personal, statistics, delta): take another
    """
    if name in RESERVED and name not in allowed:
        raise ValueError(f"{call}: the name {name!r} is the engine's ({', '.join(RESERVED)}): take another")
    if not name.isidentifier():
        raise ValueError(f"{call}: the name {name!r} must be letters, digits and _, such as control")


def check_rows(name: str, value: Tensor, rows: int) -> Tensor:
    """Return what is sent under a name as ``[C, k]``; raise ValueError unless it has a row for each client."""
    check_name(name, "send", (DELTA,))
    if value.dim() not in (1, 2) or len(value) != rows:
        raise ValueError(
            f"send({name!r}): a row or a number for each of the block's clients, [{rows}, k] or [{rows}]; "
            f"this one is {list(value.shape)}"
        )
    return value.unsqueeze(1) if value.dim() == 1 else value


def check_dtype(what: str, value: Tensor) -> None:
    """Raise ValueError for a type that is not kept.

    >>> check_dtype("state", torch.zeros(2, dtype=torch.complex64))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: state is complex64; what is kept is float64, float32, float16, ... or bool
    """
    if value.dtype not in DTYPES:
        *known, last = (str(dtype).removeprefix("torch.") for dtype in DTYPES)
        this = str(value.dtype).removeprefix("torch.")
        raise ValueError(f"{what} is {this}; what is kept is {', '.join(known)} or {last}")


def check_apart(name: str, slot: object, value: Tensor) -> None:
    """Raise ValueError for a part that has no mean, and is one of the engine's, has slots, or is of no type for it."""
    check_name(name, "send")
    check_dtype(f"send({name!r})", value)
    if slot is not None:
        raise ValueError(f"send({name!r}): a mean within slots, or each client's row apart, not both")


def check_models(what: str, models: Tensor, rows: int, layout: Layout) -> Tensor:
    """Return models, ``[C, D]`` or ``[C, P]``; raise ValueError where they are of another shape."""
    if models.dim() != 2 or len(models) != rows or models.shape[1] not in (layout.trained, layout.size):
        raise ValueError(
            f"{what}: a model for each of the block's clients, {[rows, layout.trained]}, or with buffers "
            f"{[rows, layout.size]}; this one is {list(models.shape)}"
        )
    return models


def is_free(models: Tensor, rows: int, layout: Layout, objective: object, only: object) -> bool:
    """Tell if what is to be fitted are numbers of any kind ``[C, k]``, no models, as an objective must say.

    Raises:
        ValueError: they are of another shape, there is no objective, or ``only`` names tensors of them.
    """
    if objective is None or models.dim() != 2 or len(models) != rows:
        check_models("fit", models, rows, layout)
    free = models.shape[1] not in (layout.trained, layout.size)
    if free and only is not None:
        raise ValueError(f"fit(only=): it names tensors of a model, and {list(models.shape)} are none")
    return free


def check_slots(name: str, slot: Tensor | Ints, slots: int, rows: int) -> Tensor:
    """Return the slots ``[C]`` of a part; raise ValueError unless each client has one of them.

    >>> check_slots("loss", torch.tensor([2, 0]), 3, 2)
    tensor([2, 0])
    """
    found = torch.as_tensor(slot)
    if found.is_floating_point() or found.shape != (rows,) or bool((found < 0).any()) or bool((found >= slots).any()):
        raise ValueError(f"send({name!r}, slot=...): an integer from 0 to {slots - 1} for each of the {rows} clients")
    return found.long()


def check_weight(weight: Tensor | None, rows: int, seen: bool) -> Floats | None:
    """Return a program's own weights ``[C]``; raise ValueError unless they are such, and there if they were before."""
    if (weight is not None) != seen:
        was = "set" if seen else "left alone"
        raise ValueError(f"c.weight: it was {was} in the trial before the run: do so in every round")
    if weight is None:
        return None
    if weight.shape != (rows,) or not bool((weight > 0).all()) or not bool(weight.isfinite().all()):
        raise ValueError(f"c.weight: a number above 0 for each of the block's clients, [{rows}]; this is {weight}")
    found: Floats = weight.detach().cpu().double().numpy()
    return found


def same_memory(one: Tensor, other: Tensor) -> bool:
    """Return True if two tensors lie in the same memory."""
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def first_state(name: str, value: Tensor, rows: int) -> Tensor:
    """Return the first state of newcomers under a name as ``[C, k]``; raise ValueError unless it is of such a shape."""
    check_name(name, "initial_state")
    if value.dim() not in (1, 2) or (value.dim() == 2 and len(value) != rows):
        raise ValueError(
            f"initial_state: {name!r} is a row for all newcomers, [k], or one for each client of the block, "
            f"[{rows}, k]; this one is {list(value.shape)}"
        )
    check_dtype(f"initial_state: {name!r}", value)
    return value.detach().expand(rows, -1)


def check_sent(sent: Mapping[str, Tensor], seen: Mapping[str, int]) -> None:
    """Raise ValueError if clients send other names or widths than in the trial before the run.

    >>> check_sent({"tau": torch.ones(2, 1)}, {"tau": 1})
    >>> check_sent({}, {"tau": 1})
    Traceback (most recent call last):
    ValueError: send('tau', ...) was not called, but was in the trial before the run: send the same parts in every round
    """
    found = {name: value.shape[1] for name, value in sent.items() if name != DELTA}
    same = "send the same parts in every round"
    for name, width in found.items():
        if name not in seen:
            raise ValueError(f"send({name!r}, ...) was not called in the trial before the run: {same}")
        if width != seen[name]:
            raise ValueError(f"send({name!r}, ...): {width} numbers, {seen[name]} in the trial before the run: {same}")
    if missing := [name for name in seen if name not in found]:
        raise ValueError(f"send({missing[0]!r}, ...) was not called, but was in the trial before the run: {same}")


def check_kept(apart: Mapping[str, Tensor], seen: Fields) -> None:
    """Raise ValueError if clients send other names, widths or types apart than in the trial before the run.

    >>> from fedray.core.fields import Field
    >>> check_kept({"mask": torch.ones(2, 1)}, {"mask": Field(1, torch.bool)})
    Traceback (most recent call last):
    ValueError: send('mask', ...): torch.float32, torch.bool in the trial before the run: send the same in every round
    """
    check_sent(apart, {name: field.width for name, field in seen.items()})
    for name, field in seen.items():
        if apart[name].dtype != field.dtype:
            raise ValueError(
                f"send({name!r}, ...): {apart[name].dtype}, {field.dtype} in the trial before the run: "
                "send the same in every round"
            )


def check_survey(
    sent: Mapping[str, Tensor], slots: Mapping[str, object], weight: Tensor | None, apart: Mapping[str, Tensor]
) -> None:
    """Raise ValueError if a survey says what it cannot.

    >>> check_survey({"gradient": torch.ones(2, 3)}, {}, None, {})
    >>> check_survey({"delta": torch.ones(2, 3)}, {}, None, {})
    Traceback (most recent call last):
    ValueError: survey: it moves no model, so that it sends no delta: take another name
    """
    if apart:
        raise ValueError(f"survey: it keeps nothing: send {next(iter(apart))} apart by the client's program")
    if not sent:
        raise ValueError("survey: it sends nothing: c.send(name, value) is what it is for")
    if DELTA in sent:
        raise ValueError("survey: it moves no model, so that it sends no delta: take another name")
    if slots or weight is not None:
        what = "slots" if slots else "c.weight"
        raise ValueError(f"survey: its means are over the whole cohort, weighted as algorithm.weight says, no {what}")


@contextmanager
def read_only(
    parts: Mapping[str, Tensor], where: str = "c.down", why: str = "as all clients share it"
) -> Iterator[None]:
    """Raise RuntimeError where a program changes what is not its own, as what the server sent: other blocks read it."""
    before = {name: part._version for name, part in parts.items()}
    yield
    for name, part in parts.items():
        if part._version != before[name]:
            also = ", of which c.anchor is a view," if name == "model" else ""
            raise RuntimeError(f"{where}[{name!r}]{also} is read-only, {why}: change a copy, .clone()")


def check_state(kept: Mapping[str, Tensor], had: Fields, models: Tensor) -> Parts:
    """Return what clients keep, in memory of its own.

    Args:
        kept: as the program leaves it.
        had: the fields of what they had.
        models: their models, ``[C, P]``, whose memory becomes the update.

    Raises:
        ValueError: a name, a shape or a type that is none of theirs.
    """
    for name, value in kept.items():
        if name not in had:
            raise ValueError(f"c.state[{name!r}]: nobody has it; initial_state names {', '.join(had) or 'nothing'}")
        if value.shape != (len(models), had[name].width):
            raise ValueError(
                f"c.state[{name!r}]: a row for each of the block's clients, {[len(models), had[name].width]}; "
                f"this one is {list(value.shape)}"
            )
        if value.dtype != had[name].dtype:
            raise ValueError(
                f"c.state[{name!r}] is {value.dtype}, and initial_state has it as {had[name].dtype}: "
                "say one type in both, such as by .to(dtype)"
            )
    if missing := [name for name in had if name not in kept]:
        raise ValueError(f"c.state[{missing[0]!r}]: the program has deleted it")
    return {name: value.clone() if same_memory(value, models) else value for name, value in kept.items()}
