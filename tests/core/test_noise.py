"""Noise by keys that are forgotten."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from scipy import stats

from fedray.core import noise as noise_module
from fedray.core.errors import ConfigError
from fedray.core.noise import Noise, NoiseKeys, Normals, Stream, normal_


@pytest.fixture(scope="module")
def million() -> np.ndarray:
    return Normals(bytes(range(32))).draw("delta", 10**6)


def test_a_million_draws_are_normal(million: np.ndarray) -> None:
    # The standard error of a standard deviation of 1e6 draws is 0.07 %; five of them are 0.36 %.
    assert abs(million.std() - 1.0) < 0.0036
    assert abs(million.mean()) < 0.005
    assert stats.kstest(million, "norm").pvalue > 1e-4
    assert abs(stats.kurtosis(million)) < 0.025
    assert 4.5 < np.abs(million).max() < 7.0


def test_draws_of_other_names_keys_and_neighbours_are_independent(million: np.ndarray) -> None:
    few = million[:100_000]
    others = [
        Normals(bytes(range(32))).draw("control", 100_000),
        Normals(bytes(32)).draw("delta", 100_000),
        million[100_000:200_000],
        million[1:100_001],
    ]
    for other in others:
        assert abs(np.corrcoef(few, other)[0, 1]) < 5 / np.sqrt(100_000)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 2**16 + 3])
def test_the_number_of_draws_changes_none_of_them(million: np.ndarray, count: int) -> None:
    assert np.array_equal(Normals(bytes(range(32))).draw("delta", count), million[:count])


def test_words_are_those_of_the_cipher_and_draws_are_by_inversion() -> None:
    # The keystream of AES-256 for a key of zeros and a counter of zeros: the first block is a known answer of NIST's
    # (SP 800-38A's algorithm, CAVP KAT of an all-zero key and text: dc95c078a2408989ad48a21492842087).
    known = np.frombuffer(bytes.fromhex("dc95c078a2408989ad48a21492842087"), dtype="<i8")
    uniform = [float(word) * 2.0**-63 for word in known.tolist()]
    assert np.allclose(Stream(bytes(32)).draw(2), stats.norm.ppf([(1.0 + each) / 2.0 for each in uniform]), rtol=1e-13)
    assert Stream(bytes(32)).words(2).tolist() == known.view("<u8").tolist()


def test_no_word_gives_what_is_no_number() -> None:
    words = np.array([-(2**63), -(2**63) + 1, -1, 0, 1, 2**63 - 1], dtype="<i8").view(np.float64)
    normal_(words)
    assert words.tolist() == sorted(words.tolist())
    assert words[-1] == pytest.approx(stats.norm.isf(2.0**-54), rel=1e-9)
    assert words[3] == 0.0
    assert words[0] == -words[-1]


def test_a_draw_does_not_depend_on_those_beside_it() -> None:
    """As clients of a block draw side by side, and another block may have others of them."""
    words = Stream(bytes(32)).words(2**14 + 77).view(np.float64)
    whole = words.copy()
    normal_(whole)
    for start, stop in [(0, 1), (1, 3), (5, 70), (2**14 - 3, 2**14 + 8), (13, len(words))]:
        piece = words[start:stop].copy()
        normal_(piece)
        assert np.array_equal(piece, whole[start:stop])


def test_a_stream_goes_on_from_any_place() -> None:
    whole, stream = Stream(bytes(32)).words(6), Stream(bytes(32))
    stream.words(1)
    # Blocks have two words.
    assert stream.at((1).to_bytes(16, "big")).words(4).tolist() == whole[2:].tolist()
    assert stream.at(bytes(16)).words(6).tolist() == whole.tolist()


def test_streams_side_by_side_are_those_alone_and_go_on_where_they_were() -> None:
    keys = [bytes([k]) * 32 for k in range(3)]
    together, streams = np.empty((2, 3, 4)), [Stream(key) for key in keys]
    for rows in together:
        for stream, row in zip(streams, rows, strict=True):
            stream.fill(row)
        normal_(rows.reshape(-1))
    for index, key in enumerate(keys):
        assert np.array_equal(Stream(key).draw(8), together[:, index].reshape(-1))


def test_without_the_cipher_noise_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
    noise_module._cipher.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'fedray\[dp\]'"):
        noise_module.check_installed()


def test_keys_go_on_by_a_hash_and_are_forgotten() -> None:
    keys = NoiseKeys(seed=1)
    first = keys.of("secure", 1)
    assert keys.of("secure", 1) == first  # a round that is done again
    second = keys.of("secure", 2)
    assert NoiseKeys(seed=9, key=first).of("secure", 2) == second, "the chain depends on nothing but its key"
    assert NoiseKeys(seed=9, key=second, round=2).of("secure", 5) == keys.of("secure", 5)
    with pytest.raises(RuntimeError, match="the key of round 4 is forgotten"):
        keys.of("secure", 4)


def test_two_runs_have_other_keys_and_the_seed_names_those_that_are_seeded() -> None:
    secure = {NoiseKeys(seed=1).of("secure", 1) for _ in range(10)}
    seeded = {NoiseKeys(seed=1).of("seeded", round) for round in (1, 1, 2)} | {NoiseKeys(seed=2).of("seeded", 1)}
    assert len(secure) == 10
    assert len(seeded) == 3
    assert not secure & seeded


def test_noise_and_id_are_those_of_key_part_and_what_is_released() -> None:
    told: list[str] = []

    def release(key: bytes = bytes(32), part: int = 1, value: float = 1.0, name: str = "delta") -> bytes:
        noise = Noise(key, 3, part, lambda round, id, cost: told.append(f"{round} {id} {cost}"))
        return noise.of({name: np.array([value, 0.0])}, "z=1").draw(name, 4).tobytes()

    draws = [
        release(),
        release(),  # the same again is the same release
        release(value=np.nextafter(1.0, 2.0)),
        release(part=2),
        release(key=bytes([1] * 32)),
        release(name="control"),
    ]
    assert draws[0] == draws[1]
    assert told[0] == told[1]
    for one, other in itertools.combinations(range(1, len(draws)), 2):
        assert draws[one] != draws[other]
        assert told[one] != told[other]
    assert told[0].startswith("3 ")
    assert told[0].endswith(" z=1")


def test_what_costs_nothing_is_not_written_down() -> None:
    def journal(round: int, id: str, cost: object) -> None:
        raise AssertionError

    Noise(bytes(32), journal=journal).of({"delta": np.zeros(2)})


def test_keys_are_not_shown() -> None:
    assert "key" not in repr(Noise(b"1" * 32))
    assert "1111" not in repr(Normals(b"1" * 32))
