"""The report in a real browser: filters, links that carry them, phones, dark pages, and no request to anyone."""

from __future__ import annotations

from typing import Any

import pytest


def shown(browser: Any) -> list[str]:
    rows = "[...document.querySelectorAll('table.filtered tbody tr')]"
    return browser.execute_script(f"return {rows}.filter((row) => row.offsetHeight).map((row) => row.dataset.package)")


def test_changes_are_filtered_and_the_address_carries_the_filter(busy, show):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    page = show(busy / "changes.html")
    assert len(shown(page)) == 52
    page.find_element(By.NAME, "package").send_keys("PACKAGE-3")
    Select(page.find_element(By.NAME, "view")).select_by_visible_text("beta")

    assert sorted(shown(page)) == ["package-3", *(f"package-3{n}" for n in range(10))]
    assert page.find_element(By.TAG_NAME, "output").text == "11 of 52 changes"
    fragment = page.execute_script("return location.hash")
    page = show(busy / "changes.html", fragment)
    assert len(shown(page)) == 11
    assert page.find_element(By.NAME, "package").get_attribute("value") == "PACKAGE-3"
    assert len(shown(show(busy / "changes.html", "#kind=rebuilt"))) == 12
    assert len(shown(show(busy / "changes.html", "#kind=nonsense"))) == 52


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_its_window_follows_its_scheme_and_asks_nobody(busy, show, width, scheme, tmp_path):
    for path in sorted(busy.glob("*.html")):
        page = show(path, width=width, scheme=scheme)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width, path
        background = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
        messages = [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
        assert messages == [], path
        asked = [
            line["message"] for line in page.get_log("performance") if "Network.requestWillBeSent" in line["message"]
        ]
        assert not [line for line in asked if '"url":"http' in line], path
        assert page.save_screenshot(str(tmp_path / f"{path.stem}-{width}-{scheme}.png"))


def test_text_that_means_harm_runs_nowhere(busy, show):
    page = show(busy / "view-gamma.html")
    assert page.execute_script("return document.querySelectorAll('main script').length") == 0
    assert "alert(1)" in page.execute_script("return document.querySelector('main').innerText")
    # and the page's own policy would stop it
    page.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.harmed = 1'; document.body.append(s)"
    )
    assert page.execute_script("return window.harmed") is None
