"""Files of a store: what was written is read; those of a newer version of mlviews are refused and left alone."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from mlviews.files.reading import DamagedError, UnreadableError
from mlviews.files.storefile import StoreFile, parse
from mlviews.hardware import host_platform
from mlviews.prefix.inventory import Inventory
from mlviews.prefix.usage import Linked, Usage
from mlviews.release import Activation, Around, Release, ReleasePackage, is_intact, sealed
from mlviews.smoke.records import Record
from mlviews.smoke.report import CheckLine
from mlviews.store.history import DefaultChange, _History
from mlviews.store.listing import RemovalNote

NOON = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)
RELEASE = Release(
    mlviews="0.1.0", view="demo", release="2026.11.26", platform="linux-64", summary="About demo",
    module="atlasml/demo", site="local", prefix="/srv/envs/demo/2026.11.26/linux-64", lock_digest="ab" * 32,
    created=NOON, glibc="2.34", gaps={"jax": "no build"},
    packages=(ReleasePackage(name="python", version="3.11.0", build="0_cpython"),),
    activation=Activation(
        prepend={"PATH": ("/srv/bin",)}, set={"A": "1"}, unset=("PYTHONHOME",), around={"B": Around(alone="b")}
    ),
)  # fmt: skip
FILES: dict[str, StoreFile] = {
    "files.json": Inventory(files={"launch": "cd" * 32}, links={}, modes={"755": ("launch",)}),
    "history.json": _History(changes=(DefaultChange(at=NOON, before=None, after="2026.11.26"),)),
    "record.json": Record(
        mlviews="0.1.0", view="demo", release="2026.11.26", lock="ab" * 32, platform="linux-64", host="node",
        created=NOON, level="quick", checks=(CheckLine(name="imports", status="pass", reason="1 module", seconds=0.1),),
    ),
    "release.json": RELEASE,
    "removed.json": RemovalNote(
        view="demo", release="2026.11.26", lock_digest="ab" * 32, removed=NOON, default=None, module="atlasml/demo",
        variant=None,
    ),
    "usage.json": Usage(own=62968, linked={"greet-1.0-h0_0": Linked(file="bin/greet", bytes=77)}),
}  # fmt: skip


def stated(name: str) -> dict[str, Any]:
    found = json.loads(FILES[name].text())
    assert isinstance(found, dict)
    return found


def read(name: str, content: object) -> StoreFile:
    return parse(type(FILES[name]), json.dumps(content).encode(), Path(name))


def with_unknown(value: Any) -> Any:
    """Return the same with a key that nobody knows in every object of known keys."""
    if isinstance(value, list):
        return [with_unknown(part) for part in value]
    if not isinstance(value, dict) or not value or any("/" in key or key.isdigit() for key in value):
        return value
    free = {"versions", "figures", "linked", "gaps"}
    known = {key: value[key] if key in free else with_unknown(value[key]) for key in value}
    return {"unknown": {"a": 1}, **known}


@pytest.mark.parametrize("name", FILES)
def test_what_was_written_is_read(name):
    assert stated(name)["schema"] == 1
    assert read(name, stated(name)) == FILES[name]


@pytest.mark.parametrize("name", FILES)
def test_a_file_without_a_number_is_damaged(name):
    unnumbered = {key: value for key, value in stated(name).items() if key != "schema"}

    with pytest.raises(DamagedError, match=rf"{name} cannot be read: it states no schema"):
        read(name, unnumbered)


@pytest.mark.parametrize("name", ["history.json", "record.json", "removed.json", "release.json"])
def test_unknown_keys_of_the_same_schema_are_ignored(name):
    content = with_unknown(stated(name))
    if name == "release.json":  # whose mappings have names of variables for keys
        content["activation"] = {"unknown": 1, **stated(name)["activation"]}

    assert content != stated(name)
    assert read(name, content) == read(name, stated(name))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("rest", [{}, {"all": "else"}])
def test_a_newer_schema_is_refused_by_its_number(name, rest):
    with pytest.raises(UnreadableError, match=rf"{name} cannot be read: it was made by a newer mlviews \(schema 2\)"):
        read(name, {"schema": 2, **rest})


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [{}, [], None, 1, "x", {"schema": 1}, {"schema": 0}, {"schema": "2"}])
def test_what_nobody_wrote_is_damaged(name, content):
    with pytest.raises(DamagedError):
        read(name, content)


def test_the_seal_tells_any_change():
    content = sealed(RELEASE).encode()

    assert is_intact(content, Release.model_validate_json(content))
    for changed in (content.replace(b"About demo", b"About Demo"), RELEASE.text().encode()):
        assert not is_intact(changed, Release.model_validate_json(changed))


@pytest.fixture
def newer(builder: Any, same_place: Any) -> Any:
    """A store in which a newer mlviews has made the last release, with a package that no other release has."""

    def build() -> None:
        builder.recipes.recipe("demo", "python", "greet", "native")
        assert builder("build", "demo").code == 0
        builder.recipes.recipe("demo", "python", "greet")
        assert builder("lock", "demo").code == 0
        made = builder("build", "demo", "--json").data
        assert builder("promote", f"demo/{made['release'].removesuffix('.2')}").code == 0
        path = Path(made["folder"]) / "release.json"
        path.write_text(json.dumps({"schema": 2, "release": {"of": "another", "shape": True}}))

    same_place.once(build)
    return builder


def test_a_newer_release_is_told_and_nothing_touches_it(newer):
    path = next(path for path in newer.root.glob(f"envs/demo/*.2/{host_platform()}/release.json"))
    name, before = path.parents[1].name, path.read_bytes()
    known = [{"path": str(path), "why": "it was made by a newer mlviews (schema 2)"}]
    cache = sorted(newer.root.glob("cache/pkgs/*"))

    listed = newer("releases", "demo", "--json").data
    swept = newer("gc", "--keep", "0", "--keep-days", "0", "--json").data

    assert ([line["release"] for line in listed["releases"]], listed["unreadable"]) == ([name[:-2]], known)
    assert (swept["unreadable"], swept["removed"], swept["debris"], swept["cache"]) == (known, [], [], [])
    assert sorted(newer.root.glob("cache/pkgs/*")) == cache
    for verb in ("promote", "remove", "pin"):
        refused = newer(verb, f"demo/{name}", "--json")
        assert (refused.code, refused.codes) == (3, ["unreadable"])
        assert "newer" in refused.json["errors"][0]["hint"]
    faults = newer("verify", f"demo/{name}", "--json").data["releases"][0]["faults"]
    assert {"path": "release.json", "kind": "unreadable", "package": ""} in faults
    assert newer("verify", f"demo/{name}", "--repair", "--json").data["releases"][0]["repaired"] == []
    assert newer.process("run", f"demo/{name}", "--", "greet").code == 0
    built = newer("build", "demo", "--json").data
    assert (built["release"], built["default"], built["unreadable"]) == (f"{name[:-2]}.3", True, known)
    assert path.read_bytes() == before


def test_a_newer_record_stops_nothing_but_what_would_speak_of_it(newer):
    (release,) = newer("releases", "demo", "--json").data["releases"]
    record = newer.root / "records/demo" / release["lock"] / "20990101T000000.000000Z-node-1.json"
    record.write_text('{"schema": 2}')

    listed = newer("releases", "demo", "--json").data

    assert listed["releases"][0]["passed"] == []
    assert str(record) in [line["path"] for line in listed["unreadable"]]
    refused = newer("promote", f"demo/{release['release']}", "--json")
    assert (refused.code, refused.codes) == (3, ["unreadable"])
    assert record.read_text() == '{"schema": 2}'
