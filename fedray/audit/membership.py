"""Membership inference: which clients a model was trained with, guessed from the model and their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fedray.audit.runs import run
from fedray.config.registry import name_of
from fedray.core.errors import ConfigError
from fedray.core.losses import per_example
from fedray.core.messages import Floats, Ints
from fedray.core.rng import integer, numpy_generator
from fedray.data.columns.inputs import InputColumns, Inputs, like, parts
from fedray.data.columns.rows import Examples
from fedray.experiment.build import Config
from fedray.local.task import LocalTask
from fedray.models.prototype import last_of
from fedray.privacy.accounting import spent
from fedray.privacy.central import Central
from fedray.run.evaluation import Evaluator, take_from
from fedray.run.models import no_model
from fedray.run.plan import Plan
from fedray.rundir.scratch import scratch
from fedray.sampling import Sampler

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Among(Sampler):
    """The cohorts that a sampler would draw if some of the clients were all there are.

    >>> from fedray.sampling import Full
    >>> Among(Full(), np.array([1, 3])).cohort(np.array([5, 5, 5, 5]), seed=1, round=1)
    array([1, 3])

    Args:
        sampler: of cohorts.
        members: indices of these clients, increasing.
    """

    sampler: Sampler
    members: Ints

    def check(self, sizes: Ints) -> None:
        """Raise ValueError if no cohort can be drawn from them."""
        self.sampler.check(sizes[self.members])

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Draw a cohort of the members."""
        found: Ints = self.members[self.sampler.cohort(sizes[self.members], seed, round)]
        return found

    def expected(self, sizes: Ints) -> float:
        """Return the number of clients that a cohort of them is expected to have."""
        return self.sampler.expected(sizes[self.members])


@dataclass(frozen=True)
class Seen:
    """The losses of rows under models that were trained with some of the clients each.

    Args:
        losses: of each training row under each model, float64 ``[M, R]``.
        there: True where the client of a row was among those that a model was trained with, ``[M, N]``.
        owner: the client of each row, rising, ``[R]``.
    """

    losses: Floats
    there: Bools
    owner: Ints

    @property
    def rows(self) -> Bools:
        """True where a row was among those that a model was trained with, ``[M, R]``."""
        found: Bools = self.there[:, self.owner]
        return found

    def scores(self) -> dict[tuple[str, str], tuple[Floats, Bools]]:
        """Return the scores of guesses by attack and unit, the larger the surer, with the truth: both ``[M * n]``.

        Attacks are ``loss threshold``, ``calibrated threshold`` and ``likelihood ratio``, units ``rows`` and
        ``clients``.  Each model is attacked in its turn, and the others are the shadow models of the last two.
        """
        confident = logits(self.losses)
        of_rows = confident, self.rows
        of_clients = _mean_of(confident, self.owner, self.there.shape[1]), self.there
        attacks = {
            "loss threshold": _alone,
            "calibrated threshold": calibrated,
            "likelihood ratio": likelihood_ratios,
        }
        return {
            (attack, unit): (score(values, there).ravel(), there.ravel())
            for unit, (values, there) in {"rows": of_rows, "clients": of_clients}.items()
            for attack, score in attacks.items()
        }


def logits(losses: Floats) -> Floats:
    """Return the logit of the probability ``p = e^-loss`` that a model gives what is true: ``-log(e^loss - 1)``.

    It is nearly normal where a loss is not (Carlini et al., arXiv:2112.03570, section IV-C).  Losses that are no
    cross-entropies are ordered by it as well, the smallest first.

    >>> logits(np.array([np.log(2.0), 50.0])).round(3).tolist()
    [0.0, -50.0]

    Args:
        losses: float64, any shape; values below 1e-12 count as 1e-12.
    """
    losses = np.maximum(losses, 1e-12)
    found: Floats = -losses - np.log(-np.expm1(-losses))
    return found


