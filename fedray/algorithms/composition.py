"""An algorithm with the other parts that it runs with, checked to fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from fedray.aggregators.base import Aggregator
from fedray.aggregators.mean import Mean
from fedray.algorithms.base import Algorithm
from fedray.algorithms.profiles import check_profile
from fedray.config.registry import name_of
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError, one_line
from fedray.core.fields import Field, floats
from fedray.core.layout import Layout
from fedray.core.messages import DELTA, SHARE, STATISTICS
from fedray.core.regions import Entry
from fedray.core.versions import FROZEN, changed, versions
from fedray.local.guards import RESERVED
from fedray.local.program import Profile, fragments_of
from fedray.local.task import LocalTask
from fedray.server import PerClient, Server, ServerOptimizer
from fedray.transforms.base import Transform
from fedray.transforms.chain import Chain


@dataclass(frozen=True)
class Composition:
    """The parts of an algorithm, checked to fit together.  Made by :func:`compose`.

    Args:
        program: the algorithm itself: the clients' half and the server's.
        server: the server optimizer.
        receives: lengths of what clients receive besides the model, by name.
        addressed: lengths of the rows that each client receives alone.
        profile: lengths of what clients send and keep, as a trial of the program saw them.
        statistics: clients also send the change of their buffers, which evaluations need where ``local.buffers`` is not
            ``mean``.
    """

    name: str
    program: Algorithm
    transforms: Chain
    aggregator: Aggregator
    server: ServerOptimizer
    weight: Literal["examples", "uniform", "tokens", "own"]
    args: LocalSection
    statistics: bool = False
    receives: Mapping[str, int] = field(default_factory=dict)
    addressed: Mapping[str, int] = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)

    @property
    def tellers(self) -> tuple[str, ...]:
        """The names of the parts that may tell metrics of a round; the second of a name is called ``name_2``."""
        parts = [name_of(self.aggregator), *(name_of(t) for t in self.transforms), self.name, name_of(self.server)]
        times = [parts[:place].count(name) + 1 for place, name in enumerate(parts)]
        return tuple(name if time == 1 else f"{name}_{time}" for name, time in zip(parts, times, strict=True))

    def sends(self, layout: Layout) -> dict[str, int]:
        """Return the length of each part a client sends."""
        vector = {name: span.stop - span.start for name, span in layout.spans.items()}
        if (fragments := fragments_of(self.program, layout)) is not None:
            vector[DELTA] = fragments.width
        vector |= {STATISTICS: layout.buffers} if self.statistics else {}
        return {**vector, **self.profile.sends, **self.transforms.sends}

    def widths(self, layout: Layout) -> dict[str, int]:
        """Return the length of each tensor of an accumulator."""
        sends, slots = {**self.sends(layout), **self.profile.surveys}, self.profile.slots
        summed = {name: width * slots.get(name, 1) for name, width in sends.items()}
        return dict(self.aggregator.widths({**summed, **{f"{name}{SHARE}": count for name, count in slots.items()}}))

    def check(self, layout: Layout) -> None:
        """Check that the parts fit the model.

        Raises:
            ConfigError: noise for the trained parameters, and buffers that clients would send without any; or a policy
                for buffers that hides those of the server.
        """
        needs_uniform = [name_of(t) for t in self.transforms if t.needs_uniform]
        buffers = [entry.name for entry in layout.rest if entry.region == "shared"]
        if needs_uniform and buffers:
            raise ConfigError(
                f"local.buffers: {needs_uniform[0]} protects the trained parameters, but clients also send buffers, "
                f"such as {buffers[0]}; set it to keep or local, or take a model without them, such as one with "
                "GroupNorm in the place of BatchNorm"
            )
        if (kept := self.kept(layout)) and self.args.buffers != "mean":
            raise ConfigError(
                f"local.buffers={self.args.buffers}: {self.name} changes {kept[0].name} on the server, and "
                "evaluations would take the clients': leave it at mean"
            )

    def kept(self, layout: Layout) -> list[Entry]:
        """Return the buffers that the server alone changes."""
        frozen = (entry for entry in layout.rest if entry.region == "frozen")
        return [entry for entry in frozen if self.program.region(entry) == "kept"]

    def broadcast_widths(self, layout: Layout) -> dict[str, int]:
        """Return the length of each part the server sends."""
        statistics = {STATISTICS: layout.buffers} if self.statistics else {}
        return {"model": layout.size, **self.receives, **self.transforms.receives, **statistics}

    def start(self, vector: Tensor, layout: Layout, clients: int, classes: int, seed: int) -> Server:
        """Start the server's half on a model ``[P]``, which is then moved along; the rest as :class:`Server` has it."""
        fragments = fragments_of(self.program, layout)
        server = Server(vector, layout, clients, classes, seed, self.server, fragments=fragments)
        server.state = self.program.start(server)
        return server

    def received(self, task: LocalTask, vector: Tensor) -> LocalTask:
        """Return a local training problem with the lengths of what clients receive, as they are in the first round.

        Args:
            task: the local training problem.
            vector: the model ``[P]``, which is left as it is.

        Raises:
            ConfigError: the algorithm's ``start`` or ``broadcast`` fails, or it sends what no client can receive.
        """
        try:
            server = self.start(vector.clone(), task.layout, len(task.data), task.data.spec.outputs, task.seed)
            server.enter(1)
            before = versions({"the model": server.vector, **server.state_dict()})
            sent = self.program.broadcast(server)
            wrong = changed(before, {"the model": server.vector, **server.state_dict()})
            alone: dict[str, int] = {}
            found: dict[str, tuple[torch.dtype, list[int]]] = {}
            for name, part in sent.items():
                if isinstance(part, PerClient):
                    alone[name] = part.width
                else:
                    found[name] = part.dtype, list(part.shape)
        except Exception as error:
            raise ConfigError(f"algorithm: the server's half of {self.name} fails: {one_line(error)}") from error
        if wrong:
            raise ConfigError(f"algorithm: the broadcast of {self.name} changes {wrong[0]}; {FROZEN.format('step')}")
        for name, (dtype, shape) in found.items():
            if name in RESERVED or len(shape) != 1 or dtype != torch.float32:
                raise ConfigError(
                    f"algorithm: {self.name} broadcasts {name}, {dtype} {shape}; it must be a float32 vector, of "
                    f"another name than {', '.join(RESERVED)}"
                )
        if taken := [name for name in alone if name in RESERVED]:
            raise ConfigError(f"algorithm: {self.name} broadcasts {taken[0]}, a name of the engine's: take another")
        return replace(task, receives={name: shape[0] for name, (_, shape) in found.items()}, addressed=alone)

    def download(self, layout: Layout, parameters: int | None = None) -> int:
        """Count the bytes one client receives in a round, with all of the buffers that the server changes.

        Args:
            layout: of the model.
            parameters: the trained ones that it receives, where it has kept the others as they are; None: all.
        """
        delta = layout.shared if parameters is None else parameters
        widths = self.broadcast_widths(layout) | {"model": layout.travels}
        numbers = sum(widths.values()) - layout.shared + sum(self.addressed.values())
        numbers += sum(entry.stop - entry.start for entry in self.kept(layout))
        return self.transforms.encoded(delta, up=False) + 4 * numbers

    def state(self, layout: Layout) -> dict[str, Field]:
        """Return the length and type of each part of a client's state.

        The program's by its names, a transform's by its place in the config.
        """
        return {**self.profile.rows, **floats(self.transforms.state(layout.shared))}

    def tried(self, profile: Profile) -> Composition:
        """Return the algorithm with what a trial of its program saw.

        Raises:
            ConfigError: a part cannot work with what clients send.
        """
        plain = type(self.program).step is Algorithm.step
        check_profile(self.name, profile, self.program.weight, self.transforms, self.aggregator, plain)
        return replace(self, profile=profile, weight="own" if profile.weighs else self.weight)

    @property
    def subtracts(self) -> bool:
        """True if the aggregator subtracts what updates start from, as no transform looks at them before it does."""
        return self.aggregator.subtracts and not self.transforms

    def upload(self, layout: Layout, parameters: int | None = None) -> int:
        """Count the bytes one client sends in a round.

        Args:
            layout: of the model.
            parameters: the trained ones whose change it sends; None: as many as in any round.
        """
        sends, seen = self.sends(layout), self.profile
        delta = sends[DELTA]
        numbers = sum(sends.values()) - delta + len(seen.slots) + seen.weighs
        numbers += sum(seen.surveys.values())
        if (ring := self.transforms.ring) is not None:
            return ring.value_bytes * (delta + numbers)  # filled up, before it is masked
        apart = sum(field.nbytes for field in seen.apart.values())
        return self.transforms.encoded(delta if parameters is None else parameters, up=True) + 4 * numbers + apart


