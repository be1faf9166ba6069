"""The report: pages that stand alone, say what is known, and do no harm."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import HERE

from mlviews.nightly.night import NightCell
from mlviews.nightly.pages import Series, chart_of, drawing
from mlviews.nightly.report import lines_of
from mlviews.smoke.report import CheckLine

VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """A page, read strictly: what is opened is closed, in order."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.path = path
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text())
        self.close()
        assert self.open == [], path

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.path

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get("id"))]


@pytest.fixture
def pages(busy: Path) -> dict[str, Page]:
    return {path.name: Page(path) for path in busy.glob("*.html")}


def test_every_link_leads_into_the_folder_and_nothing_is_fetched(busy, pages):
    for page in pages.values():
        for tag, attributes in page.tags:
            for key in ("href", "src", "xlink:href", "action", "data", "poster"):
                target = attributes.get(key)
                if target is None or target == "data:,":
                    continue
                assert tag == "a", (page.path, tag, target)
                parts = urlsplit(target)
                assert (parts.scheme, parts.netloc) == ("", "")
                file = parts.path or page.path.name
                assert (busy / file).is_file(), target
                if parts.fragment and "=" not in parts.fragment:
                    assert parts.fragment in pages[file].ids, target
        style = re.findall(r"url\(|@import", page.path.read_text())
        assert style == []


def test_what_packages_and_checks_say_is_text_and_nothing_else(pages):
    for page in pages.values():
        raw = page.path.read_text()
        assert "<script>alert" not in raw
        assert not {*raw} & {"\x1b", "\u202e", "\x00"}
        assert len(page.all("script")) == (1 if page.path.name == "changes.html" else 0)
    assert "<script>alert(1)</script>\"'&\\x1b[31m\\u202e" in pages["view-delta.html"].text


def test_pages_are_made_for_screen_readers(pages):
    for page in pages.values():
        assert page.all("html") == [{"lang": "en"}]
        assert len(page.ids) == len(set(page.ids)), page.path
        assert page.text.count("Skip to the content") == 1
        assert len(page.all("h1")) == len(page.all("main")) == 1
        assert len(page.all("table")) == len(page.all("caption"))
        assert all(heading.get("scope") in {"col", "row"} for heading in page.all("th"))
        assert all(drawing.get("aria-hidden") == "true" for drawing in page.all("svg"))
        for _, attributes in page.tags:
            if label := attributes.get("aria-labelledby"):
                assert label in page.ids
        assert len(page.all("label")) == len(page.all("input")) + len(page.all("select"))


