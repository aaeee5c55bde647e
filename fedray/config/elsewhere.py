"""The places of options in a config, for whoever gives one where it is not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fedray.config.binding import options_of
from fedray.config.sections import SECTIONS, TopSection
from fedray.core.errors import ConfigError


def of_sections() -> Iterator[str]:
    """Yield the full keys of the options at the top and in the sections.

    >>> [key for key in of_sections() if key.endswith("every")]
    ['evaluate.every', 'evaluate.clients_every', 'checkpoint.every']
    """
    yield from options_of(TopSection)
    for key, section in SECTIONS.items():
        yield from (f"{key}.{option}" for option in options_of(section))


def pointed(error: ConfigError, keys: Iterable[str]) -> ConfigError:
    """Return an error with the places where its unknown key is known; the same one if there is none.

    Places below the section in which it was given come before all others.

    >>> from fedray.config.binding import bind
    >>> from fedray.config.sections import BudgetSection
    >>> try:
    ...     bind(BudgetSection, {"min_share": 0.2}, "budget")
    ... except ConfigError as error:
    ...     print(str(pointed(error, of_sections()))[:67])
    budget.min_share: unknown key (did you mean failures.min_share?); a

    Args:
        error: of any kind.
        keys: full keys of options.
    """
    if error.unknown is None:
        return error
    full, words, rest = error.unknown
    section, _, name = full.rpartition(".")
    places = [key for key in keys if key.rpartition(".")[2] == name and key != full]
    deeper = [key for key in places if section and key.startswith(f"{section}.")]
    if not places:
        return error
    return ConfigError(f"{full}: {words} (did you mean {' or '.join(dict.fromkeys(deeper or places))}?){rest}")
