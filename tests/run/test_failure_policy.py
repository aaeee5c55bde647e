"""The failure policy: from a round's failures to a verdict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.config.sections import FailuresSection
from fedray.core.messages import Failure
from fedray.run.failure_policy import lies_with_a_client, verdict

KINDS = ("train", "update", "worker", "deadline")
DROP = FailuresSection(on_failure="drop")


def failure(client: int, stage: str) -> Failure:
    return Failure(client, f"c{client}", 5, stage, "why")


@pytest.mark.parametrize(
    ("policy", "stages", "sampled", "expected"),
    [
        (FailuresSection(), [], 4, None),
        (FailuresSection(), ["update"], 4, None),
        (FailuresSection(), ["train"], 4, "client 'c0' failed in round 5 (train): why"),
        (FailuresSection(), ["worker"], 4, "client 'c0' failed in round 5 (worker): why"),
        (FailuresSection(), ["deadline"], 4, "client 'c0' failed in round 5 (deadline): why"),
        (FailuresSection(), ["update", "train"], 4, "client 'c1' failed in round 5 (train): why"),
        (DROP, ["train", "worker"], 4, None),
        (DROP, ["deadline", "worker"], 4, None),
        (
            DROP,
            ["train", "worker", "update"],
            4,
            "round 5: only 1 of 4 clients survived, failures.min_share is 0.5; first failure: client 'c0' (train): why",
        ),
        (FailuresSection("abort", "drop"), ["train"], 4, None),
        (FailuresSection("abort", "drop"), ["update"], 4, "client 'c0' failed in round 5 (update): why"),
        (FailuresSection("drop", "drop", 0.0), ["train"] * 3, 4, None),
        (FailuresSection("drop", "drop", 1.0), [], 4, None),
        (FailuresSection("drop", "drop", 0.75), ["update"], 4, None),
    ],
)
def test_verdicts(policy: FailuresSection, stages: list[str], sampled: int, expected: str | None) -> None:
    assert verdict(policy, [failure(client, stage) for client, stage in enumerate(stages)], sampled) == expected


policies = st.builds(
    FailuresSection, st.sampled_from(("drop", "abort")), st.sampled_from(("drop", "abort")), st.floats(0.0, 1.0)
)
rounds = st.lists(st.sampled_from(KINDS), max_size=8)


@given(policies, rounds, st.integers(0, 8), st.randoms(use_true_random=False))
def test_the_run_goes_on_exactly_if_every_kind_may_be_dropped_and_enough_are_left(
    policy: FailuresSection, stages: list[str], others: int, random: object
) -> None:
    failures = [failure(client, stage) for client, stage in enumerate(stages)]
    sampled = len(stages) + others
    reason = verdict(policy, failures, sampled)
    may = all((policy.on_nonfinite if stage == "update" else policy.on_failure) == "drop" for stage in stages)
    enough = not stages or (others > 0 and others >= policy.min_share * sampled)
    assert (reason is None) == (may and enough)
    random.shuffle(failures)  # type: ignore[attr-defined]
    assert verdict(policy, failures, sampled) == reason


@given(policies, rounds, st.integers(0, 8), st.sampled_from(KINDS))
def test_a_further_failure_never_rescues_a_run(
    policy: FailuresSection, stages: list[str], others: int, kind: str
) -> None:
    failures = [failure(client, stage) for client, stage in enumerate(stages)]
    if verdict(policy, failures, len(failures) + others + 1) is not None:
        assert verdict(policy, [*failures, failure(99, kind)], len(failures) + others + 1) is not None


@pytest.mark.parametrize(
    "policy", [FailuresSection(on_nonfinite="abort"), FailuresSection(on_failure="drop", min_share=1.0)]
)
@pytest.mark.parametrize("stage", KINDS)
def test_a_verdict_tells_whether_a_client_failed_by_itself(policy: FailuresSection, stage: str) -> None:
    reason = verdict(policy, [failure(0, stage)], 4)
    assert reason is not None
    assert lies_with_a_client(reason) == (stage in ("train", "update"))
