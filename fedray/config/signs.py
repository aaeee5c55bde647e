"""Signs that YAML reads as more than letters of a word."""

from __future__ import annotations

import math
import re

import yaml

_NO_VALUE = re.compile(r"[*&%@`|>#,\]}]|!(?!!)|[-?:=]$")
"""The beginning of a text that is no YAML value on one line, or one that nobody means."""

_MEANING = {
    "*": "an alias",
    "&": "an anchor",
    "!": "a tag",
    "%": "a directive",
    "@": "a reserved sign",
    "`": "a reserved sign",
    "|": "the head of several lines",
    ">": "the head of several lines",
}


def as_yaml(text: str) -> str:
    """Return the YAML of an override's value: the text, in quotes if it begins with a sign that begins no value.

    So a pattern or a delimiter needs no second pair of quotes.

    >>> as_yaml("*.csv"), as_yaml(","), as_yaml("[1, 0.5]"), as_yaml("'*.csv'")
    ('"*.csv"', '","', '[1, 0.5]', "'*.csv'")

    Args:
        text: the value as it was written behind ``key=``.
    """
    text = text.strip()
    return _quoted(text) if _NO_VALUE.match(text) else text


def comment_in(text: str) -> str:
    """Return what YAML drops from the end of a value; nothing: it reads all.

    >>> comment_in("run #3"), comment_in("'run #3'"), comment_in("run#3")
    ('#3', '', '')

    Raises:
        yaml.YAMLError: the value is no YAML.
    """
    if "#" not in text:
        return ""
    ends = (token.end_mark.index for token in yaml.scan(text) if token.end_mark.index > token.start_mark.index)
    return text[max(ends, default=0) :].strip()


def misread(error: Exception, text: str) -> tuple[int, str, str] | None:
    """Return the number of the line with a misread sign, the reading of YAML, and the line with the word in quotes.

    >>> try:
    ...     yaml.safe_load("path: [*.csv]")
    ... except yaml.YAMLError as error:
    ...     misread(error, "path: [*.csv]")
    (1, 'YAML reads the * of *.csv as an alias', 'path: ["*.csv"]')

    Args:
        error: the error of reading the text.
        text: all of it.

    Returns:
        None: the error comes from another mistake.
    """
    lines = text.splitlines()
    for mark in (getattr(error, name, None) for name in ("context_mark", "problem_mark")):
        if mark is None or mark.line >= len(lines):
            continue
        before, behind = lines[mark.line][: mark.column], lines[mark.line][mark.column :]
        word = re.split(r"[\s,\]}]|:(?:\s|$)", behind)[0]
        if word[:1] in _MEANING:
            told = f"YAML reads the {word[0]} of {word} as {_MEANING[word[0]]}"
            return mark.line + 1, told, f"{before}{_quoted(word)}{behind[len(word) :]}".strip()
    return None


def _quoted(text: str) -> str:
    return yaml.safe_dump(text, default_style='"', width=math.inf, allow_unicode=True).rstrip("\n")
