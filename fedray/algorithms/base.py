"""An algorithm is four parts: client program, transforms, aggregator, server rule.  Nothing else knows its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import ClassVar, Literal

from torch.optim import Optimizer

from fedray.aggregators.base import Aggregator
from fedray.algorithms.server import ServerRule
from fedray.config.registry import Registry, name_of
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.core.messages import BUFFERS, DELTA, STATISTICS, BlockUpdate, Broadcast
from fedray.local.program import ClientProgram, Width, width_of
from fedray.transforms.base import Transform
from fedray.transforms.chain import chained
from fedray.transforms.codec import Codec, Draws, encoded_bytes, travelled

Weight = Literal["auto", "examples", "uniform"]


def check_at_least_0(**options: float) -> None:
    """Raise ValueError unless each of these options of an algorithm is at least 0."""
    for name, value in options.items():
        if not value >= 0.0:
            raise ValueError(f"{name}={value}: it must be at least 0")


def check_above_0(**options: float) -> None:
    """Raise ValueError unless each of these options of an algorithm is above 0."""
    for name, value in options.items():
        if not value > 0.0:
            raise ValueError(f"{name}={value}: it must be above 0")


@dataclass(frozen=True)
class AlgorithmConfig(ClientProgram):
    """Base of the registered algorithms: each is its client program, and names its server rule.

    >>> @dataclass(frozen=True)
    ... class Damped(AlgorithmConfig):
    ...     factor: float = 0.5
    ...     def server(self):
    ...         return ServerRule(lr=self.factor)
    >>> Damped(factor=0.25).server().lr
    0.25

    Args:
        weight: the clients' weights in the mean: ``examples`` (m_i), ``uniform`` (1), or ``auto``: the algorithm's own
            choice, and ``uniform`` where a transform needs it.

    Attributes:
        needs_classes: it works for targets that are classes alone.
    """

    weight: Weight = field(default="auto", kw_only=True)

    name: ClassVar[str]
    default_weight: ClassVar[Literal["examples", "uniform"]] = "examples"
    uniform_only: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = cls.__name__  # until it is registered, if ever

    def __post_init__(self) -> None:
        # A value out of range is an error where it is given, not in the first round.
        self.server()

    def server(self) -> ServerRule:
        """Make a fresh server rule."""
        return ServerRule()

    def local(self, args: LocalSection) -> LocalSection:
        """Return the local epochs and batches that the algorithm runs with."""
        return args

    def doubts(self, optimizer: Optimizer) -> Iterator[str]:
        """Say where the clients' optimizer is none that the algorithm's paper speaks of; by default of none."""
        return iter(())

    def unused(self, args: LocalSection) -> Iterator[str]:
        """Say which options the algorithm puts its own in the place of.

        Args:
            args: as the user gave them; what is a default says nothing.
        """
        taken = self.local(args)
        for option in fields(LocalSection):
            given, own = getattr(args, option.name), getattr(taken, option.name)
            if given not in (own, option.default):
                takes = "none" if own in (None, {}) else own
                yield f"local.{option.name}={given} is not used: {self.name} takes {takes}"


algorithms = Registry("algorithm", package="fedray.algorithms", base=AlgorithmConfig, such_as="fedray.FedAvg()")


@dataclass(frozen=True)
class Algorithm:
    """The four parts, checked to fit together.  Made by :func:`compose`.

    Args:
        program: the clients' half.
        statistics: clients also send the change of their buffers, which evaluations need where ``local.buffers`` is not
            ``mean``.
    """

    name: str
    program: ClientProgram
    transforms: tuple[Transform, ...]
    aggregator: Aggregator
    server: ServerRule
    weight: Literal["examples", "uniform"]
    args: LocalSection
    statistics: bool = False

    def sends(self, layout: Layout) -> dict[str, int]:
        """Return the length of each part a client sends."""
        vector = {name: span.stop - span.start for name, span in layout.spans.items()}
        if self.args.buffers != "mean":
            vector = {DELTA: vector[DELTA], **({STATISTICS: vector[BUFFERS]} if self.statistics else {})}
        return vector | {name: width_of(width, layout) for name, width in self.program.sends.items()}

    def widths(self, layout: Layout) -> dict[str, int]:
        """Return the length of each tensor of an accumulator."""
        return dict(self.aggregator.widths(self.sends(layout)))

    def check(self, layout: Layout) -> None:
        """Check that the parts fit the model.

        Raises:
            ConfigError: noise for the trained parameters, and buffers that clients would send without any.
        """
        needs_uniform = [name_of(t) for t in self.transforms if t.needs_uniform]
        buffers = [entry.name for entry in layout.rest if entry.kind == "buffer"]
        if needs_uniform and buffers and self.args.buffers == "mean":
            raise ConfigError(
                f"local.buffers: {needs_uniform[0]} protects the trained parameters, but clients also send buffers, "
                f"such as {buffers[0]}; set it to keep or local, or take a model without them, such as one with "
                "GroupNorm in the place of BatchNorm"
            )

    def broadcast_widths(self, layout: Layout) -> dict[str, int]:
        """Return the length of each part the server sends."""
        added = {name: width_of(width, layout) for name, width in self.server.broadcasts.items()}
        return {"model": layout.size, **added, **({STATISTICS: layout.buffers} if self.statistics else {})}

    def download(self, layout: Layout) -> int:
        """Count the bytes one client receives in a round."""
        delta = _length(layout)
        return self._encoded(self.down, delta) + 4 * (sum(self.broadcast_widths(layout).values()) - delta)

    def state(self) -> dict[str, Width]:
        """Return the widths of each client's state.

        The program's by its names, a transform's by its place in the config.
        """
        kept: dict[str, Width] = dict(self.program.state)
        for position, transform in enumerate(self.transforms):
            kept |= {_placed(position, name): width for name, width in transform.state.items()}
        return kept

    def on_clients(self, update: BlockUpdate) -> None:
        """Apply the client halves of the transforms in their order.

        Each finds what it kept itself, and nothing else.
        """
        everything = update.state
        for position, transform in enumerate(self.transforms):
            update.state = {name: everything[_placed(position, name)] for name in transform.state}
            transform.on_clients(update)
            everything |= {_placed(position, name): update.state[name] for name in transform.state}
        update.state = everything

    def upload(self, layout: Layout) -> int:
        """Count the bytes one client sends in a round."""
        delta = _length(layout)
        return self._encoded(self.up, delta) + 4 * (sum(self.sends(layout).values()) - delta)

    @cached_property
    def up(self) -> tuple[Codec, ...]:
        """The codecs of updates, in their order."""
        return tuple(t for t in self.transforms if isinstance(t, Codec) and t.up)

    @cached_property
    def down(self) -> tuple[Codec, ...]:
        """The codecs of the broadcast model, in their order."""
        return tuple(t for t in self.transforms if isinstance(t, Codec) and t.down)

    def on_the_way_up(self, update: BlockUpdate, seed: int, keys: Sequence[int]) -> None:
        """Let the trained entries of updates arrive as codecs leave them.

        Args:
            update: of a block.
            seed: the run's seed.
            keys: the clients' keys.
        """
        if self.up:
            delta = update.parts[DELTA]
            delta.copy_(travelled(self.up, delta, Draws(seed, "encode", update.round, keys)))

    def heard(self, down: Broadcast, layout: Layout, seed: int) -> Broadcast:
        """Return a broadcast as it reaches clients: codecs work on the trained entries of the model."""
        if not self.down:
            return down
        model, trained = down.parts["model"].clone(), layout.spans[DELTA]
        model[trained] = travelled(self.down, model[trained][None], Draws(seed, "broadcast", down.round))[0]
        return replace(down, parts={**down.parts, "model": model})

    @cached_property
    def _counted(self) -> dict[tuple[bool, int], int]:
        return {}

    def _encoded(self, codecs: tuple[Codec, ...], size: int) -> int:
        name = codecs is self.up, size
        if name not in self._counted:
            self._counted[name] = encoded_bytes(codecs, size)
        return self._counted[name]


def compose(
    config: AlgorithmConfig, transforms: Sequence[Transform], aggregator: Aggregator, args: LocalSection
) -> Algorithm:
    """Put the parts of an algorithm together if they fit one another: the one compatibility check.

    Raises:
        ConfigError: parts that cannot work together, saying which and what to choose instead.
    """
    if hasattr(config, "rule"):
        raise ConfigError(
            f"algorithm: {type(config).__name__} has a local rule (start, gradient, finish); now an algorithm has a "
            "client program in its place: see docs/write-your-own.md"
        )
    prepared = chained(transforms)
    needs_uniform = [name_of(t) for t in prepared if t.needs_uniform]
    weight = config.weight
    if weight == "auto":
        weight = "uniform" if needs_uniform else config.default_weight
    if weight != "uniform" and (needs_uniform or config.uniform_only):
        who = needs_uniform[0] if needs_uniform else config.name
        raise ConfigError(f"algorithm.weight: {who} needs every client to weigh the same: set it to uniform or auto")
    if needs_uniform and config.sends:
        sent = ", ".join(config.sends)
        raise ConfigError(
            f"transforms: {needs_uniform[0]} protects the update only, but {config.name} also sends {sent}; "
            "use an algorithm whose clients send the update alone (fedray list algorithms)"
        )
    if needs_uniform and not aggregator.linear:
        raise ConfigError(f"aggregator: the noise of {needs_uniform[0]} is made for the mean of the updates: use mean")
    hidden = [name_of(t) for t in prepared if t.linear_only]
    if hidden and not aggregator.linear:
        raise ConfigError(f"aggregator: {hidden[0]} hides single updates, so the aggregator must be linear: use mean")
    return Algorithm(config.name, config, tuple(prepared), aggregator, config.server(), weight, config.local(args))


def _length(layout: Layout) -> int:
    """Return the number of trained entries of an update."""
    trained = layout.spans[DELTA]
    return int(trained.stop - trained.start)


def _placed(position: int, name: str) -> str:
    return f"transforms[{position}].{name}"
