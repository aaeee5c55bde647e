"""The dialect of a text table: its encoding, delimiter and quotes, as a person gives them or as they are found.

``csv.Sniffer`` is not used: it does not know that the first record is a header, takes whatever character is equally
frequent in all lines (a decimal comma, the colon of a time, a letter), and gives up on a table of one column.  Here a
delimiter is right if it cuts every record into as many cells as the header has names.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from fedray.core.errors import ConfigError
from fedray.data.encoding.advice import CONFIG, Advice

DELIMITERS = (",", ";", "\t", "|")
SAMPLE = 200
"""Records at the start of a file by which its delimiter and quotes are found."""
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "space"}
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECIMAL = re.compile(r"\s*[+-]?[0-9][0-9.]*,[0-9]+\s*")
_EXCEL = re.compile(r"sep=(.)")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The way a table is written, as far as it is given; what is not is found in the file, and said in the log.

    >>> Dialect(delimiter=";", decimal=",", missing=["-9", "k.A."]).delimiter
    ';'

    Args:
        delimiter: the character between cells.
        decimal: ``.`` or ``,``.
        thousands: the character between groups of three digits.
        encoding: as Python names it: utf-8, latin-1, cp1252, utf-16.
        quote: the character around cells; an empty one for none.
        dates: format of dates, as ``datetime.strptime`` has them: ``%d/%m/%Y``.
        missing: words of missing values, in any case, beside the usual ones.
        sheet: name of an Excel workbook's sheet; by default its first.
    """

    delimiter: str | None = None
    decimal: Literal[".", ","] | None = None
    thousands: str | None = None
    encoding: str | None = None
    quote: str | None = None
    dates: str | None = None
    missing: list[str] | None = None
    sheet: str | None = None

    def __post_init__(self) -> None:
        for key, allowed in (("delimiter", 1), ("thousands", 1), ("quote", 0)):
            value = getattr(self, key)
            if value is not None and not allowed <= len(value) <= 1:
                tab = '; a tab is written "\\t"' if key == "delimiter" else ""
                raise ValueError(f"{key}={value!r}: one character is expected{tab}")
        if self.decimal not in (None, ".", ","):
            raise ValueError(f"decimal={self.decimal!r}: it must be '.' or ','")
        if self.decimal is not None and self.decimal in (self.thousands, self.delimiter):
            other = "thousands" if self.decimal == self.thousands else "delimiter"
            raise ValueError(f"decimal={self.decimal!r}: {other} is the same character")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise ValueError(
                    f"encoding={self.encoding}: unknown; known are utf-8, utf-8-sig, latin-1, cp1252, utf-16, and the "
                    "others of Python"
                ) from None
        if self.dates is not None and "%" not in self.dates:
            raise ValueError(f"dates={self.dates}: expected a format such as %d/%m/%Y")


@dataclass(frozen=True)
class Form:
    """The dialect of one file, with nothing open but the decimals.

    Args:
        delimiter: the character between cells.
        encoding: of its text, for Python and Arrow.
        quote: around cells; empty for none.
        skipped: lines before the header that Excel wrote for itself.
        given: the dialect that was given.
    """

    delimiter: str = ","
    encoding: str = "utf-8"
    quote: str = '"'
    skipped: int = 0
    given: Dialect = field(default_factory=Dialect)

    def __str__(self) -> str:
        """Return what is not the usual, or an empty text."""
        unusual = []
        if self.delimiter != ",":
            unusual.append(f"delimiter {NAMES.get(self.delimiter, repr(self.delimiter))}")
        if self.encoding not in ("utf-8", "utf-8-sig"):
            unusual.append(f"encoding {self.encoding}")
        if self.quote != '"':
            unusual.append(f"quote {self.quote or 'none'}")
        return ", ".join(unusual)

    def records(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Yield the records of a file, each with the number of its first line; empty lines are skipped."""
        with open_text(path, self.encoding) as stream:
            for _ in range(self.skipped):
                stream.readline()
            yield from _records(stream, self.delimiter, self.quote, self.skipped)


def _records(stream: IO[str], delimiter: str, quote: str, skipped: int = 0) -> Iterator[tuple[int, list[str]]]:
    marks: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
    reader = csv.reader(stream, delimiter=delimiter, **marks)
    line = 1 + skipped
    for record in reader:
        if record:
            yield line, record
        line = reader.line_num + 1 + skipped


def open_text(path: Path, encoding: str) -> IO[str]:
    """Open a file as text, unpacked if its name ends in ``.gz``; line breaks are left as they are."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", newline="", encoding=encoding)
    return path.open(newline="", encoding=encoding)


