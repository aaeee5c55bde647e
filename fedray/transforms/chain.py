"""The transforms of a run in their order, and the places at which they act."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property

import torch

from fedray.config.registry import name_of
from fedray.core.errors import ConfigError, RunFailed, one_line
from fedray.core.messages import DELTA, Aggregate, BlockUpdate, Broadcast, Parts
from fedray.core.noise import Noise
from fedray.core.now import Now
from fedray.core.versions import FROZEN, changed, versions
from fedray.local.guards import call_hook
from fedray.transforms.base import Setting, Transform, placed
from fedray.transforms.codec import Codec, Draws, encoded_bytes, travelled

Hear = Callable[[Transform, Mapping[str, float] | None, Mapping[str, float]], None]
"""A receiver of what a transform returned and what it wrote into ``now.metrics``."""

_Names = list[tuple[str, str]]
"""Names of a transform's own, each with the one that it has in the run."""

MakeNoise = Callable[[Transform, int], Noise]
"""(transform, its part number) to its noise of a round."""

_SEND = "rows in update.parts, under a name of sends, reach on_aggregate as a mean, which it may return"


@dataclass(frozen=True)
class Chain:
    """The transforms of a run, each with names of its own for what it keeps, sends and receives.

    In checkpoints and messages these names begin with the transform's place in the config.

    >>> from fedray.transforms import Clip, TopK
    >>> chain = Chain.of([Clip(1.0), TopK(0.1)])
    >>> chain.state(1000)
    {'transforms[1].residual': 1000}

    Args:
        members: in their order.
    """

    members: tuple[Transform, ...] = ()
    _counted: dict[tuple[bool, int], int] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, transforms: Sequence[Transform]) -> Chain:
        """Make a chain of transforms that can stand in their order.

        Raises:
            ConfigError: one cannot stand where it stands; the message says which, and where it could.
        """
        private = [name_of(t) for t in transforms if t.needs_uniform and not (t.in_ring or t.randomizes)]
        for position, transform in enumerate(transforms):
            if reason := _misplaced(transform, transforms[:position], private):
                raise ConfigError(f"{_said(position, transforms)}: {reason}")
        return cls(tuple(transforms))

    def __iter__(self) -> Iterator[Transform]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def followed_by(self, transform: Transform) -> Chain:
        """Return the chain with one more at its end."""
        return Chain((*self.members, transform))

    def prepared(self, setting: Setting) -> Chain:
        """Return the transforms as they work in a run.

        Args:
            setting: of the first of them.

        Raises:
            ConfigError: one cannot work in this run, or its server half fails.
        """
        members: tuple[Transform, ...] = ()
        for position, transform in enumerate(self.members):
            try:
                members = (*members, transform.prepare(replace(setting, before=members, ring=self.ring)))
            except ValueError as error:
                raise ConfigError(f"{_said(position, self.members)}: {error}") from None
        chain = Chain(members)
        _ = chain.receives  # fails here, if ever
        return chain

    # Names and lengths

    @property
    def sends(self) -> dict[str, int]:
        """The length of each part that clients send for a transform."""
        return {placed(i, name): width for i, part in enumerate(self.members) for name, width in part.sends.items()}

    @cached_property
    def receives(self) -> dict[str, int]:
        """The length of each part that clients receive for a transform.

        Raises:
            ConfigError: a server half fails, broadcasts something else than vectors, or changes what it keeps then.
        """
        found: dict[str, int] = {}
        for position, transform in enumerate(self.members):
            where = f"transforms[{position}]: the server's half of {name_of(transform)}"
            try:
                kept = transform.start()
                before = versions(kept)
                sent = transform.broadcast(Now(0, 1, kept, part=position + 1))
                shapes = {name: (part.dtype, list(part.shape)) for name, part in sent.items()}
            except Exception as error:
                raise ConfigError(f"{where} fails: {one_line(error)}") from error
            if wrong := changed(before, kept):
                raise ConfigError(f"{where} changes {wrong[0]} when it broadcasts; {FROZEN.format('on_aggregate')}")
            for name, (dtype, shape) in shapes.items():
                if len(shape) != 1 or dtype != torch.float32:
                    raise ConfigError(f"{where} broadcasts {name}, {dtype} {shape}; it must be a float32 vector")
                found[placed(position, name)] = shape[0]
        return found

    def state(self, length: int) -> dict[str, int]:
        """Return the length of each vector that a client keeps for a transform, where an update is so long."""
        return {placed(i, name): length for i, part in enumerate(self.members) for name in part.state}

    # On the server

    def start(self, device: str | torch.device) -> Parts:
        """Return the tensors that the server keeps for transforms, before the first round."""
        kept = {placed(i, name): t for i, part in enumerate(self.members) for name, t in part.start().items()}
        return {name: tensor.to(device) for name, tensor in kept.items()}

    def broadcast(self, kept: Parts, seed: int, round: int) -> Parts:
        """Return what clients receive for the transforms, of what the server keeps for them."""
        found: Parts = {}
        for position, transform in enumerate(self.members):
            sent = transform.broadcast(Now(seed, round, _own(position, kept), part=position + 1))
            found |= {placed(position, name): part for name, part in sent.items()}
        return found

    def before_opening(self, sums: Parts, clients: tuple[int, ...], seed: int, round: int, noise: MakeNoise) -> None:
        """Let transforms prepare for the sum of a ring to be opened; nothing happens where there is none.

        Args:
            sums: the sums, which nobody has opened yet.
            clients: those whose updates were summed.
            seed: the run's seed.
            round: round number.
            noise: makes the noise of those that protect privacy by some.
        """
        for position, transform in enumerate(self.members if self.ring is not None else ()):
            now = Now(seed, round, clients=clients, part=position + 1)
            if transform.noise is not None:
                now = replace(now, noise=noise(transform, position + 1))
            transform.before_opening(sums, now)

    def on_aggregate(
        self, total: Aggregate, kept: Parts, seed: int, round: int, hear: Hear, noise: MakeNoise | None = None
    ) -> None:
        """Let the server halves change the aggregate of a round, the last transform first.

        Args:
            total: the aggregate, in place; what was sent for transforms is no longer in it afterwards.
            kept: the tensors that the server keeps for transforms, in place.
            seed: the run's seed.
            round: round number.
            hear: receives the metrics of each.
            noise: makes the noise of those that protect privacy by some.

        Raises:
            RunFailed: a transform drops or adds tensors of its state.
        """
        heard = {name: total.parts.pop(name) for name in self.sends}
        for position, transform in reversed(list(enumerate(self.members))):
            own = _own(position, heard)
            if taken := own.keys() & total.parts.keys():
                raise RunFailed(f"{name_of(transform)} sends {min(taken)}, which the algorithm sends as well")
            own_noise = None if transform.noise is None or noise is None else noise(transform, position + 1)
            now = Now(seed, round, _own(position, kept), part=position + 1, noise=own_noise)
            names = sorted(now.state)
            total.parts.update(own)
            hear(transform, transform.on_aggregate(total, now), now.metrics)
            for name in own:
                total.parts.pop(name, None)
            if sorted(now.state) != names:
                raise RunFailed(
                    f"round {round}: {name_of(transform)} keeps {sorted(now.state)} and began with {names}: "
                    "start returns all that the server keeps for a transform"
                )
            kept.update({placed(position, name): tensor for name, tensor in now.state.items()})

    # On the client's side

    def heard(self, down: Broadcast, travels: int, seed: int) -> Broadcast:
        """Return a broadcast as it reaches clients' programs: through codecs, and without what is for transforms.

        Args:
            down: the broadcast.
            travels: the number of entries of the model that are encoded, its first.
            seed: the run's seed.
        """
        if self.receives:
            down = replace(down, parts={name: part for name, part in down.parts.items() if name not in self.receives})
        if not self.down:
            return down
        model = down.parts["model"].clone()
        model[:travels] = travelled(self.down, model[None, :travels], Draws(seed, "broadcast", down.round))[0]
        return replace(down, parts={**down.parts, "model": model})

    def on_clients(self, update: BlockUpdate, down: Parts) -> None:
        """Let the client halves change the updates of a block, in their order.

        Each finds what it kept and received itself, and nothing of the others.

        Args:
            update: in place.
            down: the parts of the broadcast.

        Raises:
            ValueError: a transform does not send what it says that it sends.
        """
        state, sent, some = update.state, Parts(), update.columns
        for position, transform, kept, received, called in self._on_clients:
            update.state = {name: state[place] if some is None else some.of(state[place]) for name, place in kept}
            update.received = {name: down[place] for name, place in received}
            call_hook(transform.on_clients, update, called, _SEND)
            for name, place in kept:
                if some is None:
                    state[place] = update.state[name]
                else:
                    some.put(state[place], update.state[name])
            if not transform.in_ring:
                sent |= _sent(position, transform, update)
        update.state, update.received = state, {}
        update.parts.update(sent)

    @cached_property
    def _on_clients(self) -> list[tuple[int, Transform, _Names, _Names, str]]:
        """The client halves: place, transform, names of what it keeps and receives, and what it is called in errors.

        They are looked up once: of a block of small models what is beside the updates counts.
        """
        return [
            (
                position,
                transform,
                [(name, placed(position, name)) for name in transform.state],
                _own_names(position, self.receives),
                f"{name_of(transform)}.on_clients(update)",
            )
            for position, transform in enumerate(self.members)
        ]

    def on_the_way(self, update: BlockUpdate, seed: int, keys: Sequence[int]) -> None:
        """Let updates arrive as codecs leave them, and as server halves want them to be folded.

        Args:
            update: of a block, in place.
            seed: the run's seed.
            keys: the clients' keys.
        """
        if self.up:
            delta = update.parts[DELTA]
            delta.copy_(travelled(self.up, delta, Draws(seed, "encode", update.round, keys)))
        if update.columns is not None:
            update.parts[DELTA] = update.columns.filled(update.parts[DELTA])
        for position, transform in enumerate(self.members):
            if transform.in_ring:
                transform.on_departure(update, keys)
                update.parts |= _sent(position, transform, update)
        for transform in reversed(self.members):
            transform.on_arrival(update, update.round)

    @cached_property
    def ring(self) -> Transform | None:
        """The transform by which updates are summed in a ring; None: they are not."""
        return next((transform for transform in self.members if transform.in_ring), None)

    # Codecs

    @cached_property
    def up(self) -> tuple[Codec, ...]:
        """The codecs of updates, in their order."""
        return tuple(t for t in self.members if isinstance(t, Codec) and t.up)

    @cached_property
    def down(self) -> tuple[Codec, ...]:
        """The codecs of the broadcast model, in their order."""
        return tuple(t for t in self.members if isinstance(t, Codec) and t.down)

    def encoded(self, length: int, *, up: bool) -> int:
        """Count the bytes of so many trained entries on their way up or down."""
        if (up, length) not in self._counted:
            self._counted[up, length] = encoded_bytes(self.up if up else self.down, length)
        return self._counted[up, length]


