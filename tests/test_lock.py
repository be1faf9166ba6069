"""Locks: what is read back, and that no edit by hand goes unseen."""

from __future__ import annotations

import copy
import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlviews.errors import BadInputError, FailedError
from mlviews.files.kept import state_of
from mlviews.lock.lockfile import Lock, RecordRest, lock_path
from mlviews.lock.parse import parse_lock, read_lock
from mlviews.lock.status import changes, find_lock
from mlviews.lock.summary import FoundLock, LockSummary, summary_of
from mlviews.lock.writer import lock_text

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli


@pytest.fixture
def path(cli: Cli) -> Path:
    """A lock of a GPU view on two platforms."""
    cli.recipes.recipe("x", "python", "numpy", platforms=["linux-aarch64", "linux-64"])
    assert cli("lock", "x").code == 0
    return cli.lock("x")


@pytest.fixture
def data(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_bytes())


def refused(raw: bytes | str, code: str | None = None) -> str:
    with pytest.raises(BadInputError) as caught:
        parse_lock(raw if isinstance(raw, bytes) else raw.encode(), "x.conda-lock.yml")
    assert caught.value.code in ({code} if code else {"lock-invalid", "lock-edited"})
    assert "x.conda-lock.yml" in caught.value.message
    assert "mlviews lock" in caught.value.hint
    return caught.value.message


def test_what_is_read(path: Path) -> None:
    lock = read_lock(path)
    assert lock.view == "x"
    assert lock.platforms == ("linux-64", "linux-aarch64")
    assert lock.solver.startswith("py-rattler ")
    assert [package.name for package in lock.on("linux-64")] == ["libzlib", "numpy", "python", "python_abi"]
    numpy = next(package for package in lock.on("linux-aarch64") if package.name == "numpy")
    assert (numpy.version, numpy.build, numpy.subdir) == ("2.1.0", "py312h1_0", "linux-aarch64")
    assert numpy.archive == "numpy-2.1.0-py312h1_0.conda"
    assert numpy.url == f"https://conda.anaconda.org/conda-forge/linux-aarch64/{numpy.archive}"
    assert numpy.dependencies == {"python": ">=3.12,<3.13.0a0", "python_abi": "3.12.*"}
    assert next(package for package in lock.on("linux-64") if package.name == "python_abi").subdir == "noarch"


def test_sizes_are_those_of_the_channel(path: Path, channel: Path) -> None:
    sizes = {
        record["sha256"]: record["size"]
        for subdir in ("linux-64", "linux-aarch64", "noarch")
        for record in json.loads((channel / subdir / "repodata.json").read_text())["packages.conda"].values()
    }
    for package in read_lock(path).packages:
        assert package.size == sizes[package.sha256]


def test_layout_does_not_matter(path: Path, data: dict[str, Any]) -> None:
    lock = read_lock(path)
    assert parse_lock(json.dumps(data).encode(), "x") == lock
    assert parse_lock(("# a comment\n" + yaml.safe_dump(data, sort_keys=True, indent=8)).encode(), "x") == lock


WORDS = st.text(max_size=8) | st.sampled_from(["..", "file:///etc/passwd", "linux-aarch64", "pip", "dev", "0" * 32])
LEAVES = st.one_of(WORDS, st.none(), st.integers(), st.booleans(), st.lists(WORDS, max_size=2))


@given(data=st.data())
@settings(max_examples=150)
def test_any_single_edit_of_a_package_is_refused(path: Path, data: st.DataObject) -> None:
    original = yaml.safe_load(path.read_bytes())
    edited = copy.deepcopy(original)
    packages = edited["package"]
    number = data.draw(st.integers(0, len(packages) - 1))
    entry = packages[number]
    kind = data.draw(st.sampled_from(["value", "inner", "drop key", "add key", "drop", "twice", "swap"]))
    key = data.draw(st.sampled_from(sorted(entry)))
    if kind == "value":
        entry[key] = data.draw(LEAVES)
    elif kind == "inner":
        inner = entry[data.draw(st.sampled_from(["dependencies", "hash"]))]
        inner[data.draw(st.sampled_from([*inner, "new"]))] = data.draw(LEAVES)
    elif kind == "drop key":
        del entry[key]
    elif kind == "add key":
        entry[data.draw(st.text(min_size=1, max_size=8).filter(lambda name: name not in entry))] = data.draw(LEAVES)
    elif kind == "drop":
        del packages[number]
    elif kind == "twice":
        packages.insert(number, copy.deepcopy(entry))
    else:
        other = data.draw(st.integers(0, len(packages) - 1))
        packages[number], packages[other] = packages[other], packages[number]
    text = yaml.safe_dump(edited)
    if text == yaml.safe_dump(original):
        parse_lock(text.encode(), "x")
    else:
        refused(text)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["url"], "https://example.org/conda-forge/linux-64/libzlib-1.3.1-h0_2.conda"),
        (["url"], "https://conda.anaconda.org/conda-forge/linux-64/libzlib-1.3.1-h0_3.conda"),
        (["url"], "https://conda.anaconda.org/conda-forge/linux-64/libzlib-1.3.1-h0_2.tar.bz2"),
        (["hash", "sha256"], "0" * 64),
        (["hash", "md5"], "0" * 32),
        (["dependencies", "__glibc"], ">=2.18,<3.0.a0"),
    ],
)
def test_an_edit_that_looks_right_is_refused(data: dict[str, Any], keys: list[str], value: str) -> None:
    entry = next(entry for entry in data["package"] if (entry["name"], entry["platform"]) == ("libzlib", "linux-64"))
    for key in keys[:-1]:
        entry = entry[key]
    assert entry[keys[-1]] != value
    entry[keys[-1]] = value
    assert "changed by hand" in refused(yaml.safe_dump(data), "lock-edited")


