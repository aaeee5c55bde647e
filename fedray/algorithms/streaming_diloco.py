"""Streaming DiLoCo: one fragment of the model is exchanged in each round, while the others go on where they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedray.algorithms.base import algorithms
from fedray.algorithms.diloco import DiLoCo
from fedray.algorithms.layers import Pattern, check_pattern, shared_out
from fedray.config.bounds import check_at_least_0, check_at_least_1, check_decays
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.core.messages import Parts
from fedray.local.clients import Clients
from fedray.local.step import Step

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
        check_at_least_1(fragments=self.fragments)
        check_pattern(self.pattern)
        check_decays(alpha=self.alpha)
        check_at_least_0(delay=self.delay)

    def local(self, args: LocalSection) -> LocalSection:
        """Return the section as DiLoCo has it; ConfigError where a round is over before a fragment arrives."""
        own = args.by_clients("steps", "epochs")
        if self.delay and (own or not isinstance(args.steps, int) or args.steps <= self.delay):
            said = f"local.by_client={own}" if own else f"local.steps={args.steps}"
            raise ConfigError(
                f"algorithm.delay={self.delay}: {said}; a fragment arrives within a round, so that local.steps must be "
                f"a number above {self.delay}, the same for all clients"
            )
        return super().local(args)

    def split(self, layout: Layout) -> Sequence[Collection[str]]:
        """Return the names of each fragment's tensors; none where there is one fragment."""
        return shared_out(layout, self.fragments, self.pattern) if self.fragments > 1 else ()

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
                mix(c, c.shared(step.params), last[step.rows], self.alpha)

        if self.delay:
            c.fit(after=arrive)
        else:
            mix(c, c.shared(c.params), last, self.alpha)
            c.fit()
        c.state[_OWN] = c.shared(c.params)
        c.state[_LAST] = torch.full_like(c.state[_LAST], c.round)


def mix(c: Clients, params: Tensor, last: Tensor, alpha: float) -> None:
    """Mix what the server has moved since clients last took part into their parameters, in place.

    Args:
        c: their block.
        params: the parameters ``[A, S]`` of some of them.
        last: the last round of each, ``[A]``; that of a newcomer, who begins with the global model, is this one.
        alpha: the share of their own.
    """
    heard, fragments = c.shared(c.down["model"]), c.task.fragments
    for since in last.unique().tolist():
        rows, places = torch.nonzero(last == since)[:, 0], [slice(0, len(heard))]
        if fragments is not None:
            moved = sorted(fragments.moved(since, c.round))
            places = [place for number in moved for place in fragments.members[number].columns.places]
        for place in places if since < c.round else ():
            params[rows, place] = alpha * params[rows, place] + (1.0 - alpha) * heard[place]