def test_states_are_words_and_signs_not_colours_alone(pages):
    index = pages["index.html"].text
    for sign, state in (("✓", "ok"), ("↑", "updated"), ("✗", "unsolvable"), ("✗", "check-failed"), ("○", "not-run")):
        assert f"{sign} {state}" in index


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_have_contrast_in_light_and_dark():
    style = (HERE.parent / "templates/report/style.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6});", part)) for part in style.split("@media", 2)[:2])
    assert len(light) == len(dark) > 12
    for colours in (light, dark):
        pairs = [("text", "page"), ("text", "card"), ("muted", "page"), ("muted", "card"), ("link", "page")]
        pairs += [("link", "card"), ("bad", "page"), ("ok-text", "page"), ("not-text", "page")]
        pairs += [(f"{kind}-text", f"{kind}-back") for kind in ("ok", "updated", "bad", "not")]
        for front, back in pairs:
            lighter, darker = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (front, back)
        lighter, darker = sorted((luminance(colours["line"]), luminance(colours["page"])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3  # graphics, WCAG 1.4.11


def test_the_first_page_says_what_broke_since_when_and_what_changed(pages):
    text = " ".join(pages["index.html"].text.split())
    assert "delta on linux-64 ✗ check-failed" in text
    assert "Since 2026-11-12; last good on 2026-11-11" in text
    assert "9 packages changed since: package-0 1.0 → 2.0" in text
    assert "and 1 more" in text
    assert "gamma on linux-64 ✗ unsolvable" in text
    assert "this host is linux-64" in text


def test_a_views_page_shows_its_trend_drawn_and_as_a_table(pages):
    page = pages["view-beta.html"]
    assert drawing(), "the extra `report` is part of the tests"
    assert len(page.all("svg")) == len(page.all("figure")) == 3
    assert "imports: modules" not in page.text  # the same every night: no trend
    assert "100 on 2026-11-01, 1200 on 2026-11-12; between 100 and 1200." in page.text
    assert "12 nights as a table" in page.text
    assert page.text.count("2026-11-0") > 9


def test_a_change_that_many_views_see_stands_once(report):
    from mlviews.lock.diff import PackageChange

    change = PackageChange(kind="up", name="numpy", platform="linux-64", before="1", after="2", bytes=5)
    cells = [
        NightCell(view=f"view-{n}", platform="linux-64", state="updated", lock="current", changes=[change])
        for n in range(4)
    ]
    page = Page(report(cells) / "changes.html")
    rows = [row for row in page.all("tr") if "data-package" in row]
    assert [(row["data-package"], row["data-view"]) for row in rows] == [("numpy", "view-0|view-1|view-2|view-3")]
    assert "4 views" in page.text


def test_one_night_is_no_trend(report):
    page = Page(report([NightCell(view="solo", platform="linux-64", state="ok", lock="current")]) / "view-solo.html")
    assert page.all("svg") == []
    assert "1 night as a table" in page.text


def test_a_drawing_leaves_gaps_and_marks_failures():
    points = [("2026-01-01", 1.0), ("2026-01-02", None), ("2026-01-03", 3.0)]
    chart = chart_of(Series("Size", points, frozenset({"2026-01-02"})), drawing())
    assert chart
    assert chart.words == "1 on 2026-01-01, 3 on 2026-01-03; between 1 and 3. 1 night failed."
    assert "var(--line)" in chart.svg
    assert "stroke-dasharray" in chart.svg
    assert "http" not in chart.svg.replace("http://www.w3.org/", "")


def test_without_the_extra_the_figures_are_there_as_tables(busy, tmp_path):
    assert chart_of(Series("Size", [("2026-01-01", 1.0), ("2026-01-02", 2.0)]), None) is None
    program = (
        "import sys; sys.modules['vl_convert'] = None\nfrom mlviews.nightly.pages import drawing; print(drawing())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


@pytest.mark.parametrize(
    ("keys", "solve_only", "lines"),
    [
        ({"state": "ok", "digest": "d"}, True, [("solve", "pass")]),
        ({"state": "unsolvable"}, True, [("solve", "fail")]),
        ({"state": "not-run", "reason": "no"}, True, [("solve", "skip")]),
        ({"state": "install-failed", "digest": "d"}, False, [("solve", "pass"), ("install", "error")]),
        ({"state": "not-run", "digest": "d"}, False, [("solve", "pass"), ("install", "skip")]),
        (
            {"state": "not-run", "digest": "d", "tested": True},
            False,
            [("solve", "pass"), ("install", "pass"), ("imports", "pass"), ("gpu", "skip")],
        ),
        (
            {"state": "ok", "digest": "d", "tested": True},
            False,
            [("solve", "pass"), ("install", "pass"), ("imports", "pass")],
        ),
    ],
)
def test_a_cell_as_ci_systems_know_it(keys, solve_only, lines):
    checks = [CheckLine(name="imports", status="pass", reason="", seconds=1)] if keys.get("tested") else []
    cell = NightCell.model_validate({"view": "v", "platform": "p", "lock": "current", "checks": checks, **keys})
    assert [(line.name, line.status) for line in lines_of(cell, solve_only=solve_only)] == lines


def test_junit_survives_what_installers_say(busy):
    from xml.etree import ElementTree as ET

    root = ET.parse(busy / "junit.xml").getroot()
    assert len(root) == 6
    assert root.find(".//testsuite[@name='epsilon linux-64']//error").get("message") == "the disk  is full"
