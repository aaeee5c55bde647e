"""The words of OmegaConf for a value that an option cannot hold, in those of who writes a config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_KINDS = {
    "Float": "a number",
    "Integer": "a whole number",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
}
_CONVERTED = re.compile(
    r"Value '(?P<value>.*)' (of type .*could not be converted to|is not a valid) (?P<kind>Float|Integer|bool)"
)
_NULL = re.compile(r"Incompatible value 'None' for field of type '(?P<kind>\w+)'|.* is not Optional|.*NoneType is not")
_NO_TEXT = re.compile(r"Cannot convert '\w+' to string: '(?P<value>.*)'$")
_NO_LIST = re.compile(r"Value (?P<value>.*) \(\w+\) is incompatible with type hint 'typing\.List")
_NO_PLAIN = re.compile(r"Value '(?P<kind>\w+)' is not a supported primitive type")
_SECTION = re.compile(r"Merge error: \w+ is not a subclass of \w+")
_UNION = re.compile(r"Value '(?P<value>.*)'( of type '\w+')? is incompatible with type hint '(?P<kinds>.*)'$")
_CHOICE = re.compile(r"Incompatible value 'None' for field of type 'Literal\[(?P<values>.*)\]'")
_KEY = re.compile(r"Key (?P<value>.*) \(\w+\) is incompatible with \((?P<kind>\w+)\)")


def in_plain_words(said: str, value: Any) -> str:
    """Return what an error of OmegaConf says, without the names of its types and of Python's.

    >>> in_plain_words("Value '2.5' of type 'float' could not be converted to Integer", 2.5)
    "expected a whole number, got '2.5'"
    >>> in_plain_words("Incompatible value 'None' for field of type 'str'", None)
    'expected a text, got null'

    Args:
        said: the first line of its message.
        value: the value of the option.
    """
    if found := _CONVERTED.match(said):
        hint = _decimal(found["value"]) if found["kind"] == "Float" else ""
        return f"expected {_KINDS[found['kind']]}, got {found['value']!r}{hint}"
    if found := _NULL.match(said):
        return f"expected {_KINDS.get(found['kind'] or '', 'a value')}, got null"
    if found := _CHOICE.match(said):
        return f"expected one of {found['values']}, got null"
    if _SECTION.match(said) and not isinstance(value, Mapping):
        return f"expected a section with keys, got {value!r}"
    if (found := _UNION.match(said)) and (kinds := _kinds(found["kinds"])):
        return f"expected {kinds}, got {'null' if value is None else repr(value)}"
    if found := _NO_TEXT.match(said):
        return f"expected a text, got {found['value']}"
    if found := _NO_LIST.match(said):
        return f"expected a list, got {found['value']}"
    if found := _NO_PLAIN.match(said):
        return f"expected a plain value, as a file can hold it, got one of type {found['kind']} (of NumPy's: .item())"
    if found := _KEY.match(said):
        return f"the key must be {_KINDS.get(found['kind'], found['kind'])}, got {found['value']!r}"
    if isinstance(value, list | tuple) and "incompatible container types" in said:
        return f"expected a section with keys, got {value!r}"
    # Of a field without a default it speaks in other words.
    for kind, words in (("ListConfig", "a list"), ("Dict[", "a section with keys")):
        if kind in said and not isinstance(value, Mapping | list | tuple):
            return f"expected {words}, got {value!r}{in_a_list(value) if 'list' in words else ''}"
    return said


def _kinds(hint: str) -> str:
    """Return in words what a hint of several types takes; empty: they have none.

    >>> _kinds("Union[bool, str]"), _kinds("typing.List[int]")
    ('true or false, or a text', '')
    """
    found = re.fullmatch(r"(typing\.)?(Optional|Union)\[(.*)\]", hint)
    names = found[3].removeprefix("Union[").removesuffix("]").split(", ") if found else []
    return ", or ".join(_KINDS[name] for name in names) if all(name in _KINDS for name in names) else ""


def in_a_list(value: Any) -> str:
    """Return what is to be written for a list of a single text; nothing for other values.

    >>> in_a_list("*.csv"), in_a_list(3)
    (" (write ['*.csv'])", '')
    """
    return f" (write [{value!r}])" if isinstance(value, str) else ""


def _decimal(value: str) -> str:
    """Return what is to be written for a number with a decimal comma; nothing for other texts.

    >>> _decimal("0,25"), _decimal("fast")
    (' (write 0.25)', '')
    """
    return f" (write {value.replace(',', '.')})" if re.fullmatch(r"[+-]?\d+,\d+", value) else ""
