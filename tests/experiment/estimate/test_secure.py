"""What ``fedray plan`` says of secure sums."""

from __future__ import annotations

from pathlib import Path

from fedray.experiment.estimate.secure import Pace, secure_rows
from fedray.privacy.distributed import Distributed
from fedray.privacy.section import Privacy
from fedray.sampling import Uniform
from fedray.transforms import SecureSum
from tests.helpers import class_problem, federation

PROBLEM = class_problem()


def test_messages_bytes_and_seconds_by_cohort(tmp_path: Path) -> None:
    run = federation(PROBLEM, tmp_path, transforms=[SecureSum(0.7)], sampler=Uniform(5))
    rows = dict(secure_rows(run.plan, Pace(agreement=0.5, value=0.25)))
    assert list(rows) == ["messages", "cohort of 5, as here", "cohort of 100", "cohort of 1,000", "cohort of 10,000"]
    values = run.plan.layout.shared + 1
    # 4 keys and 5 masks; of 4 who came the own masks, of the lost one those with them, and their keys.
    mine, server = 4 * 0.5 + 5 * values * 0.25, (4 + 4) * values * 0.25 + 4 * 0.5
    assert rows["cohort of 5, as here"] == (
        "4 neighbours each, 4 shares take a mask off, 4 clients at least; beside update and model 633 bytes down and "
        f"605 bytes up for each client; {mine:.2g} s of a client's processor, {server:.2g} s of the server's with 1 "
        "lost"
    )
    assert "140 neighbours each, 67 shares" in rows["cohort of 1,000"]


def test_a_share_of_the_noise_is_counted_where_clients_add_one(tmp_path: Path) -> None:
    shares = [Distributed(Privacy(model="distributed", noise_multiplier=1.0)), SecureSum(bits=16, range=1.0)]
    for transforms, noise in ((shares, 100.0), ([SecureSum(bits=16)], 0.0)):
        plan = federation(PROBLEM, tmp_path / str(noise), transforms=transforms, sampler=Uniform(5)).plan
        rows = dict(secure_rows(plan, Pace(agreement=0.0, value=0.0, noise=100.0)))
        assert f"{noise * plan.layout.shared:.2g} s of a client's processor" in rows["cohort of 100"]


def test_a_run_without_says_nothing(tmp_path: Path) -> None:
    assert not list(secure_rows(federation(PROBLEM, tmp_path).plan))


def test_the_pace_is_that_of_real_work() -> None:
    pace = Pace.here()
    assert 0.0 < pace.value < pace.noise < pace.agreement
