"""The transforms of a run, in their order: each as it works behind the others."""

from __future__ import annotations

from collections.abc import Sequence

from fedray.config.registry import name_of
from fedray.core.errors import ConfigError
from fedray.transforms.base import Transform
from fedray.transforms.codec import Codec


def chained(transforms: Sequence[Transform]) -> list[Transform]:
    """Return the transforms as they work behind one another.

    Raises:
        ConfigError: one cannot stand where it stands; the message says which, and where it could.
    """
    prepared: list[Transform] = []
    private = [name_of(t) for t in transforms if t.needs_uniform]
    for position, transform in enumerate(transforms):
        name, bounded = name_of(transform), [name_of(t) for t in prepared if t.needs_uniform]
        reason = _behind_a_codec(transform, prepared)
        if private and isinstance(transform, Codec) and transform.rounds and transform.up:
            reason = (
                f"{name} may round an update to more than the clip that {private[0]} relies on: "
                "leave it out, or set its direction to down"
            )
        elif bounded and transform.enlarges:
            reason = (
                f"{name} with error feedback undoes the clip that {bounded[0]} "
                "relies on: put it before the clip, or set error_feedback to false"
            )
        if reason is None:
            try:
                prepared.append(transform.prepare(tuple(prepared)))
            except ValueError as error:
                reason = str(error)
        if reason is not None:
            raise ConfigError(f"transforms[{position}]: {reason}")
    return prepared


def _behind_a_codec(transform: Transform, before: Sequence[Transform]) -> str | None:
    """Return why a transform cannot stand behind others, some of which may have encoded what it would work on."""
    rounding = [t for t in before if isinstance(t, Codec) and t.rounds]
    name, encoded = name_of(transform), next((name_of(t) for t in rounding if t.up), None)
    if encoded and type(transform).on_clients is not Transform.on_clients:
        return f"{name} changes updates, and {encoded}, which stands before it, encodes them: put it before {encoded}"
    if isinstance(transform, Codec):
        for codec in rounding:
            if (codec.up and transform.up) or (codec.down and transform.down):
                return f"{name} would encode again what {name_of(codec)} has rounded: leave one of them out"
    return None
