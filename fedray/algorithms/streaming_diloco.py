"""Streaming DiLoCo: one fragment of the model is exchanged in each round, while the others go on where they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from fedray.algorithms.base import algorithms, check_at_least_0
from fedray.algorithms.diloco import DiLoCo
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError, counted
from fedray.core.layout import Layout
from fedray.core.messages import Parts
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.server.base import check_decays

Pattern = Literal["strided", "sequential"]

_OWN, _LAST = "own", "last"


@algorithms.register("streaming_diloco")
@dataclass(frozen=True)
class StreamingDiLoCo(DiLoCo):
    """Streaming DiLoCo (Douillard et al., arXiv:2501.18512, Algorithm 2): DiLoCo of a fragment at a time.

    The layers are shared out among P ``fragments``.  A round is H / P steps (``local.steps``), in which a client trains
    all of its own model; then fragment ``(round - 1) mod P`` is exchanged: clients send its change since its last
    exchange, P rounds ago, and the server steps along their mean with a Nesterov momentum of its own.  In the next
    round clients receive it, and mix it into their own model, which they keep from round to round:
    ``w_p <- alpha w_p + (1 - alpha) x_p``.  So each fragment is exchanged every H steps, and a round's messages have a
    P-th of the model.

    With ``fragments = 1`` and its defaults else it is DiLoCo, bitwise.

    Who was away receives all that has moved meanwhile; a newcomer begins with the global model.  A client keeps, beside
    its own model, the global one that it heard last: fedray stores that once for all of them.

    Deviations: the paper has all clients in each round.  A fragment waits for less than one round, as ``delay`` says,
    and not for several.

    >>> StreamingDiLoCo(fragments=3).split(Layout.of(torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(4)))))
    (('0.weight', '0.bias', '3.weight', '3.bias'), ('1.weight', '1.bias'), ('2.weight', '2.bias'))

    Args:
        fragments: P, at least 1; the paper's have three transformer blocks each.
        pattern: layer i is in fragment ``i mod P`` (``strided``, which the paper takes), or fragments are runs of
            layers (``sequential``).  A layer is what has one number in the names of its tensors, as ``blocks.3``, or,
            without any, one module; where there are fewer layers than fragments, each tensor is one.
        alpha: the share of a client's own parameters where a received fragment is mixed in, in [0, 1).
        delay: tau, the steps that a client has taken when a fragment arrives, so that its exchange overlaps with them;
            at least 0, and below ``local.steps``.  It is another algorithm than without: these steps start from the
            fragment as the client left it, and what they change of it counts with alpha alone.  The paper takes alpha
            = 0.5 then.
    """

    fragments: int = 2
    pattern: Pattern = "strided"
    alpha: float = 0.0
    delay: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fragments < 1:
            raise ValueError(f"fragments={self.fragments}: it must be at least 1")
        if self.pattern not in get_args(Pattern):
            raise ValueError(f"pattern={self.pattern!r}: it must be {' or '.join(get_args(Pattern))}")
        check_decays(alpha=self.alpha)
        check_at_least_0(delay=self.delay)

    def local(self, args: LocalSection) -> LocalSection:
        """Return the section as DiLoCo has it; ConfigError where a round is over before a fragment arrives."""
        if self.delay and (not isinstance(args.steps, int) or args.steps <= self.delay):
            raise ConfigError(
                f"algorithm.delay={self.delay}: a fragment arrives within a round, so that local.steps must be a "
                f"number above {self.delay}, and it is {args.steps}"
            )
        return super().local(args)

    def split(self, layout: Layout) -> Sequence[Collection[str]]:
        """Return the names of each fragment's tensors; none where there is one fragment.

        Raises:
            ConfigError: there are fewer tensors than fragments.
        """
        if self.fragments == 1:
            return ()
        layers = layers_of(layout)
        if len(layers) < self.fragments:
            layers = [[name] for names in layers for name in names]
        if len(layers) < self.fragments:
            raise ConfigError(f"algorithm.fragments={self.fragments}: the model has {counted(len(layers), 'tensor')}")
        if self.pattern == "strided":
            chosen = [layers[first :: self.fragments] for first in range(self.fragments)]
        else:
            ends = [number * len(layers) // self.fragments for number in range(self.fragments + 1)]
            chosen = [layers[start:stop] for start, stop in pairwise(ends)]
        return tuple(tuple(name for names in some for name in names) for some in chosen)

    def initial_state(self, c: Clients) -> Parts:
        """Return the clients' own parameters, the global ones at first, and the last round that they took part in."""
        last = torch.full((1,), c.round, dtype=torch.int64, device=c.device)
        return {_OWN: c.shared(c.down["model"]), _LAST: last}

    def client(self, c: Clients) -> None:
        """Go on with the clients' own models, into which the server's fragments are mixed after ``delay`` steps."""
        last = c.state[_LAST][:, 0]
        c.shared(c.params).copy_(c.state[_OWN])

        def arrive(step: Step) -> None:
            if step.number + 1 == self.delay:
                self._mix(c, c.shared(step.params), last[step.rows])

        if self.delay:
            c.fit(after=arrive)
        else:
            self._mix(c, c.shared(c.params), last)
            c.fit()
        c.state[_OWN] = c.shared(c.params)
        c.state[_LAST] = torch.full_like(c.state[_LAST], c.round)

    def _mix(self, c: Clients, params: Tensor, last: Tensor) -> None:
        """Mix what the server has moved since rounds ``last`` ``[A]`` into parameters ``[A, S]``, in place."""
        heard, fragments = c.shared(c.down["model"]), c.task.fragments
        for since in last.unique().tolist():
            rows = torch.nonzero(last == since)[:, 0]
            if since == c.round:
                continue  # a newcomer begins with the global model
            places = [slice(0, len(heard))]
            if fragments is not None:
                moved = sorted(fragments.moved(since, c.round))
                places = [place for number in moved for place in fragments.members[number].columns.places]
            for place in places:
                params[rows, place] = self.alpha * params[rows, place] + (1.0 - self.alpha) * heard[place]


def layers_of(layout: Layout) -> list[list[str]]:
    """Return the names of the trained tensors that travel, layer by layer, in the order of the model.

    >>> from torch import nn
    >>> model = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(2, 2)]), "head": nn.Linear(2, 1)})
    >>> layers_of(Layout.of(model))
    [['blocks.0.weight', 'blocks.0.bias'], ['head.weight', 'head.bias']]
    """
    found: dict[str, list[str]] = {}
    for entry in layout.parameters:
        if entry.region == "shared":
            words = entry.name.split(".")
            number = next((place for place, word in enumerate(words) if word.isdecimal()), len(words) - 2)
            found.setdefault(".".join(words[: number + 1]), []).append(entry.name)
    return list(found.values())
