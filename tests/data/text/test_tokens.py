"""Which tokens are learnt, from the characters of a text to its bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedray.core.errors import ConfigError
from fedray.data.text.formats import Format
from fedray.data.text.tokenizers import Bytes
from fedray.data.text.tokens import Tokens, tokens_of


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def learnt(tokens: Tokens, row: int) -> tuple[bytes, bool]:
    """Return the bytes that are learnt of a row, and whether its end is."""
    start, stop = tokens.offsets[row], tokens.offsets[row + 1]
    ids = tokens.ids[start:stop][tokens.learnt[start:stop]]
    return bytes(int(one) for one in ids if one < 256), bool(256 in ids)


def test_of_a_pair_the_completion_and_its_end_are_learnt(tmp_path: Path) -> None:
    file = written(tmp_path, {"q": "Où?", "a": "à Nîmes"}, {"q": "2+2?", "a": 4})
    tokens = tokens_of(file, Format(prompt="Q: {q} ", completion="a"), Bytes())
    assert [learnt(tokens, row) for row in (0, 1)] == [("à Nîmes".encode(), True), (b"4", True)]
    assert tokens.ids[: tokens.offsets[1]].tolist() == [*"Q: Où? à Nîmes".encode(), 256]


def test_of_text_and_of_a_pair_that_is_said_so_all_is(tmp_path: Path) -> None:
    file = written(tmp_path, {"q": "a", "a": "b"})
    assert learnt(tokens_of(file, Format(text="{q}{a}"), Bytes()), 0) == (b"ab", True)
    whole = Format(prompt="q", completion="a", completion_only_loss=False)
    assert learnt(tokens_of(file, whole, Bytes()), 0) == (b"ab", True)


def test_other_columns_go_along(tmp_path: Path) -> None:
    file = written(tmp_path, *({"text": "x" * n, "who": n % 2} for n in range(1, 2000)))
    tokens = tokens_of(file, Format(text="text"), Bytes(), ["who"])  # more rows than one call takes
    assert np.diff(tokens.offsets).tolist() == list(range(2, 2001))
    assert tokens.beside["who"].tolist() == [str(n % 2) for n in range(1, 2000)]


def test_a_row_is_named_by_its_number(tmp_path: Path) -> None:
    file = written(tmp_path, *[{"text": "x"}] * 1500, {"text": " "})
    with pytest.raises(ConfigError, match=r"rows\.jsonl, row 1501: the text is empty"):
        tokens_of(file, Format(text="text"), Bytes())
    half = written(tmp_path, {"text": "x"}, {"text": "an \ud83d"})
    with pytest.raises(ConfigError, match=r"row 2: '\\ud83d' is half of a character"):
        tokens_of(half, Format(text="text"), Bytes())
