"""The check of an algorithm's parts against what its clients send."""

from __future__ import annotations

from collections.abc import Iterable

from fedray.aggregators.base import Aggregator
from fedray.config.registry import name_of
from fedray.core.errors import ConfigError
from fedray.core.messages import DELTA
from fedray.local.program import Profile
from fedray.transforms.base import Transform
from fedray.transforms.clip import Clip


def check_profile(
    name: str,
    profile: Profile,
    weight: str,
    transforms: Iterable[Transform],
    aggregator: Aggregator,
    plain_step: bool = False,
) -> None:
    """Raise ConfigError if a part cannot work with what clients send.

    Args:
        name: the algorithm's.
        profile: the findings of its trial.
        weight: ``algorithm.weight``, as the user gave it.
        transforms: in their order.
        aggregator: the aggregator.
        plain_step: the server's step is that of FedAvg.
    """
    if DELTA in profile.slots and plain_step:
        raise ConfigError(
            f"algorithm: {name} sends delta by slots, and has no step that takes total['delta'] as [slots, S]"
        )
    transforms = tuple(transforms)
    uniform = next((name_of(t) for t in transforms if t.needs_uniform), None)
    key = "privacy: it" if any(t.section and t.needs_uniform for t in transforms) else f"transforms: {uniform}"
    if profile.surveys and (uniform or not aggregator.linear):
        who = f"{key} protects" if uniform else f"aggregator: {name_of(aggregator)} is made for"
        raise ConfigError(f"{who} the update alone, but {name} begins each round with a survey: leave it out")
    if profile.weighs and (uniform or weight != "auto"):
        who = f"{uniform} needs" if uniform else f"{weight} makes"
        raise ConfigError(f"algorithm.weight: {who} weights of its own, but {name} weighs clients itself")
    if uniform and profile.sends and not any(t.bounds_all for t in transforms):
        raise ConfigError(
            f"transforms: {uniform} protects the update only, but {name} also sends {', '.join(profile.sends)}; "
            "use an algorithm whose clients send the update alone (fedray list algorithms)"
        )
    hides = next((name_of(t) for t in transforms if t.needs_uniform or t.linear_only), None)
    if profile.apart and (hides or not aggregator.linear):
        who = (
            (key if uniform else f"transforms: {hides}") + " protects"
            if hides
            else f"aggregator: {name_of(aggregator)} is made for"
        )
        raise ConfigError(
            f"{who} the update alone, but of {name} the server keeps each client's {', '.join(profile.apart)}: "
            "leave it out"
        )
    works_on = next((t for t in transforms if t.linear_only or t.bounds_all or isinstance(t, Clip)), None)
    if profile.slots and (works_on or not aggregator.linear):
        what = "privacy: it" if works_on and works_on.section else f"transforms: {works_on and name_of(works_on)}"
        who = f"{what} works on" if works_on else f"aggregator: {name_of(aggregator)} is made for"
        raise ConfigError(f"{who} the update alone, but {name} sends {', '.join(profile.slots)} by slots: leave it out")
