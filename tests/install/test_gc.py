"""gc: what stays, what goes, what is truly free then, and what is left of the dead."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from mlviews.hardware import host_platform
from mlviews.store import collect, removal

SEED = int(os.environ.get("MLVIEWS_SEED") or time.time_ns() % 1_000_000)


@pytest.fixture
def many(builder: Any, shelf: Any, same_place: Any) -> Any:
    """Two views; one with five releases that share most of their packages, the last of them the default."""
    draw = random.Random(1)
    shelf.add("bulk", files={f"share/bulk/{n}": draw.randbytes(3000) for n in range(20)})
    for number in range(1, 6):
        files = {f"share/step/{n}": draw.randbytes(2000) for n in range(10)}
        shelf.add("step", f"{number}.0", files=files)
    shelf.add("late", modules={"late": ""})

    def build() -> None:
        for number in range(1, 6):
            builder.recipes.recipe("demo", "python", "greet", "native", "bulk", f"step =={number}.0")
            assert builder("lock", "demo").code == 0
            assert builder("build", "demo").code == 0
        builder.recipes.recipe("other", "python", "greet", "late", "step ==2.0")
        assert builder("build", "other").code == 0

    same_place.once(build)
    return builder


def names(builder: Any, view: str = "demo") -> list[str]:
    return [line["release"] for line in builder("releases", view, "--json").data["releases"]]


def disk(root: Path) -> int:
    """Return the bytes of all files, each inode once."""
    found = {path.lstat().st_ino: path.lstat().st_size for path in root.rglob("*") if not path.is_dir()}
    return sum(found.values())


def everything(root: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in root.rglob("*") if path.name != ".lock"}


def test_what_stopped_being_the_default_lately_stays(many):
    before = everything(many.root)

    kept = many("gc", "--keep", "1", "--json")

    assert kept.code == 0
    assert {line["why"].split()[0] for line in kept.data["kept"]} == {"default", "the"}
    assert (kept.data["removed"], kept.data["debris"], kept.data["cache"]) == ([], [], [])
    assert everything(many.root) == before


def test_gc_frees_what_it_foretold_and_what_it_says(many):
    first, second, *_, default = names(many)
    many("pin", f"demo/{second}")
    rule = ("--keep", "2", "--keep-days", "0", "--json")
    before = everything(many.root)
    foretold = many("gc", "--dry-run", *rule)
    assert everything(many.root) == before
    size = disk(many.root)

    done = many("gc", *rule)

    assert done.code == 0
    for key in ("removed", "kept", "debris", "cache"):
        assert done.data[key] == foretold.data[key]
    assert names(many) == [second, names(many)[-2], default]
    assert [line["release"] for line in done.data["removed"]] == [first, f"{first}.3"]
    assert done.data["cache"] == ["pkgs/step-1.0-h0_0", "pkgs/step-3.0-h0_0"]
    # What is left to tell of the removed releases, and the notes beside them, are what differs.
    words = 6_000
    assert abs(size - disk(many.root) - done.data["bytes"]) < words
    assert abs(foretold.data["bytes"] - done.data["bytes"]) < words
    assert done.data["bytes"] > 2 * 20_000  # the two steps alone
    assert many.process("run", "demo", "--", "greet").code == 0
    for view in ("demo", "other"):
        assert many("verify", view).code == 0


def test_what_another_release_shares_is_not_counted_as_free(many):
    """Nothing but the release's own files: its step is in the other view, the rest in the releases that stay."""
    second = names(many)[1]
    folder = many.root / "envs/demo" / second
    for name in (names(many)[0], *names(many)[2:4]):
        many("pin", f"demo/{name}")
    files = [path for path in folder.rglob("*") if not path.is_dir() and path.name != "version"]
    alone = sum(path.lstat().st_size for path in files if path.lstat().st_nlink == 1)

    foretold = many("gc", "demo", "--keep", "0", "--keep-days", "0", "--dry-run", "--json").data

    assert [line["release"] for line in foretold["removed"]] == [second]
    assert foretold["cache"] == []
    assert abs(foretold["bytes"] - alone) < 3000


def test_nothing_is_collected_twice(many):
    rule = ("--keep", "1", "--keep-days", "0", "--json")
    assert many("gc", *rule).data["bytes"] > 0

    again = many("gc", *rule).data

    assert (again["removed"], again["debris"], again["cache"], again["bytes"]) == ([], [], [], 0)


