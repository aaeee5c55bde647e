"""The ledger of releases: what was written down stays spent, whatever is killed, cut or put back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.privacy.accounting import spent
from fedray.privacy.ledger import Circumstances, Correlated, Cost, Ledger
from fedray.privacy.releases import Release

ONE, OTHER = Release(1.0, 0.1), Release(2.0, 0.5)
TWICE = Release(2.0**-0.5, 0.1)
"""Two of one round, which have one cohort: z_1^-2 + z_2^-2 = z^-2."""
TOLD = Circumstances(expected=20.0, norm=0.5, noise_std=0.025)


def filled(path: Path) -> Ledger:
    ledger = Ledger.begin(path)
    for round, id, release in [(1, "a", ONE), (2, "b", ONE), (2, "c", ONE), (3, "d", OTHER)]:
        ledger.write(round, id, Cost(release, TOLD))
    return ledger


def test_the_same_release_counts_once_and_another_of_its_round_once_more(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "l")
    ledger.write(2, "b", Cost(ONE))
    assert (len(ledger), ledger.rounds) == (4, 3)
    assert ledger.releases == (ONE, TWICE, OTHER)


def test_what_is_spent_is_that_of_all_kinds_together(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "l")
    assert ledger.spent(1e-5, "rdp") == spent([ONE, TWICE, OTHER], 1e-5, "rdp")


def test_an_older_checkpoint_gives_nothing_back(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "l")
    again = Ledger.resume(ledger.path, ledger.id, least=1)
    again.write(2, "e", Cost(ONE))  # the round came out otherwise
    assert len(again) == len(ledger) + 1


def test_a_ledger_that_has_lost_releases_is_refused(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "l")
    ledger.path.write_bytes(b"".join(ledger.path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(ConfigError, match="has 3 releases, and had 4 at the checkpoint"):
        Ledger.resume(ledger.path, ledger.id, least=4)


def test_a_ledger_of_another_run_is_refused(tmp_path: Path) -> None:
    ledger, other = filled(tmp_path / "l"), Ledger.begin(tmp_path / "other")
    with pytest.raises(ConfigError, match="ledger of another run"):
        Ledger.resume(ledger.path, other.id, least=0)


def test_a_second_run_does_not_begin_over_a_ledger(tmp_path: Path) -> None:
    filled(tmp_path / "l")
    with pytest.raises(ConfigError, match="there is a ledger of privacy already"):
        Ledger.begin(tmp_path / "l")


def with_line(**more: object) -> bytes:
    line = {"round": 1, "release": "a", "noise_multiplier": 1.0, "rate": 0.1, **more}
    return b'{"ledger": "a", "format": 1}\n' + json.dumps(line).encode() + b"\n"


def test_a_line_says_all_that_a_reviewer_asks_of_a_release(tmp_path: Path) -> None:
    first = json.loads(filled(tmp_path / "l").path.read_text().splitlines()[1])
    told = {"expected": 20.0, "norm": 0.5, "noise_std": 0.025}
    assert first == {
        "round": 1,
        "release": "a",
        "sampling": "poisson",
        "relation": "add_or_remove",
        "noise_multiplier": 1.0,
        "rate": 0.1,
        **told,
    }


def test_of_correlated_noise_a_line_says_whose_turn_it_was_and_how_far_it_reaches(tmp_path: Path) -> None:
    ledger = Ledger.begin(tmp_path / "l")
    tree = Release(4.0, sampling="fixed", relation="zero_out", mechanism="tree", planned=9, single=8.0)
    told = Circumstances(20.0, 0.5, 0.025, Correlated(turns=5, rate=0.5, reach=4))
    ledger.write(1, "a", Cost(tree, told))
    line = json.loads(ledger.path.read_text().splitlines()[1])
    assert line["correlated"] == {"turns": 5, "rate": 0.5, "reach": 4}
    assert [entry.circumstances for entry in Ledger.read(ledger.path)] == [told]


def test_a_ledger_of_an_earlier_fedray_goes_on(tmp_path: Path) -> None:
    (tmp_path / "l").write_bytes(with_line())
    ledger = Ledger.resume(tmp_path / "l", "a", least=1)
    ledger.write(2, "b", Cost(ONE, TOLD))
    again = Ledger.read(tmp_path / "l")
    assert [entry.circumstances for entry in again] == [None, TOLD]
    assert again.releases == (Release(1.0, 0.1, 2),)
    assert json.loads((tmp_path / "l").read_text().splitlines()[0])["format"] == 4


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no\n",
        b'{"ledger": "a", "format": 1}\n{"round": 1}\n',
        with_line(unheard=2),
        with_line(count=2),
        with_line(norm=2.0),
        with_line(expected=20.0, norm=2.0, noise_std=0.1, correlated={"turns": 5}),
    ],
)
def test_a_changed_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "l").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^[^\n]*not a ledger of privacy, or a changed one[^\n]*$"):
        Ledger.read(tmp_path / "l")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l").write_bytes(b'{"ledger": "a", "format": 5}\n')
    with pytest.raises(ConfigError, match="of format 5; this fedray reads 4"):
        Ledger.read(tmp_path / "l")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody knows what was spent"):
        Ledger.read(tmp_path / "l")
