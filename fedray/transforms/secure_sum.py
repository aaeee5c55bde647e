"""Secure aggregation: masks on each client's update, which cancel in the sum and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar, get_args

import numpy as np
import torch

from fedray.core.errors import RunFailed, UpdateOutOfRange
from fedray.core.messages import STATISTICS, Aggregate, BlockUpdate, Floats, Ints, Parts
from fedray.core.now import Now
from fedray.core.rng import numpy_generator
from fedray.sampling import Full, Sampler
from fedray.transforms.base import Setting, Transform, placed, transforms
from fedray.transforms.secure.graph import degree, least_of
from fedray.transforms.secure.masks import PUBLIC_BYTES, Parties, TooFew, check_installed
from fedray.transforms.secure.quantised import MOST_BITS, Grid, Rounding
from fedray.transforms.secure.shamir import SHARE_BYTES
from fedray.transforms.secure.share import Share, SharesNoise

SATURATED = "saturated"
"""The number of a client's entries that were beyond the range."""

_SEALED = 2 * SHARE_BYTES + 28
"""Bytes of the two shares for a neighbour, encrypted: nonce and tag of AES-GCM are 28."""


@transforms.register("secure_sum")
@dataclass(frozen=True)
class SecureSum(Transform):
    """Secure aggregation (Bonawitz et al., eprint 2017/281; SecAgg+, Bell et al., eprint 2020/704).

    Last of all, each client turns what it sends into whole numbers, ``q = round(clip(x, -range, range) / step)`` with
    ``step = range / (2^(bits-1) - 1)``, and adds masks that it shares with other clients, modulo 2^R for
    ``R = bits + ceil(log2 cohort) <= 64``.  So workers fold, and the driver is given, uniform numbers alone; their sum
    is, bit for bit, that of the q of those who came, whatever the order, and its mean goes on to whoever comes next.
    Clients that fail or drop out (``failures.dropout``) count as lost after the keys and shares were exchanged, and
    before their masked update arrived: their masks are taken off by the shares of the others.  Every client counts the
    same.

    Keys are X25519's, expanded by HKDF-SHA256 and AES-256 in counter mode; secrets are shared by Shamir's scheme with
    double masking.  From 64 clients on masks are shared over a regular graph, see
    :func:`fedray.transforms.secure.graph.degree`.  Deviations from the papers: secrets are draws named by
    (seed, mask, round, client), as this is a simulation (docs/secure-sum.md has what it shows, and what it does not);
    shares are not encrypted, and the consistency check of the protocol against an active server is left out.

    >>> secure = SecureSum(bits=16, range=1.0).prepare(Setting(sizes=np.ones(3)))
    >>> rows, one = torch.tensor([[0.5, -0.25], [0.25, 2.0], [0.0, 0.5]]), np.ones(3)
    >>> update = BlockUpdate(1, np.arange(3), {"delta": rows}, {}, one, one, one)
    >>> secure.on_departure(update, keys=[0, 1, 2])
    >>> sent = {"delta": update.parts["delta"], placed(0, "saturated"): update.parts["saturated"]}
    >>> opened = secure.opened({name: part.sum(dim=0) for name, part in sent.items()}, Now(0, 1, clients=(0, 1, 2)))
    >>> torch.round(opened["delta"], decimals=3), opened[placed(0, "saturated")]
    (tensor([0.2500, 0.4170]), tensor([1.], dtype=torch.float64))

    Args:
        threshold: the share of a cohort that must be left, in (0, 1], and two clients at least: with fewer the sum is
            not opened, nothing is released, and the run ends.
        bits: of a client's entry, with its sign: from 2 to 53.
        range: the largest magnitude of an entry, above 0; what is beyond is clipped, and counted.
        rounding: ``stochastic``: by draws named by seed, round and client, right on average; ``nearest``; ``zero``:
            towards zero, so that no update becomes longer, as privacy needs.
        corrupt: the share of a cohort, below ``threshold``, that may work with the server: by it the graph is chosen.
    """

    threshold: float = 0.7
    bits: int = 32
    range: float = 8.0
    rounding: Rounding = "stochastic"
    corrupt: float = 0.2

    linear_only: ClassVar[bool] = True
    needs_uniform: ClassVar[bool] = True
    bounds_all: ClassVar[bool] = True
    in_ring: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ValueError(f"threshold={self.threshold:g}: the share of clients to be left is above 0, at most 1")
        if not 2 <= self.bits <= MOST_BITS:
            raise ValueError(f"bits={self.bits}: an entry has from 2 to {MOST_BITS} bits, its sign among them")
        if not 0.0 < self.range < float("inf"):
            raise ValueError(f"range={self.range:g}: the largest magnitude of an entry must be above 0")
        if self.rounding not in get_args(Rounding):
            raise ValueError(f"rounding={self.rounding!r}: it must be stochastic, nearest or zero")
        if not 0.0 <= self.corrupt < self.threshold:
            raise ValueError(
                f"corrupt={self.corrupt:g}: as many as the threshold, {self.threshold:g}, could take all masks off by "
                "themselves: it must be from 0 to below it"
            )

    def prepare(self, setting: Setting) -> SecureSum:
        """Find the ring, and learn who is in each cohort."""
        check_installed()
        if STATISTICS in setting.sends:
            raise ValueError(
                "statistics of layers that stay with clients are sent for evaluations, beyond any range: take a model "
                "without them, such as one with GroupNorm, or evaluate nothing"
            )
        share = next((part.share for part in setting.before if isinstance(part, SharesNoise)), None)
        if setting.private and share is None and self.rounding != "zero":
            raise ValueError(
                f"rounding={self.rounding} may make an update longer than the clip that the noise relies on: take "
                "rounding: zero"
            )
        most = setting.sampler.most(setting.sizes)
        ring = self.bits + math.ceil(math.log2(max(2, most)))
        if share is not None:
            ring = max(ring, share.room(self.grid, max(2, most)))
        if ring > 64:
            raise ValueError(
                f"bits={self.bits}: sums of up to {most:,} clients have {ring}, and there are 64: take bits of at most "
                f"{64 - ring + self.bits}, or smaller cohorts"
            )
        options = {option.name: getattr(self, option.name) for option in fields(SecureSum)}
        # An exact count of saturated entries would be a release without noise.
        return _InRun(
            **options,
            ring=ring,
            place=len(setting.before),
            counts=not setting.private,
            sampler=setting.sampler,
            sizes=setting.sizes,
            seed=setting.seed,
            share=share,
        )

    @property
    def grid(self) -> Grid:
        """The whole numbers of an entry."""
        return Grid(self.bits, self.range, self.rounding)

    def least_of(self, sampled: int) -> int:
        """Return ``ceil(threshold n)``, and 2 at least."""
        return least_of(sampled, self.threshold)


