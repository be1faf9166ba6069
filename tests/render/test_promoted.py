"""A plain `module load` never gives a release that nobody promoted, and no list shows one: in real module systems."""

from __future__ import annotations

import shlex
import subprocess
from datetime import datetime, timezone

import pytest

from mlviews.progress import silent
from mlviews.store.disk import Store
from mlviews.store.loaders import write_default_loaders, write_release_loaders
from mlviews.store.releases import promote, rollback
from mlviews.store.removal import remove_held, uninstall

SYSTEMS = ["lmod", "newest_lmod", "environment_modules", "newest_environment_modules"]
OLD, NEW, NEWEST = "2026.11.23", "2026.11.24", "2026.11.25"


@pytest.fixture
def add(tmp_path, make_release):
    """Return a function that puts releases of a view into a root of that name, as a build that promotes none does."""

    def put(root, *names):
        store = Store(tmp_path / root, tmp_path / root)
        for name in names:
            store.mark_unpromoted("plotting", name)
            store.write_release(make_release(root=store.root, release=name, packages=(), lock_digest=name))
            write_release_loaders(store, "plotting", store.entry("plotting", name))
        return store

    return put


def look(bash, start, *stores):
    """Return, for each root, what a plain load gives, what it says, what `avail` lists; ! is a load that fails."""
    script = [start]
    for store in stores:
        script += [
            f"( module use {shlex.quote(str(store.root / 'modulefiles'))}",
            "module load atlasml/plotting 2> said || printf !; echo $MLVIEWS_RELEASE; tr -s '\\n ' ' ' < said; echo",
            "module -t avail atlasml/plotting 2>&1 | grep -o '2026[0-9.]*' | tr '\\n' ' '; echo )",
        ]
    done = _run(bash, script, stores[0].root)
    lines = [line.strip() for line in done.splitlines()]
    assert len(lines) == 3 * len(stores)
    return {store.root.name: tuple(lines[3 * at : 3 * at + 3]) for at, store in enumerate(stores)}


def _run(bash, script, folder):
    done = subprocess.run(
        [bash, "--norc", "-c", "\n".join(script)],
        check=True, capture_output=True, text=True, timeout=120, cwd=folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_what_nobody_promoted_is_loaded_by_its_full_name_alone(add, request, require):
    none = add("none", OLD, NEW)
    newer = add("newer", OLD, NEW)
    promote(newer, "plotting", OLD, progress=silent)
    back = add("back", OLD, NEW, NEWEST)
    for release in (OLD, NEW):
        promote(back, "plotting", release, progress=silent)
    rollback(back, "plotting", progress=silent)
    killed = add("killed", OLD, NEW)
    killed.promote("plotting", OLD)
    killed.mark_unpromoted("plotting", OLD)  # killed before the note went: nothing but the link was changed
    due = {"newer": (OLD, "", OLD), "back": (OLD, "", f"{OLD} {NEW}"), "killed": (OLD, "", OLD)}
    exact = f"module use {none.root}/modulefiles; module load atlasml/plotting/{NEW}; echo $MLVIEWS_RELEASE"

    for system in SYSTEMS:
        bash, start = require("bash"), request.getfixturevalue(system)("bash")
        found = look(bash, start, none, newer, *(() if "newest" in system else (back, killed)))

        plain, said, listed = found.pop("none")
        assert (system, plain, listed) == (system, "!", "")
        assert "no release of plotting is promoted, so atlasml/plotting has no default." in said
        assert (system, found) == (system, {root: due[root] for root in found})
        assert _run(bash, [start, exact], none.root).strip() == NEW


def test_what_was_removed_is_in_no_list_and_its_full_name_says_so(add, request, require):
    store = add("root", OLD, NEW, NEWEST)
    for release in (OLD, NEW, NEWEST):
        promote(store, "plotting", release, progress=silent)
    remove_held(store, "plotting", OLD, datetime.now(timezone.utc))
    exact = f"module use {store.root}/modulefiles; module load atlasml/plotting/{OLD} 2>&1 || echo $MLVIEWS_RELEASE!"

    for system in SYSTEMS:
        bash, start = require("bash"), request.getfixturevalue(system)("bash")
        assert (system, look(bash, start, store)) == (system, {"root": (NEWEST, "", f"{NEW} {NEWEST}")})
        said = " ".join(_run(bash, [start, exact], store.root).split())
        assert f"release {OLD} of plotting was removed" in said
        assert said.endswith(" !")


def test_a_promotion_that_was_killed_after_the_link_hides_nothing_that_was_the_default(add):
    store = add("root", OLD, NEW)
    (store.root / "envs/plotting/default").symlink_to(OLD)  # the link alone: the note is still there

    store.promote("plotting", NEW)

    assert not list(store.root.glob("envs/plotting/*/unpromoted"))


def test_below_a_path_that_lmod_trips_over_a_plain_load_fails_too(add, require, lmod):
    store = add("d\u00e9j\u00e0 vu", OLD, NEW)
    ((plain, said, _),) = look(require("bash"), lmod("bash"), store).values()
    assert (plain, "no release of plotting is promoted" in said) == ("!", True)

    promote(store, "plotting", OLD, progress=silent)

    ((plain, *_),) = look(require("bash"), lmod("bash"), store).values()
    assert plain == OLD


def test_the_module_that_says_so_goes_with_the_view(add, tmp_path):
    store = add("root", OLD)
    assert uninstall(store, "plotting", (), progress=silent).releases == (OLD,)
    assert not list((tmp_path / "root/modulefiles").rglob("plotting/*"))


def test_a_view_that_has_left_its_module_takes_along_what_says_that_there_is_no_default(add, make_release):
    store = add("root", OLD)
    moved = make_release(root=store.root, release=NEW, module="atlasml/moved", packages=(), lock_digest=NEW)
    store.write_release(moved)

    promote(store, "plotting", NEW, progress=silent)

    hidden = [f"{path.parent.name}/{path.name}" for path in store.root.glob("modulefiles/atlasml/*/.*")]
    assert hidden == ["moved/.version"]


def test_a_release_that_is_written_again_does_not_lose_the_default(add):
    store = add("root", OLD)
    promote(store, "plotting", OLD, progress=silent)
    write_release_loaders(store, "plotting", store.entry("plotting", OLD))
    write_default_loaders(store, "plotting", store.entry("plotting", OLD))
    assert (store.root / "modulefiles/atlasml/plotting/.version").is_symlink()
