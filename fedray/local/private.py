"""Private gradients: a client's rows are protected one by one (DP-SGD of Abadi et al., arXiv:1607.00133)."""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from fedray.core.errors import ConfigError
from fedray.core.messages import Floats, Ints
from fedray.core.noise import KEY_BYTES, METHOD, PLACE_BYTES, Source, Stream, derived, normal_
from fedray.core.rng import digest
from fedray.local.batches import Batch
from fedray.local.per_example import Beside, ClippedGradients, Tensors


@dataclass(frozen=True)
class ExamplePrivacy:
    """The protection of each single row of a client: a step's gradient is a noised sum over a batch drawn by coins.

    ``(sum_i clip(g_i) + N(0, (multiplier norm)^2)) / (q n)``, over the examples i of a batch into which each of the
    client's n comes by a coin of its own of rate q = batch size / n; the denominator does not depend on who came, and
    an empty batch is a step of noise.  A client that has one row more or less gives another sum by at most ``norm``.

    >>> ExamplePrivacy(norm=1.0, noise_multiplier=0.0).without_noise()
    ExamplePrivacy(norm=1.0, noise_multiplier=0.0, noise='seeded')
    >>> ExamplePrivacy(norm=0.0)
    Traceback (most recent call last):
    ...
    ValueError: norm=0: it must be above 0

    Args:
        norm: the largest norm that the gradient of an example keeps, above 0; infinity: any, which is not private.
        noise_multiplier: the standard deviation of the noise over ``norm``, at least 0.
        noise: ``secure``: coins and noise are drawn by keys that a run makes of its own for each round, and forgets;
            ``seeded``: by the run's seed, which is reproducible and NOT PRIVATE.
    """

    norm: float = 1.0
    noise_multiplier: float = 1.0
    noise: Source = "secure"

    def __post_init__(self) -> None:
        if not self.norm > 0.0:
            raise ValueError(f"norm={self.norm:g}: it must be above 0")
        if not 0.0 <= self.noise_multiplier < float("inf"):
            raise ValueError(f"noise_multiplier={self.noise_multiplier:g}: it must be at least 0")
        if self.noise_multiplier and self.norm == float("inf"):
            raise ValueError("norm=inf: noise is a multiple of it: say a norm, or noise_multiplier=0")

    def without_noise(self) -> ExamplePrivacy:
        """Return the same steps without noise, and with coins that are drawn again, for trials."""
        return ExamplePrivacy(self.norm, 0.0, "seeded")

    def gradients(self, clipped: ClippedGradients) -> PrivateGradients:
        """Return the gradients of steps by the sums of clipped ones; an audit has rows of its own among them."""
        return PrivateGradients(clipped)

    def keys(self, key: bytes, number: int) -> FitKeys | None:
        """Return the keys of a fit; None: its seed names what is drawn.

        Args:
            key: of the round; empty: one that nobody keeps is drawn, for a fit that nobody does again.
            number: of the fit in the round.
        """
        if self.noise == "seeded":
            return None
        return FitKeys(derived(key or os.urandom(KEY_BYTES), "fit", str(number)))


@dataclass(frozen=True)
class FitKeys:
    """The keys by which the clients of a block draw coins and noise in one fit of a round.

    >>> keys = FitKeys(bytes(32))
    >>> keys.of(4) == keys.of(7), keys.seed == FitKeys(bytes(32)).seed
    (False, True)

    Args:
        key: of the fit, 32 bytes.
    """

    key: bytes = field(repr=False)

    @property
    def seed(self) -> int:
        """The seed of the coins, by which each client has its own."""
        return int.from_bytes(derived(self.key, "coins")[:16])

    def of(self, client: int) -> bytes:
        """Return the key of a client's noise."""
        return derived(self.key, "client", METHOD, str(client))


class FitNoise:
    """The noise of a fit, drawn for each client by itself.

    Each has a stream of a key of its own, so that noise does not depend on who else is in a block.  Drawn by keys that
    are kept, the place in the stream at which a step begins is a hash of all sums of clipped gradients of the fit up to
    then: a fit that is done again as it was, as its worker died, has the same noise and is the same release, and one
    that comes out otherwise has noise of its own.

    Args:
        privacy: the protection.
        seed: names the fit.
        round: round number.
        keys: of the clients, ``[C]``, in the order of the fit.
        expected: the examples that a batch of each has on average, ``[C]``.
        secrets: the keys of the fit; None: the seed names the noise, or of ``secure`` it is drawn by keys that nobody
            keeps.
    """

    def __init__(
        self,
        privacy: ExamplePrivacy,
        seed: int,
        round: int,
        keys: Ints,
        expected: Floats,
        secrets: FitKeys | None = None,
    ) -> None:
        self.privacy, self._expected = privacy, expected
        self._deviation = privacy.noise_multiplier * privacy.norm if privacy.noise_multiplier else 0.0
        if not self._deviation:
            return
        secrets = secrets or privacy.keys(b"", 0)
        self._hashes = secrets is not None
        if secrets is None:
            self._chain = [derived(digest(seed, "noise", round, int(key)), "seeded") for key in keys]
        else:
            self._chain = [secrets.of(int(key)) for key in keys]
        self._streams = [Stream(derived(key, "noise")) for key in self._chain]

    def denominators(self, count: int, device: torch.device) -> Tensor:
        """Return the expected sizes of the batches of the first ``count`` clients, float32 ``[count]``."""
        return torch.from_numpy(self._expected[:count].astype(np.float32)).to(device)

    def draw(self, sums: Sequence[Tensor]) -> Tensor | None:
        """Return the noise on the sums of clipped gradients of a step, float32 ``[A, width]``; None: there is none.

        A client's steps come one after the other, each once.

        Args:
            sums: of the first A clients, each ``[A, *shape]``; width is the length of all of them.
        """
        if not self._deviation:
            return None
        count, width = len(sums[0]), sum(grad[0].numel() for grad in sums)
        found = np.empty((count, width))
        if self._hashes:
            contents = torch.cat([grad.detach().reshape(count, -1) for grad in sums], dim=1).cpu().numpy()
            for place, content in enumerate(contents):
                self._chain[place] = hmac.digest(self._chain[place], content.data, "sha256")
                self._streams[place].at(self._chain[place][:PLACE_BYTES])
        for stream, row in zip(self._streams, found, strict=False):
            stream.fill(row)
        normal_(found.reshape(-1), self._deviation)
        return torch.from_numpy(found).float().to(sums[0].device)