@dataclass(frozen=True, eq=False)
class _InRun(SecureSum):
    """A secure sum that knows its cohorts."""

    ring: int = 64
    place: int = 0
    counts: bool = True
    sampler: Sampler = field(default_factory=Full, repr=False)
    sizes: Ints = field(default_factory=lambda: np.ones(1, dtype=np.int64), repr=False)
    seed: int = 0
    share: Share | None = None
    _known: dict[int, Parties] = field(default_factory=dict, repr=False)

    @property
    def sends(self) -> Mapping[str, int]:
        """The number of entries beyond the range, which is masked and summed like all else."""
        return {SATURATED: 1} if self.counts else {}

    @property
    def value_bytes(self) -> int:
        """The whole bytes of R bits."""
        return -(-self.ring // 8)

    @property
    def words(self) -> Iterator[str]:
        """The line for the head of the log."""
        most = max(2, self.sampler.most(self.sizes))
        shape = degree(most, self.threshold, self.corrupt)
        yield (
            f"secure_sum: updates are masked modulo 2^{self.ring}, with {shape.neighbours} others each in a cohort of "
            f"{most:,}; opened with {self.least_of(most):,} at least; keys follow from the seed: a simulation"
        )

    def beside(self, sampled: int, accepted: int) -> tuple[int, int]:
        """Return the bytes of keys, shares and, at the end, of who is there and of the shares that take masks off."""
        if sampled < 2:
            return 0, 0
        k, key = degree(sampled, self.threshold, self.corrupt).neighbours, 2 * PUBLIC_BYTES
        down = sampled * k * (key + _SEALED) + accepted * -(-k // 8)
        return down, sampled * (key + k * _SEALED) + accepted * (k + 1) * SHARE_BYTES

    def _parties(self, round: int) -> Parties:
        if round not in self._known:
            self._known.clear()
            cohort = self.sampler.cohort(self.sizes, self.seed, round)
            try:
                parties = Parties.of(self.seed, round, cohort, self.ring, self.threshold, self.corrupt)
            except TooFew as error:
                raise RunFailed(f"round {round}: secure_sum: {error}") from None
            self._known[round] = parties
        return self._known[round]

    def on_departure(self, update: BlockUpdate, keys: Sequence[int]) -> None:
        """Turn the rows of a block into whole numbers, and put each client's masks on."""
        names = sorted(update.parts)
        rows = np.concatenate([update.parts[name].detach().cpu().numpy() for name in names], axis=1)
        if bad := np.flatnonzero(~np.isfinite(rows).all(axis=1)).tolist():
            part = next(name for name in names if not bool(update.parts[name].isfinite().all()))
            raise UpdateOutOfRange(bad, f"{part} is not finite", part)
        widths = [update.parts[name].shape[1] for name in names] + [1] * self.counts
        whole, grid = np.empty((len(rows), sum(widths)), dtype=np.int64), self.grid
        for place, key in enumerate(keys):
            draws = numpy_generator(self.seed, "encode", update.round, key)
            if self.share is not None:
                whole[place] = self._noised(rows[place], place, draws, update)
                continue
            whole[place, : rows.shape[1]], saturated = grid.steps(rows[place], draws)
            whole[place, rows.shape[1] :] = min(saturated, grid.most)
        self._parties(update.round).mask_(update.clients.tolist(), whole)
        pieces = torch.from_numpy(whole).split(widths, dim=1)
        update.parts.update(zip([*names, *self.sends], pieces, strict=True))

    def _noised(self, row: Floats, place: int, draws: np.random.Generator, update: BlockUpdate) -> Ints:
        """Return a client's whole numbers with its share of the noise."""
        assert self.share is not None
        if update.noise is None:
            raise RuntimeError("secure_sum: the block has no key for the shares of the noise of its clients")
        whole = self.share.bounded(self.grid, row, draws)
        _, stream = update.noise.of(place, whole.astype(np.float64))
        return whole + self.share.noise(stream.words, len(whole))

    def opened(self, sums: Parts, now: Now) -> Parts:
        """Take the masks off the sum, and return means; of what was beyond the range the number, float64."""
        own = placed(self.place, SATURATED)
        names = [*sorted(sums.keys() - {own}), *([own] if self.counts else [])]
        total = np.concatenate([sums[name].cpu().numpy() for name in names])
        try:
            found = self._parties(now.round).unmasked(total, now.clients)
        except TooFew as error:
            raise RunFailed(f"round {now.round}: secure_sum: {error}; nothing of it is released") from None
        places = np.cumsum([0, *(len(sums[name]) for name in names)])
        pieces = {name: found[a:b] for name, a, b in zip(names, places[:-1], places[1:], strict=True)}
        means = {
            name: torch.from_numpy(self.grid.mean(piece, len(now.clients)) if name != own else piece.astype(np.float64))
            for name, piece in pieces.items()
        }
        return {name: mean.to(sums[name].device) for name, mean in means.items()}

    def on_aggregate(self, total: Aggregate, now: Now) -> Mapping[str, float] | None:
        """Tell how many entries were beyond the range, of all clients together."""
        return {SATURATED: float(total.parts[SATURATED].sum())} if self.counts else None