@given(data=st.data())
def test_any_flipped_byte_is_refused_or_means_nothing(path: Path, data: st.DataObject) -> None:
    raw = path.read_bytes()
    lock = read_lock(path)
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + bytes([data.draw(st.integers(0, 255))]) + raw[at + 1 :]
    try:
        found = parse_lock(changed, "x")
    except BadInputError:
        return
    assert same_but_for_remarks(found, lock)


def same_but_for_remarks(one: Lock, other: Lock) -> bool:
    """The solver's name and the sizes are remarks: nothing is installed by them."""
    return (one.view, one.inputs, one.digest) == (other.view, other.inputs, other.digest)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mlviews-view", "y"),
        ("mlviews-inputs", "{}"),
        ("mlviews-inputs", "[]"),
        ("mlviews-inputs", "null"),
        ("mlviews-inputs", "nonsense"),
        ("mlviews-inputs", '{"platforms": "linux-64"}'),
        ("mlviews-inputs", "[" * 100_000),
        ("mlviews-recipe-digest", "0" * 64),
        ("mlviews-lock-digest", "0" * 64),
        ("mlviews-sizes", "1 2 3"),
        ("mlviews-sizes", "9" * 5000),
        ("mlviews-sizes", "-1"),
    ],
)
def test_edited_metadata(data: dict[str, Any], key: str, value: str) -> None:
    data["metadata"]["custom_metadata"][key] = value
    refused(yaml.safe_dump(data))


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: data["metadata"]["platforms"].pop(),
        lambda data: data["package"][0]["hash"].pop("md5"),
        lambda data: data["package"][0].update(url=data["package"][0]["url"].replace("/linux-", "/win-")),
    ],
    ids=["platforms", "md5", "url"],
)
def test_what_contradicts_itself_is_refused_whatever_its_digest(data: dict[str, Any], edit: Any) -> None:
    edit(data)
    refused(yaml.safe_dump(data), "lock-invalid")


@pytest.mark.parametrize("key", ["version", "metadata", "package"])
def test_a_part_that_is_missing_or_of_another_type(data: dict[str, Any], key: str) -> None:
    for value in ("x", None, [], {}, 7):
        data[key] = value
        refused(yaml.safe_dump(data))
    del data[key]
    refused(yaml.safe_dump(data))


def test_an_edited_input_is_an_edit(data: dict[str, Any]) -> None:
    custom = data["metadata"]["custom_metadata"]
    custom["mlviews-inputs"] = custom["mlviews-inputs"].replace("numpy", "scipy")
    assert "changed by hand" in refused(yaml.safe_dump(data), "lock-edited")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("\x00", id="nul"),
        pytest.param("[1, 2", id="no yaml"),
        pytest.param("a: !!python/object/apply:os.system ['touch pwned']", id="tag"),
        pytest.param("[" * 100_000, id="deep list"),
        pytest.param("{a: " * 100_000, id="deep mapping"),
        pytest.param("&a [*a]", id="itself"),
        pytest.param("version: 1\nmetadata: 2026-99-99\n", id="no day"),
        pytest.param("version: 6\nenvironments: {}\npackages: []\n", id="pixi's"),
    ],
)
def test_what_is_no_lock(text: str) -> None:
    refused(text, "lock-invalid")


