"""Which examples in which step: every pass covers the data once, and nobody's order depends on the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.config.sections import LocalSection
from fedray.core.messages import Ints
from fedray.local.schedule import Schedule, batch_widths, batches, local_steps, single_rows, step_bounds

SIZES = st.lists(st.integers(1, 13), min_size=1, max_size=5)
LAST = st.sampled_from(["keep", "merge", "drop"])
BATCH = st.none() | st.integers(1, 15)


def keys_of(sizes: list[int]) -> Ints:
    return np.arange(100, 100 + len(sizes))


def draw(
    args: LocalSection, sizes: list[int], keys: list[int] | None = None, seed: int = 3, round: int = 2
) -> Schedule:
    named = keys_of(sizes) if keys is None else np.array(keys)
    return Schedule.draw(args, np.array(sizes), named, seed, round)


def order(schedule: Schedule, client: int) -> list[list[int]]:
    """The examples of each of a client's steps."""
    steps = zip(schedule.index[client], schedule.count[client], strict=True)
    return [index[:count].tolist() for index, count in steps if count]


@given(SIZES, BATCH, st.integers(1, 3))
def test_every_epoch_covers_every_example_exactly_once(sizes: list[int], batch: int | None, epochs: int) -> None:
    schedule = draw(LocalSection(epochs, batch), sizes)
    for client, size in enumerate(sizes):
        steps = order(schedule, client)
        wanted = size if batch is None else batch
        full, rest = divmod(size, wanted)
        lengths = [wanted] * full + ([rest] if rest else [])
        assert [len(step) for step in steps] == lengths * epochs
        for epoch in range(epochs):
            passed = steps[epoch * len(lengths) : (epoch + 1) * len(lengths)]
            seen = [example for step in passed for example in step]
            assert sorted(seen) == list(range(size))


def plain(examples: list[int], batch: int, last: str) -> list[list[int]]:
    """A pass cut into batches, as anybody would write it."""
    pieces = [examples[start : start + batch] for start in range(0, len(examples), batch)]
    if len(pieces) > 1 and len(pieces[-1]) < batch and last != "keep":
        rest = pieces.pop()
        pieces[-1] += rest if last == "merge" else []
    return pieces


@given(SIZES, st.integers(1, 15), st.integers(1, 3), st.none() | st.integers(1, 9), LAST)
def test_the_last_batch_is_kept_merged_or_dropped_and_nobody_is_without_one(
    sizes: list[int], batch: int, epochs: int, steps: int | None, last: Any
) -> None:
    args = LocalSection(epochs, batch, steps, last)
    schedule = draw(args, sizes)
    whole = draw(LocalSection(max(epochs, steps or 0), "full"), sizes)  # the order of each pass, uncut
    assert schedule.index.shape[2] == schedule.count.max()
    for client, size in enumerate(sizes):
        wanted = [piece for order_ in order(whole, client) for piece in plain(order_, batch, last)]
        per_pass = len(plain(list(range(size)), batch, last))
        assert int(batches(args, np.array([size]))[0]) == per_pass >= 1
        taken = order(schedule, client)
        assert taken == wanted[: steps if steps is not None else epochs * per_pass]
        widths = batch_widths(args, np.array([size]))
        assert int(widths[0]) == max(len(piece) for piece in wanted)
        assert bool(single_rows(args, np.array([size]))[0]) == (min(map(len, taken)) == 1)


def test_nobody_trains_on_a_single_row_who_takes_no_step() -> None:
    assert not single_rows(LocalSection(0, 4), np.array([1, 5])).any()
    assert not single_rows(LocalSection(1, None, 0), np.array([1])).any()
    assert single_rows(LocalSection(1, None), np.array([1, 2])).tolist() == [True, False]