def compose(
    config: Algorithm,
    transforms: Sequence[Transform],
    aggregator: Aggregator,
    args: LocalSection,
    server: ServerOptimizer | None = None,
) -> Composition:
    """Put the parts of an algorithm together if they fit one another: the one compatibility check.

    Args:
        config: the algorithm.
        transforms: in their order.
        aggregator: the aggregator.
        args: the section ``local``.
        server: of the section ``server``; None: there is none.

    Raises:
        ConfigError: parts that cannot work together, saying which and what to choose instead.
    """
    if _has_rule(config):
        raise ConfigError(
            f"algorithm: {type(config).__name__} has a local rule (start, gradient, finish); now an algorithm has a "
            "client program in its place: see docs/write-your-own.md"
        )
    if old := [name for name in ("state", "sends") if isinstance(getattr(type(config), name, None), Mapping)]:
        raise ConfigError(
            f"algorithm: {type(config).__name__} declares {old[0]}; now a trial before the run sees what clients keep, "
            "all of which initial_state returns, and what they send: see docs/write-your-own.md"
        )
    optimizer = _server(config, server)
    prepared = Chain.of(transforms)
    needs_uniform = [name_of(t) for t in prepared if t.needs_uniform]
    weight = config.weight
    if weight == "auto":
        weight = "uniform" if needs_uniform else config.default_weight
    if weight != "uniform" and (needs_uniform or config.uniform_only):
        who = needs_uniform[0] if needs_uniform else config.name
        raise ConfigError(f"algorithm.weight: {who} needs every client to weigh the same: set it to uniform or auto")
    hidden = [name_of(t) for t in prepared if t.linear_only]
    if hidden and not aggregator.linear:
        raise ConfigError(f"aggregator: {hidden[0]} hides single updates, so the aggregator must be linear: use mean")
    summed = [name_of(t) for t in prepared if t.needs_uniform and not t.randomizes]
    if summed and not aggregator.linear:
        raise ConfigError(f"aggregator: the noise of {summed[0]} is made for the mean of the updates: use mean")
    if prepared.ring is not None and type(aggregator) is not Mean:
        raise ConfigError(
            f"aggregator: {name_of(prepared.ring)} sums whole numbers by itself, and nothing else: use mean in the "
            f"place of {name_of(aggregator)}"
        )
    return Composition(config.name, config, prepared, aggregator, optimizer, weight, config.local(args))


