"""Installing from a lock: what lies in the prefix afterwards, and which bytes never get there."""

from __future__ import annotations

import hashlib
import json
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rattler import PrefixRecord

from mlviews.errors import FailedError
from mlviews.lock.parse import read_lock
from mlviews.prefix.install import PREFIX_LENGTH, Prefix, check_prefix, install

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlviews.lock.lockfile import Lock


NAMES = ("greet", "native", "oldstyle", "plain", "python")


@pytest.fixture
def lock(builder: Any) -> Lock:
    """A lock of all packages of the channel; it names conda-forge's URLs."""
    builder.recipes.recipe("demo", "python", "greet", "native", "oldstyle")
    assert builder("lock", "demo").code == 0
    return read_lock(builder.lock("demo"))


@pytest.fixture
def put(lock: Lock, shelf: Any, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that installs the lock and gives the prefix."""

    def put(name: str = "prefix", *, mirror: str | Path = shelf.folder, **options: Any) -> Path:
        prefix = tmp_path / name
        plain: dict[str, Any] = {"cache": tmp_path / "cache", "mirrors": {"conda-forge": str(mirror)}}
        packages = options.pop("packages", lock.on("linux-64"))
        install(packages, Prefix(prefix, options.pop("baked", prefix), "linux-64"), **{**plain, **options})
        return prefix

    return put


def meta(prefix: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in (prefix / "conda-meta").glob("*.json")]
    return {record["name"]: record for record in found}


@pytest.fixture(params=["folder", "http"])
def mirror(request: pytest.FixtureRequest, shelf: Any, server: Any) -> str:
    return str(shelf.folder) if request.param == "folder" else server.url


def test_everything_lies_where_its_kind_belongs(put, mirror, site_packages):
    prefix = put(mirror=mirror)

    says = subprocess.run([prefix / "bin/greet"], capture_output=True, text=True, check=True).stdout
    assert says == f"hello from {prefix}\n"
    assert (prefix / site_packages / "greet.py").is_file()
    assert subprocess.run([prefix / "bin/native"], capture_output=True, text=True, check=True).stdout == (
        f"{prefix}/share\n"
    )
    # In a binary the rest of the string moves up, and the file keeps its length.
    binary = (prefix / "lib/libnative.so").read_bytes()
    assert binary.startswith(b"\x7fELF\0\0" + f"{prefix}/lib\0".encode())
    assert binary.endswith(b"\0after\0")
    assert (prefix / "lib/libnative.so.1").readlink() == Path("libnative.so")
    assert (prefix / "share/oldstyle/data").read_text() == "old\n"
    assert sorted(path.name for path in prefix.iterdir()) == ["bin", "conda-meta", "lib", "pyvenv.cfg", "share"]


def test_the_records_are_those_of_an_install_from_the_channel(put, mirror, lock, tmp_path):
    records = meta(put(mirror=mirror))

    assert tuple(sorted(records)) == NAMES
    for package in lock.packages:
        record = records[package.name]
        assert record["url"] == package.url
        assert record["url"].startswith("https://conda.anaconda.org/conda-forge/")
        assert record["channel"] == "https://conda.anaconda.org/conda-forge"
        assert (record["sha256"], record["md5"], record["size"]) == (package.sha256, package.md5, package.size)
        assert (record["fn"], record["subdir"]) == (package.archive, package.subdir)
    assert records["native"]["depends"] == ["plain >=1.0", "__glibc >=2.17,<3.0.a0"]
    assert records["native"]["build_number"] == 4
    assert (records["greet"]["constrains"], records["greet"]["license"]) == (["rude <0"], "MIT")
    assert records["greet"]["noarch"] == "python"
    assert records["greet"]["timestamp"] == 1735689600000


def test_what_the_channel_has_corrected_since_stands_in_the_records(builder, shelf, tmp_path):
    shelf.add("tk", subdir="linux-64", depends=("libzlib >=1.2,<1.3", "plain * h0_*"), constrains=["rude <0", "sly <1"])
    needs = ["libzlib >=1.2", "libzlib <2.0a0", "plain * h0_*"]
    shelf.patch("tk", depends=needs, constrains=["sly <2", "rude <0"])
    shelf.add("libzlib", "1.3")
    builder.recipes.recipe("demo", "tk")
    folder = Path(builder("build", "demo", "--json").data["folder"])

    record = meta(folder)["tk"]

    # What the package says too has its order; what the channel alone says follows.
    assert record["depends"] == ["plain * h0_*", "libzlib <2.0a0", "libzlib >=1.2"]
    assert record["constrains"] == ["rude <0", "sly <2"]
    assert [str(spec) for spec in PrefixRecord.from_path(folder / "conda-meta/tk-1.0-h0_0.json").depends] == record[
        "depends"
    ]
    assert builder("verify", "demo").code == 0


def test_no_file_names_where_the_archives_came_from(put, mirror, shelf, tmp_path):
    prefix = put(mirror=mirror)

    for path in prefix.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            for place in (str(shelf.folder), "127.0.0.1", str(tmp_path / "cache")):
                assert place.encode() not in content, path


def test_another_path_than_the_one_installed_to_can_be_baked_in(put, tmp_path):
    prefix = put(baked=Path("/cvmfs/example.cern.ch/ml"))

    assert (prefix / "bin/native").read_text() == "#!/bin/sh\necho /cvmfs/example.cern.ch/ml/share\n"
    assert (prefix / "bin/greet").read_text().startswith("#!/cvmfs/example.cern.ch/ml/bin/python")
    assert not [
        path
        for path in prefix.rglob("*")
        if path.is_file() and not path.is_symlink() and str(tmp_path).encode() in path.read_bytes()
    ]


def test_files_without_prefix_are_shared_between_the_cache_and_every_release(put):
    first, second = put("first"), put("second")

    shared = "share/native/data"
    assert (first / shared).samefile(second / shared)
    assert (first / shared).stat().st_nlink == 3
    assert not (first / "bin/native").samefile(second / "bin/native")


def test_a_second_install_downloads_nothing(put, server):
    put("first", mirror=server.url)
    assert sorted(server.archives()) == sorted({*server.archives()})
    server.hits.clear()

    put("second", mirror=server.url)

    assert server.hits == []


def test_progress_tells_of_every_byte_and_package(put, shelf, server, lock, tmp_path):
    bars: dict[str, list[Any]] = {}

    @contextmanager
    def progress(label: str, *, total: int | None = None, unit: str = "items"):
        bars[label] = [0, total, unit]

        def advance(step: int = 1, *, total: int | None = None, note: str = "") -> None:
            bars[label][0] += step

        yield advance

    size, packages = sum(package.size for package in lock.packages), len(NAMES)
    both = {"Linking": [packages, packages, "items"]}
    put("cold", mirror=server.url, progress=progress)
    assert bars == {"Downloading": [size, size, "bytes"], **both}
    put("warm", mirror=server.url, progress=progress)
    assert bars == {"Downloading": [size, size, "bytes"], **both}

    bars.clear()
    put("folder", mirror=shelf.folder, progress=progress)
    assert bars == {"Unpacking": [size, size, "bytes"], **both}, "no archive is read"
    put("empty", mirror=shelf.folder, progress=progress, cache=tmp_path / "empty-cache")
    assert bars == {"Checking": [packages, packages, "items"], "Unpacking": [size, size, "bytes"], **both}


# Wrong bytes


def flip(path: Path, at: int = -100) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.chmod(0o644)
    path.unlink()
    path.write_bytes(content)


def test_a_changed_archive_is_refused_before_anything_is_linked(put, shelf, mirror, tmp_path):
    flip(shelf.archive("native"))

    with pytest.raises(FailedError, match=r"native-1\.0-h123_4") as caught:
        put(mirror=mirror)

    assert caught.value.code == "hash-mismatch"
    assert not list((tmp_path / "prefix").rglob("*native*"))


def test_an_archive_of_another_version_under_the_same_name_is_refused(put, shelf, lock, mirror):
    archive = shelf.archive("plain")
    archive.write_bytes(shelf.archive("greet").read_bytes())

    with pytest.raises(FailedError) as caught:
        put(mirror=mirror)

    assert caught.value.code == "hash-mismatch"


def test_a_missing_archive_is_named(put, shelf, mirror):
    shelf.archive("native").unlink()

    with pytest.raises(FailedError, match=r"native-1.0-h123_4\.conda") as caught:
        put(mirror=mirror)

    assert caught.value.code == "archive-missing"


def test_of_a_package_that_is_unpacked_already_no_archive_is_read(put, shelf):
    put()
    shelf.archive("native").unlink()
    flip(shelf.archive("oldstyle"))

    again = put("again")

    assert (again / "bin/native").is_file()
    assert (again / "share/oldstyle/data").read_text() == "old\n"


@pytest.mark.parametrize("noticed", [True, False], ids=["before rattler", "by rattler"])
def test_what_is_unpacked_again_is_of_the_right_archive_or_not_there(put, shelf, tmp_path, noticed):
    """Whoever notices that the cache's copy is damaged: the archive that then is read may be another one, too."""
    put()
    unpacked = tmp_path / "cache/pkgs/native-1.0-h123_4"
    damaged = unpacked / ("info/index.json" if noticed else "share/native/data")
    text = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(text[::-1])
    right = shelf.archive("native").read_bytes()
    shelf.add("native", build="h123_4", subdir="linux-64", files={"share/native/data": "of somebody else\n"})

    with pytest.raises(FailedError, match=r"native-1\.0-h123_4") as caught:
        put("again")
    assert caught.value.code == "hash-mismatch"

    shelf.archive("native").write_bytes(right)
    assert (put("again") / "share/native/data").read_text() != "of somebody else\n"


@pytest.mark.parametrize("after", [0, 50, 1000])
def test_a_download_that_is_cut_once_is_tried_again(put, server, faults, after):
    server.faults["native"] = faults["cuts"](after, times=1)

    prefix = put(mirror=server.url)

    assert (prefix / "bin/native").is_file()
    assert server.archives().count("native-1.0-h123_4.conda") == 2


def test_a_download_that_is_always_cut_fails_and_the_next_install_completes(put, server, faults):
    server.faults["native"] = faults["cuts"](50)
    with pytest.raises(FailedError, match="native") as caught:
        put(mirror=server.url)
    assert caught.value.code == "download-failed"

    server.faults.clear()
    assert set(meta(put(mirror=server.url))) == set(NAMES)


def test_a_server_that_is_busy_is_asked_again(put, server, faults):
    server.faults["native"] = faults["answers"](503, times=2)

    put(mirror=server.url)

    assert server.archives().count("native-1.0-h123_4.conda") == 3


def test_a_server_that_is_gone_is_no_crash(put):
    with pytest.raises(FailedError) as caught:
        put(mirror="http://127.0.0.1:9")

    assert caught.value.code == "download-failed"


@pytest.mark.parametrize("damage", ["bit", "missing", "cut", "extra length"])
def test_a_damaged_cache_entry_is_repaired(put, mirror, tmp_path, damage):
    first = put("first", mirror=mirror)
    (cached,) = (tmp_path / "cache/pkgs").rglob("share/native/data")
    good = cached.read_bytes()
    if damage == "missing":
        cached.unlink()
    else:
        # Through a file of its own: the release shares the inode, and must stay as it is.
        cached.unlink()
        cached.write_bytes({"bit": b"V" + good[1:], "cut": good[:-1], "extra length": good + b"\n"}[damage])

    second = put("second", mirror=mirror)

    assert (second / "share/native/data").read_bytes() == good
    assert (first / "share/native/data").read_bytes() == good
    assert cached.read_bytes() == good


# Prefixes


def test_a_prefix_may_hold_spaces_and_letters_of_any_language(put, tmp_path):
    prefix = put("Ma thèse 物理")

    says = subprocess.run([prefix / "bin/greet"], capture_output=True, text=True, check=True).stdout
    assert says == f"hello from {prefix}\n"


@pytest.mark.parametrize("bad", ['"', "'", "$", "\\", "`", "\n", ":", "#", "!", ";", "\x7f", "\u2028"])
def test_a_prefix_that_scripts_cannot_bear_is_refused_before_any_work(put, bad, server):
    with pytest.raises(FailedError) as caught:
        put(f"a{bad}b", mirror=server.url)

    assert caught.value.code == "prefix-unsafe"
    assert repr(bad) in caught.value.message
    assert server.hits == []


def test_a_prefix_is_measured_in_bytes():
    check_prefix(Path("/" + "é" * 127))
    with pytest.raises(FailedError, match="257 bytes") as caught:
        check_prefix(Path("/" + "é" * 128))
    assert caught.value.code == "prefix-too-long"
    assert PREFIX_LENGTH == 255


def test_installing_again_changes_nothing(put):
    before = meta(put())

    assert meta(put()) == before


def test_what_a_package_says_of_its_installation_is_not_believed(put, lock, shelf):
    # Only a record's author may say these; here the package's own index.json does.
    lies = {"url": "https://evil.example/x.conda", "extracted_package_dir": "/", "fn": "x", "paths_data": {}}
    archive = shelf.add("plain", files={"share/plain/data": "plain\n"}, **lies)
    content = archive.read_bytes()
    package = next(package for package in lock.packages if package.name == "plain")
    sha256, md5 = hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()
    changed = replace(package, sha256=sha256, md5=md5, size=len(content))
    record = meta(put(packages=[changed]))["plain"]

    assert (record["url"], record["fn"], record["files"]) == (package.url, package.archive, ["share/plain/data"])
    assert [entry["_path"] for entry in record["paths_data"]["paths"]] == ["share/plain/data"]
    assert "extracted_package_dir" not in record
