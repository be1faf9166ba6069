"""What README and docs tell people to type is run, word for word, in its order.

What is not says why: lines of README and of the page at a glance in `NOT_RUN`, those of other docs in a comment
above them, ``<!-- not run: WHY -->``, or ``<!-- not run (PART): WHY -->`` for lines that hold that part. All that is
indented in docs is to be typed.

    pytest tests/install/test_docs.py -s

prints the reasons.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from mlviews.cli import cli as mlviews_command

REPOSITORY = Path(__file__).resolve().parent.parent.parent
GLANCE = REPOSITORY / "docs/at-a-glance.md"
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
# What stands in README or at a glance and is not run by `test_glance_*`, with the reason.
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
            below = command.get_command(click.Context(command), word)
            if below is None:
                return f"there is no verb {word}"
            command = below
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


def glance(first: str) -> list[str]:
    """Return the lines of the block at a glance that begins with ``first``, without those that `NOT_RUN` names."""
    (block,) = [b for b in blocks(GLANCE.read_text(encoding="utf-8"), "sh") if b.startswith(first)]
    return [line for line in block.splitlines() if not any(part in line for part in NOT_RUN)]


def test_every_block_of_the_readme_and_at_a_glance_is_known() -> None:
    text = PAGES[0].read_text(encoding="utf-8") + GLANCE.read_text(encoding="utf-8")
    first = [block.split("\n")[0] for block in blocks(text, "sh")]
    known = ("mlviews list ", "mlviews new ", "export MLVIEWS_SITE")
    assert [line for line in first if not line.startswith(known) and not any(p in line for p in NOT_RUN)] == []
    assert all(part in text for part in NOT_RUN)


@pytest.fixture
def typed(shelf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that types lines into one shell, each of which must end well; what they say comes back.

    Args:
        lines: as they stand on the page.
        stands_for: what to type for a folder that each reader has elsewhere.
        may_end: with which code a line may end, besides 0.
    """
    monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={shelf.folder}")
    for name in ("CERNBOX_HOME", "JUPYTER_PATH", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    programs = tmp_path / "programs"
    programs.mkdir()
    # The releases of the docs are of one day.
    dated = (
        "import datetime as d, sys\nclass Day(d.datetime):\n"
        "    @classmethod\n    def now(cls, tz=None): return cls(2026, 11, 23, 12, tzinfo=tz)\n"
        "import mlviews.build\nmlviews.build.datetime = Day\n"
        "from mlviews.__main__ import main\nif __name__ == '__main__':\n    main()\n"
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


def test_glance_for_a_physicist(typed: Any, builder: Any, shelf: Any, tmp_path: Path, modules: str) -> None:
    shelf.add("ipykernel", modules={"ipykernel": ""})
    for view in ("plotting", "training-cpu", "training-gpu"):
        builder.recipes.recipe(view, "python", "ipykernel", "greet", smoke=["imports"])
        assert builder("build", view).code == 0
    (tmp_path / "train.py").write_text("import greet, sys; print('trains in', sys.prefix)\n")

    said = typed(glance("mlviews list "), begin=modules, stands_for={"<root>": str(builder.root)})

    assert f"trains in {builder.root}/envs/training-cpu/" in said


def test_glance_for_a_maintainer(
    typed: Any, builder: Any, make_channel: Any, channel_packages: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    folder = make_channel(tmp_path / "metadata", channel_packages)
    monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={folder}")
    monkeypatch.chdir(tmp_path)
    builder.recipes.recipe("small", "libzlib")
    builder.lockfiles.mkdir(exist_ok=True)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    lines = glance("mlviews new ")
    after = next(number for number, line in enumerate(lines) if "--all --check" in line)
    commit = (
        f"{shlex.join(git)} init -q . ; {shlex.join(git)} add recipes lockfiles; {shlex.join(git)} commit -qm locks"
    )

    said = typed(
        [*lines[:after], "mlviews lock small", commit, *lines[after:]],
        may_end={"mlviews nightly": 1},  # the channel holds no archives: nothing can be installed
    )

    assert "report: " in said


def publishable_python(shelf: Any) -> None:
    """Put a python on the shelf that leads nowhere outside, as CVMFS wants it."""
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


def test_glance_for_a_librarian(
    typed: Any, builder: Any, shelf: Any, base_image: str, images: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    for name in ("MLVIEWS_ROOT", "MLVIEWS_SITE"):
        monkeypatch.delenv(name, raising=False)
    # The shipped site, with a base image that is at hand.
    shipped = (REPOSITORY / "mlviews/site/profiles/cvmfs.yaml").read_text()
    own = tmp_path / "home/.config/mlviews/sites/cvmfs.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(f'{shipped}container: {{base: {{"2.36": "{base_image}"}}}}\n')
    publishable_python(shelf)
    builder.recipes.recipe("tagging-gpu", "python", "greet", "native")
    root = tmp_path / "build"

    said = typed(glance("export MLVIEWS_SITE"), stands_for={"/srv/build": str(root)})

    assert (root / "envs/tagging-gpu/default").readlink() == Path("2026.11.23")
    assert (
        (root / "envs/tagging-gpu/2026.11.23/linux-64/bin/native")
        .read_text()
        .endswith("/cvmfs/atlasml.cern.ch/envs/tagging-gpu/2026.11.23/linux-64/share\n")
    )
    assert "atlasml.cern.ch" in said
    assert list(tmp_path.glob("*.oci.tar"))


# As much of both as the check import-order computes with.
NUMPY = """
class Array:
    def reshape(self, *shape): return self
    def __matmul__(self, other): return self
    def sum(self): return 2016

arange = eye = lambda *size: Array()
"""
CLUSTER = """
class KMeans:
    def __init__(self, *count, **options): self.labels_ = 0, 1
    def fit(self, rows): return self
"""


def test_tutorial_of_ones_own_view(typed: Any, shelf: Any, tmp_path: Path, monkeypatch: Any) -> None:
    for name, text in (("ipykernel", ""), ("numpy", NUMPY)):
        shelf.add(name, modules={name: text})
    shelf.add("scikit-learn", modules={"sklearn/__init__": "", "sklearn/cluster": CLUSTER}, depends=["numpy"])
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "A. Maintainer")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "a@example.org")

    said = typed(page_lines("tutorials/own-view.md"))

    assert "sklearn" in said
    assert (tmp_path / "my-views/.github/workflows/nightly.yml").exists()


def test_tutorial_of_a_university_site(typed: Any, builder: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("MLVIEWS_ROOT", raising=False)
    page = REPOSITORY / "docs/tutorials/site.md"
    (site,) = blocks(page.read_text(encoding="utf-8"), "yaml")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "site.yaml").write_text(site.replace("/shared/mlviews", str(shared)))
    for view in ("plotting", "training-cpu"):
        builder.recipes.recipe(view, "python", "greet")

    typed(page_lines("tutorials/site.md"), stands_for={"/shared/mlviews": str(shared)}, may_end={"mlviews doctor": 1})

    for view in ("plotting", "training-cpu"):
        assert (tmp_path / "shared/envs" / view / "default").readlink() == Path("2026.11.23")


def test_tutorial_of_a_long_training(typed: Any, builder: Any, tmp_path: Path) -> None:
    builder.recipes.recipe("plotting", "python", "greet")
    assert builder("build", "plotting").code == 0
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")

    said = typed(page("tutorials/long-training.md"))

    shown = re.search(r"^lifetime .*", (REPOSITORY / "docs/tutorials/long-training.md").read_text(), re.MULTILINE)
    assert shown
    assert shown[0] in said
    assert (tmp_path / "my-training/train.files/mlviews_resume.py").exists()
    assert "python train.py" in (tmp_path / "my-training/train.sh").read_text()


def page_lines(page: str) -> list[str]:
    """Return what a page tells to type."""
    return "".join(blocks((REPOSITORY / "docs" / page).read_text(encoding="utf-8"), "sh")).splitlines()


@pytest.fixture
def modules(require: Callable[[str], str]) -> str:
    """The line that makes ``module`` Lmod's in bash."""
    require("lua")
    return ". /usr/share/lmod/lmod/init/bash"


# docs/*.md

NOTE = re.compile(r"<!-- not run(?: \((?P<part>.*?)\))?: (?P<why>.*?) -->")


@dataclass(frozen=True)
class Typed:
    """A line that a page has people type, and why it is not run, if it is not."""

    text: str
    why: str


def typed_lines(text: str) -> list[Typed]:
    """Return the lines of a page's blocks, without remarks; a note holds until prose comes."""
    found: list[Typed] = []
    reasons: dict[str, str] = {}
    fence: str | None = None
    for line in text.splitlines():
        if note := NOTE.fullmatch(line):
            reasons[note["part"] or ""] = note["why"]
        elif line.startswith("```"):
            fence = line[3:] if fence is None else None
        elif fence == "sh" or (fence is None and line.startswith("    ")):
            call = re.split(r"(?<=\S)  |\s#", line)[0].strip()
            why = next((why for part, why in reasons.items() if part in call), _elsewhere(call))
            found.append(Typed(call, why))
        elif fence is None and line:
            reasons = {}
    return found


def _elsewhere(call: str) -> str:
    if call.startswith("pytest tests/"):
        return "it is a part of the tests"
    if call.startswith("python tests/"):
        return "it measures, or kills, for minutes; its options are asked for"
    return ""


def page(name: str) -> list[str]:
    """Return what to type of a page: where a part is optional, without and with it."""
    calls = [typed.text for typed in typed_lines((REPOSITORY / "docs" / name).read_text()) if not typed.why]
    return [form for call in calls for form in dict.fromkeys((_without(call), _with(call)))]


def _without(call: str) -> str:
    return re.sub(r" ?\[[^]]*\]", "", call)


def _with(call: str) -> str:
    return re.sub(r"\[([^]|]*?)( ?\|[^]]*)?\]", r"\1", call).replace("VIEW...", "VIEW")


RUN_BELOW = (
    "at-a-glance.md",
    "ci.md",
    "containers.md",
    "gpus.md",
    "hosts.md",
    "jobs.md",
    "long-training.md",
    "nightly.md",
    "own-packages.md",  # by tests/wheels/test_extend.py, where an index of wheels is
    "own-view.md",
    "publishing.md",
    "reliability.md",
    "site.md",
    "smoke.md",
    "tagger.md",  # by tests/examples, where PyTorch is
    "tracks.md",  # by tests/examples
)


def test_a_line_of_the_docs_is_run_or_says_why() -> None:
    bare = []
    for path in PAGES[1:]:
        for typed in typed_lines(path.read_text(encoding="utf-8")):
            if typed.why:
                print(f"not run, {path.name}: {typed.text}: {typed.why}")
            elif path.name not in RUN_BELOW:
                bare.append(f"{path.name}: {typed.text}")
    assert bare == []


def test_notes_and_remarks_are_read() -> None:
    text = (
        "<!-- not run (--push): no registry -->\n\n    mlviews a --push x   to it\n    mlviews b [--c|--d] # e\n\n"
        "Then\n\n    mlviews a --push\n\n```sh\nmlviews f VIEW[/RELEASE] [--g]\n```\n```yaml\nnot: typed\n```\n"
    )
    assert [(typed.text, typed.why) for typed in typed_lines(text)] == [
        ("mlviews a --push x", "no registry"),
        ("mlviews b [--c|--d]", ""),
        ("mlviews a --push", ""),
        ("mlviews f VIEW[/RELEASE] [--g]", ""),
    ]
    assert (_without("b [--c|--d]"), _with("b [--c|--d]")) == ("b", "b --c")
    assert (_without("f VIEW[/RELEASE] [--g]"), _with("f VIEW[/RELEASE] [--g]")) == ("f VIEW", "f VIEW/RELEASE --g")


@pytest.mark.parametrize(
    "call",
    sorted({typed.text for path in PAGES for typed in typed_lines(path.read_text()) if _elsewhere(typed.text)}),
)
def test_what_is_run_elsewhere_is_there_and_knows_its_options(call: str) -> None:
    program, path, *rest = shlex.split(call)
    assert (REPOSITORY / path).exists()
    options = [word for word in rest if word.startswith("-")]
    if program == "python" and options:
        told = subprocess.run(
            [sys.executable, path, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        assert [option for option in options if option not in told.stdout] == []


@pytest.fixture
def view(builder: Any, shelf: Any) -> Callable[..., None]:
    """Return a function that builds small views, with a kernel."""
    shelf.add("ipykernel", modules={"ipykernel": ""})

    def make(*names: str) -> None:
        for name in names:
            builder.recipes.recipe(name, "python", "ipykernel", "greet", smoke=["imports"])
            assert builder("build", name).code == 0

    return make


def test_docs_ci(typed: Any, builder: Any, tmp_path: Path) -> None:
    builder.recipes.recipe("plotting", "python")
    typed(page("ci.md"))
    assert (tmp_path / ".github/workflows/nightly.yml").exists()


def test_docs_containers(typed: Any, builder: Any, view: Any, base_image: str, images: Any, tmp_path: Path) -> None:
    builder.site("local", container={"base": {"2.36": base_image}})
    view("plotting")
    typed(page("containers.md"), stands_for={"FOLDER": "folder"})
    assert list(tmp_path.glob("*.oci.tar"))


def test_docs_gpus(typed: Any, view: Any, tmp_path: Path) -> None:
    view("training-gpu")
    (tmp_path / "folder").mkdir()
    typed(page("gpus.md"), may_end={"./folder": 1})


def test_docs_hosts(typed: Any, builder: Any, view: Any) -> None:
    view("plotting", "tagging-gpu")
    release = (builder.root / "envs/plotting/default").readlink().name
    said = typed(
        page("hosts.md"),
        stands_for={"VIEW": "plotting", "RELEASE": release},
        may_end={"kernel remove plotting --user": 1},  # without a release, the line before it removed all
    )
    assert "plotting" in said


def test_docs_jobs(typed: Any, builder: Any, view: Any, slurm: Any, tmp_path: Path, monkeypatch: Any) -> None:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    view("plotting")
    builder.recipes.recipe("tagging-gpu", "python", "greet", hardware={"glibc": "2.34", "cuda": "12.9"})
    assert builder("build", "tagging-gpu").code == 0
    tmp_path.chmod(0o755)
    (tmp_path / "train.py").touch()
    said = typed(page("jobs.md"))
    slurm.cancel_all()
    assert "Submitted batch job" in said
    assert (tmp_path / "train.files/mlviews_resume.py").exists()


def test_the_blocks_of_docs_jobs_are_what_they_say(tmp_path: Path, cli: Any) -> None:
    text = (REPOSITORY / "docs/jobs.md").read_text()
    (keys,) = blocks(text, "yaml")
    cli.site("there", **yaml.safe_load(keys))
    assert "batch" not in " ".join(cli("doctor", "--site", "there", "--json").codes)
    (program,) = blocks(text, "python")
    beside = {**os.environ, "PYTHONPATH": str(REPOSITORY / "mlviews/jobs/beside")}
    subprocess.run(
        [sys.executable, "-c", program.replace("every=600", "every=0")], cwd=tmp_path, env=beside, check=True
    )
    assert len(list(tmp_path.glob("checkpoints/checkpoint-*"))) == 2


def test_docs_nightly(typed: Any, builder: Any, shelf: Any) -> None:
    builder.recipes.recipe("tagging-gpu", "python", "greet", hardware={"glibc": "2.34", "cuda": "12.9"})
    typed(page("nightly.md"), stands_for={"FOLDER": str(shelf.folder), "LOCKS": "locks", "ROOT": "root"})


def test_docs_publishing(typed: Any, builder: Any, shelf: Any, tmp_path: Path) -> None:
    publishable_python(shelf)
    builder.recipes.recipe("plotting", "python", "greet")
    server = tmp_path / "programs/cvmfs_server"
    server.write_text('#!/bin/sh\n[ "$1 $2" = "ingest --tar_file" ] && tar --list --file "$3"\n')
    server.chmod(0o755)
    said = typed(
        page("publishing.md"), stands_for={"VIEW": "plotting", "RELEASE": "2026.11.23", "FILE": "plotting.tar"}
    )
    assert "envs/plotting" in said


def test_docs_reliability(typed: Any, builder: Any) -> None:
    builder.recipes.recipe("plotting", "python", "greet")
    stands_for = {"verify VIEW/RELEASE": "verify plotting/2026.11.23.2", "RELEASE": "2026.11.23", "VIEW": "plotting"}
    said = typed(
        ["mlviews build plotting", "mlviews build plotting --rebuild", *page("reliability.md")], stands_for=stands_for
    )
    assert "removed plotting/2026.11.23:" in said


def test_docs_smoke(typed: Any, view: Any) -> None:
    view("training-gpu", "plotting")
    typed(page("smoke.md"), stands_for={"PATH": sys.executable})
