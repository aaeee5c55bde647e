"""One run of an algorithm serves the laws that look at it in different ways."""

from __future__ import annotations

import pytest

from fedray.algorithms.base import Algorithm
from fedray.local.stacking import Stack
from tests.helpers import personal, remembered
from tests.laws.usual import PIECES, Ran, Runs, usual


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Return the usual run of an algorithm in stacks of a size, made once; nobody changes it."""
    done: dict[str, Ran] = {}

    def get(algorithm: Algorithm, stack: Stack) -> Ran:
        key = f"{algorithm!r} {stack}"
        if key not in done:
            run = usual(tmp_path_factory.mktemp("usual"), algorithm, stack)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(*PIECES)
                records = run.run()
            done[key] = Ran(run, records, {"model": run.vector, **remembered(run), "evaluated": personal(run)})
        return done[key]

    return get