def _has_rule(config: Algorithm) -> bool:
    """Tell if an algorithm is of the old contract: it has a rule, or methods of one that nothing of its own calls."""
    methods = any(callable(getattr(config, name, None)) for name in ("gradient", "finish"))
    return hasattr(config, "rule") or (methods and config.plain and type(config).step is Algorithm.step)


def _server(config: Algorithm, given: ServerOptimizer | None) -> ServerOptimizer:
    """Return the server optimizer: the one given, or the algorithm's.

    Raises:
        ConfigError: the one given would be ignored, or the algorithm has a server rule of the old contract.
    """
    own = config.server()
    if not isinstance(own, ServerOptimizer):
        raise ConfigError(
            f"algorithm: {type(config).__name__}.server() returns {type(own).__name__}; now an algorithm has start, "
            "broadcast and step in the place of a server rule: see docs/write-your-own.md"
        )
    if given is None:
        return own
    if not config.uses_server:
        raise ConfigError(f"server: {config.name} moves the model itself, without a server optimizer; leave it out")
    if type(config).server is not Algorithm.server:
        raise ConfigError(
            f"server: {config.name} is an algorithm with a server optimizer of its own, {name_of(own)}: say it by the "
            "algorithm's options and leave server out, or take algorithm=fedavg"
        )
    if config._server_lr is not None:
        raise ConfigError(
            f"server.lr={given.lr} and algorithm.server_lr={config._server_lr}: they are two words for the same; "
            "leave out algorithm.server_lr"
        )
    return given
