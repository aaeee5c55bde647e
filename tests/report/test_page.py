"""Pages as text; in a browser they are looked at in test_browser.py."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.report import (
    Curve,
    Curves,
    Facts,
    Figures,
    Matrix,
    Section,
    Table,
    Verbatim,
    Words,
    page,
    render,
    write_page,
)
from fedray.report.charts import FAINT, INK, PAPER, SERIES

CHART = Curves("loss", "Loss of the <test> set.", "round", "loss", [Curve("", [1, 2], [2.0, 1.0])])
ODD = "<script>alert('x')</script> & \"y\""
SECTIONS = [
    Section("Overview", [Facts([("client", ODD)]), Words(ODD, warns=True)]),
    Section("Nothing", []),
    Section("Clients & curves", [Figures([CHART]), Table(["client", "auc"], [[ODD, 0.5]], caption=ODD, folded="all")]),
    Section("Config", [Verbatim("config.yaml", ODD)]),
]


class Read(HTMLParser):
    """What is in a page: its tags, text, names, links and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "link", "wbr"):
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "action"):
                self.addresses.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def read() -> Read:
    return Read(render("Five <hospitals>", SECTIONS, lead=ODD, foot=ODD))


def test_all_that_is_said_is_text(read: Read) -> None:
    assert read.open == []
    assert "script" not in read.tags
    assert "".join(read.text).count(ODD) == 7
    assert "Five <hospitals>" in read.text


def test_it_needs_nothing_but_itself(read: Read) -> None:
    assert {address for address in read.addresses if not address.startswith(("#", "data:"))} == set()
    assert len(read.ids) == len(set(read.ids))
    assert {address[1:] for address in read.addresses if address.startswith("#")} <= set(read.ids)


def test_sections_are_listed_and_empty_ones_are_not(read: Read) -> None:
    assert [one for one in read.ids if one.startswith("s")] == ["s0-overview", "s2-clients-curves", "s3-config"]
    assert "Nothing" not in read.text


def test_day_and_night_know_every_colour_of_a_figure() -> None:
    style = render("t", [])
    day, night = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    named = [dict(re.findall(r"--(\w+): (#\w+);", part)) for part in (day, night)]
    assert named[0].keys() == named[1].keys()
    assert [named[0][name] for name in ("ink", "faint", "paper")] == [INK, FAINT, PAPER]
    assert [named[0][f"series{number}"] for number in range(len(SERIES))] == list(SERIES)


def test_many_figures_stay_small() -> None:
    rounds, clients = list(range(1, 201)), [f"client_{number}" for number in range(100)]
    values = [0.5 + 0.4 * ((37 * number) % 101) / 101 for number in rounds]
    curve = Curve("fedavg", rounds, values, [one - 0.01 for one in values], [one + 0.01 for one in values])
    charts = [Curves(f"c{number}", "C.", "round", "auc", [curve, curve]) for number in range(2)]
    labels = Matrix("labels", "Labels.", list("0123456789"), clients, [list(range(100))] * 10)
    table = Table(["client", *(f"m{n}" for n in range(10))], [[name, *[0.123456] * 10] for name in clients])
    text = render("t", [Section("s", [Figures([*charts, labels]), table])])
    assert len(text) < 250_000


def test_for_want_of_a_package_one_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_PACKAGES", ("jinja2", "no_such_package"))
    with pytest.raises(ConfigError, match=r"no_such_package.*pip install 'fedray\[report\]'"):
        render("t", [])


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"report\.html: cannot be written"):
        write_page(tmp_path / "file" / "report.html", "")
    write_page(tmp_path / "new" / "report.html", "<p>")
    assert (tmp_path / "new" / "report.html").read_text() == "<p>"
