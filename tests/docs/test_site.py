"""The documentation's site: made strictly, whole, readable on a phone, and without a word to any other host."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import pytest

from mlviews.cli import cli
from mlviews.recipe.model import Recipe
from mlviews.site.model import SiteFile
from mlviews.smoke.programs import PROGRAMS

# Set and read by what mlviews writes, from one of its programs to the next; nobody else has to know them.
INTERNAL = re.compile(r"MLVIEWS_(AFTER|ALONE|BEFORE|DEFAULT|SMOKE_RUN|OLD_\w*|MADE_\w*)?$")
# Variables of a repository on GitHub or GitLab; docs/ci.md has them.
OF_A_REPOSITORY = {"MLVIEWS_ARM_RUNNER", "MLVIEWS_GPU_RUNNERS", "MLVIEWS_PAGES"}


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-d", f"{made}-trees"]
    done = subprocess.run([*command, "docs", made], capture_output=True, text=True, check=False, cwd=repository)
    assert (done.returncode, done.stderr) == (0, "")
    return made


class Asked(HTMLParser):
    """What a page makes a browser ask for: not where its links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.addresses += [told[name] or "" for name in ("src", "srcset", "data", "poster") if name in told]
        if tag == "link":
            self.addresses.append(told.get("href") or "")


def test_no_page_script_or_style_asks_another_host(site: Path) -> None:
    for path in site.rglob("*.html"):
        page = Asked()
        page.feed(path.read_text())
        assert [address for address in page.addresses if re.match(r"(https?:)?//", address)] == [], path
    for path in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)]*", path.read_text()) == [], path


@pytest.mark.parametrize(("width", "scheme", "pages"), [(390, "dark", "**/*.html"), (1400, "light", "*/t*.html")])
def test_pages_fit_their_window_and_ask_nobody(site: Path, show: Any, width: int, scheme: str, pages: str) -> None:
    for path in sorted(site.glob(pages)):
        if "nightly-example" in path.parts:
            continue  # tests/nightly/test_browser.py looks at these
        page = show(path, width=width, scheme=scheme)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width, path
        assert [line for line in page.get_log("browser") if line["level"] == "SEVERE"] == [], path
        asked = [line["message"] for line in page.get_log("performance") if "requestWillBeSent" in line["message"]]
        assert not [line for line in asked if '"url":"http' in line], path


def test_the_search_finds_a_symptom_in_a_folder_without_a_server(site: Path, show: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    page = show(site / "search.html", "?q=quota")
    links = "return [...document.querySelectorAll('#search-results a')].map((link) => link.href)"
    found = WebDriverWait(page, 20).until(lambda browser: browser.execute_script(links))
    assert any("howto/symptoms.html" in address for address in found)


def text_of(path: Path) -> str:
    return re.sub(r"<[^>]+>", "", path.read_text())


def test_the_reference_tells_every_command_option_key_and_check(site: Path) -> None:
    def walk(path: str, command: click.Command) -> Any:
        yield path, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                yield from walk(f"{path} {name}", command.get_command(context, name))

    commands = text_of(site / "reference/commands.html")
    for path, command in walk("mlviews", cli):
        options = [max(p.opts, key=len) for p in command.params if isinstance(p, click.Option) and not p.hidden]
        assert [word for word in (path, *options) if word not in commands] == []
    for page, model in (("recipe-keys", Recipe), ("site-keys", SiteFile)):
        told = text_of(site / f"reference/{page}.html")
        assert [f.alias or n for n, f in model.model_fields.items() if (f.alias or n) not in told] == []
    told = text_of(site / "reference/checks.html")
    assert [name for name in PROGRAMS if name not in told] == []


def test_every_variable_of_the_program_is_told(repository: Path) -> None:
    told = (repository / "docs/reference/environment.md").read_text()
    named = {option.envvar for option in cli.params if option.envvar}
    for folder in ("mlviews", "templates"):
        for path in (repository / folder).rglob("*"):
            if path.suffix in {".py", ".j2", ".sh"}:
                named |= set(re.findall(r"\bMLVIEWS_[A-Z_]*", path.read_text()))
    stands_for = {option.envvar for option in cli.params}
    unknown = {name for name in named - OF_A_REPOSITORY - stands_for if not INTERNAL.match(name) and name not in told}
    assert unknown == set()