def test_only_the_views_that_are_named(many):
    done = many("gc", "other", "--keep", "0", "--keep-days", "0", "--json").data

    assert (done["removed"], done["cache"], len(names(many))) == ([], [], 5)  # and what the others need stays, too
    refused = many("gc", "nothing", "--json")
    assert (refused.code, refused.codes) == (1, ["release-missing"])


@pytest.fixture
def debris(many: Any) -> dict[str, Path]:
    """What processes leave that are killed, each in its place."""
    root, default = many.root, names(many)[-1]
    made = {
        "a release": root / "envs/demo/2027.01.01" / host_platform() / "lib/x",
        "a platform": root / "envs/demo" / default / "linux-aarch64/lib/x",
        "a link": root / "envs/demo/.default.77",
        "a repair": root / "envs/demo/.repair-1/prefix/x",
        "a modulefile": root / f"modulefiles/atlasml/demo/.{default}.lua.abc",
        "a kernel": root / "kernels/demo/.kernel.json.abc",
        "an unpacked package": root / "cache/pkgs/.tmp123/x",
    }
    for path in made.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return made


def test_debris_goes_and_what_works_stays(many, debris):
    foretold = many("gc", "--dry-run", "--json").data

    done = many("gc", "--json").data

    assert done["debris"] == foretold["debris"]
    assert len(done["debris"]) == len(debris)
    assert (done["bytes"], foretold["bytes"]) == (len(debris), len(debris))
    assert [name for name, path in debris.items() if path.exists()] == []
    assert done["removed"] == []
    assert many("verify", "demo").code == 0
    assert (many.root / "modulefiles/atlasml/demo/.version").exists()


def test_what_cannot_be_read_is_no_debris_and_keeps_the_cache(many):
    """Nobody can tell what it needs, or whether programs run in it."""
    damaged = many.root / "envs/demo/2027.01.02" / host_platform() / "release.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("x")
    rule = ("--keep", "1", "--keep-days", "0", "--json")
    foretold = many("gc", "--dry-run", *rule).data

    done = many("gc", *rule).data

    assert done["unreadable"] == foretold["unreadable"] == [{"path": str(damaged), "why": "it is damaged"}]
    assert (done["debris"], done["cache"]) == ([], [])
    assert len(done["removed"]) == 4
    assert damaged.read_text() == "x"
    assert f"cannot be read and stays: {damaged}: it is damaged\n" in many("gc").out
    assert many("releases", "demo", "--json").data["unreadable"] == done["unreadable"]
    assert f"{damaged}: it is damaged\n" in many("releases", "demo").out
    for verb in ("promote", "pin", "remove"):
        refused = many(verb, "demo/2027.01.02", "--json")
        assert (refused.code, refused.codes) == (3, ["unreadable"])
    built = many("build", "demo", "--json").data
    assert built["unreadable"] == done["unreadable"]
    many.recipes.recipe("demo", "python", "greet")
    many("lock", "demo")
    assert many("build", "demo", "--json").data["release"] == "2027.01.02.2"  # its name is taken


def test_a_dry_run_writes_nothing_where_nothing_was_measured(many):
    for path in many.root.glob("envs/*/*/*.usage.json"):
        path.unlink()
    before = everything(many.root)

    many("gc", "--keep", "1", "--keep-days", "0", "--dry-run")
    many("releases", "demo")

    assert everything(many.root) == before


def test_a_view_whose_notes_cannot_be_read_is_left_alone(many):
    history = many.root / "envs/demo/.history.json"
    history.write_text("{")

    done = many("gc", "--keep", "1", "--keep-days", "0", "--json").data

    assert (done["removed"], done["unreadable"]) == ([], [{"path": str(history), "why": "it is damaged"}])
    assert len(names(many)) == 5


def test_a_temporary_file_that_somebody_may_be_writing_stays_for_a_day(many):
    folders = (many.root / "envs/demo" / names(many)[0], next((many.root / "records/demo").iterdir()))
    paths = [folder / ".x.json.abc" for folder in folders]
    for path in paths:
        path.write_text("x")
    assert many("gc", "--json").data["debris"] == []
    for path in paths:
        os.utime(path, (time.time() - 90_000,) * 2)

    assert many("gc", "--json").data["debris"] == [*map(str, paths)]


