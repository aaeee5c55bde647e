"""The section ``local`` of an experiment's YAML file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from fedray.config.amounts import MOST_STEPS, checked_amount
from fedray.config.binding import nearest

BufferPolicy = Literal["mean", "keep", "local"]
LastBatch = Literal["keep", "merge", "drop"]

BY_CLIENT = ("epochs", "steps", "batch_size", "lr")
"""The options that a client can have of its own."""


@dataclass(frozen=True)
class LocalSection:
    """``local``: a client's training in a round.

    Args:
        epochs: passes over the client's data; ``{name: uniform, low: 1, high: 5}``: drawn by each client in each round;
            with ``clients: 0.9`` by nine of ten, and the others do 5.
        batch_size: examples in a step, at least 1; ``full``, or null: all that the client has, one step an epoch.
        steps: exactly so many steps instead of ``epochs``, or drawn as they are.
        last_batch: the use of the rows that are left when a pass is cut into batches: ``keep``: a smaller batch;
            ``merge``: they join the batch before; ``drop``: they are left out of this pass.  What fills no batch is one
            all the same: no client goes without a step.
        optimizer: ``{name: sgd, lr: 0.1, ...}``, see ``fedray list optimizers``; ``my_module:name`` is one's own.
        accumulate: batches whose gradients make one step of the optimizer: a step is then of ``accumulate`` times
            ``batch_size`` examples, which go through the model in so many pieces; with ``full`` all that there are.
        lr_schedule: the learning rate by round, ``{name: cosine, warmup: 5}``, see ``fedray list schedules``;
            ``my_module:name`` is one's own.
        clip_grad_norm: the gradient of a client is scaled down to this norm before each step, as torch's
            ``clip_grad_norm_`` does; with what the algorithm has added to it, as that is what the optimizer gets.
        group_by_length: of so many batches that follow one another, such as 50, the rows are sorted by length, the
            longest first, and cut into batches again, so that each is padded less; for sequences that are padded by
            batch, as text is.  The fewer batches, the more of its companions a row meets.  Null: batches are drawn
            whatever the lengths.
        keep_optimizer: a client's optimizer goes on with what it remembered, its momentum or Adam's moments and counts,
            from fit to fit of its model and from round to round; false: it begins afresh with each fit.
        by_client: ``epochs``, ``steps``, ``batch_size`` and the optimizer's ``lr`` of single clients,
            ``{hospital_a: {epochs: 5, lr: 0.01}}``, in the place of those of all.
        loss: ``auto``, by the data's task, or one of ``fedray list losses``; ``my_module:name`` is one's own.
        class_weights: ``balanced``: examples count as their class is rare in all clients together; null: all alike.
        stack: ``auto``, ``off``, or how many clients step at once; ``lanes``, or ``lanes:8`` for that many: at once in
            one ordinary forward of all their rows, in which modules that train go client by client.
        precision: ``fp32``, ``tf32`` or ``bf16`` (autocast).
        memory_format: the order of images in memory where clients step one by one: ``channels_last``: the channels of a
            place lie next to each other, with which convolutions on a CPU are faster; ``contiguous``: as everywhere
            else; ``auto``: channels-last where the model runs so on a CPU, and its convolutions are expected to gain.
            The two agree up to rounding.
        deterministic: on a GPU, take only kernels that give equal bits for equal inputs; a model with an operation that
            has none fails.  ``false`` lets it run, and two runs need not agree.
        buffers: ``mean``: averaged like parameters; ``keep``: the server's stay as they were initialised; ``local``:
            each client goes on with its own, and the server's stay.  With these two, evaluations take the mean of what
            the last cohort ended with, which its clients then send; ``local`` shows held-out rows the client's own.
    """

    epochs: Any = 1
    batch_size: int | str | None = 32
    steps: Any = None
    last_batch: LastBatch = "keep"
    optimizer: Any = "sgd"
    lr_schedule: Any = "constant"
    clip_grad_norm: float | None = None
    accumulate: int = 1
    group_by_length: int | None = None
    keep_optimizer: bool = False
    by_client: Any = field(default_factory=dict)
    loss: Any = "auto"
    class_weights: str | None = None
    stack: int | str | bool = "auto"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    deterministic: bool = True
    buffers: BufferPolicy = "mean"

    def __post_init__(self) -> None:
        if self.batch_size is None:
            object.__setattr__(self, "batch_size", "full")
        # YAML reads a bare `off` as false, which equals 0.
        if self.stack is False:
            object.__setattr__(self, "stack", "off")
        if self.batch_size != "full" and not (isinstance(self.batch_size, int) and self.batch_size >= 1):
            quoted = repr(self.batch_size) if str(self.batch_size).isdecimal() else self.batch_size
            raise ValueError(f"batch_size={quoted}: it must be at least 1, or full")
        if isinstance(self.batch_size, int) and self.batch_size > MOST_STEPS:
            raise ValueError(f"batch_size={self.batch_size}: it must be at most {MOST_STEPS}")
        if self.class_weights not in (None, "balanced"):
            raise ValueError(f"class_weights={self.class_weights}: it must be balanced, or null")
        if not 1 <= self.accumulate <= MOST_STEPS:
            raise ValueError(f"accumulate={self.accumulate}: it must be at least 1 batch, and at most {MOST_STEPS}")
        if self.group_by_length is not None and self.group_by_length < 2:
            raise ValueError(f"group_by_length={self.group_by_length}: it must be at least 2 batches, or null for none")
        if self.group_by_length is not None and self.batch_size == "full":
            raise ValueError("group_by_length: a batch has all rows, of any length; leave it out, or set batch_size")
        object.__setattr__(self, "epochs", checked_amount(self.epochs, "epochs"))
        if self.steps is not None:
            object.__setattr__(self, "steps", checked_amount(self.steps, "steps"))
        _ = self.own
        if self.clip_grad_norm is not None and not 0.0 < self.clip_grad_norm < float("inf"):
            raise ValueError(f"clip_grad_norm={self.clip_grad_norm}: it must be above 0, or null for no limit")
        said = re.fullmatch("auto|off|lanes(:[1-9][0-9]{0,5})?", self.stack) if isinstance(self.stack, str) else None
        if not said and (isinstance(self.stack, str | bool) or self.stack < 1):
            raise ValueError(f"stack={self.stack}: it must be auto, off, at least 1, lanes, or lanes:8")

    def working(self, epochs: int | None, steps: int | None) -> LocalSection:
        """Return the section of a fit that says its own number of epochs or steps, for all clients; None: as it is.

        >>> LocalSection(steps=3, by_client={"a": {"epochs": 5, "batch_size": 8}}).working(2, None).own["a"].epochs
        2
        """
        if epochs is None and steps is None:
            return self
        own = self.by_clients("batch_size", "lr")
        return replace(self, epochs=self.epochs if epochs is None else epochs, steps=steps, by_client=own)

    def pieces(self, rows: int) -> int:
        """Return the number of pieces in which a batch of so many ``rows`` goes through the model.

        >>> LocalSection(batch_size=8, accumulate=4).pieces(32), LocalSection(batch_size=8, accumulate=4).pieces(9)
        (4, 2)
        """
        most = rows if self.batch_size == "full" else -(-rows // int(self.batch_size))  # type: ignore[arg-type]
        return 1 if self.accumulate == 1 else max(1, min(most, self.accumulate) if self.batch_size == "full" else most)

    def by_clients(self, *options: str) -> dict[str, Any]:
        """Return what ``by_client`` says of some options.

        >>> LocalSection(by_client={7: {"epochs": 5, "lr": 0.1}, "b": {"steps": 1}}).by_clients("lr")
        {7: {'lr': 0.1}}
        """
        found = {name: {k: v for k, v in own.items() if k in options} for name, own in self.by_client.items()}
        return {name: own for name, own in found.items() if own}

    @cached_property
    def own(self) -> dict[str, LocalSection]:
        """The section of each client that has options of its own, by its name."""
        # YAML reads the name of a client without one as a number.
        return {str(name): self._of(str(name), given) for name, given in self.by_client.items()}

    @cached_property
    def rates(self) -> dict[str, float]:
        """The learning rate of each client that has one of its own, by its name."""
        return {str(name): float(own["lr"]) for name, own in self.by_client.items() if "lr" in own}

    def _of(self, name: str, given: Any) -> LocalSection:
        if not isinstance(given, Mapping):
            raise ValueError(f"by_client.{name}={given}: it must be a section, such as {{epochs: 5}}")
        for option in given:
            if option not in BY_CLIENT:
                hint, allowed = nearest(option, BY_CLIENT), ", ".join(BY_CLIENT)
                raise ValueError(f"by_client.{name}.{option}: unknown key{hint}; allowed: {allowed}")
        rate = given.get("lr", 1.0)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.0 < rate < float("inf"):
            raise ValueError(f"by_client.{name}.lr={rate}: it must be a number above 0")
        # Who says its epochs does them, also where all others count steps.
        steps = {"steps": None} if "epochs" in given else {}
        work = {option: value for option, value in given.items() if option != "lr"}
        try:
            return replace(self, by_client={}, **{**steps, **work})
        except ValueError as error:
            raise ValueError(f"by_client.{name}: {error}") from None
