"""The garbage collector is off in a large import, and afterwards as it was."""

from __future__ import annotations

import gc

import pytest

from fedray.core.collector import collector_off


@pytest.mark.parametrize("on", [True, False])
def test_it_is_put_back_as_it_was_also_after_an_error(on: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if on else gc.disable)()
        with collector_off():
            assert not gc.isenabled()
        assert gc.isenabled() is on
        with pytest.raises(ImportError), collector_off():
            raise ImportError("no such module")
        assert gc.isenabled() is on
    finally:
        (gc.enable if before else gc.disable)()