def test_a_damaged_default_is_never_debris(many):
    default = names(many)[-1]
    record = many.root / "envs/demo" / default / host_platform() / "release.json"
    for content in (b"{", None):
        if content is None:
            record.unlink()
        else:
            record.write_bytes(content)
        many("gc", "--keep", "0", "--keep-days", "0")
        assert (record.parent / "conda-meta").is_dir()


def test_a_view_that_is_being_built_is_left_alone(many, server, faults):
    server.faults["native"] = faults["drips"](200)
    shutil.rmtree(many.root / "cache")
    many.recipes.recipe("demo", "python", "greet", "native")
    many("lock", "demo")
    building = many.start("build", "demo", "--mirror", f"conda-forge={server.url}")
    while "Downloading" not in building.stderr.readline():
        pass

    foretold = many("gc", "demo", "--keep", "0", "--keep-days", "0", "--dry-run", "--json").data
    collecting = many.start("gc", "--keep", "0", "--keep-days", "0", "--json")

    assert building.wait(60) == 0
    out, err = collecting.communicate(timeout=60)
    assert collecting.returncode == 0, err
    assert f'"holder": "process {building.pid} on ' in out
    assert f"Waiting: the cache is in use by process {building.pid} on " in err
    assert [line["view"] for line in foretold["busy"]] == ["demo"]
    assert (foretold["removed"], foretold["kept"]) == ([], [])
    building.communicate()
    assert len(names(many)) == 6
    assert many.process("run", "demo", "--", "greet").code == 0
    assert many("verify", "demo").code == 0


def test_wheels_that_no_release_has_go_and_metadata_that_is_old(builder, server):
    mirrored = ("--mirror", f"conda-forge={server.url}")
    builder.recipes.recipe("demo", "python", "greet")
    assert builder("build", "demo", *mirrored).code == 0
    cache = builder.root / "cache"
    fetched = sorted(path for path in (cache / "repodata").rglob("*") if path.is_file())
    made = {
        "channel/noarch/greet-1.0-h0_0.conda": "",
        "channel/noarch/old-1.0-0.conda": "",
        "wheels/a.json": '{"index": {"name": "greet", "version": "1.0"}}',
        "wheels/b.json": '{"index": {"name": "old", "version": "1.0"}}',
        "wheels/c/greet-1.0-py3-none-any.whl": "",  # converting it was never finished
    }
    for path, text in made.items():
        (cache / path).parent.mkdir(parents=True, exist_ok=True)
        (cache / path).write_text(text)
    assert fetched
    assert builder("gc", "--json", "--keep-days", "0").data["cache"] == []
    for path in cache.rglob("*"):
        os.utime(path, (time.time() - 20 * 86_400,) * 2)

    wheels = builder("gc", "--json").data["cache"]
    metadata = builder("gc", "--json", "--keep-days", "10").data["cache"]

    assert wheels == ["channel/noarch/old-1.0-0.conda", "wheels/b.json", "wheels/c"]
    assert metadata == [str(path.relative_to(cache)) for path in fetched]
    builder.recipes.recipe("demo", "python", "plain", "greet")
    assert builder("lock", "demo", *mirrored).code == 0  # it is fetched again
    assert builder("build", "demo", *mirrored).code == 0


@pytest.mark.parametrize(("module", "name"), [(collect, "remove_held"), (removal, "finish"), (collect, "delete_tree")])
def test_a_collection_that_is_killed_is_finished_by_the_next(many, monkeypatch, module, name):
    rule = ("--keep", "1", "--keep-days", "0", "--json")
    with monkeypatch.context() as patched:

        def interrupt(*arguments: object, **keys: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(module, name, interrupt)
        assert many("gc", *rule).code == 130

    assert many("gc", *rule).code == 0
    assert many("gc", *rule).data["bytes"] == 0
    assert len(names(many)) == 1
    for view in ("demo", "other"):
        assert many("verify", view).code == 0


def test_what_gc_says_to_people(many, debris):
    said = many("gc", "--keep", "1", "--keep-days", "0", "--dry-run", "-v").out

    first = names(many)[0]
    assert f"would remove demo/{first}\n" in said
    assert f"would remove debris {debris['a link']}\n" in said
    assert "would remove from the cache pkgs/step-1.0-h0_0\n" in said
    assert f"kept demo/{names(many)[-1]}: default\n" in said
    assert "would be free; 2 releases stay" in said
