"""Who attacks is a share or a list of ids; everything else is refused where it is given."""

from __future__ import annotations

from typing import Any

import pytest

from fedray.attacks import ALIE, SignFlip, attacks
from fedray.config.registry import bind_part
from fedray.core.errors import ConfigError


@pytest.mark.parametrize("clients", [0.0, 0, 0.2, 1.0, [], ["a", "b"], ("a",)])
def test_clients_are_a_share_or_ids(clients: Any) -> None:
    assert SignFlip(clients).clients == clients
    said = list(clients) if isinstance(clients, tuple) else clients
    assert bind_part(attacks, {"name": "alie", "clients": said}, "attack") == ALIE(said)


@pytest.mark.parametrize(
    ("clients", "words"),
    [
        (1, r"clients=1: it must be a share of the clients from 0 to 1.0, such as 0.2, or a list of client ids"),
        (3, r"clients=3: it must be a share"),
        (-0.1, r"clients=-0.1: it must be a share"),
        (1.5, r"clients=1.5: it must be a share"),
        (float("nan"), r"clients=nan: it must be a share"),
        (True, r"clients=True: it must be a share"),
        ("a", r"clients='a': it must be a share"),
        (None, r"clients=None: it must be a share"),
        ([3], r"clients=\[3\]: ids are texts; put numbers in quotes"),
    ],
)
def test_anything_else_is_refused(clients: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SignFlip(clients)
    with pytest.raises(ConfigError, match=rf"^attack: {words}"):
        bind_part(attacks, {"name": "sign_flip", "clients": clients}, "attack")
