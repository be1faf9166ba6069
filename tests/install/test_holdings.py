"""What views hold: `packages`, `search`, and the catalogue as a page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlviews.holdings import AllHoldings, CatalogueView, HeldPackage, write_catalogue
from mlviews.release import GpuLine
from mlviews.upstream import ViewGpu, ViewGpus

ALERT = "<script>alert(1)</script>"
HOSTILE = f"</script>{ALERT}\"'&\x1b[31m\u202e"


@pytest.fixture
def views(builder: Any, recipes: Any, repository: Path) -> Any:
    """Return the command line where one view has a lock, one has nothing, and the lock of one is damaged."""
    hardware = {"glibc": "2.34", "cuda": "12.9", "gpus": ["V100"]}
    recipes.recipe("inference-gpu", "python", "onnxruntime >=1.24", hardware=hardware)
    recipes.recipe("nothing", "plain", gaps=[{"package": "tensor_rt", "why": "no build yet"}], summary="</td>" + ALERT)
    recipes.recipe("damaged", "plain")
    builder.lockfiles.mkdir(exist_ok=True)
    shutil.copy(repository / "lockfiles/inference-gpu.conda-lock.yml", builder.lockfiles)
    builder.lock("damaged").write_text("no lock\n")
    return lambda *more: builder(*more, "--recipes", recipes.folder)


def test_packages_are_those_of_the_release_else_of_the_lock(recipes: Any, views: Any) -> None:
    locked = views("packages", "inference-gpu", "--json").data
    assert (locked["source"], locked["release"]) == ("lock", None)
    of = {package["name"]: package for package in locked["packages"]}
    assert (of["onnxruntime"]["cuda"], of["onnxruntime"]["asked"]) == ("12.9", True)
    assert (of["libcublas"]["asked"], of["libcublas"]["platform"]) == (False, "linux-64")
    shown = views("packages", "inference-gpu").out
    assert "inference-gpu is not built: this is its lock" in shown
    assert "The recipe asks for the first 2 packages" in shown
    assert [line.split()[0] for line in shown.splitlines()[2:4]] == ["onnxruntime", "python"]

    recipes.recipe("native-view", "native")
    assert views("build", "native-view", "-q").code == 0
    built = views("packages", "native-view", "--json").data
    found = {package["name"]: (package["version"], package["asked"]) for package in built["packages"]}
    assert (built["source"], found) == ("release", {"native": ("1.0", True), "plain": ("1.0", False)})
    assert {package["release"] for package in built["packages"]} == {built["release"]}
    assert views("packages", f"native-view/{built['release']}", "--json").data == built

    assert views("packages", "nothing", "--json").codes == ["lock-missing"]
    assert views("packages", "native-view/2000.01.01", "--json").codes == ["release-missing"]
    assert views("packages", "nativ-view", "--json").codes == ["view-unknown"]


def test_search_looks_into_every_view_and_knows_why_one_lacks_a_package(builder: Any, views: Any) -> None:
    told = views("search", "TENSOR.rt", "--json")  # of a view that cannot be looked at it tells, too
    assert (told.code, told.codes) == (2, ["lock-invalid"])
    assert views("search", "no-such-package", "--json").codes == ["lock-invalid"]
    builder.lock("damaged").unlink()

    gaps = views("search", "tensor.rt", "--json").data
    assert gaps["gaps"] == [{"view": "nothing", "package": "tensor_rt", "why": "no build yet"}]
    assert "nothing cannot have tensor_rt yet: no build yet" in views("search", "*rt").out
    found = views("search", "CUBLAS", "--json").data["packages"]
    assert [(package["name"], package["view"], package["cuda"]) for package in found] == [
        ("libcublas", "inference-gpu", "12.9")
    ]
    assert next(iter(views("search", "numpy").out.splitlines()[1:])).split()[::2][:2] == ["numpy", "inference-gpu"]
    none = views("search", "libcubla5", "--json")
    assert (none.code, none.codes) == (1, ["package-unknown"])
    assert "did you mean 'libcublas'" in none.json["errors"][0]["message"]
    builder.recipes.recipe("unlocked", "py-newer-thing >=3")
    asked = views("search", "newer-thing")
    assert asked.code == 1
    assert (
        "no view that is built or locked here holds a package 'newer-thing'; the recipe of unlocked asks for it"
        in asked.err
    )
    assert "`mlviews lock unlocked`" in asked.err
    builder.recipes.recipe("lacks", gaps=[{"package": "newer-thing-extra", "why": "no build yet"}])
    beside = views("search", "newer-thing", "--json").data
    assert (beside["asking"], [gap["view"] for gap in beside["gaps"]]) == (["unlocked"], ["lacks"])
    assert "neither built nor locked here, but their recipes ask for it: unlocked" in views("search", "newer-thing").out


def test_the_page_holds_what_the_verbs_tell(views: Any, tmp_path: Path) -> None:
    done = views("catalogue", "-o", tmp_path / "made/page", "--json")
    assert (done.code, done.codes) == (2, ["lock-invalid"])
    page = (tmp_path / "made/page/index.html").read_text()
    assert json.loads((tmp_path / "made/page/catalogue.json").read_text())["views"] == done.data["views"]
    told = {view["view"]: (view["source"], view["cuda"]) for view in done.data["views"]}
    assert told.items() >= {"inference-gpu": ("lock", "12.9"), "nothing": ("none", None)}.items()
    assert 'data-package="onnxruntime" data-asked="yes" data-view="inference-gpu" data-gpu="V100|T4|' in page
    assert "&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<script>") == 1


def gpu_view(name: str, *, proved: bool, passed: list[str]) -> CatalogueView:
    lines = [ViewGpu("V100", 70, "native", "525.60.13", ()), ViewGpu("RTX 2080 Ti", 75, "ptx", None, ())]
    gpus = ViewGpus(name, "lock", None, [*lines, ViewGpu("B200", 100, "none", None, ("libx 1",))], ())
    proofs = [GpuLine(gpu="V100", status="proved" if proved else "unproved", driver=HOSTILE)]
    return CatalogueView(
        name, f"About {HOSTILE}", "atlasml/x", "lock", None, "12.9", ["linux-64"], gpus, proofs, passed, []
    )


def test_a_view_for_gpus_is_proved_on_a_gpu_alone() -> None:
    assert gpu_view("one", proved=False, passed=["imports"]).proof == "unproved"
    assert gpu_view("one", proved=True, passed=["imports"]).proof == "proved"


def test_the_page_is_filtered_in_the_browser_and_runs_no_text(show: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    views = [gpu_view("one", proved=True, passed=["a"]), gpu_view("two", proved=False, passed=["a"])]
    packages = [
        HeldPackage(view, None, None, "linux-64", name, HOSTILE, HOSTILE, cuda, asked)
        for view in ("one", "two")
        for name, cuda, asked in ((HOSTILE, "12.9", True), ("numpy", None, True), ("libx", None, False))
    ]
    path = write_catalogue(tmp_path, AllHoldings(views, packages, [], ())).page

    def shown() -> list[str]:
        rows = "[...document.querySelectorAll('table.filtered tbody tr')].filter((row) => row.offsetHeight)"
        return page.execute_script(f"return {rows}.map((row) => row.dataset.package + ' ' + row.dataset.view)")

    for width, scheme in ((400, "dark"), (1400, "light")):
        page = show(path, width=width, scheme=scheme)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
    asked = [line["message"] for line in page.get_log("performance") if "Network.requestWillBeSent" in line["message"]]
    assert not [line for line in asked if '"url":"http' in line]
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert page.execute_script("return document.querySelectorAll('main script').length") == 0
    pills = page.find_elements(By.CSS_SELECTOR, ".state")
    assert [pill.text for pill in pills if pill.rect["x"] > 0] == ["proved", "unproved"]

    assert len(shown()) == 4  # what only others need is not shown at first
    Select(page.find_element(By.NAME, "asked")).select_by_index(0)
    assert len(shown()) == 6
    Select(page.find_element(By.NAME, "gpu")).select_by_visible_text("RTX 2080 Ti")
    Select(page.find_element(By.NAME, "proof")).select_by_visible_text("proved")
    page.find_element(By.NAME, "package").send_keys("LIB")
    assert shown() == ["libx one"]
    fragment = page.execute_script("return location.hash")
    page = show(path, fragment)
    assert shown() == ["libx one"]
    page = show(path, "#gpu=B200")
    assert shown() == []