@given(SIZES, BATCH, st.integers(1, 9))
def test_a_number_of_steps_is_kept_exactly_and_passes_follow_each_other(
    sizes: list[int], batch: int | None, steps: int
) -> None:
    args = LocalSection(1, batch, steps)
    schedule = draw(args, sizes)
    assert local_steps(args, np.array(sizes), keys_of(sizes), 3, 2).tolist() == [steps] * len(sizes)
    for client, size in enumerate(sizes):
        taken = order(schedule, client)
        assert len(taken) == steps
        per_pass = int(batches(args, np.array([size]))[0])
        longer = order(draw(LocalSection(-(-steps // per_pass), batch), sizes), client)
        assert taken == longer[:steps]


@given(SIZES, BATCH, st.integers(0, 3), st.none() | st.integers(0, 5))
def test_a_client_alone_does_what_it_does_in_a_block(
    sizes: list[int], batch: int | None, epochs: int, steps: int | None
) -> None:
    args = LocalSection(epochs, batch, steps)
    together = draw(args, sizes)
    for client, size in enumerate(sizes):
        assert order(draw(args, [size], [100 + client]), 0) == order(together, client)


@given(SIZES, BATCH)
def test_the_steps_said_are_the_steps_drawn_and_padding_stays_in_range(sizes: list[int], batch: int | None) -> None:
    args = LocalSection(2, batch)
    schedule = draw(args, sizes)
    steps: Ints = (schedule.count > 0).sum(axis=1)
    assert steps.tolist() == local_steps(args, np.array(sizes), keys_of(sizes), 3, 2).tolist()
    assert schedule.count.shape == schedule.index.shape[:2]
    assert (schedule.index >= 0).all()
    assert (schedule.index < np.array(sizes)[:, None, None]).all()
    # A finished client stays finished.
    assert (np.diff(schedule.count > 0, axis=1).sum(axis=1) <= 1).all()


@pytest.mark.parametrize("changed", [{"seed": 4}, {"round": 3}, {"keys": [7]}])
def test_the_order_is_named_by_seed_round_and_client(changed: dict[str, int]) -> None:
    args = LocalSection(1, 4)
    assert order(draw(args, [20], [100]), 0) == order(draw(args, [20], [100]), 0)
    assert order(draw(args, [20], **{"keys": [100], **changed}), 0) != order(draw(args, [20], [100]), 0)  # type: ignore[arg-type]


def test_epochs_differ_and_no_epoch_is_no_step() -> None:
    steps = order(draw(LocalSection(2, 20), [20]), 0)
    assert steps[0] != steps[1]
    assert draw(LocalSection(0, 4), [5, 6]).count.shape == (2, 0)


@given(SIZES, BATCH, st.integers(0, 3), st.integers(0, 3), LAST)
def test_a_client_with_options_of_its_own_does_what_all_would_do_with_them(
    sizes: list[int], batch: int | None, low: int, more: int, last: Any
) -> None:
    """Also where the options of the others are drawn, and whoever stands beside it."""
    drawn = {"name": "uniform", "low": low, "high": low + more}
    all_ = LocalSection(drawn, batch, last_batch=last)
    mixed = LocalSection(drawn, batch, last_batch=last, by_client={"100": {"epochs": 2, "batch_size": 3}})
    one, two, together = draw(LocalSection(2, 3, last_batch=last), sizes), draw(all_, sizes), draw(mixed, sizes)
    assert order(together, 0) == order(one, 0)
    for client in range(1, len(sizes)):
        assert order(together, client) == order(two, client)
    least, most = step_bounds(mixed, np.array(sizes), keys_of(sizes))
    done = local_steps(mixed, np.array(sizes), keys_of(sizes), 3, 2)
    assert (least <= done).all()
    assert (done <= most).all()
    assert done.tolist() == (together.count > 0).sum(axis=1).tolist()


def test_a_client_may_meet_a_single_row_by_its_own_batches_or_its_longest_draw() -> None:
    mine = LocalSection(1, 4, by_client={"101": {"batch_size": 3}})
    assert single_rows(mine, np.array([4, 4]), keys_of([4, 4])).tolist() == [False, True]
    assert single_rows(LocalSection(1, 4, {"name": "uniform", "low": 0, "high": 1}), np.array([5])).tolist() == [False]
    assert single_rows(LocalSection(1, 4, {"name": "uniform", "low": 0, "high": 2}), np.array([5])).tolist() == [True]


@pytest.mark.parametrize("other", [{"last_batch": "merge"}, {"last_batch": "drop"}, {"batch_size": 3}, {"epochs": 2}])
def test_what_was_drawn_before_does_not_show(other: dict[str, Any]) -> None:
    sizes, keys = np.array([7, 5]), np.array([1, 2])
    one, two = LocalSection(batch_size=4), LocalSection(**{"batch_size": 4, **other})
    alone = Schedule.draw(two, sizes, keys, seed=1, round=1)
    between = Schedule.draw(one, sizes, keys, seed=1, round=1)
    after = Schedule.draw(two, sizes, keys, seed=1, round=1)
    fewer = Schedule.draw(two, sizes, keys, seed=1, round=1, steps=np.array([1, 0]))
    assert between.count.tolist() == [[4, 3], [4, 1]] != alone.count.tolist()
    assert np.array_equal(alone.index, after.index)
    assert np.array_equal(alone.count, after.count)
    assert fewer.steps.tolist() == [1, 0]


def grouped(args: LocalSection, lengths: list[list[int]], keys: list[int] | None = None, seed: int = 3) -> Schedule:
    sizes = np.array([len(own) for own in lengths])
    table = np.zeros((len(sizes), int(sizes.max())), dtype=np.int64)
    for row, own in zip(table, lengths, strict=True):
        row[: len(own)] = own
        row[len(own) :] = own[-1]  # as rows hand out what is behind a client's last
    named = keys_of(lengths) if keys is None else np.array(keys)  # type: ignore[arg-type]
    return Schedule.draw(args, sizes, named, seed, 2, lengths=table)


LENGTHS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=20), min_size=1, max_size=4)


@given(LENGTHS, st.integers(1, 4), st.integers(2, 3), LAST)
def test_rows_fall_in_length_within_pieces_and_a_pass_has_the_rows_that_it_had(
    lengths: list[list[int]], batch: int, together: int, last: Any
) -> None:
    args = LocalSection(2, batch, last_batch=last)
    found = grouped(replace(args, group_by_length=together), lengths)
    plain = draw(args, [len(own) for own in lengths])
    np.testing.assert_array_equal(found.count, plain.count)
    for client, own in enumerate(lengths):
        seen, before = order(found, client), order(plain, client)
        per_pass = len(seen) // 2
        for start in (0, per_pass):
            rows, drawn = ([e for step in one[start : start + per_pass] for e in step] for one in (seen, before))
            for piece in range(0, len(rows), together * batch):
                some = rows[piece : piece + together * batch]
                assert sorted(some) == sorted(drawn[piece : piece + together * batch])
                assert [own[e] for e in some] == sorted((own[e] for e in some), reverse=True)
        alone = grouped(replace(args, group_by_length=together), [own], [100 + client])
        assert order(alone, 0) == seen


def test_a_pass_that_is_cut_short_has_rows_of_all_lengths() -> None:
    lengths = [list(range(1, 101))]
    args = LocalSection(steps=3, batch_size=4, group_by_length=50)
    seen = [lengths[0][e] for seed in range(40) for step in order(grouped(args, lengths, seed=seed), 0) for e in step]
    assert 45 < np.mean(seen) < 56


def test_batches_of_like_lengths_pad_less_and_what_is_no_row_is_short() -> None:
    draws = np.random.default_rng(0)
    lengths = [np.exp(draws.normal(4, 0.8, 320)).astype(int).tolist() for _ in range(3)] + [[7, 300, 5]]
    plain, found = (LocalSection(1, 8, group_by_length=one) for one in (None, 20))
    shares = []
    for args in (plain, found):
        schedule = grouped(args, lengths)
        width = np.array([np.array(own)[schedule.index[c]].max(axis=1) for c, own in enumerate(lengths)])
        padded = (width[:3].max(axis=0) * 8 * 3).sum()  # clients that step at once have one width
        shares.append(sum(map(sum, lengths[:3])) / padded)
        if args is found:
            assert (schedule.index[3][schedule.count[3] == 0] == 2).all()
    assert shares[0] < 0.4
    assert shares[1] > 0.75