def detect(path: Path, given: Dialect, advice: Advice = CONFIG) -> Form:
    """Find what is not given of a file's dialect.

    Raises:
        ConfigError: it is no text, or none in the encoding that is given.
    """
    encoding = given.encoding or _encoding(path)
    if encoding == "utf-8":
        encoding = "utf-8-sig"  # with a mark or without
    form = Form(",", encoding, '"' if given.quote is None else given.quote, 0, given)
    try:
        with open_text(path, encoding) as stream:
            excel = _EXCEL.fullmatch(stream.readline().rstrip("\r\n"))
        form = replace(form, skipped=1 if excel else 0)
        if given.quote is None:
            form = replace(form, quote=_quote(path, form))
        delimiter = given.delimiter or (excel.group(1) if excel else _delimiter(path, form))
    except (UnicodeDecodeError, UnicodeError):
        raise ConfigError(
            f"{path} is not {encoding.removesuffix('-sig')} text; give its encoding, "
            f"{advice.said('encoding', 'cp1252')}, or leave it out"
        ) from None
    return replace(form, delimiter=delimiter)


def _encoding(path: Path) -> str:
    """Find an encoding: by the byte order mark, UTF-16 by its zeros, UTF-8 if all of it is, else Windows' own."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rb") as file:
        start = file.read(4096)
        for mark, name in _BOMS:
            if start.startswith(mark):
                return name
        for name, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[0::2])):
            if zeros and zeros.count(0) > 0.6 * len(zeros):
                return name
        if 0 in start:
            raise ConfigError(f"{path} is no text: it has zero bytes; save it as CSV")
        decoder, one_byte = codecs.getincrementaldecoder("utf-8")(), "cp1252"
        utf8, chunk = True, start
        while chunk:
            if utf8:
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    utf8 = False
            # Bytes that cp1252 leaves open; ISO 8859-1 has control characters there.
            if any(byte in chunk for byte in (b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d")):
                one_byte = "latin-1"
            chunk = file.read(1 << 20)
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            utf8 = False
    return "utf-8" if utf8 else one_byte


def _quote(path: Path, form: Form) -> str:
    """Return the apostrophe if cells of the sample stand in it and none in the usual quotes."""
    with open_text(path, form.encoding) as stream:
        text = "".join(islice(stream, SAMPLE))
    if '"' in text:
        return '"'
    ends = "".join(map(re.escape, DELIMITERS))
    inside = rf"(?m)(?:^|[{ends}])'[^'\r\n]*'(?=[{ends}\r\n]|\Z)"
    return "'" if len(re.findall(inside, text)) > 1 else '"'


def _delimiter(path: Path, form: Form) -> str:
    """Return the delimiter that cuts each record of the sample as it cuts the header.

    If several do, it is the one whose cells hold the fewest other delimiters, decimal commas aside; then the one with
    the most cells.  If none does for all records, it is the one that does for the most.
    """
    best, found = (0.0, 0.0, 0), ","
    for delimiter in DELIMITERS:
        sample = [record for _, record in islice(replace(form, delimiter=delimiter).records(path), SAMPLE)]
        width = len(sample[0]) if sample else 0
        if width < 2:
            continue
        fitting = sum(len(record) == width for record in sample) / len(sample)
        cells = [cell for record in sample for cell in record]
        clean = sum(_clean(cell, delimiter) for cell in cells) / len(cells)
        if (fitting, clean, width) > best:
            best, found = (fitting, clean, width), delimiter
    return found


def _clean(cell: str, delimiter: str) -> bool:
    return not any(other in cell for other in DELIMITERS if other != delimiter) or bool(_DECIMAL.fullmatch(cell))