def calibrated(confident: Floats, there: Bools) -> Floats:
    """Return for each model and unit the logit less its mean under all other models without the unit, ``[M, n]``.

    So a threshold for all no longer takes what is easy for what was there: the calibration of Watson et al.
    (arXiv:2111.08440), by logits in the place of losses.  A unit that all others were in has the score 0.

    >>> there = np.array([[True, False], [False, True], [False, False]])
    >>> calibrated(np.array([[3.0, 9.0], [1.0, 8.0], [2.0, 8.0]]), there)
    array([[ 1.5,  1. ],
           [-1. , -0.5],
           [ 1. , -1. ]])

    Args:
        confident: logits of units under models, ``[M, n]``.
        there: True where a unit was in, ``[M, n]``.
    """
    mean, _ = _means(confident, ~there)
    return np.nan_to_num(confident - mean, nan=0.0)


def likelihood_ratios(confident: Floats, there: Bools) -> Floats:
    """Return for each model and unit ``log N(x; m_in, s_in) - log N(x; m_out, s_out)`` by all other models, ``[M, n]``.

    This is the online attack of Carlini et al. (arXiv:2112.03570, algorithm 1), without augmented queries: the means
    are those of the unit under the n other models that it was in, or not, and the variances, as they do where shadow
    models are few, those of all units together.  As a mean of few models is off by itself, a variance is taken times
    ``1 + 1/n``, which they do not: else the side with more models would fit better.  A unit that all others were in, or
    none, has the score 0.

    Args:
        confident: logits of units under models, ``[M, n]``.
        there: True where a unit was in, ``[M, n]``.
    """
    found = _fit(confident, there) - _fit(confident, ~there)
    return np.nan_to_num(found, nan=0.0)


def _fit(confident: Floats, mask: Bools) -> Floats:
    """Return the log density of each logit by the other models of a mask, ``[M, n]``; NaN where there are none."""
    (mean, count), total = _means(confident, mask), mask.sum(axis=0)
    with np.errstate(divide="ignore"):
        wider = 1.0 + 1.0 / count
    centre = np.where(mask, confident, 0.0).sum(axis=0) / np.maximum(total, 1)
    free = max(1, int(total.sum() - (total > 0).sum()))
    variance = max(1e-24, float((np.where(mask, confident - centre, 0.0) ** 2).sum() / free)) * wider
    found: Floats = -0.5 * ((confident - mean) ** 2 / variance + np.log(variance))
    return found


def _means(confident: Floats, mask: Bools) -> tuple[Floats, Ints]:
    """Return the mean of each logit by the other models of a mask, NaN where there are none, and their number."""
    held, count = np.where(mask, confident, 0.0), mask.sum(axis=0) - mask
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count > 0, (held.sum(axis=0) - held) / count, np.nan), count


def _alone(confident: Floats, there: Bools) -> Floats:
    """Return the scores of a threshold that is the same for all units (Yeom et al., arXiv:1709.01604)."""
    return confident


def _mean_of(values: Floats, owner: Ints, clients: int) -> Floats:
    """Return the mean of each client's rows ``[M, N]``."""
    counts = np.maximum(np.bincount(owner, minlength=clients), 1)
    return np.stack([np.bincount(owner, row, minlength=clients) for row in values]) / counts


