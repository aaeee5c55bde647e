"""Ray's token: what a cluster that asks for one is shown, and what to do where it is missing."""

from __future__ import annotations

import os
from pathlib import Path

ASKS = (
    "asks for a token, and was shown none or another one: export RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH=FILE "
    "if it is not in ~/.ray/auth_token"
)


def token_file() -> Path:
    """Return where Ray looks for the token, unless it is in the environment itself."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def token_wanted() -> str | None:
    """Return what is wrong where a token is to be shown and there is none: Ray would end this process."""
    if os.environ.get("RAY_AUTH_MODE") != "token" or os.environ.get("RAY_AUTH_TOKEN") or token_file().is_file():
        return None
    there = f"RAY_AUTH_MODE=token: there is no token in {token_file()}"
    return f"{there}; copy the cluster's there, or set RAY_AUTH_TOKEN_PATH"
