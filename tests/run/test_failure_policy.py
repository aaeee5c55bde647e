"""The failure policy: from a round's failures to a verdict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.messages import Failure
from fedray.run.failure_policy import FailurePolicy

KINDS = ("train", "update", "worker", "deadline")
DROP = FailurePolicy(on_failure="drop")


def failure(client: int, stage: str) -> Failure:
    return Failure(client, f"c{client}", 5, stage, "why")


@pytest.mark.parametrize(
    ("policy", "stages", "sampled", "verdict"),
    [
        (FailurePolicy(), [], 4, None),
        (FailurePolicy(), ["update"], 4, None),
        (FailurePolicy(), ["train"], 4, "client 'c0' failed in round 5 (train): why"),
        (FailurePolicy(), ["worker"], 4, "client 'c0' failed in round 5 (worker): why"),
        (FailurePolicy(), ["deadline"], 4, "client 'c0' failed in round 5 (deadline): why"),
        (FailurePolicy(), ["update", "train"], 4, "client 'c1' failed in round 5 (train): why"),
        (DROP, ["train", "worker"], 4, None),
        (DROP, ["deadline", "worker"], 4, None),
        (
            DROP,
            ["train", "worker", "update"],
            4,
            "round 5: only 1 of 4 clients survived, failures.min_share is 0.5; first failure: client 'c0' (train): why",
        ),
        (FailurePolicy("abort", "drop"), ["train"], 4, None),
        (FailurePolicy("abort", "drop"), ["update"], 4, "client 'c0' failed in round 5 (update): why"),
        (FailurePolicy("drop", "drop", 0.0), ["train"] * 3, 4, None),
        (FailurePolicy("drop", "drop", 1.0), [], 4, None),
        (FailurePolicy("drop", "drop", 0.75), ["update"], 4, None),
    ],
)
def test_verdicts(policy: FailurePolicy, stages: list[str], sampled: int, verdict: str | None) -> None:
    assert policy.verdict([failure(client, stage) for client, stage in enumerate(stages)], sampled) == verdict


policies = st.builds(
    FailurePolicy, st.sampled_from(("drop", "abort")), st.sampled_from(("drop", "abort")), st.floats(0.0, 1.0)
)
rounds = st.lists(st.sampled_from(KINDS), max_size=8)


@given(policies, rounds, st.integers(0, 8), st.randoms(use_true_random=False))
def test_the_run_goes_on_exactly_if_every_kind_may_be_dropped_and_enough_are_left(
    policy: FailurePolicy, stages: list[str], others: int, random: object
) -> None:
    failures = [failure(client, stage) for client, stage in enumerate(stages)]
    sampled = len(stages) + others
    verdict = policy.verdict(failures, sampled)
    may = all((policy.on_nonfinite if stage == "update" else policy.on_failure) == "drop" for stage in stages)
    enough = not stages or (others > 0 and others >= policy.min_share * sampled)
    assert (verdict is None) == (may and enough)
    random.shuffle(failures)  # type: ignore[attr-defined]
    assert policy.verdict(failures, sampled) == verdict


@given(policies, rounds, st.integers(0, 8), st.sampled_from(KINDS))
def test_a_further_failure_never_rescues_a_run(
    policy: FailurePolicy, stages: list[str], others: int, kind: str
) -> None:
    failures = [failure(client, stage) for client, stage in enumerate(stages)]
    if policy.verdict(failures, len(failures) + others + 1) is not None:
        assert policy.verdict([*failures, failure(99, kind)], len(failures) + others + 1) is not None
