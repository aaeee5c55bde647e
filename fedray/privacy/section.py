"""The section ``privacy`` of a config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedray.core.noise import Source
from fedray.local.private import ExamplePrivacy


@dataclass(frozen=True)
class Privacy:
    """``privacy``: differential privacy: of clients, by clip and noise of the server or of each, or of rows.

    >>> Privacy(noise_multiplier=0.9).per_layer
    False
    >>> Privacy()
    Traceback (most recent call last):
    ...
    ValueError: give one of epsilon, the privacy to be spent in all, and noise_multiplier

    Args:
        model: the trust. ``central``: the server, which sees sums of updates and adds the noise; under
            ``unit: example`` nobody need trust it, as each client adds noise to its own gradients. ``local``: nobody:
            each client clips and noises all that it sends, before anybody sees it. ``distributed``: clients add shares
            of the noise to whole numbers, under the masks of a ``secure_sum`` among the transforms, so that the server
            sees no sum without noise (Kairouz, Liu and Steinke, arXiv:2102.06387).
        unit: the difference of two neighbouring data sets. ``client``: one client with all its rows, there or not;
            ``example``: one row of one client, there or not, for silos such as hospitals (DP-SGD).
        epsilon: of the whole run, above 0: the noise multiplier is found for it, for ``rounds`` rounds; of ``local``
            that of the client that takes part most often, and of ``unit: example`` that of the client whose rows pay
            most.
        noise_multiplier: z > 0: the standard deviation of the noise on a sum of updates, over what one can change it
            by; in the place of ``epsilon``.  Of ``local`` that on each update, over twice ``norm``; of ``unit:
            example`` that on the sum of the gradients of a step, over ``norm``.
        delta: the probability at which epsilon may not hold, in (0, 1): far below one over the number of clients.
        clip: ``fixed``: updates are clipped to ``norm``; ``adaptive``: to a norm that follows the quantile of theirs,
            from ``norm`` on (Andrew et al., arXiv:1905.03871).
        norm: the largest Euclidean norm that an update keeps, from 1e-30 to 1e30; of ``unit: example`` the
            gradient of a row.
        per_layer: each module's parameters are clipped by themselves, to ``norm / sqrt(modules)``; adaptive ones each
            to a norm of its own.
        quantile: of ``adaptive``: the share of updates that are to be below the norm, in [0, 1].
        clip_lr: of ``adaptive``: eta in C <- C exp(-eta (share below - quantile)), above 0.
        bit_noise: of ``adaptive``: the standard deviation of the noise on the number of updates below the norm;
            default: a twentieth of the expected cohort.
        noise: ``secure``: by a key from the operating system, which is forgotten round by round, so that nobody can
            take the noise off; ``seeded``: by the run's seed, which is reproducible and NOT PRIVATE.
        mechanism: the noise. ``gaussian``: drawn anew in each round; ``tree`` (Kairouz et al., arXiv:2103.00039) and
            ``banded`` (Choquette-Choo et al., arXiv:2306.08153): correlated between rounds, so that most of it cancels
            in the sum of all updates, for samplers by which clients take turns; all rounds are one release.
            ``laplace``: of ``local``, for an L1 norm, at a delta of 0.
        bands: of ``banded``: the number of rounds over which noise is correlated, at most those from one participation
            of a client to the next; default: as many, and no more than 16.
        restart: of ``tree``: the number of rounds after which a new tree begins; default: those from one participation
            of a client to the next, or where there is but one between them all rounds.
        relation: the difference of neighbouring federations. ``add_or_remove``: one client, there or not: of the
            sampler poisson, and of no other; ``replace_one``: another client in the place of one, so that the sum
            changes by twice ``norm``: the default of all others; ``zero_out``: one client has its rows, or takes
            part with zeros.
        accountant: ``pld``: privacy loss distributions; ``rdp``: Rényi differential privacy, faster and looser, by
            which ``distributed`` noise is counted in any case, as no more is known of it.
    """

    model: Literal["central", "local", "distributed"] = "central"
    unit: Literal["client", "example"] = "client"
    epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float = 1e-5
    clip: Literal["fixed", "adaptive"] = "fixed"
    norm: float = 1.0
    per_layer: bool = False
    quantile: float = 0.5
    clip_lr: float = 0.2
    bit_noise: float | None = None
    noise: Source = "secure"
    mechanism: Literal["gaussian", "tree", "banded", "laplace"] = "gaussian"
    bands: int | None = None
    restart: int | None = None
    relation: Literal["add_or_remove", "replace_one", "zero_out"] | None = None
    accountant: Literal["pld", "rdp"] = "pld"

    def __post_init__(self) -> None:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("give one of epsilon, the privacy to be spent in all, and noise_multiplier")
        for name in ("epsilon", "noise_multiplier", "norm", "clip_lr", "bit_noise"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < float("inf"):
                raise ValueError(f"{name}={value:g}: it must be above 0")
        for name in ("norm", "noise_multiplier", "bit_noise"):  # their squares are above 0, and finite
            value = getattr(self, name)
            if value is not None and not 1e-30 <= value <= 1e30:
                raise ValueError(f"{name}={value:g}: it must be from 1e-30 to 1e30, such as 1")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"delta={self.delta:g}: it must be above 0 and below 1, such as 1e-5")
        if not 0.0 <= self.quantile <= 1.0:
            raise ValueError(f"quantile={self.quantile:g}: it must be from 0 to 1")
        if self.unit == "example" and (self.clip != "fixed" or self.per_layer):
            raise ValueError(
                "unit=example: gradients of rows are clipped to one fixed norm over all layers: leave out clip and "
                "per_layer"
            )
        if self.unit == "example" and self.relation is not None:
            raise ValueError(
                f"relation={self.relation}: of unit: example neighbours differ by one row, there or not: leave it out"
            )
        self._check_local()
        self._check_distributed()
        self._check_mechanism()
        usual = {"quantile": Privacy.quantile, "clip_lr": Privacy.clip_lr, "bit_noise": Privacy.bit_noise}
        for name, value in usual.items() if self.clip == "fixed" else ():
            if getattr(self, name) != value:
                raise ValueError(f"{name}={getattr(self, name):g}: it is for clip: adaptive, and this one is fixed")

    def _check_local(self) -> None:
        if self.model != "local":
            if self.mechanism == "laplace":
                raise ValueError(
                    "mechanism=laplace: it is for model: local, where each client has noise of its own: take gaussian"
                )
            return
        if self.unit == "example":
            raise ValueError(
                "model=local: with unit: example nobody need trust the server in any case, as each client adds noise "
                "to its own gradients: leave model out, or take unit: client"
            )
        if self.mechanism not in ("gaussian", "laplace"):
            raise ValueError(
                f"mechanism={self.mechanism}: correlated noise is that of a server, which keeps it from round to "
                "round: with model: local take gaussian or laplace"
            )
        if self.clip != "fixed" or self.per_layer:
            raise ValueError(
                "model=local: each client clips all that it sends to one fixed norm, as one vector, and nobody is told "
                "whether it was below: leave out clip and per_layer"
            )
        if self.relation is not None:
            raise ValueError(
                f"relation={self.relation}: with model: local a client may have any other rows, or send zeros: leave "
                "it out"
            )
        if self.accountant != "pld":
            raise ValueError(
                f"accountant={self.accountant}: with model: local what clients pay has a closed form, which is exact: "
                "leave it out"
            )
        if self.mechanism == "laplace" and self.delta != Privacy.delta:
            raise ValueError(f"delta={self.delta:g}: with mechanism: laplace it is 0 in any case: leave it out")

    def _check_distributed(self) -> None:
        if self.model != "distributed":
            return
        if self.unit == "example":
            raise ValueError(
                "model=distributed: with unit: example nobody need trust the server in any case, as each client adds "
                "noise to its own gradients: leave model out, or take unit: client"
            )
        if self.mechanism != "gaussian":
            raise ValueError(
                f"mechanism={self.mechanism}: with model: distributed clients add shares of a discrete Gaussian, drawn "
                "anew in each round: leave it out"
            )
        if self.clip != "fixed" or self.per_layer:
            raise ValueError(
                "model=distributed: each client clips all that it sends to one fixed norm, as one vector, and nobody "
                "is told whether it was below: leave out clip and per_layer"
            )

    def _check_mechanism(self) -> None:
        for name, of in (("bands", "banded"), ("restart", "tree")):
            value = getattr(self, name)
            if value is not None and self.mechanism != of:
                raise ValueError(f"{name}={value}: it is for mechanism: {of}, and this one is {self.mechanism}")
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: it must be at least 1")
        if self.mechanism != "gaussian" and self.unit == "example":
            raise ValueError(
                f"mechanism={self.mechanism}: of unit: example each step has noise of its own: leave it out"
            )
        if self.mechanism != "gaussian" and self.clip != "fixed":
            raise ValueError(
                f"mechanism={self.mechanism}: noise that is correlated between rounds is made for one norm in all of "
                "them: take clip: fixed"
            )

    @property
    def counted_at(self) -> float:
        """The delta of the epsilon that is told: ``delta``, or 0 of Laplace noise."""
        return 0.0 if self.mechanism == "laplace" else self.delta

    @property
    def examples(self) -> ExamplePrivacy | None:
        """The protection of clients' single rows, with a multiplier of 1 where that is still to be found; else None."""
        if self.unit != "example":
            return None
        return ExamplePrivacy(self.norm, self.noise_multiplier or 1.0, self.noise)
