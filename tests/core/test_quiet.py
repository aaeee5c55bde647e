"""Loggers that say less for a while."""

from __future__ import annotations

import logging

import pytest

from fedray.core.quiet import quieted


def test_the_level_is_put_back_whatever_happens(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("fedray.tests.quiet")
    log.setLevel(logging.INFO)

    def failing() -> None:
        with quieted(log.name):
            log.warning("unheard")
            log.error("heard")
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert (log.level, caplog.messages) == (logging.INFO, ["heard"])