def _sent(position: int, transform: Transform, update: BlockUpdate) -> Parts:
    """Take what a block sends for a transform out of the update, and return it by the names of the run."""
    found: Parts = {}
    for name, width in transform.sends.items():
        part = update.parts.pop(name, None)
        if part is None or part.shape != (len(update.clients), width):
            said = "nothing" if part is None else list(part.shape)
            raise ValueError(f"{name_of(transform)} sends {said} as {name}, and said [C, {width}]")
        found[placed(position, name)] = part
    return found


def _misplaced(transform: Transform, before: Sequence[Transform], private: Sequence[str]) -> str | None:
    """Return why a transform cannot stand behind others; ``private`` has the names of those that rely on a clip."""
    if reason := _beside_a_ring(transform, before):
        return reason
    clips = (t for t in before if t.needs_uniform and not (t.in_ring or t.randomizes))
    name, bounded = name_of(transform), [name_of(t) for t in clips]
    if private and isinstance(transform, Codec) and transform.rounds and transform.up:
        return (
            f"{name} may round an update to more than the clip that {private[0]} relies on: "
            "leave it out, or set its direction to down"
        )
    if bounded and transform.enlarges:
        return (
            f"{name} with error feedback undoes the clip that {bounded[0]} "
            "relies on: put it before the clip, or set error_feedback to false"
        )
    return _behind_a_codec(transform, before)