class PrivateGradients:
    """The private gradients of steps.

    Args:
        clipped: the sums of clipped gradients.
    """

    def __init__(self, clipped: ClippedGradients) -> None:
        self._clipped = clipped

    def __call__(
        self,
        noise: FitNoise,
        params: Tensors,
        buffers: Tensors,
        moved: Sequence[str],
        keys: Tensor,
        batch: Batch,
        added: Beside | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the mean loss of each client's examples ``[A]``, for its owner alone, and the gradients.

        Args:
            noise: of the fit.
            params: parameters ``[A, *shape]`` by name.
            buffers: the other tensors of the model.
            moved: names of the parameters that train.
            keys: the clients' names in draws, ``[A]``.
            batch: the batch; one client's may be empty, or all of them.
            added: a loss of each example beside the task's.

        Returns:
            Losses, 0 for an empty batch, and gradients ``[A, *shape]`` of ``moved``.
        """
        width = torch.arange(batch.y.shape[1], device=batch.y.device)
        real = width < torch.from_numpy(batch.count).to(batch.y.device)[:, None]
        loss, sums = self.sums(noise.privacy.norm, params, buffers, moved, keys, batch, real, added)
        return loss, self.noised(noise, sums)

    def sums(
        self,
        norm: float,
        params: Tensors,
        buffers: Tensors,
        moved: Sequence[str],
        keys: Tensor,
        batch: Batch,
        real: Tensor,
        added: Beside | None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the mean losses ``[A]``, and the sums of gradients that are clipped to ``norm``, without noise.

        Args as for a call, and ``real``, False for examples that are not in the batch, ``[A, B]``.
        """
        if not batch.y.shape[1]:
            none = torch.zeros(len(batch.count), device=batch.y.device)
            return none, [torch.zeros_like(params[name]) for name in moved]
        losses, sums = self._clipped(params, buffers, tuple(moved), keys, batch.x, batch.y, real, norm, added)
        return losses.masked_fill(~real, 0.0).sum(dim=1) / real.sum(dim=1).clamp(min=1), sums

    def noised(self, noise: FitNoise, sums: list[Tensor]) -> list[Tensor]:
        """Return the gradients, of sums that are used up."""
        sizes = [grad[0].numel() for grad in sums]
        drawn = noise.draw(sums)
        if drawn is not None:
            for grad, own in zip(sums, drawn.split(sizes, dim=1), strict=True):
                grad.add_(own.view_as(grad))
        by = noise.denominators(len(sums[0]), sums[0].device)
        return [grad.div_(by.view(-1, *[1] * (grad.dim() - 1))) for grad in sums]


REASON = (
    "privacy.unit=example: rows are protected where c.fit() takes the gradient of the task's loss, and {what} looks at "
    "them past that, without any noise: take an algorithm that does not, or privacy.unit: client"
)


class HiddenBatch:
    """The batch of a step, where nobody but the private gradient may look at it."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        hidden("a hook of the step")

    def __len__(self) -> NoReturn:
        hidden("a hook of the step")


def hidden(what: str) -> NoReturn:
    """Raise ConfigError: ``what`` looks at rows that are protected."""
    raise ConfigError(REASON.format(what=what))


def check_model(module: nn.Module) -> None:
    """Raise ConfigError for a model that joins the rows of a batch, or keeps something of them.

    >>> check_model(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: model: 1 normalises by its batch, in which each row reaches the gradients of all \
others, so that no clip bounds what one does (privacy.unit=example): take GroupNorm or LayerNorm in its place, or set \
it to eval() where the model is built
    """
    for name, part in module.named_modules():
        if not part.training:
            continue
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                f"model: {name} normalises by its batch, in which each row reaches the gradients of all others, so "
                "that no clip bounds what one does (privacy.unit=example): take GroupNorm or LayerNorm in its place, "
                "or set it to eval() where the model is built"
            )
        if getattr(part, "track_running_stats", False):
            raise ConfigError(
                f"model: {name} keeps running statistics of rows, which leave the client without any noise "
                "(privacy.unit=example): take track_running_stats=False, or GroupNorm"
            )
