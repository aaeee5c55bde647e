"""The ledger of clients: what each has released stays spent, whatever is killed, cut or put back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.privacy.accounting import spent
from fedray.privacy.client_ledger import ClientLedger, Line, client_epsilon, dearest
from fedray.privacy.ledger import Ledger
from fedray.privacy.local import composed
from fedray.privacy.releases import Release

ONCE = Release(2.0, sampling="fixed", relation="replace_one")
STEPS = Release(1.0, 0.1, count=20)


def filled(path: Path) -> ClientLedger:
    ledger = ClientLedger.begin(path)
    ledger.write([Line(1, ONCE, {"a": "1", "b": "1"})])
    ledger.write([Line(2, ONCE, {"a": "2"}), Line(2, STEPS, {"b": "2"})])
    return ledger


def test_each_client_pays_for_what_it_released_and_once_for_the_same(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "l")
    ledger.write([Line(2, STEPS, {"b": "2"})])
    assert (len(ledger), ledger.rounds) == (4, 2)
    assert ledger.of("a") == (Release(2.0, 1.0, 2, "fixed", "replace_one"),)
    assert set(ledger.of("b")) == {ONCE, STEPS}
    assert ledger.of("b", [STEPS])[0].count + ledger.of("b", [STEPS])[1].count == 41
    ledger.write([Line(2, STEPS, {"b": "3"})])
    assert {each.count for each in ledger.of("b")} == {1, 40}


def test_another_ledger_and_one_that_lost_something_are_refused(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "l")
    with pytest.raises(ConfigError, match="the ledger has 4 releases, and had 5"):
        ClientLedger.resume(ledger.path, ledger.id, least=5)
    with pytest.raises(ConfigError, match="the ledger of another run"):
        ClientLedger.resume(ledger.path, "other", least=0)
    with pytest.raises(ConfigError, match="there is a ledger of privacy already"):
        ClientLedger.begin(ledger.path)
    with pytest.raises(ConfigError, match="there is no ledger"):
        ClientLedger.read(tmp_path / "none")
    server = Ledger.begin(tmp_path / "server")
    with pytest.raises(ConfigError, match="the ledger of a server's releases, not of clients'"):
        ClientLedger.read(server.path)
    with pytest.raises(ConfigError, match="the ledger of clients' releases, not of a server's"):
        Ledger.read(ledger.path)
    assert ClientLedger.is_at(ledger.path)
    assert not ClientLedger.is_at(server.path)
    assert not ClientLedger.is_at(tmp_path / "none")
    ledger.path.write_bytes(ledger.path.read_bytes() + b"{}\n")
    with pytest.raises(ConfigError, match="not a ledger of privacy"):
        ClientLedger.read(ledger.path)


def test_updates_are_counted_in_closed_form_and_samples_by_the_accountant() -> None:
    assert client_epsilon((ONCE,), 1e-5) == composed([ONCE], 1e-5)
    assert client_epsilon((STEPS,), 1e-5, "rdp") == spent([STEPS], 1e-5, "rdp")
    # The closed form is what distributions of losses say as well, from above.
    assert composed([ONCE], 1e-5) == pytest.approx(spent([ONCE], 1e-5, "pld"), rel=1e-3)


@settings(max_examples=10, deadline=None)
@given(
    st.floats(0.5, 4.0),
    st.floats(0.01, 0.9),
    st.integers(1, 500),
    st.sampled_from(["noise_multiplier", "rate", "count"]),
)
def test_less_noise_larger_batches_and_more_steps_cost_no_less(z: float, rate: float, count: int, what: str) -> None:
    one = Release(z, rate, count)
    worse = {"noise_multiplier": z / 1.1, "rate": min(1.0, 1.1 * rate), "count": count + 5}
    more = replace(one, **{what: worse[what]})  # type: ignore[arg-type]
    cost, other = (client_epsilon((each,), 1e-5, "rdp") for each in (one, more))
    assert cost <= other * (1.0 + 1e-9)
    assert dearest([(one,), (more,)], 1e-5, "rdp") == other


def test_who_pays_most_is_found_among_all(tmp_path: Path) -> None:
    clients = [(Release(1.0, rate, count),) for rate in (0.02, 0.1) for count in (5, 40)]
    each = [client_epsilon(releases, 1e-5, "rdp") for releases in clients]
    assert dearest(clients, 1e-5, "rdp") == max(each) == each[-1]
    assert dearest([], 1e-5) == 0.0