def _beside_a_ring(transform: Transform, before: Sequence[Transform]) -> str | None:
    """Return why two transforms cannot stand together, one of which lets nobody see an update as it is."""
    pairs = [pair for other in before for pair in ((transform, other), (other, transform)) if pair[0].in_ring]
    for ring, other in pairs:
        name, beside = name_of(ring), name_of(other)
        if other.in_ring:
            return f"{name} is there already: leave one of them out"
        if isinstance(other, Codec) and other.up:
            options: list[str] = [option.name for option in fields(other)] if is_dataclass(other) else []
            down = ", or set its direction to down" if "direction" in options else ""
            return (
                f"{name} fills every entry of what travels with a whole number of its own, so that {beside} saves "
                f"nothing: leave {beside} out{down}; {name} has bits"
            )
        if type(other).on_arrival is not Transform.on_arrival:
            return f"{beside} changes single updates on the server, which {name} hides: leave it out"
    return None


def _behind_a_codec(transform: Transform, before: Sequence[Transform]) -> str | None:
    """Return why a transform cannot stand behind others, some of which may have encoded what it would work on."""
    rounding = [t for t in before if isinstance(t, Codec) and t.rounds]
    name, encoded = name_of(transform), next((name_of(t) for t in rounding if t.up), None)
    if encoded and transform.changes_updates:
        return f"{name} changes updates, and {encoded}, which stands before it, encodes them: put it before {encoded}"
    if isinstance(transform, Codec):
        for codec in rounding:
            if (codec.up and transform.up) or (codec.down and transform.down):
                return f"{name} would encode again what {name_of(codec)} has rounded: leave one of them out"
    return None


def _said(position: int, chain: Sequence[Transform]) -> str:
    """Return the key of the config that a transform stands at."""
    place = sum(not transform.section for transform in chain[:position])
    return name_of(chain[position]) if chain[position].section else f"transforms[{place}]"


def _own(position: int, parts: Parts) -> Parts:
    """Return the parts of a transform by its own names."""
    return {own: parts[name] for own, name in _own_names(position, parts)} if parts else {}


def _own_names(position: int, names: Iterable[str]) -> _Names:
    """Return those of the run's names that are a transform's, each after its own name."""
    start = placed(position, "")
    return [(name.removeprefix(start), name) for name in names if name.startswith(start)]
