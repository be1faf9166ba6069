"""Wheels beside a channel's packages: one solve, and a lock that names both."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from conda_lock.lockfile import parse_conda_lock_file
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mlviews.lock.parse import read_lock
from mlviews.wheels.loosen import loosened_wheel
from mlviews.wheels.offers import Index
from mlviews.wheels.pip import Found
from mlviews.wheels.wheel import open_wheel, record_hash

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli, Result

    from mlviews.lock.lockfile import LockedPackage


def locked(
    cli: Cli, *pypi: str, dependencies: tuple[str, ...] = ("python 3.12.*",), **keys: Any
) -> dict[str, LockedPackage]:
    cli.recipes.recipe("x", *dependencies, pypi=list(pypi), **keys)
    done = cli("lock", "x")
    assert done.code == 0, done.err
    return {package.name: package for package in read_lock(cli.lock("x")).on("linux-64")}


def refused(cli: Cli, *pypi: str, code: str = "unsolvable", **keys: Any) -> Result:
    cli.recipes.recipe("x", "python 3.12.*", pypi=list(pypi), **keys)
    done: Result = cli("lock", "x", "--json")
    assert done.codes == [code], done.out
    return cli("lock", "x")


def test_a_wheel_and_what_it_needs_of_the_channel(cli: Cli, index: Any, sha256: Any) -> None:
    wheel = index("tagger", "1.2", requires=["uproot>=5.3", "helper; python_version >= '3'"], requires_python=">=3.9")
    index("helper", requires=["nothing; sys_platform == 'win32'"])
    found = locked(cli, "Tagger >=1")
    assert (found["tagger"].manager, found["helper"].manager, found["uproot"].manager) == ("pip", "pip", "conda")
    tagger = found["tagger"]
    assert (tagger.version, tagger.url, tagger.sha256) == ("1.2", wheel.as_uri(), sha256(wheel))
    assert tagger.dependencies == {"helper": "", "uproot": ">=5.3"}
    assert found["helper"].dependencies == {}
    assert found["numpy"].version == "2.1.0"


def test_other_tools_read_the_lock(cli: Cli, index: Any) -> None:
    index("tagger", requires=["numpy"])
    locked(cli, "tagger")
    read = parse_conda_lock_file(cli.lock("x"))
    assert {entry.name: entry.manager for entry in read.package}["tagger"] == "pip"
    (entry,) = (entry for entry in read.package if entry.manager == "pip")
    assert (entry.dependencies, entry.hash.md5) == ({"numpy": ""}, None)


def test_the_channel_goes_first_where_it_has_what_fits(cli: Cli, index: Any) -> None:
    index("tagger", requires=["uproot", "plain>=2"])
    index("uproot", "9.0")
    index("plain", "2.5")
    found = locked(cli, "tagger")
    assert (found["uproot"].version, found["uproot"].manager) == ("5.4.0", "conda")
    assert (found["plain"].version, found["plain"].manager) == ("2.5", "pip")


def test_a_package_for_another_python_does_not_count(
    cli: Cli, index: Any, make_channel: Any, channel_packages: Any, tmp_path: Path
) -> None:
    only_311 = {"fast 1.0 py311_0": ["python_abi 3.11.* *_cp311", "python >=3.11,<3.12.0a0"]}
    packages = {**channel_packages, "linux-64": {**channel_packages["linux-64"], **only_311}}
    folder = make_channel(tmp_path / "other", packages)
    index("fast", "0.9", tag="cp312-cp312-manylinux_2_28_x86_64")
    cli.recipes.recipe("x", "python 3.12.*", pypi=["fast"])
    assert cli("lock", "x", "--mirror", f"conda-forge={folder}").code == 0
    (fast,) = (package for package in read_lock(cli.lock("x")).packages if package.name == "fast")
    assert (fast.manager, fast.version) == ("pip", "0.9")


def test_a_new_request_that_needs_an_older_python_gets_it(
    cli: Cli, index: Any, make_channel: Any, channel_packages: Any, tmp_path: Path
) -> None:
    """The lock's Python is kept where it fits, and blamed for nothing."""
    old = {"old 1.0 py311_0": ["python_abi 3.11.* *_cp311", "python >=3.11,<3.12.0a0"]}
    folder = make_channel(tmp_path / "other", {**channel_packages, "linux-64": {**channel_packages["linux-64"], **old}})
    index("tagger", requires=["numpy"])
    pythons = []
    for more in ([], ["old"]):
        cli.recipes.recipe("x", "python", *more, pypi=["tagger"])
        done = cli("lock", "x", "--mirror", f"conda-forge={folder}")
        assert done.code == 0, done.err
        packages = {package.name: package for package in read_lock(cli.lock("x")).packages}
        pythons.append(packages["python"].version[:4])
    assert (pythons[0] > "3.11", pythons[1]) == (True, "3.11")


