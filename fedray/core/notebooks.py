"""Notebooks: if this process is one's kernel, and outputs in it that change."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def in_notebook() -> bool:
    """Tell if this process is the kernel of a notebook, so that outputs can hold HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class Output:
    """An output below the cell that runs, whose content can be replaced.

    Args:
        html: its content.
        text: the same for who shows no HTML.
    """

    def __init__(self, html: str, text: str) -> None:
        self._handle: Any = import_module("IPython.display").display(_both(html, text), raw=True, display_id=True)

    def show(self, html: str, text: str) -> None:
        """Replace the content."""
        self._handle.update(_both(html, text), raw=True)


def _both(html: str, text: str) -> dict[str, str]:
    return {"text/html": html, "text/plain": text}
