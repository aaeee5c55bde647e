"""The steps that rows pay for, as they are known before a run, and the noise of a target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedray.core.errors import ConfigError
from fedray.privacy.accounting import spent
from fedray.privacy.client_ledger import dearest
from fedray.run.client_spending import OfSteps
from fedray.run.private_steps import planned_releases, planned_steps, with_target
from tests.privacy.test_refused import plan

LOCAL = {"epochs": 2, "batch_size": 2}


def rows(**parts: Any) -> Any:
    privacy = {"unit": "example", "accountant": "rdp", **parts.pop("privacy", {})}
    return plan(privacy=privacy, local=LOCAL, sampler={"name": "uniform", "clients": 3}, rounds=5, **parts)


@pytest.mark.parametrize(("algorithm", "fits"), [("fedavg", 1), ({"name": "ditto", "epochs": 3}, 2.5)])
def test_all_fits_of_a_round_are_counted_as_the_program_says_them(algorithm: Any, fits: float) -> None:
    found = rows(algorithm=algorithm)
    # Three rows in batches of two are two steps a pass.
    assert planned_steps(found, 1, np.array([0, 4])).tolist() == [4 * fits] * 2
    planned = planned_releases(found)
    times = np.zeros(8)
    for round in range(1, 6):
        times[found.cohort(round)] += 1
    assert {client: each.count for client, each in planned.items()} == {
        client: 4 * fits * times[client] for client in np.flatnonzero(times).tolist()
    }
    assert {each.rate for each in planned.values()} == {2 / 3} == {OfSteps(found).kind(0).rate}


def test_a_target_is_met_by_the_client_that_pays_most_and_by_hardly_more_noise_than_it_takes() -> None:
    found = rows(privacy={"noise_multiplier": None, "epsilon": 4.0})
    planned = [(each,) for each in planned_releases(found).values()]
    most = dearest(planned, 1e-5, "rdp")
    assert 0.98 * 4.0 < most <= 4.0
    assert most == max(spent(each, 1e-5, "rdp") for each in planned)
    assert found.task.private.noise_multiplier == planned[0][0].noise_multiplier
    given = rows()
    assert with_target(given) is given


def test_a_target_that_no_noise_meets_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"privacy: epsilon=1e-09 .*no noise is enough"):
        rows(privacy={"noise_multiplier": None, "epsilon": 1e-9})
