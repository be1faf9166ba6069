"""What README and docs tell people to type: the README's is run, in its order; every call of mlviews is one."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from mlviews.cli import cli as mlviews_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
# What stands in README and is not run by `test_readme_*`, with the reason.
NOT_RUN = {
    ".venv/bin/pytest": "it is this test's own run",
    "pip install -q .": "CI installs mlviews and builds a view from the package index in a job of its own",
    "jupyter lab": "it is a server that does not end; tests/install/test_swan.py and test_kernels.py start the kernels",
    "mlviews bisect": "a night must have found something; tests/bisect runs it on planted faults",
}


def blocks(text: str, *languages: str) -> list[str]:
    """Return a page's fenced blocks."""
    return [
        body
        for language, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        if language in languages
    ]


def calls(text: str) -> Iterator[str]:
    """Yield each call of mlviews on a page: in a block, where two blanks or a # end it, or between backquotes."""
    fenced = "\n".join(blocks(text, "sh", "console"))
    indented = "\n".join(re.findall(r"^    (mlviews .*)$", text, re.MULTILINE))
    for line in re.findall(r"^(?:\$ )?(?:\S*/)?(mlviews .*)$", f"{fenced}\n{indented}", re.MULTILINE):
        yield re.split(r"  |\s#", line)[0]
    for line in re.findall(r"`(mlviews [^`]*)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        yield line


def fault(call: str) -> str:
    """Say what mlviews would not understand of a call; nothing if it would."""
    words = shlex.split(re.sub(r"[][]", "", call))[1:]
    command: click.Command = mlviews_command
    known = {option for parameter in command.params for option in parameter.opts}
    while words:
        word = words.pop(0)
        if word == "--":
            break
        if word.startswith("-") and word.partition("=")[0] not in known | {"--help"}:
            return f"{command.name} has no option {word}"
        if isinstance(command, click.Group) and not word.startswith("-"):
            if word not in command.commands:
                return f"there is no verb {word}"
            command = command.commands[word]
            known |= {option for parameter in command.params for option in parameter.opts}
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_call_in_the_docs_is_one(page: Path) -> None:
    found = list(calls(page.read_text(encoding="utf-8")))
    assert {call: why for call in found if (why := fault(call))} == {}


def test_what_is_no_call_is_found() -> None:
    page = (
        "```sh\nmlviews biuld x   # no\n```\n\n    mlviews lock --al  every\n\nSay `mlviews run --rot /x y -- a --b`.\n"
    )
    assert [fault(call) for call in calls(page)] == [
        "there is no verb biuld",
        "lock has no option --al",
        "run has no option --rot",
    ]


def readme(first: str) -> list[str]:
    """Return the lines of the README's block that begins with ``first``, without those that `NOT_RUN` names."""
    (block,) = [b for b in blocks(PAGES[0].read_text(encoding="utf-8"), "sh") if b.startswith(first)]
    return [line for line in block.splitlines() if not any(part in line for part in NOT_RUN)]


def test_every_block_of_the_readme_is_known() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    first = [block.split("\n")[0] for block in blocks(text, "sh")]
    known = ("mlviews list ", "mlviews new ", "export MLVIEWS_SITE")
    assert [line for line in first if not line.startswith(known) and not any(p in line for p in NOT_RUN)] == []
    assert all(part in text for part in NOT_RUN)


@pytest.fixture
def typed(shelf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that types lines into one shell, each of which must end well; what they say comes back.

    Args:
        lines: as they stand in the README.
        stands_for: what to type for a folder that each reader has elsewhere.
        may_end: with which code a line may end, besides 0.
    """
    monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={shelf.folder}")
    for name in ("CERNBOX_HOME", "JUPYTER_PATH", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    programs = tmp_path / "programs"
    programs.mkdir()
    # The README's releases are of one day.
    dated = (
        "import datetime as d, sys\nclass Day(d.datetime):\n"
        "    @classmethod\n    def now(cls, tz=None): return cls(2026, 11, 23, 12, tzinfo=tz)\n"
        "import mlviews.build\nmlviews.build.datetime = Day\n"
        "from mlviews.__main__ import main\nmain()\n"
    )
    (programs / "dated.py").write_text(dated)
    (programs / "mlviews").write_text(f'#!/bin/sh\nexec {sys.executable} {programs}/dated.py "$@"\n')
    (programs / "mlviews").chmod(0o755)

    def type_in(
        lines: list[str], *, begin: str = "", stands_for: Mapping[str, str] = {}, may_end: Mapping[str, int] = {}
    ) -> str:
        script = [begin]
        for line in lines:
            for name, folder in stands_for.items():
                line = line.replace(name, folder)  # noqa: PLW2901
            allowed = next((code for part, code in may_end.items() if part in line), 0)
            told = shlex.quote(line)
            script.append(
                f"{line}\ncode=$?; [ $code = 0 ] || [ $code = {allowed} ] || {{ echo {told}: $code >&2; exit 9; }}"
            )
        done = subprocess.run(
            ["bash", "-c", f'PATH={programs}:"$PATH"\n' + "\n".join(script)],
            capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return type_in


def test_readme_for_a_physicist(typed: Any, builder: Any, shelf: Any, tmp_path: Path, modules: str) -> None:
    shelf.add("ipykernel", modules={"ipykernel": ""})
    for view in ("plotting", "training-cpu", "training-gpu"):
        builder.recipes.recipe(view, "python", "ipykernel", "greet", smoke=["imports"])
        assert builder("build", view).code == 0
    (tmp_path / "train.py").write_text("import greet, sys; print('trains in', sys.prefix)\n")

    said = typed(readme("mlviews list "), begin=modules, stands_for={"<root>": str(builder.root)})

    assert f"trains in {builder.root}/envs/training-cpu/" in said


def test_readme_for_a_maintainer(
    typed: Any, builder: Any, make_channel: Any, channel_packages: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    folder = make_channel(tmp_path / "metadata", channel_packages)
    monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={folder}")
    monkeypatch.chdir(tmp_path)
    builder.recipes.recipe("small", "libzlib")
    builder.lockfiles.mkdir(exist_ok=True)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    lines = readme("mlviews new ")
    after = next(number for number, line in enumerate(lines) if "--all --check" in line)
    commit = (
        f"{shlex.join(git)} init -q . ; {shlex.join(git)} add recipes lockfiles; {shlex.join(git)} commit -qm locks"
    )

    said = typed(
        [*lines[:after], "mlviews lock small", commit, *lines[after:]],
        may_end={"mlviews nightly": 1},  # the channel holds no archives: nothing can be installed
    )

    assert "report: " in said


def test_readme_for_a_librarian(
    typed: Any, builder: Any, shelf: Any, base_image: str, images: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    for name in ("MLVIEWS_ROOT", "MLVIEWS_SITE"):
        monkeypatch.delenv(name, raising=False)
    # The shipped site, with a base image that is at hand.
    shipped = (REPOSITORY / "mlviews/site/profiles/cvmfs.yaml").read_text()
    own = tmp_path / "home/.config/mlviews/sites/cvmfs.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(f'{shipped}container: {{base: {{"2.36": "{base_image}"}}}}\n')
    # A python that leads nowhere outside, as CVMFS wants it.
    host = Path(sys._base_executable).resolve()
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    settings = f"home = {host.parent}\ninclude-system-site-packages = false\n"
    shelf.add(
        "python",
        f"{minor}.1",
        build="0_cpython",
        subdir="linux-64",
        files={"pyvenv.cfg": settings, f"bin/python{minor}": host.read_bytes()},
        links={"bin/python": f"python{minor}"},
    )
    builder.recipes.recipe("tagging-gpu", "python", "greet", "native")
    root = tmp_path / "build"

    said = typed(readme("export MLVIEWS_SITE"), stands_for={"/srv/build": str(root)})

    assert (root / "envs/tagging-gpu/default").readlink() == Path("2026.11.23")
    assert (
        (root / "envs/tagging-gpu/2026.11.23/linux-64/bin/native")
        .read_text()
        .endswith("/cvmfs/atlasml.cern.ch/envs/tagging-gpu/2026.11.23/linux-64/share\n")
    )
    assert "atlasml.cern.ch" in said
    assert list(tmp_path.glob("*.oci.tar"))


@pytest.fixture
def modules(require: Callable[[str], str]) -> str:
    """The line that makes ``module`` Lmod's in bash."""
    require("lua")
    return ". /usr/share/lmod/lmod/init/bash"