@dataclass
class Membership:
    """Models of a config, each trained with about half of its clients, and what their losses tell.

    Each client is in each of them by a coin of its own, named by the seed: were it in exactly half of them, the number
    of the other ones would tell.  Each model has cohorts, orders and noise of its own, and all start from the config's
    first model, which an attacker knows.

    Args:
        config: the experiment, bound, with the changes :data:`~fedray.audit.runs.HERE`.
        models: their number M, at least 4.

    Raises:
        ConfigError: the config gives no global model, or has too few clients.
    """

    config: Config
    models: int
    plan: Plan = field(init=False)
    there: Bools = field(init=False)

    def __post_init__(self) -> None:
        if self.models < 4:
            raise ConfigError(
                f"--models={self.models}: each is attacked by means of the others, with a client and without: give 4 "
                "or more"
            )
        self.plan = self.config.plan().bare()
        task = self.plan.task
        if words := no_model(self.plan.layout, task.program.global_model):
            raise ConfigError(f"algorithm: the attack is on the server's model: {words}; take fedavg, say")
        if self.plan.algorithm.statistics:
            raise ConfigError(
                f"local.buffers={task.args.buffers}: the attack is on the server's model, whose statistics stay as "
                "they are: take local.buffers=mean, or a model without BatchNorm"
            )
        if (ring := self.plan.algorithm.transforms.ring) is not None:
            raise ConfigError(
                f"transforms: each model is trained with about half of the clients, and the masks of {name_of(ring)} "
                "are made for whole cohorts: leave it out, as models tell as much by a plain sum"
            )
        draw = numpy_generator(task.seed, "membership", round=1)
        self.there = draw.random((self.models, len(task.data))) < 0.5
        for members in self._members():
            try:
                Among(self.plan.sampler, members).check(task.data.sizes)
            except ValueError as error:
                raise ConfigError(f"sampler: each model has about half of the clients, and {error}") from None

    def claim(self) -> tuple[float, float] | None:
        """Return the (epsilon, delta) that the config claims for a client that is there or not; None: it claims none.

        Under ``replace_one`` a claim is about another client in the place of one, which is not what is guessed.
        """
        central = next((part for part in self.plan.algorithm.transforms if isinstance(part, Central)), None)
        if central is None or central.cohorts.relation == "replace_one":
            return None
        section = central.privacy
        releases = central.release().over(self.plan.rounds)
        return spent(releases, section.delta, central.accountant), section.delta

    def _members(self) -> list[Ints]:
        return [np.flatnonzero(row) for row in self.there]

    def __iter__(self) -> Iterator[Seen]:
        """Train the models, and yield after each from the fourth on what all so far have shown.

        Raises:
            RunFailed: a run could not go on.
        """
        task, losses = self.plan.task, list[Floats]()
        owner = np.repeat(np.arange(len(task.data)), task.data.sizes)
        for number, members in enumerate(self._members()):
            seed = integer(task.seed, "membership", round=2, client=number)
            plan = replace(self.plan, task=replace(task, seed=seed), sampler=Among(self.plan.sampler, members))
            with scratch() as place:
                vector = run(plan, place, self.config.place.worker.threads)
            losses.append(losses_of(task, vector))
            yield Seen(np.stack(losses), self.there[: number + 1], owner)


def losses_of(task: LocalTask, vector: torch.Tensor) -> Floats:
    """Return the loss of each client's training rows, client by client, under a model ``[P]``: float64 ``[R]``."""
    module = last_of(task.model_fn)
    task.layout.load(module, vector)
    loss = task.measures.loss
    evaluator = Evaluator(
        module, loss, lambda output, y: {"loss": per_example(loss, output, y)}, task.seed, augment=task.augment
    )
    found = []
    for client in np.flatnonzero(task.data.sizes).tolist():
        x, y = rows_of(task, [client])
        rows = Examples(x, y)
        with evaluator.named(0, client):
            for start in range(0, len(y), task.evaluated_rows):
                stop = min(len(y), start + task.evaluated_rows)
                found.append(evaluator.values(take_from(rows, y.device), stop, start)["loss"])
    return np.concatenate(found)


def rows_of(task: LocalTask, clients: Sequence[int]) -> tuple[Inputs, torch.Tensor]:
    """Return all training rows of some clients, one after the other: inputs and targets ``[R, ...]``."""
    found: list[tuple[Inputs, torch.Tensor]] = []
    for client in clients:
        index = np.arange(int(task.data.sizes[client]), dtype=np.int64)[None]
        x, y = task.data.rows(np.array([client]), torch.device("cpu")).take(index)
        found.append((like(x, lambda one: one[0]), y[0]))
    columns: list[list[torch.Tensor]] = [parts(x) for x, _ in found]
    joined = [torch.cat(pieces) for pieces in zip(*columns, strict=True)]
    first: Inputs = found[0][0]
    whole: Inputs = (
        InputColumns(dict(zip(first, joined, strict=True))) if isinstance(first, InputColumns) else joined[0]
    )
    return whole, torch.cat([y for _, y in found])
