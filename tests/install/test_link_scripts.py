"""Post-link scripts: named where they are known, run where a recipe names them, on files of the prefix's own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlviews.lock.lockfile import LockedPackage, in_order

# What the scripts of graphviz, gdk-pixbuf and gtk3 do, each in its own way: a new file of what other packages brought,
# one changed in place, one replaced, one removed, a link, and the prefix's own path written down.
PLUGINS = """
set -e
test "$PKG_NAME $PKG_VERSION $PKG_BUILDNUM" = "plugins 1.0 7"
test "$PWD" = "$PREFIX/bin"
native > "$PREFIX/lib/plugins/config"
cat "$PREFIX"/share/plain/data >> "$PREFIX/lib/plugins/config"
echo appended >> "$PREFIX/share/plugins/shared"
sed -i s/old/new/ "$PREFIX/share/plugins/replaced"
rm "$PREFIX/share/plugins/doomed"
ln -s "$PREFIX/share/plugins/shared" "$PREFIX/share/plugins/link"
umask > "$PREFIX/share/plugins/umask"
echo "restart your shell" > "$PREFIX/.messages.txt"
"""


@pytest.fixture
def plugins(shelf: Any) -> Callable[..., None]:
    """Return a function that puts a package with a post-link script into the channel."""

    def add(script: str = PLUGINS, *, name: str = "plugins", depends: tuple[str, ...] = ("native",)) -> None:
        shelf.add(
            name,
            depends=depends,
            build_number=7,
            files={
                f"bin/.{name}-post-link.sh": script,
                "lib/plugins/keep": "",
                **{f"share/{name}/{file}": "old\n" for file in ("shared", "replaced", "doomed", "still")},
            },
        )

    add()
    return add


@pytest.fixture
def build(builder: Any) -> Callable[..., Any]:
    """Return a function that builds a view of plugins, whose recipe names packages with link scripts."""

    def run(*named: str, packages: tuple[str, ...] = ("plugins", "plain"), **keys: Any) -> Any:
        builder.recipes.recipe("tools", *packages, link_scripts=list(named), **keys)
        return builder("build", "tools", "--json")

    return run


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Return inode and bytes of every file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files
        if path.suffix != ".lock"
    }


def test_a_script_that_no_recipe_names_is_not_run_and_told_wherever_it_is_known(builder, plugins, build):
    def skipped():
        return builder("show", "tools", "--json").data["recipe"]["link-scripts-skipped"]

    assert builder("lock", "tools", "--json").code == 2
    builder.recipes.recipe("tools", "plugins", "plain")
    assert builder("lock", "tools", "--json").data["locks"][0]["link-scripts"] == [], "no channel tells it"

    built = build()

    assert built.code == 0, built.out
    scripts = built.data["link-scripts"]
    assert (scripts["run"], scripts["skipped"]) == ([], ["plugins"])
    assert not (Path(built.data["folder"]) / "lib/plugins/config").exists()
    assert "did not run" in builder("build", "tools").out
    assert builder("lock", "tools", "--json").data["locks"][0]["link-scripts"] == ["plugins"]
    assert "does not run the link scripts of plugins" in builder("lock", "tools", "--check").out
    assert skipped() == ["plugins"]
    (builder.root / "cache/pkgs/plugins-1.0-h0_0/bin/.plugins-post-link.sh").unlink()
    assert skipped() == ["plugins"], "the release tells it too"


def test_what_a_script_writes_is_part_of_the_release_and_of_nothing_else(builder, plugins, build):
    first = Path(build().data["folder"])
    before = contents(builder.root / "cache/pkgs"), contents(first)

    built = build("plugins")

    assert built.code == 0, built.out
    assert (contents(builder.root / "cache/pkgs"), contents(first)) == before
    prefix = Path(built.data["folder"])
    assert prefix != first
    share = prefix / "share/plugins"
    assert (prefix / "lib/plugins/config").read_text() == f"{prefix}/share\nplain\n"
    assert (share / "shared").read_text() == "old\nappended\n"
    assert (share / "replaced").read_text() == "new\n"
    assert not (share / "doomed").exists()
    assert (share / "link").readlink() == share / "shared"
    assert (share / "umask").read_text() == "0022\n"
    assert not (prefix / ".messages.txt").exists()
    scripts = built.data["link-scripts"]
    assert (scripts["run"], scripts["skipped"], scripts["without"]) == (["plugins"], [], [])
    assert scripts["notes"] == ["plugins: restart your shell"]
    assert {f"share/plugins/{file}" for file in ("link", "replaced", "shared", "umask")} < {*scripts["written"]}
    assert scripts["removed"] == ["share/plugins/doomed"]
    assert json.loads((prefix / "release.json").read_bytes())["link_scripts"]["run"] == ["plugins"]
    record = json.loads((prefix / "conda-meta/plugins-1.0-h0_0.json").read_bytes())
    assert "share/plugins/doomed" not in record["files"]
    assert builder("verify", "tools").code == 0
    # What no script touched is shared again.
    assert (share / "still").stat().st_ino == (first / "share/plugins/still").stat().st_ino
    assert [*prefix.parent.glob(".*")] == []
    (prefix / "lib/plugins/config").write_text("changed")
    assert builder("verify", "tools").code == 1


def test_the_same_lock_with_other_scripts_is_another_release(builder, plugins, build):
    first = build().data

    second = build("plugins").data

    assert first["lock"] == second["lock"]
    assert builder("lock", "tools", "--check").code == 0, "the key is no input of the solve"
    assert [second["status"], build("plugins").data["status"]] == ["new", "unchanged"]
    again = build().data
    assert (again["status"], again["release"]) == ("unchanged", first["release"])


@pytest.mark.parametrize("script", ["echo no plugins here >&2\nexit 1\n", "exit 3\n", "kill -9 $$\n"])
def test_a_script_that_fails_fails_the_build(builder, plugins, build, script):
    plugins(script)
    before = build().data["release"]

    failed = build("plugins")

    assert (failed.code, failed.codes) == (3, ["link-script-failed"])
    message = failed.json["errors"][0]["message"]
    assert "the post-link script of plugins failed with status" in message
    assert ("no plugins here" in message) == ("no plugins" in script)
    assert [line["release"] for line in builder("releases", "tools", "--json").data["releases"]] == [before]
    assert builder("verify", "tools").code == 0


def test_scripts_run_after_those_that_they_depend_on(builder, plugins, build):
    plugins('echo z >> "$PREFIX/order"', name="z-first", depends=())
    plugins('echo a >> "$PREFIX/order"', name="a-last", depends=("z-first",))

    built = build("a-last", "z-first", packages=("a-last",))

    assert built.data["link-scripts"]["run"] == ["z-first", "a-last"]
    assert (Path(built.data["folder"]) / "order").read_text() == "z\na\n"


def test_packages_that_depend_on_each_other_have_an_order_all_the_same():
    def package(name: str, *needs: str) -> LockedPackage:
        url = f"https://c/noarch/{name}-1-0.conda"
        return LockedPackage(name, "1", "0", "linux-64", url, "", "", 0, dict.fromkeys(needs, ""))

    assert in_order([package("pip", "python"), package("python", "pip", "lib"), package("lib")]) == [
        *("lib", "python", "pip"),
    ]
    chain = [package(f"p{n:04}", f"p{n + 1:04}") for n in range(3000)]
    assert in_order(chain)[0] == "p2999"


def test_a_name_without_a_script_is_told(builder, plugins, build):
    built = build("plain", "nowhere")

    assert built.code == 0
    assert built.data["link-scripts"]["without"] == ["nowhere", "plain"]
    assert "not there, of nowhere, plain" in builder("build", "tools").out


@pytest.mark.parametrize("name", ["Graphviz", "../x", "a b", ""])
def test_a_name_that_no_package_has_is_refused(builder, build, name):
    assert build(name).codes == ["file-invalid"]


def test_a_module_that_a_script_changes_is_compiled_as_it_is_then(builder, shelf, build, site_packages):
    script = f'echo "print(2)" > "$PREFIX/{site_packages}/greet.py"'
    shelf.add("changes", depends=("greet",), files={"bin/.changes-post-link.sh": script})
    assert build(packages=("changes",)).code == 0  # its byte code waits in the cache

    built = build("changes", packages=("changes",))

    assert built.code == 0, built.out
    said = subprocess.run(
        [f"{built.data['folder']}/launch", "python", "-c", "import greet"], capture_output=True, text=True, check=True
    ).stdout
    assert said == "2\n"
    assert builder("verify", "tools").code == 0


def test_for_another_place_scripts_run_beside_it_and_what_they_wrote_names_that_place(
    builder, plugins, build, tmp_path, monkeypatch
):
    monkeypatch.delenv("MLVIEWS_ROOT")
    monkeypatch.setenv("MLVIEWS_SITE", "publisher")
    builder.site("publisher", root=str(tmp_path / "staging"), prefix=str(tmp_path / "cvmfs"), promote="manual")

    built = build("plugins")

    assert built.code == 0, built.out
    prefix = Path(built.data["folder"])
    final = f"{tmp_path}/cvmfs{str(prefix).removeprefix(f'{tmp_path}/staging')}"
    assert (prefix / "lib/plugins/config").read_text() == f"{final}/share\nplain\n"
    assert os.readlink(prefix / "share/plugins/link") == f"{final}/share/plugins/shared"  # noqa: PTH115
    assert not (prefix / "share/plugins/doomed").exists()
    assert builder("verify", f"tools/{built.data['release']}").code == 0
    assert [*prefix.parent.glob(".*")] == []


def test_for_another_place_a_path_in_a_binary_is_refused(builder, plugins, build, tmp_path, monkeypatch):
    plugins('printf "\\0%s" "$PREFIX" > "$PREFIX/share/plugins/cache"')
    monkeypatch.delenv("MLVIEWS_ROOT")
    monkeypatch.setenv("MLVIEWS_SITE", "publisher")
    builder.site("publisher", root=str(tmp_path / "staging"), prefix=str(tmp_path / "cvmfs"), promote="manual")

    assert build("plugins").codes == ["link-script-path"]
