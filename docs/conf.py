"""The site of the documentation: `make docs` builds it, without a network, and a warning fails it."""

from __future__ import annotations

import re
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode as NodeVisited
from latex2mathml.converter import convert

project = "fedray"
author = "the authors of fedray"
version = release = installed("fedray")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# What is open of the house is for whoever builds it.
exclude_patterns = ["house.md", "contract.md", "day.md", "large-open.md", "privacy-open.md", "**.ipynb_checkpoints"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
nitpicky = False

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "fedray"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False


def visit_math(self: Any, node: Any) -> None:
    """Write an equation as MathML, which browsers know: the site loads nothing from elsewhere."""
    block = node.tagname == "math_block"
    self.body.append(convert(node.astext(), display="block" if block else "inline"))
    raise NodeVisited


def without_files(app: Any, name: str, source: list[str]) -> None:
    """Leave the words of links to files that the site does not have; one that is not there is an error."""
    root = Path(app.srcdir)
    folder = (root / name).parent

    def words(link: re.Match[str]) -> str:
        there = (folder / link[2]).resolve()
        if not there.exists():
            raise SystemExit(f"docs/{name}: there is no {link[2]}")
        return link[0] if there.is_relative_to(root) else link[1]

    source[0] = re.sub(r"\[([^\[\]\n]+)\]\((\.\./[^)#\n]+)[^)\n]*\)", words, source[0])


def setup(app: Any) -> None:
    """Be called by Sphinx."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    app.connect("source-read", without_files)
