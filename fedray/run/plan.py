"""The plan of a run, apart from where it runs: its parts, and what follows from them for each round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from torch import Tensor

from fedray.algorithms.composition import Composition
from fedray.attacks.attackers import Attackers
from fedray.config.registry import name_of
from fedray.config.sections import BudgetSection, CheckpointSection, EvaluateSection, FailuresSection, StopSection
from fedray.core.layout import Layout
from fedray.core.messages import Block, Ints, Parts
from fedray.core.monitor import Monitor
from fedray.core.noise import NoiseKeys, Source, derived
from fedray.core.record import RoundRecord
from fedray.local.rate import LearningRate
from fedray.local.schedule import local_steps, poisson_rates
from fedray.local.task import LocalTask
from fedray.local.views import Views, views_of
from fedray.local.work import own_rates
from fedray.privacy import Privacy
from fedray.privacy.central import NOT_PRIVATE, Central
from fedray.privacy.randomized import Local
from fedray.run.absent import staying
from fedray.run.blocks import cut
from fedray.run.evaluation import HoldoutChunk, TestChunk
from fedray.run.models import model_sha256, no_model
from fedray.run.samples import Words, samples_told
from fedray.run.watch import Watch, judge, monitors
from fedray.run.weights import weights
from fedray.rundir.client_state import ClientStore
from fedray.sampling import Poisson, Sampler, Uniform
from fedray.server import PerClient, Server
from fedray.transforms import Clip, Gaussian
from fedray.transforms.secure.share import SharesNoise

_HOLDOUT_CLIENTS = 64


def evaluated(every: int, round: int, last: int) -> bool:
    """Tell if the model after ``round`` of ``last`` is evaluated, that is done after ``every`` rounds; 0: never."""
    return every > 0 and (round % every == 0 or round == last) and round > 0


def saved(checkpoint: CheckpointSection, round: int, last: int, since: float) -> bool:
    """Tell if the state after ``round`` of ``last`` is saved, ``since`` seconds after the checkpoint before.

    >>> [saved(CheckpointSection(2, 60), round, 5, 59.0) for round in range(1, 6)]
    [False, True, False, True, True]
    >>> saved(CheckpointSection(0, 60), 1, 5, 60.0)
    True
    """
    by_rounds = checkpoint.every > 0 and round % checkpoint.every == 0
    by_time = 0 < checkpoint.seconds <= since
    return round == last or by_rounds or by_time


@dataclass(frozen=True)
class Plan:
    """The parts of a run, apart from where it runs.

    Args:
        task: local training.
        algorithm: its parts.
        sampler: cohorts.
        rounds: the number of rounds in all.
        evaluate: the evaluations.
        failures: the meaning of failures.
        left_out: indices of clients that are given up unasked, by round.
        attackers: the Byzantine clients, if the run has an attack; the algorithm has them among its parts.
        privacy: the section, where clients are protected; the algorithm has its mechanism among its transforms.
        checkpoint: the checkpoints.
        budget: the limits of all rounds together.
        stop: early stopping.
        warnings: findings of its making, for the log and for ``fedray plan``.
    """

    task: LocalTask
    algorithm: Composition
    sampler: Sampler
    rounds: int
    evaluate: EvaluateSection = field(default_factory=EvaluateSection)
    failures: FailuresSection = field(default_factory=FailuresSection)
    checkpoint: CheckpointSection = field(default_factory=CheckpointSection)
    budget: BudgetSection = field(default_factory=BudgetSection)
    stop: StopSection = field(default_factory=StopSection)
    left_out: Mapping[int, frozenset[int]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    attackers: Attackers | None = None
    privacy: Privacy | None = None

    @property
    def layout(self) -> Layout:
        """The model's layout."""
        return self.task.layout

    @property
    def server_rate(self) -> LearningRate:
        """The server's learning rate of each round."""
        optimizer = self.algorithm.server
        return LearningRate(optimizer.schedule, self.rounds, optimizer.lr)

    @property
    def unevaluated(self) -> tuple[str, ...]:
        """The words for a run of which nothing is evaluated, with what to do; none where something is, or need not."""
        data = self.task.data
        if data.test is not None or self.evaluate.clients_every or not self.evaluate.every:
            return ()
        cure = "evaluate.clients_every=1 evaluates the rows that clients hold out"
        if not data.holdout_sizes.any():
            cure = f"name one (data.test), or let data.holdout=0.2 hold rows out: {cure}"
        return (f"nothing was evaluated, as there is no test set: {cure}",)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on what was decided, for the head of the log."""
        rate = (f"server learning rate: {self.server_rate.words}",) if self.server_rate.words else ()
        data, without = self.task.data, tuple[str, ...]()
        if self.evaluate.clients_every and data.unevaluated:
            what = "no held-out rows" if data.holdout_sizes.any() else "no test set of their own"
            without = (
                f"evaluate.clients_every: {data.unevaluated:,} of the clients have {what}, and are not evaluated",
            )
        words = no_model(self.layout, self.task.program.global_model)
        lacking = (f"model.safetensors, result.model: {words}",) if words else ()
        said = samples_told(self.task.about, data)
        weight = f"weight: {self.algorithm.weight}"
        return (*self.task.notes, *said, *lacking, *rate, weight, *without, *self._privacy())

    def _privacy(self) -> Iterator[str]:
        """Say what transforms do, what the noise protects, and what nobody accounts for."""
        transforms = self.algorithm.transforms
        for transform in transforms:
            yield from transform.words
        if (rows := self.task.private) is not None:
            data = self.task.data
            rates = poisson_rates(self.task.args, data.sizes, data.keys(np.arange(len(data))))
            yield (
                f"privacy: single rows: their gradients are clipped to {rows.norm:g}; noise multiplier "
                f"{rows.noise_multiplier:g} on each step's sum; rows come into a batch at rates from {rates.min():.3g} "
                f"to {rates.max():.3g}; each client pays for its own steps"
            )
            if rows.noise == "seeded":
                yield f"privacy: {NOT_PRIVATE}"
        if self.privacy is not None and self.evaluate.clients_every:
            yield "evaluate.clients_every: no noise protects what clients get: it stands in not_private.jsonl alone"
        alone = [name_of(transform) for transform in transforms if isinstance(transform, Clip | Gaussian)]
        if alone:
            which = " and ".join(dict.fromkeys(alone))
            yield f"{which}: not accounted: nobody counts what privacy is spent; a section privacy does"

    @property
    def not_private(self) -> dict[str, str]:
        """The words of the summary for noise that anybody can take off."""
        parts = [part for part in self.algorithm.transforms if isinstance(part, Central | Local)]
        rows = self.task.private is not None and self.task.private.noise == "seeded"
        return {"not_private": NOT_PRIVATE} if rows or any(part.noise == "seeded" for part in parts) else {}

    def start(self, vector: Tensor) -> Server:
        """Start the server's half of the algorithm on a model ``[P]``, which is then moved along."""
        data = self.task.data
        server = self.algorithm.start(vector, self.layout, len(data), data.spec.outputs, self.task.seed)
        server.rate = self.server_rate
        return server

    def broadcast(self, server: Server, kept: Parts) -> tuple[Parts, dict[str, PerClient]]:
        """Return what the server sends in a round, with zeros where the means of its survey will be.

        That is what it sends to all clients, and what it sends to each of them alone.

        Args:
            server: the server's half of the algorithm.
            kept: the tensors that the server keeps for transforms.
        """
        zeros = {name: server.vector.new_zeros(width) for name, width in self.task.profile.surveys.items()}
        sent = self.algorithm.program.broadcast(server)
        parts = {name: part for name, part in sent.items() if isinstance(part, Tensor)}
        alone = {name: part for name, part in sent.items() if isinstance(part, PerClient)}
        more = self.algorithm.transforms.broadcast(kept, self.task.seed, server.round)
        return {"model": server.vector, **parts, **more, **zeros}, alone

    def beside(self, server: Server) -> Parts:
        """Return what a round is known by beside the vector: nothing, or where that is no model all that is kept."""
        return {} if self.task.program.global_model else server.state_dict()

    def initial_kept(self, device: str) -> Parts:
        """Return the tensors that the server keeps for the aggregator, before the first round."""
        return self.algorithm.aggregator.initial_state(self.algorithm.sends(self.layout), device)

    @property
    def monitors(self) -> dict[str, Monitor]:
        """The metrics that decide between two rounds, by their config keys."""
        return monitors(self.stop, self.checkpoint)

    def judge(self, watches: dict[str, Watch], record: RoundRecord) -> bool:
        """Look at what a record has of these metrics, see :func:`fedray.run.watch.judge`."""
        return judge(self.stop, self.checkpoint, watches, record)

    def bare(self) -> Plan:
        """Return the same rounds without evaluations, checkpoints and ends before the last one."""
        return replace(
            self,
            evaluate=EvaluateSection(every=0),
            stop=StopSection(),
            budget=BudgetSection(),
            checkpoint=CheckpointSection(every=0),
        )

    def cohort(self, round: int, keys: NoiseKeys | None = None) -> Ints:
        """Draw the clients of a round.

        Args:
            round: its number.
            keys: of the run, for cohorts that it hides; None: by the seed, for what is told of a plan.
        """
        seed = self.task.seed
        if keys is not None and self.hides_cohorts:
            seed = int.from_bytes(derived(keys.of("secure", round), "cohort")[:16])
        return self.sampler.cohort(self.task.data.sizes, seed, round)

    @cached_property
    def hides_cohorts(self) -> bool:
        """True if the key of a round draws its cohort, so that what draws gain holds against who knows the seed.

        A secure sum draws cohorts by the seed on workers, and of clients that take turns the order is no secret.
        """
        transforms = self.algorithm.transforms
        gains = any(isinstance(p, Central) and p.noise == "secure" and p.correlation is None for p in transforms)
        return gains and transforms.ring is None and isinstance(self.sampler, Poisson | Uniform)

    def staying(self, round: int, cohort: Ints) -> Ints:
        """Return the clients of a cohort that do not drop out, as ``failures.dropout`` says."""
        return staying(self.failures.dropout, cohort, self.task.data, self.task.seed, round)

    @property
    def expected(self) -> float:
        """The number of clients that a cohort is expected to have, without those that drop out."""
        return self.sampler.expected(self.task.data.sizes) * (1.0 - self.failures.dropout)

    @property
    def denominator(self) -> float:
        """The number of clients that a mean which hides how many came is taken over.

        Under ``privacy`` also those count who drop out, so that nothing but the sampler decides it.
        """
        if self.privacy is None:
            return self.expected
        return self.sampler.expected(self.task.data.sizes)

    @property
    def secret(self) -> bool:
        """True if the noise of a round has a key that nobody is to know afterwards."""
        rows = self.task.private is not None and self.task.private.noise == "secure"
        return rows or any(transform.noise == "secure" for transform in self.algorithm.transforms)

    @property
    def noised_by_clients(self) -> Source | None:
        """The origin of the keys by which clients draw noise themselves; None: they draw none."""
        if self.task.private is not None:
            return self.task.private.noise
        transforms = self.algorithm.transforms
        return next((part.noise for part in transforms if part.randomizes or isinstance(part, SharesNoise)), None)

    def client_key(self, round: int, keys: NoiseKeys | None = None, start: Tensor | None = None) -> bytes:
        """Return the key of the noise that clients draw in a round; empty: they draw none.

        Args:
            round: its number.
            keys: of the run; None: of ``secure`` noise a key that nobody keeps, for what is thrown away.
            start: the model that the round begins with, ``[P]``: of rows in batches that are drawn by coins, a round
                that is done again from another model has other coins.
        """
        if (source := self.noised_by_clients) is None:
            return b""
        # Of noise that clients share a round that is done again must have another one: of two sums, from one of which a
        # client was lost, the difference would else have that client's share alone. So nobody keeps the key.
        shares = any(isinstance(part, SharesNoise) for part in self.algorithm.transforms)
        key = (NoiseKeys(self.task.seed, round=round) if shares or keys is None else keys).of(source, round)
        content = "" if self.task.private is None or start is None else model_sha256(start)
        return derived(key, "clients", content)

    @property
    def remembers(self) -> bool:
        """True if the noise of a round is made of that of earlier ones."""
        return any(isinstance(part, Central) and part.correlation is not None for part in self.algorithm.transforms)

    def weight(self, clients: Ints) -> float:
        """Return the total aggregation weight of some clients."""
        return float(weights(self.algorithm.weight, self.task, clients).sum())

    def steps(self, round: int, clients: Ints) -> Ints:
        """Return the local steps of some clients in a round, ``[C]``."""
        data = self.task.data
        return local_steps(self.task.args, data.sizes[clients], data.keys(clients), self.task.seed, round)

    def block_size(self, halvings: int) -> int:
        """Return the number of clients in a block."""
        size: int = -(-self.task.stacking.size // 2**halvings)
        return size

    def blocks(
        self,
        round: int,
        cohort: Ints,
        store: ClientStore,
        halvings: int = 0,
        survey: bool = False,
        key: bytes | None = None,
    ) -> list[Block]:
        """Cut the round's cohort into blocks, longest first; ``key`` is the :meth:`client_key` of a run."""
        key = self.client_key(round) if key is None else key
        steps, data = self.steps(round, cohort), self.task.data
        rates, variants = own_rates(self.task.args, data.keys(cohort)), None
        if self.task.submodels is not None:
            variants = self.task.variants(cohort)
            steps = steps * np.array([layout.trained for layout in self.task.submodels.layouts])[variants]
        pieces = cut(cohort, steps, self.block_size(halvings), data.pins(cohort), rates, variants)
        unasked = self.left_out.get(round, frozenset())
        rooms = store.reserve(*(0 if survey else len(clients) for clients in pieces))
        return [
            Block(
                round,
                index,
                clients,
                store.of(clients),
                data.pin(int(clients[0])),
                tuple(sorted(unasked.intersection(clients.tolist()))) if unasked else (),
                survey,
                key=key,
                room=rooms[index],
            )
            for index, clients in enumerate(pieces)
        ]

    @cached_property
    def views(self) -> Views:
        """The ways in which an evaluation sees each client."""
        return views_of(self.task, self.evaluate)

    @cached_property
    def words(self) -> Words:
        """The text of samples, by the tokenizer of the data."""
        return Words.of_task(self.task.about, self.task.data)

    def evaluations(
        self, round: int, last: int, store: ClientStore, halvings: int = 0
    ) -> list[TestChunk | HoldoutChunk]:
        """Cut the evaluations that are due after ``round`` of ``last`` into pieces; after round 0, all there are."""
        data, items = self.task.data, list[TestChunk | HoldoutChunk]()

        def due(every: int) -> bool:
            return every > 0 and (round == 0 or evaluated(every, round, last))

        if data.test is not None and self.views.shared and due(self.evaluate.every):
            items += TestChunk.cut(len(data.test), self.task.evaluated_rows, self.task.sharing.ranks)
        if due(self.evaluate.clients_every):
            held = np.flatnonzero(data.evaluation_sizes > 0)
            items += [
                HoldoutChunk(
                    index, clients, data.pin(int(clients[0])), store.of(clients), self.views, self.block_size(halvings)
                )
                for index, clients in enumerate(cut(held, np.zeros_like(held), _HOLDOUT_CLIENTS, data.pins(held)))
            ]
        return items

    def traffic(self, sampled: Ints, accepted: Ints, round: int = 1, last: Ints | None = None) -> dict[str, int]:
        """Count the bytes of a round: ``down`` to the sampled clients, ``up`` from them; the rest as for `carried`."""
        carried = self.carried(sampled, accepted, round, last)
        beside = self.exchanged(len(sampled), len(accepted))
        return {way: carried[way] + beside[way] for way in carried}

    def carried(self, sampled: Ints, accepted: Ints, round: int = 1, last: Ints | None = None) -> dict[str, int]:
        """Count the bytes of broadcasts, ``down`` to the sampled clients, and of updates, ``up`` from the accepted.

        Args:
            sampled: the clients of the cohort.
            accepted: those whose updates arrived.
            round: its number.
            last: of a model in fragments the last round that each client took part in, ``[N]``, 0: none; those
                receive what has moved since then, and all others the whole model.
        """
        fragments, layouts = self.task.fragments, self.task.layouts
        down = sum(count * self.algorithm.download(layout) for layout, count in layouts(sampled))
        if fragments is not None and last is not None:
            found = zip(*np.unique(last[sampled], return_counts=True), strict=True)
            behind = [(fragments.behind(int(since), round), int(count)) for since, count in found]
            down = sum(count * self.algorithm.download(self.layout, numbers) for numbers, count in behind)
        size = None if fragments is None else fragments.at(round).columns.size
        up = sum(count * self.algorithm.upload(layout, size) for layout, count in layouts(accepted))
        return {"down": down, "up": up}

    def exchanged(self, sampled: int, accepted: int) -> dict[str, int]:
        """Count the bytes of what transforms exchange beside that, with so many clients."""
        found = [transform.beside(sampled, accepted) for transform in self.algorithm.transforms]
        return {"down": sum(down for down, _ in found), "up": sum(up for _, up in found)}
