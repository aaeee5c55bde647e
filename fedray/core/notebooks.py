"""Notebooks: if this process is one's kernel, and outputs in it that change."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def in_notebook() -> bool:
    """Tell if this process is the kernel of a notebook, so that outputs can hold HTML."""
    return getattr(_shell(), "kernel", None) is not None


def cell() -> int | None:
    """Return the number of the notebook's cell that runs; None outside of a notebook."""
    return _shell().execution_count if in_notebook() else None


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


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _both(html: str, text: str) -> dict[str, str]:
    return {"text/html": html, "text/plain": text}
