"""The section ``local`` of an experiment's YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

BufferPolicy = Literal["mean", "keep", "local"]
LastBatch = Literal["keep", "merge", "drop"]

MOST_STEPS = 10**9
"""More epochs, steps or rows of a batch than that are a slip of the pen; all arithmetic with them is exact in int64."""


@dataclass(frozen=True)
class LocalSection:
    """``local``: a client's training in a round.

    Args:
        epochs: passes over the client's data.
        batch_size: examples in a step, at least 1; ``full``, or null: all that the client has, one step an epoch.
        steps: exactly so many steps instead of ``epochs``.
        last_batch: the use of the rows that are left when a pass is cut into batches: ``keep``: a smaller batch;
            ``merge``: they join the batch before; ``drop``: they are left out of this pass.  What fills no batch is one
            all the same: no client goes without a step.
        optimizer: ``{name: sgd, lr: 0.1, ...}``, see ``fedray list optimizers``; ``my_module:name`` is one's own.
        lr_schedule: the learning rate by round, ``{name: cosine, warmup: 5}``, see ``fedray list schedules``;
            ``my_module:name`` is one's own.
        clip_grad_norm: the gradient of a client is scaled down to this norm before each step, as torch's
            ``clip_grad_norm_`` does; with what the algorithm has added to it, as that is what the optimizer gets.
        loss: ``auto``, by the data's task, or one of ``fedray list losses``; ``my_module:name`` is one's own.
        stack: ``auto``, ``off``, or how many clients step at once.
        precision: ``fp32``, ``tf32`` or ``bf16`` (autocast).
        deterministic: on a GPU, take only kernels that give equal bits for equal inputs; a model with an operation that
            has none fails.  ``false`` lets it run, and two runs need not agree.
        buffers: ``mean``: averaged like parameters; ``keep``: the server's stay as they were initialised; ``local``:
            each client goes on with its own, and the server's stay.  With these two, evaluations take the mean of what
            the last cohort ended with, which its clients then send; ``local`` shows held-out rows the client's own.
    """

    epochs: int = 1
    batch_size: int | str | None = 32
    steps: int | None = None
    last_batch: LastBatch = "keep"
    optimizer: Any = "sgd"
    lr_schedule: Any = "constant"
    clip_grad_norm: float | None = None
    loss: Any = "auto"
    stack: int | str | bool = "auto"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
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
        for name in ("epochs", "steps"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 0")
        for name in ("epochs", "steps", "batch_size"):
            if isinstance(value := getattr(self, name), int) and value > MOST_STEPS:
                raise ValueError(f"{name}={value}: it must be at most {MOST_STEPS}")
        if self.clip_grad_norm is not None and not 0.0 < self.clip_grad_norm < float("inf"):
            raise ValueError(f"clip_grad_norm={self.clip_grad_norm}: it must be above 0, or null for no limit")
        if self.stack not in ("auto", "off") and (isinstance(self.stack, str | bool) or self.stack < 1):
            raise ValueError(f"stack={self.stack}: it must be auto, off, or at least 1")
