"""Two packages with one path: who is told, what is refused, and that nothing is written into what releases share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shelf import PLACEHOLDER, SITE_PACKAGES

TOOL = {"kept": "#!/bin/sh\necho kept\n", "lost": "#!/bin/sh\necho lost\n"}


@pytest.fixture
def two(shelf):
    """Return a function that adds two packages, of which the second depends on the first: its files stay."""

    def add(**files):
        for name, depends in (("lost", ()), ("kept", ("lost",))):
            keys = files[name]
            shelf.add(name, subdir=keys.pop("subdir", "linux-64"), depends=depends, **keys)

    return add


def test_a_clobber_is_told_at_build_in_show_and_in_the_release(builder, two):
    two(
        lost={"files": {"share/doc/notes": "lost\n"}},
        kept={"files": {"share/doc/notes": "kept\n"}},
    )
    builder.recipes.recipe("demo", "kept", "lost")

    built = builder("build", "demo")

    assert "lost share/doc/notes of lost: the file of kept has replaced it" in built.out
    clobber = {"path": "share/doc/notes", "kept": "kept", "lost": "lost"}
    shown = builder("show", "demo", "--json").data["recipe"]["site"]
    assert shown["clobbers"] == [clobber]
    assert "of lost; the file of kept has replaced it" in builder("show", "demo").out
    folder = Path(builder("build", "demo", "--json").data["folder"])
    assert json.loads((folder / "release.json").read_text())["clobbers"] == [clobber]
    assert (folder / "share/doc/notes").read_text() == "kept\n"
    assert builder("verify", "demo").code == 0


@pytest.mark.parametrize(
    "path", ["bin/tool", f"{SITE_PACKAGES}/thing/work.py", f"{SITE_PACKAGES}/thing.cpython-311-x86_64-linux-gnu.so"]
)
def test_a_package_that_is_asked_for_loses_no_program_or_module(builder, two, path):
    two(lost={"files": {path: TOOL["lost"]}}, kept={"files": {path: TOOL["kept"]}})
    builder.recipes.recipe("demo", "kept", "lost")

    refused = builder("build", "demo", "--json")

    (error,) = refused.json["errors"]
    assert (refused.code, error["code"]) == (1, "package-clobbered")
    assert f"{path} of lost: the file of kept would replace it" in error["message"]
    assert "constrain" in error["hint"]
    assert not builder("releases", "demo", "--json").data["releases"]


def test_one_that_nobody_asked_for_may(builder, two):
    two(lost={"files": {"bin/tool": TOOL["lost"]}}, kept={"files": {"bin/tool": TOOL["kept"]}})
    builder.recipes.recipe("demo", "kept")

    assert builder("build", "demo", "--json").data["clobbers"] == [{"path": "bin/tool", "kept": "kept", "lost": "lost"}]


@pytest.mark.parametrize(
    ("lost", "kept"),
    [
        ({"files": {"bin/tool": TOOL["kept"]}}, {"files": {"bin/tool": TOOL["kept"]}}),
        ({"files": {"bin/tool": f"#!{PLACEHOLDER}/x\n"}}, {"files": {"bin/tool": f"#!{PLACEHOLDER}/x\n"}}),
        ({"links": {"bin/tool": "other"}}, {"links": {"bin/tool": "other"}}),
        ({"files": {f"{SITE_PACKAGES}/tests/data.py": "1\n"}}, {"files": {f"{SITE_PACKAGES}/tests/data.py": "2\n"}}),
    ],
    ids=["bytes", "prefix", "link", "top-level tests"],
)
def test_what_is_no_loss_is_built(builder, two, lost, kept):
    two(lost=lost, kept=kept)
    builder.recipes.recipe("demo", "kept", "lost")

    built = builder("build", "demo", "--json").data

    assert [clobber["path"] for clobber in built["clobbers"]] == [
        path for path in kept.get("files", ()) if "tests" in path
    ]


# Programs that rattler writes for noarch packages


@pytest.fixture
def maker(shelf):
    """A noarch package with the program ``tool``."""
    shelf.add("maker", modules={"maker": "def main():\n    print('maker')\n"}, entry_points=("tool = maker:main",))


@pytest.mark.parametrize("depends", [{"bringer": ("maker",)}, {"maker": ("bringer",)}, {}])
@pytest.mark.parametrize("tool", [TOOL["kept"], f"#!/bin/sh\n# {PLACEHOLDER}\necho kept\n"])
def test_a_program_that_rattler_makes_is_not_written_into_another_one(builder, shelf, maker, tool, depends):
    shelf.add("bringer", subdir="linux-64", files={"bin/tool": tool})
    builder.recipes.recipe("first", "bringer")
    first = Path(builder("build", "first", "--json").data["folder"])
    shelf.patch("bringer", depends=list(depends.get("bringer", ())))
    shelf.patch("maker", depends=["python", *depends.get("maker", ())])
    shelf.add("top", depends=("maker", "bringer"))
    builder.recipes.recipe("demo", "python", "top")

    for _ in range(2):
        done = builder("build", "demo", "--rebuild", "--json")
        assert done.code == 0, done.out
        built = done.data

        assert built["clobbers"] == [{"path": "bin/tool", "kept": "bringer", "lost": "maker"}]
        assert builder.process("run", "demo", "--", "tool").out == "kept\n"
        folder = Path(built["folder"])
        assert (folder / "__clobbers__/maker/bin/tool").read_text().startswith(f"#!{folder}/bin/python")
        assert builder("verify", "demo").code == 0
    assert builder("verify", "first").code == 0, "another release has the same file"
    assert (first / "bin/tool").samefile(folder / "bin/tool") == (PLACEHOLDER not in tool)
    assert not list(folder.glob("bin/.*"))


def test_of_two_that_make_one_the_first_by_name_keeps_it(builder, shelf, maker):
    shelf.add("zmaker", modules={"zmaker": "def main():\n    print('z')\n"}, entry_points=("tool = zmaker:main",))
    shelf.add("top", depends=("maker", "zmaker"))
    builder.recipes.recipe("demo", "python", "top")

    assert builder("build", "demo", "--json").data["clobbers"] == [
        {"path": "bin/tool", "kept": "maker", "lost": "zmaker"},
    ]
    assert builder.process("run", "demo", "--", "tool").out == "maker\n"


def test_two_programs_that_start_the_same_function_lose_nothing(builder, shelf, maker):
    """TensorFlow's wheel brings TensorBoard's program, as text; so do packages that conda-build made of such."""
    text = f"#!{PLACEHOLDER}/bin/python\nimport sys\nfrom maker import main\nsys.exit(main())\n"
    shelf.add("bringer", subdir="linux-64", files={"bin/tool": text})
    builder.recipes.recipe("demo", "python", "maker", "bringer")

    built = builder("build", "demo", "--json")

    assert (built.code, built.data["clobbers"]) == (0, [])
    assert builder.process("run", "demo", "--", "tool").out == "maker\n"


def test_repair_puts_back_what_lies_aside_and_what_does_not(builder, two):
    two(lost={"files": {"share/notes": "lost\n"}}, kept={"files": {"share/notes": "kept\n"}})
    builder.recipes.recipe("demo", "kept", "lost")
    folder = Path(builder("build", "demo", "--json").data["folder"])
    (folder / "__clobbers__/lost/share/notes").unlink()
    (folder / "share/notes").unlink()
    (folder / "conda-meta/lost-1.0-h0_0.json").unlink()

    assert builder("verify", "demo", "--repair").code == 0

    assert (folder / "share/notes").read_text() == "kept\n"
    assert (folder / "__clobbers__/lost/share/notes").read_text() == "lost\n"
