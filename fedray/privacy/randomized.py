"""Local differential privacy in a run: each client clips and noises all that it sends before anybody sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from fedray.core.messages import Aggregate, BlockUpdate, Ints
from fedray.core.noise import Source
from fedray.core.now import Now
from fedray.privacy.central import NOT_PRIVATE, bounded_widths
from fedray.privacy.local import Mechanism, Randomizer
from fedray.privacy.releases import Release
from fedray.privacy.section import Privacy
from fedray.sampling import AvailabilityTrace, Full, InTurns, Poisson, Sampler, Uniform
from fedray.transforms.base import Setting, Transform


@dataclass(frozen=True)
class Local(Transform):
    """The randomizer of each client on all that it sends, ``clip(u_i) + N(0, (2 z C)^2)``, as its last step.

    ``u_i`` is its update of the shared trained parameters and whatever its algorithm sends beside it, as one vector, so
    that they have one sensitivity.  Two clients may send any two updates (a client's own other ones as well), and so
    what one sends changes by 2 C at most.  The norm is taken in float64 with a slack, an update that is not finite is
    one of zeros, and the noise is added in float64 and the sum rounded to float32.  Gaussian noise is calibrated by its
    exact delta (Balle and Wang, arXiv:1805.06530), and composed over a client's participations exactly; Laplace noise,
    of the scale ``2 z C`` for an L1 clip, by the sum of epsilons.

    Whatever is done to what was sent (robust aggregators, codecs, secure sums, server optimizers) costs nothing more.

    Args:
        privacy: the section.
        randomizer: the mechanism with its noise.
        parts: the names of all that is noised.
        participations: the number of rounds of the client that is drawn most often.
    """

    privacy: Privacy
    randomizer: Randomizer = field(default_factory=Randomizer)
    parts: tuple[str, ...] = ()
    sampler: Sampler = field(default_factory=Full, repr=False)
    sizes: Ints = field(default_factory=lambda: np.ones(1, dtype=np.int64), repr=False, compare=False)
    seed: int = 0
    rounds: int = 1

    name: ClassVar[str] = "privacy"
    section: ClassVar[bool] = True
    needs_uniform: ClassVar[bool] = True
    bounds_all: ClassVar[bool] = True
    randomizes: ClassVar[bool] = True

    @property
    def noise(self) -> Source:
        """The origin of the keys of the noise."""
        return self.privacy.noise

    @property
    def words(self) -> Iterator[str]:
        """The lines for the head of the log: the protection, and its price."""
        what, one = ", ".join(self.parts), self.randomizer
        together = "" if len(self.parts) == 1 else ", as one vector"
        norm = "an L1 norm" if one.mechanism == "laplace" else "a norm"
        yield (
            f"privacy: {what} of each client clipped to {norm} of {one.norm:g}{together}, and noised by the client: "
            f"{one.mechanism}, multiplier {one.multiplier:g} over twice the clip; epsilon {self._epsilon(1):.4g} for "
            f"each time that a client takes part"
        )
        if self.noise == "seeded":
            yield f"privacy: {NOT_PRIVATE}"

    def _epsilon(self, participations: int) -> float:
        return self.randomizer.spent(participations, self.privacy.delta)

    @property
    def expected(self) -> float:
        """The number of clients that a cohort is expected to have."""
        return self.sampler.expected(self.sizes)

    @property
    def release(self) -> Release:
        """The release of a client that takes part once."""
        return self.randomizer.release()

    @cached_property
    def participations(self) -> int:
        """The number of rounds of the client that is drawn most often, as far as draws decide it."""
        counts = np.zeros(len(self.sizes), dtype=np.int64)
        for round in range(1, self.rounds + 1):
            counts[self.sampler.cohort(self.sizes, self.seed, round)] += 1
        return int(counts.max(initial=0))

    @property
    def planned(self) -> float:
        """The epsilon of the client that pays most, at the end of the run."""
        return self._epsilon(self.participations)

    def prepare(self, setting: Setting) -> Local:
        """Find what is noised, and the noise.

        Raises:
            ValueError: draws may tell of clients' rows, or something is sent that cannot be clipped.
        """
        if not isinstance(setting.sampler, Full | Uniform | Poisson | InTurns | AvailabilityTrace):
            who = getattr(setting.sampler, "name", type(setting.sampler).__name__)
            raise ValueError(
                f"sampler: {who} may draw clients by their numbers of rows, which privacy.model=local protects as all "
                "else of them: take poisson, uniform, separated, round_robin, full or trace"
            )
        found = replace(
            self,
            parts=tuple(bounded_widths(setting)),
            sampler=setting.sampler,
            sizes=setting.sizes,
            seed=setting.seed,
            rounds=setting.rounds,
        )
        section = self.privacy
        kind: Mechanism = "laplace" if section.mechanism == "laplace" else "gaussian"
        if section.noise_multiplier is not None:
            return replace(found, randomizer=Randomizer(kind, section.noise_multiplier, section.norm))
        assert section.epsilon is not None
        times = max(1, found.participations)
        ready = Randomizer.calibrated(kind, section.epsilon, section.delta, section.norm, times)
        return replace(found, randomizer=ready)

    def on_clients(self, update: BlockUpdate) -> None:
        """Clip and noise the rows of all that clients send."""
        if update.noise is None:
            raise RuntimeError("privacy.model=local: the block has no key for the noise of its clients")
        widths = [update.parts[name].shape[1] for name in self.parts]
        rows = torch.cat([update.parts[name] for name in self.parts], dim=1)
        clipped, ids = self.randomizer.clipped(rows).cpu().numpy(), []
        for place, row in enumerate(clipped):
            id, stream = update.noise.of(place, row)
            row += self.randomizer.noise(stream.draw, len(row))
            ids.append(id)
        pieces = torch.from_numpy(clipped).float().split(widths, dim=1)
        for name, piece in zip(self.parts, pieces, strict=True):
            update.parts[name].copy_(piece)
        update.released = tuple(ids)

    def on_aggregate(self, total: Aggregate, now: Now) -> Mapping[str, float]:
        """Tell the noise of a round, which clients have added."""
        one = self.randomizer
        told = {"not_private": 1.0} if self.noise == "seeded" else {}
        return told | {"noise_multiplier": one.multiplier, "clip": one.norm, "client_noise_std": one.deviation}
