"""Small files for the tests of what is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.reading import Files


@pytest.fixture
def write(tmp_path: Path) -> Files:
    """``write(name, text)`` gives the path of a new file."""
    return Files(tmp_path)
