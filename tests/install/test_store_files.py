"""Files of a store that another version of mlviews wrote: older ones are read, newer ones refused and left alone.

``tests/data/store-schema-N`` holds what the last version of each schema wrote; the files there never change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlviews.files.reading import DamagedError, UnreadableError
from mlviews.files.storefile import StoreFile, parse
from mlviews.hardware import host_platform
from mlviews.prefix.inventory import Inventory
from mlviews.prefix.usage import Usage
from mlviews.release import Release, is_intact
from mlviews.smoke.records import Record
from mlviews.store.history import _History
from mlviews.store.listing import RemovalNote

WRITTEN = Path(__file__).resolve().parents[1] / "data/store-schema-1"
KINDS: dict[str, type[StoreFile]] = {
    "files.json": Inventory,
    "history.json": _History,
    "record.json": Record,
    "release.json": Release,
    "removed.json": RemovalNote,
    "usage.json": Usage,
}


def stated(name: str) -> dict[str, Any]:
    found = json.loads((WRITTEN / name).read_bytes())
    assert isinstance(found, dict)
    return found


def read(name: str, content: object) -> StoreFile:
    return parse(KINDS[name], json.dumps(content).encode(), Path(name))


def with_unknown(value: Any) -> Any:
    """Return the same with a key that nobody knows in every object of known keys."""
    if isinstance(value, list):
        return [with_unknown(part) for part in value]
    if not isinstance(value, dict) or not value or any("/" in key or key.isdigit() for key in value):
        return value
    known = {key: value[key] if key in {"versions", "figures", "linked"} else with_unknown(value[key]) for key in value}
    return {"unknown": {"a": 1}, **known}


def test_every_file_has_one_here():
    assert {path.name for path in WRITTEN.iterdir()} == {*KINDS}


@pytest.mark.parametrize("name", KINDS)
def test_what_this_schema_wrote_is_read(name):
    found = read(name, stated(name))

    assert found.schema_number == stated(name)["schema"] == 1
    again = json.loads(found.text())
    assert _without_new(again, stated(name)) == stated(name)


def _without_new(value: Any, old: Any) -> Any:
    """Return a value without the keys that later versions have added to an old one's objects."""
    if isinstance(value, dict) and isinstance(old, dict):
        return {key: _without_new(value[key], old[key]) for key in old if key in value}
    if isinstance(value, list) and isinstance(old, list) and len(value) == len(old):
        return [_without_new(*parts) for parts in zip(value, old, strict=True)]
    return value


@pytest.mark.parametrize("name", KINDS)
def test_files_without_a_number_are_of_the_first_schema(name):
    unnumbered = {key: value for key, value in stated(name).items() if key != "schema"}

    assert read(name, unnumbered) == read(name, stated(name))


@pytest.mark.parametrize("name", ["history.json", "record.json", "removed.json", "release.json"])
def test_unknown_keys_of_the_same_schema_are_ignored(name):
    content = with_unknown(stated(name))
    if name == "release.json":  # whose mappings have names of variables for keys
        content["activation"] = {"unknown": 1, **stated(name)["activation"]}

    assert content != stated(name)
    assert read(name, content) == read(name, stated(name))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("rest", [{}, {"all": "else"}])
def test_a_newer_schema_is_refused_by_its_number(name, rest):
    with pytest.raises(UnreadableError, match=rf"{name} cannot be read: it was made by a newer mlviews \(schema 2\)"):
        read(name, {"schema": 2, **rest})


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("content", [{}, [], None, 1, "x", {"schema": 1}, {"schema": 0}, {"schema": "2"}])
def test_what_nobody_wrote_is_damaged(name, content):
    if (name, content) == ("history.json", []):
        return  # the list of no change
    with pytest.raises(DamagedError):
        read(name, content)


def test_the_seal_holds_whoever_wrote_the_file():
    content = (WRITTEN / "release.json").read_bytes()

    assert is_intact(content, Release.model_validate_json(content))
    changed = content.replace(b"About demo", b"About Demo")
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