def test_wheels_fit_the_target_not_this_host(cli: Cli, index: Any) -> None:
    """The newest needs a newer glibc, the next one another Python, the third another platform."""
    index("native", "4.0", tag="cp312-cp312-manylinux_2_36_x86_64")
    index("native", "3.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    index("native", "2.0", tag="cp312-cp312-manylinux_2_17_aarch64")
    index("native", "1.0", tag="cp312-abi3-manylinux2014_x86_64")
    assert locked(cli, "native")["native"].version == "1.0"


def test_requires_python_is_the_views(cli: Cli, index: Any) -> None:
    index("tagger", "2.0", requires_python=">=3.13")
    index("tagger", "1.0", requires_python=">=3.8")
    assert locked(cli, "tagger")["tagger"].version == "1.0"


def test_extras_and_markers_of_the_recipe(cli: Cli, index: Any) -> None:
    index(
        "tagger",
        requires=["numpy; extra == 'fast'", "plot; extra == 'plot'"],
        metadata="Provides-Extra: fast\nProvides-Extra: plot\n",
    )
    index("other")
    found = locked(cli, "tagger[fast]", "other; python_version < '3.12'")
    assert "numpy" in found
    assert not {"plot", "other", "tagger.extra.fast"} & found.keys()
    assert found["tagger"].dependencies == {"numpy": ""}


def test_an_extra_of_a_package_of_the_channel(cli: Cli, index: Any) -> None:
    index("tagger", requires=["uproot[http]"])
    index("uproot", "5.4.0", requires=["fetcher; extra == 'http'"], metadata="Provides-Extra: http\n")
    index("fetcher")
    found = locked(cli, "tagger")
    assert (found["uproot"].manager, found["fetcher"].manager) == ("conda", "pip")


def test_an_older_wheel_where_the_newest_is_in_the_way(cli: Cli, index: Any) -> None:
    index("tagger", "2.0", requires=["numpy<2"])
    index("tagger", "1.0", requires=["numpy>=2"])
    found = locked(cli, "tagger", dependencies=("python 3.12.*", "numpy >=2"))
    assert found["tagger"].version == "1.0"


def test_a_wheel_in_the_way_is_blamed_as_a_recipe_is(cli: Cli, index: Any) -> None:
    index("tagger", requires=["common>=2"])
    cli.recipes.recipe("x", "python 3.12.*", "right", pypi=["tagger"])
    done = cli("lock", "x")
    assert done.code == 1
    assert "These 2 requests cannot stand together" in done.err
    assert "tagger  <-  recipe x" in done.err
    assert "common >=2  <-  wheel (tagger 1.0)" in done.err


def test_overrides_loosen_one_wheels_pin(cli: Cli, index: Any) -> None:
    index("tagger", requires=["numpy<1.20"])
    refused(cli, "tagger")
    why = "it works with newer ones: tagger#7"
    override = {"package": "NumPy", "of": "tagger", "spec": ">=1.26", "why": why}
    found = locked(cli, "tagger", overrides=[override])
    assert found["numpy"].version == "2.1.0"
    assert found["tagger"].dependencies == {"numpy": ">=1.26"}
    assert read_lock(cli.lock("x")).inputs["overrides"] == [["NumPy", "tagger", ">=1.26"]]
    assert why in cli("show", "x").out


def test_a_loosened_wheel_may_have_any_legal_lines_and_names(index: Any, sha256: Any, tmp_path: Path) -> None:
    def change(draft: Any) -> None:
        path = f"{draft.dist_info}/METADATA"
        text = draft.files[path].replace(b"Requires-Dist: helper", b"requires-dist: helper").replace(b"\n", b"\r\n")
        draft.files[path] = text + b"\r\nRequires-Dist: of no header\r\n"
        draft.record[path] = record_hash("sha256", hashlib.sha256(draft.files[path]).digest()) + ","

    wheel = index("narrow", requires=["helper<1", "style"], files={'narrow/a"b.py': "x = 1\n"}, change=change)
    found = Found(name=canonicalize_name("narrow"), version="1.0", url=wheel.as_uri(), sha256=sha256(wheel))
    overrides = {(canonicalize_name("helper"), found.name): SpecifierSet(">=1")}
    path = loosened_wheel(found, overrides, tmp_path, lambda *_, **__: None)
    with open_wheel(path, sha256(path)) as opened:
        assert [str(line) for line in opened.said.requires] == ["helper>=1", "style"]
        assert 'narrow/a"b.py' in {entry.path for entry in opened.entries}


def test_what_has_no_wheel_is_told_with_who_needs_it(cli: Cli, index: Any) -> None:
    said = refused(cli, "nowhere", code="wheel-unknown").err
    assert "no wheel of nowhere for Python 3.12 on linux-64" in said
    index("tagger", "2.0", requires=["nowhere>=3"])
    index("tagger", "1.0")
    said = refused(cli, "tagger").err
    assert "the index has no wheel of nowhere>=3" in said
    assert "nowhere >=3  <-  wheel (tagger 2.0)" in said


def test_a_wheel_with_a_cuda_of_its_own_is_not_taken(cli: Cli, index: Any) -> None:
    index("tagger", requires=["nvidia-cublas-cu12"])
    assert "brings a CUDA of its own" in refused(cli, "tagger", code="wheel-unknown").err


def test_a_cuda_that_only_an_extra_asks_for_is_no_hindrance(cli: Cli, index: Any) -> None:
    """As TensorFlow's wheel has it."""
    line = "nvidia-cublas-cu12; extra == 'and-cuda'"
    index("tagger", requires=[line], metadata="Provides-Extra: and-cuda\n")
    index("nvidia-cublas-cu12")
    assert "tagger" in locked(cli, "tagger")
    assert "nvidia-cublas-cu12 1.0 brings a CUDA of its own" in refused(cli, "tagger[and-cuda]").err


def test_versions_that_ran_out_do_not_end_the_search(cli: Cli, index: Any) -> None:
    """The one version of `helper` does not fit; an older `tagger` does without."""
    index("tagger", "3.0", requires=["helper>=1"])
    index("tagger", "2.0", requires=["helper>=1"])
    index("tagger", "1.0")
    index("helper", "1.0", requires=["numpy<2"])
    found = locked(cli, "tagger", dependencies=("python 3.12.*", "numpy >=2"))
    assert found["tagger"].version == "1.0"


def test_locking_again_keeps_wheels_and_asks_nobody(cli: Cli, index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    index("tagger", "1.0", requires=["helper"])
    index("helper", "1.0")
    locked(cli, "tagger")
    before = cli.lock("x").read_bytes()
    index("tagger", "2.0")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert "x: unchanged" in cli("lock", "x").out
    assert cli.lock("x").read_bytes() == before
    monkeypatch.undo()


@pytest.mark.parametrize("file", ["tagger-1.2%2Bcpu-py3-none-any.whl", "tagger-1.2%2bcpu-py3-none-any.whl?a=b#c=d/e"])
def test_a_url_names_its_file_in_any_legal_way(tmp_path: Path, file: str) -> None:
    (tmp_path / f"{'0' * 64}.json").write_text('{"name": "Tagger", "version": "1.2+cpu", "requires_dist": ["numpy"]}')
    offer = Index(tmp_path, tmp_path).kept(f"https://index.example/{file}", "0" * 64)
    assert offer
    assert (offer.name, str(offer.version), [str(line) for line in offer.said.requires]) == (
        "tagger",
        "1.2+cpu",
        ["numpy"],
    )


def test_upgrading_takes_the_newest(cli: Cli, index: Any) -> None:
    index("tagger", "1.0", requires=["helper"])
    index("helper", "1.0")
    locked(cli, "tagger")
    index("tagger", "2.0", requires=["helper"])
    index("helper", "2.0")
    assert cli("lock", "x", "--upgrade-package", "helper").code == 0
    found = {package.name: package.version for package in read_lock(cli.lock("x")).packages}
    assert (found["tagger"], found["helper"]) == ("1.0", "2.0")
    assert cli("lock", "x", "--upgrade").code == 0
    found = {package.name: package.version for package in read_lock(cli.lock("x")).packages}
    assert (found["tagger"], found["helper"]) == ("2.0", "2.0")


def test_wheels_cannot_look_back(cli: Cli, index: Any) -> None:
    index("tagger")
    cli.recipes.recipe("x", "python 3.12.*", pypi=["tagger"])
    assert cli("lock", "x", "--as-of", "2026-01-01", "--json").codes == ["as-of-wheels"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tagger-1.0-py3", "tagger-2.0-py3"),
        ("tagger-1.0-py3-none-any.whl", "tagger-1.0.tar.gz"),
        ("tagger-1.0-py3-none-any.whl", "..%2F..%2Ftagger-1.0-py3-none-any.whl"),
        ("manager: pip", "manager: conda"),
    ],
)
def test_a_lock_that_was_changed_is_refused(cli: Cli, index: Any, old: str, new: str) -> None:
    index("tagger")
    locked(cli, "tagger")
    text = cli.lock("x").read_text()
    assert old in text
    cli.lock("x").write_text(text.replace(old, new))
    assert cli("build", "x", "--json").codes in (["lock-invalid"], ["lock-edited"])


def test_a_url_with_a_password_is_in_no_lock(cli: Cli, index: Any) -> None:
    """As pip would report it, where an index's own pages name it so."""
    from mlviews.errors import FailedError
    from mlviews.lock.packages import _open

    with pytest.raises(FailedError, match=r"the index says that tagger 1.0 is at") as caught:
        _open("https://user:secret@x.org/tagger-1.0-py3-none-any.whl", "tagger 1.0", "the index")
    assert "secret" not in str(caught.value)


def test_at_a_site_of_wheels_pip_resolves_the_same_requirements(
    cli: Cli, index: Any, sources: Any, closed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLVIEWS_MIRROR")
    cli.root.mkdir(exist_ok=True)
    cli.root.chmod(0o2775)
    index("tagger", "1.4", requires=["helper; extra == 'fast'"], metadata="Provides-Extra: fast\n")
    index("tagger", "2.0")
    index("helper")
    index("other")
    for version in ("1.0", "2.0"):
        sources(version=version)
    index(
        "narrow",
        requires=["helper<1; python_version > '3'", "style"],
        metadata="\nRequires-Dist: nothing of the text\n",
    )
    asked = ["tagger[fast] >=1,<2", "other; python_version < '3'", "style <2", "narrow"]
    override = {"package": "helper", "of": "narrow", "spec": ">=1", "why": "it works"}
    cli.recipes.recipe("x", "python >=3.8", pypi=asked, sdists=["style"], overrides=[override])
    done = cli("lock", "x", "--site", "pypi")
    assert done.code == 0, done.err
    found = {package.name: package.version for package in read_lock(cli.lock("x")).packages}
    assert (found["tagger"], found["helper"], "other" in found) == ("1.4", "1.0", False)
    assert found["style"] == "1.0"
    (loosened,) = (cli.root / "cache/made").glob("*/narrow-1.0-1loosened-py3-none-any.whl")
    with open_wheel(loosened, loosened.parent.name) as wheel:  # each file is what RECORD promises
        assert [str(line) for line in wheel.said.requires] == ['helper>=1; python_version > "3"', "style"]
    assert closed(cli.root / "cache/made") == []  # the next member of the group finds them, and adds their own