def test_a_bomb_is_refused_before_it_goes_off(cli: Cli, path: Path) -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12))
    path.write_text(f"l0: &l0 [x]\n{levels}version: *l11\nmetadata: *l11\npackage: *l11\n")
    began = time.perf_counter()
    done = cli("lock", "x", "--check", "-vv")
    assert done.code == 2
    assert "anchors, aliases" in done.err
    assert time.perf_counter() - began < 5


def test_a_truncated_lock(path: Path) -> None:
    raw = path.read_bytes()
    for end in range(0, len(raw) - 1, 97):
        refused(raw[:end])


def test_a_lock_of_conda_lock_itself_is_not_ours(path: Path, data: dict[str, Any]) -> None:
    del data["metadata"]["custom_metadata"]
    assert "custom_metadata" in refused(yaml.safe_dump(data), "lock-invalid")


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FailedError) as caught:
        read_lock(tmp_path / "gone")
    assert caught.value.code == "lock-unreadable"


def test_the_first_folder_that_has_it(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    assert find_lock("x", (one, two)) is None
    lock_path(two, "x").touch()
    assert find_lock("x", (one, two)) == two / "x.conda-lock.yml"
    lock_path(one, "x").touch()
    assert find_lock("x", (one, two)) == one / "x.conda-lock.yml"


def test_what_a_recipe_changed_is_said(path: Path) -> None:
    lock = read_lock(path)
    now = {
        **lock.inputs,
        "dependencies": ["numpy >=2", "python"],
        "hardware": {**lock.inputs["hardware"], "cuda": "12.9"},
        "platforms": ["linux-64"],
        "channels": ["conda-forge", "ours"],
    }
    assert changes(lock.inputs, now) == (
        "channels: ours added",
        "dependencies: numpy taken out",
        "dependencies: numpy >=2 added",
        "hardware.cuda: None -> 12.9",
        "platforms: linux-aarch64 taken out",
    )
    assert changes(lock.inputs, {**lock.inputs, "pins": {"a": "1"}}) == ("pins: None -> {'a': '1'}",)
    assert changes(lock.inputs, dict(lock.inputs)) == ()
    two = {**lock.inputs, "channels": ["ours", "conda-forge"]}
    assert changes(two, {**two, "channels": ["conda-forge", "ours"]}) == ("channels: another order",)
    twice = changes(two, {**two, "channels": [*two["channels"], "ours"]})
    assert twice == ("channels: one is named more than once",)


# What the channel says and the format has no place for


def test_builds_two_ranges_and_limits_on_others_are_kept(cli: Cli) -> None:
    cli.recipes.recipe("x", "pytorch-gpu", hardware={"glibc": "2.34", "cuda": "12.9"})
    assert cli("lock", "x").code == 0
    packages = {package.name: package for package in read_lock(cli.lock("x")).packages}

    torch = packages["pytorch"]
    assert torch.dependencies["libtorch"] == "2.6.0"
    assert "libtorch 2.6.0 cuda126_200" in torch.needs
    assert torch.rest == RecordRest(depends=torch.needs, constrains=("pytorch-cpu <0.0a0",))
    assert packages["libzlib"].rest == RecordRest(), "the format says it all"
    assert packages["libzlib"].needs == ("__glibc >=2.17,<3.0.a0",)


def test_each_package_has_a_line_of_its_own(path: Path, data: dict[str, Any]) -> None:
    kept = data["metadata"]["custom_metadata"]["mlviews-rest"]
    lines = kept.splitlines()
    assert [lines[0], lines[-1]] == ["{", "}"]
    assert [json.loads(line.rstrip(",").partition(": ")[0]) for line in lines[1:-1]] == [*json.loads(kept)]
    assert "linux-64/numpy" in json.loads(kept)


@pytest.mark.parametrize(
    "edit",
    [
        lambda kept: kept.pop("linux-64/numpy"),
        lambda kept: kept["linux-64/numpy"].update(depends=["python"]),
        lambda kept: kept["linux-64/numpy"].update(constrains=["scipy <1"]),
        lambda kept: kept.update({"linux-64/libzlib": None}),
        lambda kept: kept["linux-64/numpy"].update(unknown=1),
        lambda kept: kept.update({"linux-64/scipy": {}}),
        lambda kept: kept["linux-64/numpy"].update(depends="python"),
        lambda kept: kept.update({"linux-64/python": {"python_site_packages_path": "lib/python3.12t/site-packages"}}),
    ],
)
def test_an_edit_of_it_is_refused(data: dict[str, Any], edit: Any) -> None:
    custom = data["metadata"]["custom_metadata"]
    kept = json.loads(custom["mlviews-rest"])
    edit(kept)
    custom["mlviews-rest"] = json.dumps(kept)
    refused(yaml.safe_dump(data))


def test_a_lock_without_it_is_refused(data: dict[str, Any]) -> None:
    del data["metadata"]["custom_metadata"]["mlviews-rest"]
    assert "mlviews-rest" in refused(yaml.safe_dump(data), "lock-invalid")


def test_a_folder_of_modules_elsewhere_is_refused(path: Path) -> None:
    lock = read_lock(path)
    rest = RecordRest(python_site_packages_path="../../elsewhere")
    packages = tuple(replace(p, rest=rest) if p.name == "python" else p for p in lock.packages)
    evil = lock_text(replace(lock, packages=packages))
    assert "elsewhere" in refused(evil, "lock-invalid")


# Summaries, kept in the user's own cache


def summary(path: Path) -> LockSummary:
    return FoundLock(path, "x", path.read_bytes()).summary


@pytest.fixture
def kept(path: Path, cli: Cli) -> Path:
    """Where the lock's summary is kept: ``packages`` there is a lie, by which one sees whether it was read."""
    assert summary(path) == summary_of(read_lock(path))
    file = cli.root.parent / "home" / ".cache/mlviews/locks/x.json"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    said = json.loads(file.read_text())
    said["summary"]["packages"]["linux-64"] = 99
    file.write_text(json.dumps(said))
    return file


def test_a_summary_is_kept_for_the_very_bytes_and_this_version(
    path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert summary(path).packages == {"linux-64": 99, "linux-aarch64": 4}
    raw = path.read_bytes()
    path.write_bytes(raw + b"\n")
    assert summary(path).packages["linux-64"] == 4
    path.write_bytes(raw.replace(b"numpy-2.1.0", b"numpy-2.1.1"))
    with pytest.raises(BadInputError):
        summary(path)
    path.write_bytes(raw)
    assert summary(path).packages["linux-64"] == 4
    kept.write_text(kept.read_text().replace(": 4", ": 77", 1))
    assert summary(path).packages["linux-64"] == 77
    monkeypatch.setattr("mlviews.__version__", "99.0")
    assert summary(path).packages["linux-64"] == 4


def test_what_is_kept_of_several_files_is_of_each_in_its_place() -> None:
    states = {state_of(parts, rooms=["lock"]) for parts in ([b"ab", b"c"], [b"a", b"bc"], [b"c", b"ab"], [b"abc"])}
    assert len(states) == 4


@pytest.mark.parametrize("way", ["writable", "link", "pipe", "folder", "others", "another's"])
def test_a_summary_that_somebody_else_may_have_made_is_not_believed(
    path: Path, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "writable":
        kept.chmod(0o620)
    elif way == "link":
        kept.rename(tmp_path / "there")
        kept.symlink_to(tmp_path / "there")
    elif way == "others":
        monkeypatch.setattr("os.geteuid", lambda: 12345)
    elif way == "another's":
        if os.geteuid():
            pytest.skip("only root gives a file away")
        os.chown(kept, 12345, -1)
    else:
        kept.unlink()
        os.mkfifo(kept) if way == "pipe" else kept.mkdir()
    assert summary(path).packages == {"linux-64": 4, "linux-aarch64": 4}
    if way == "others":
        assert json.loads(kept.read_text())["summary"]["packages"]["linux-64"] == 99  # nor is anything kept for them


def test_what_no_summary_holds_is_not_believed(path: Path, kept: Path) -> None:
    good = json.loads(kept.read_text())
    right = {**good["summary"], "packages": {"linux-64": 4, "linux-aarch64": 4}}
    for wrong in (
        "", "[" * 100_000, "[]", "null", '{"state": 1}', "\xff",
        {**good, "summary": []}, {**good, "summary": {}}, {**good, "state": good["state"][:-1]},
        *({**good, "summary": {**right, **part}} for part in (
            {"more": 1}, {"view": 1}, {"digest": None}, {"inputs": []}, {"inputs": {}}, {"inputs": {"platforms": 1}},
            {"packages": {"linux-64": 4}}, {"packages": {"linux-64": "4", "linux-aarch64": 4}}, {"bytes": []},
        )),
    ):  # fmt: skip
        kept.write_text(wrong if isinstance(wrong, str) else json.dumps(wrong))
        assert summary(path) == summary_of(read_lock(path))


def test_without_a_cache_of_ones_own_the_lock_is_read(path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert summary(path).packages["linux-64"] == 4
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says: ignore it
    assert summary(path).packages["linux-64"] == 99
    monkeypatch.setattr("pathlib.Path.home", _homeless)
    assert summary(path).packages["linux-64"] == 4


def _homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")
