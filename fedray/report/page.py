"""One HTML page of blocks: everything is in the file, it fits a phone and paper, by day and by night."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fedray.core.errors import ConfigError
from fedray.report import figures
from fedray.report.blocks import Section
from fedray.rundir import durable

if TYPE_CHECKING:
    from markupsafe import Markup

_PACKAGES = ("jinja2", "matplotlib")
_TEMPLATE = Path(__file__).with_name("page.html")


def check_packages() -> None:
    """Check that the packages that pages and figures are made with are installed.

    Raises:
        ConfigError: one is not.
    """
    for name in _PACKAGES:
        if find_spec(name) is None:
            raise ConfigError(f"a report needs the package `{name}`; install it: pip install 'fedray[report]'")


def render(title: str, sections: Sequence[Section], lead: str = "", foot: str = "") -> str:
    """Return a page.

    Args:
        title: its heading.
        sections: its parts.
        lead: a sentence below the heading.
        foot: a line at the end, such as what it was made with.

    Raises:
        ConfigError: for want of a package, see :func:`check_packages`.
    """
    check_packages()
    import jinja2

    made = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["breakable"] = _breakable
    made.filters["softly"] = _softly
    shown = [(_anchor(number, one.title), one) for number, one in enumerate(sections) if one.blocks]
    return made.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=title, lead=lead, foot=foot, sections=shown, kind=lambda block: type(block).__name__, svg=figures.for_page
    )


def write_page(path: Path, text: str) -> None:
    """Write a page; its folder is made.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def _breakable(text: str) -> Markup:
    """Return a name that may break after its dots, slashes and the like, where it has no room on a line."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in _pieces(text))


def _softly(text: str) -> str:
    """Return the same for an attribute whose text a style shows, where a zero-width space stands for the tag."""
    return "\u200b".join(_pieces(text))


def _pieces(text: str) -> list[str]:
    return re.split(r"(?<=[._/=,])(?=[^\W\d])", text)


def _anchor(number: int, title: str) -> str:
    return f"s{number}-{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}"
