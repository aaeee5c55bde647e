"""What was found about a client, as text."""

from __future__ import annotations

from fedray.replay.doubts import Doubt
from fedray.replay.looked import Looked
from fedray.replay.watched import SeenStep, Trouble


def step(number: int) -> SeenStep:
    return SeenStep(1, number, list(range(20)), list(range(1, 21)), 0.5, 2.0, 0.25, 3.0)


def test_long_trainings_show_their_ends_and_what_is_before_the_trouble() -> None:
    seen = Looked(2, "b", ["a", "b"], then="0" * 64, now="0" * 64, gap=1e-7, share=2e-7, trace="Traceback\n")
    seen.steps, seen.trouble = [step(number) for number in range(1, 101)], Trouble(1, 60, "the loss is nan")
    first, client, alone, wrong, *table, last = str(seen).splitlines()
    assert first.split() == ["round", "2:", "the", "same", "bits", "as", "recorded,", "000000000000"]
    assert client.split() == ["client", "b,", "in", "a", "block", "with", "a"]
    assert " ".join(alone.split()) == "alone as in its block within 1e-07, 2e-07 of the largest number"
    assert wrong.split() == ["goes", "wrong", "in", "step", "60:", "the", "loss", "is", "nan"]
    assert last == "Traceback"
    numbers = [line.split()[1] for line in table if line[:1] == "│"]
    assert numbers == ["1", "2", "3", "4", "5", "...", *map(str, range(53, 63)), "...", "96", "97", "98", "99", "100"]


def test_rows_stand_beside_examples_where_some_are_held_out() -> None:
    seen = Looked(1, "a", rows=40, training=40, steps=[step(1)])
    assert "examples │ loss" in " ".join(str(seen).replace("┃", "│").split())
    seen.training = 30
    shown = " ".join(str(seen).replace("┃", "│").split())
    assert "examples │ rows │ loss" in shown
    assert "20, from 0 │ 20, from 1 │ 0.5" in shown


def test_only_what_a_client_computes_recurs_or_not() -> None:
    seen = Looked(1, "a", error="client 'a' failed in round 1 (worker): its process died")
    assert seen.recurs is None
    seen.recorded = "worker", "its process died"
    assert seen.recurs is None
    assert "done again it gives one" not in str(seen)
    seen.recorded = "train", "ValueError: my row"
    assert seen.recurs is False
    seen.doubts = [Doubt("torch: 2.1 then, 2.2 now", place=True)]
    assert "done again it gives one: torch: 2.1 then, 2.2 now" in " ".join(str(seen).split())
    seen.failure = "train", "ValueError: my row"
    assert seen.recurs is True


def test_the_word_needs_both_hashes_and_forgives_another_place_alone() -> None:
    assert "rows" not in str(Looked(1, "a", rows=40, training=40))
    line = "40, of these 30 training; steps name `examples` among these and `rows` among all, from 0"
    assert line in str(Looked(1, "a", rows=40, training=30))
    assert Looked(1, "a", then="x").word == "unrecorded"
    assert str(Looked(1, "a", ["a"], ended="no client survived")).splitlines()[0].endswith("no client survived")
    place, data = Doubt("processor: other", place=True), Doubt("data: other", place=False)
    words = [Looked(1, "a", then="x", now="y", doubts=doubts).word for doubts in ([], [place], [place, data])]
    assert words == ["different", "close", "different"]
