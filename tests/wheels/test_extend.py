"""Wheels installed as packages at a site of conda channels, and views of users' own on top of others."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mlviews.errors import BadInputError, FailedError
from mlviews.extend import _add
from mlviews.hardware import host_glibc
from mlviews.release import Release
from mlviews.wheels.archive import read_index
from mlviews.wheels.editable import editable_offer
from mlviews.wheels.host_python import write_host_python
from mlviews.wheels.target import host_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from shelf import Shelf

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
ABI = f"cp{MINOR.replace('.', '')}"


@pytest.fixture
def site(builder: Any, shelf: Shelf, index: Any) -> Any:
    """The command line, with a channel of real archives and an index of wheels."""
    shelf.add("python_abi", MINOR, build=f"8_{ABI}")
    shelf.add("numbers", "2.3", modules={"numbers_of": "version = '2.3'\n"})
    return builder


def release_of(root: Path, view: str) -> tuple[Path, Release]:
    (prefix,) = (root / f"envs/{view}").glob("2*/linux-64")
    return prefix, Release.model_validate_json((prefix / "release.json").read_bytes())


def release_of_all(root: Path, view: str) -> list[tuple[str, Release]]:
    """Return a view's releases by their names, oldest first."""
    found = sorted((root / f"envs/{view}").glob("2*/linux-64/release.json"))
    return [(path.parent.parent.name, Release.model_validate_json(path.read_bytes())) for path in found]


def says(done: Any) -> str:
    assert done.code == 0, done.err
    return str(done.out).strip()


# At a site of conda channels


def test_wheels_are_installed_as_packages(site: Any, index: Any) -> None:
    """Pure and for one Python; with a script; checked, listed, verified, repaired and found in the cache."""
    code = "import sys, numbers_of\ndef main():\n    print('tagged with', numbers_of.version, 'in', sys.prefix)\n"
    index("tagger", "1.2", files={"tagger.py": code}, requires=["numbers>=2"], scripts={"tag": "tagger:main"})
    binary = {"fast/__init__.py": "x = 7\n", "fast/_c.so": "\x7fELF?"}
    index("fast", "2.0+local", tag=f"{ABI}-{ABI}-manylinux_2_17_x86_64", files=binary, scripts={"go": "fast:x"})
    site.recipes.recipe("demo", "python", pypi=["tagger", "fast"])
    assert site("build", "demo").code == 0
    prefix, release = release_of(site.root, "demo")
    versions = {one.name: one.version for one in release.packages}
    assert (versions["tagger"], versions["fast"]) == ("1.2", "2.0")
    assert says(site.process("run", "demo", "--", "tag")) == f"tagged with 2.3 in {prefix}"
    assert site("verify", "demo").code == 0
    (module,) = prefix.rglob("tagger.py")
    assert list(prefix.rglob("tagger.*.pyc"))
    module.unlink()
    module.write_text("changed")
    assert site("verify", "demo").code == 1
    assert site("verify", "demo", "--repair").code == 0
    assert module.read_text() == code
    bill = json.loads((prefix.parent / "linux-64.sbom.cdx.json").read_text())
    assert "pkg:pypi/tagger@1.2" in {part["purl"] for part in bill["components"]}
    again = site("build", "demo", "--json").data
    assert (again["status"], again["packages"]) == ("unchanged", len(release.packages))
    assert site("gc", "--keep", "1", "--keep-days", "0").code == 0
    assert list((site.root / "cache/channel").rglob("tagger-*.conda"))
    assert site("render", "demo", "explicit", "--json").codes == ["explicit-wheels"]


def test_a_wheel_with_other_bytes_than_the_locks_is_not_installed(site: Any, index: Any, make_wheel: Any) -> None:
    index("tagger")
    site.recipes.recipe("demo", "python", pypi=["tagger"])
    assert site("lock", "demo").code == 0
    index("tagger", files={"tagger.py": "import os; os.system('evil')\n"})
    done = site("build", "demo", "--json")
    assert (done.code, done.codes) == (3, ["hash-mismatch"])
    assert not list((site.root / "envs").rglob("release.json"))


def test_an_archive_that_was_changed_in_the_cache_is_made_again(site: Any, index: Any) -> None:
    index("tagger", files={"tagger.py": "x = 1\n"})
    site.recipes.recipe("demo", "python", pypi=["tagger"])
    assert site("build", "demo").code == 0
    (archive,) = (site.root / "cache/channel").rglob("tagger-*.conda")
    before = archive.read_bytes()
    archive.write_bytes(before[:-1] + b"x")
    assert site("build", "demo", "--rebuild").code == 0
    assert archive.read_bytes() == before


@pytest.mark.parametrize(
    "keys",
    [
        {"scripts": {"../../evil": "tagger:main"}},
        {"scripts": {"evil": "tagger:main; import os; os.system('touch evil')"}},
        {"scripts": {"python": "tagger:main"}},
        {"files": {"../evil.py": "x = 1\n"}},
        {"files": {"tagger-1.0.data/data/conda-meta/history": "evil"}},
        {"files": {"tagger-1.0.data/data/../../../evil": "evil"}},
        {"files": {"tagger-1.0.data/scripts/../../evil": "evil"}},
        {"files": {"/etc/evil": "evil"}},
        {"files": {"tagger-1.0.data/elsewhere/evil": "evil"}},
    ],
)
def test_hostile_wheels_write_nothing_and_run_nothing(
    site: Any, index: Any, keys: dict[str, Any], tmp_path: Path
) -> None:
    index("tagger", **keys)
    site.recipes.recipe("demo", "python", pypi=["tagger"])
    done = site("build", "demo", "--json")
    assert (done.code, done.codes) == (3, ["bad-wheel"]), done.out
    assert not [path for path in tmp_path.rglob("*evil*") if "wheelhouse" not in path.parts]
    assert not list((site.root / "envs").rglob("release.json"))
    assert not Path("/etc/evil").exists()


# On top of another view


@pytest.fixture(scope="module")
def whole_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' own CPython as a package: a virtual environment goes on top of a whole one only."""
    channel = tmp_path_factory.mktemp("python")
    return channel / write_host_python(channel, host_target()).archive


@pytest.fixture(scope="module")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was compiled of that Python, once one test has done so: nothing of it depends on a root."""
    return tmp_path_factory.mktemp("compiled") / "bytecode"


@pytest.fixture
def whole(site: Any, shelf: Shelf, whole_python: Path, bytecode: Path) -> Any:
    """The command line, and a channel with a whole Python; `recipe` writes a view of that."""
    shelf.put(whole_python, read_index(whole_python))
    kept = site.root / "cache/bytecode"
    if bytecode.exists():
        shutil.copytree(bytecode, kept, copy_function=os.link)

    def recipe(*dependencies: str) -> None:
        # The build, too: a Python X.Y.0 has the version of the channel's other one.
        python = f"python =={host_target().python} {read_index(whole_python)['build']}"
        site.recipes.recipe("demo", python, *dependencies, hardware={"glibc": host_glibc()})
        assert site("lock", "demo").code == 0
        assert site("build", "demo").code == 0
        if not bytecode.exists():
            shutil.copytree(kept, bytecode, copy_function=os.link)

    return SimpleNamespace(site=site, recipe=recipe)


@pytest.fixture
def based(whole: Any) -> Any:
    """A view of Python and two packages, built."""
    whole.recipe("greet", "numbers")
    return whole.site


def test_extend(based: Any, index: Any) -> None:
    code = "import sys, numbers_of, greet\ndef main():\n    print(numbers_of.__file__, sys.prefix, sys.base_prefix)\n"
    index("tagger", "1.2", files={"tagger.py": code}, requires=["numbers>=2"], scripts={"tag": "tagger:main"})
    before = sorted((based.root / "envs/demo").rglob("*"))
    done = based("extend", "demo", "tagger >=1", "--name", "mine", "--json")
    assert done.code == 0, done.out
    assert (done.data["added"], done.data["built"]["packages"]) == ({"tagger": "1.2"}, 1)
    (line,) = [view for view in based("list", "--json").data["views"] if view["name"] == "mine"]
    assert line["packages"] == 1
    assert based("releases", "mine", "--json").data["releases"][0]["packages"] == 1
    shown = based("show", "mine").out
    assert "1 package" in shown
    assert "packages" not in shown
    assert "imports, pip-check" in shown  # every view is checked so
    assert done.data["bytes"] < 200_000
    base, prefix = release_of(based.root, "demo")[0], release_of(based.root, "mine")[0]
    assert says(based.process("run", "mine", "--", "tag")).split()[:2] == [
        str(next(base.rglob("numbers_of.py"))), str(prefix),
    ]  # fmt: skip
    # With nothing of it loaded, through setup.sh, and by what the base has in its own bin.
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(based.root)}
    for command in ([f"{prefix}/bin/tag"], ["sh", "-euc", f". {prefix}/setup.sh; greet > /dev/null; tag"]):
        ran = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
        assert ran.stdout.split()[1] == str(prefix)
    assert "BASE" not in os.environ
    variables = says(based.process("run", "mine", "--", "env")).splitlines()
    assert f"CONDA_PREFIX={base}" in variables
    assert any(line.startswith(f"PATH={prefix}/bin:{base}/bin:") for line in variables)
    assert based("verify", "mine").code == 0
    assert sorted((based.root / "envs/demo").rglob("*")) == before
    assert based("build", "mine", "--json").data["status"] == "unchanged"
    assert "extends" in based("show", "mine").out


def test_the_tutorial_is_run_word_for_word(whole: Any, index: Any, shelf: Shelf, tmp_path: Path) -> None:
    shelf.add("ipykernel", modules={"ipykernel": ""})
    index("seaborn", "0.13.2", files={"seaborn.py": "__version__ = '0.13.2'\n"})
    index("emcee", "3.1")
    whole.recipe("greet", "ipykernel")
    page = (Path(__file__).parent.parent.parent / "docs/tutorials/own-packages.md").read_text()
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)).replace("plotting", "demo")
    begin = f'mlviews() {{ {sys.executable} -m mlviews "$@"; }}; cd {tmp_path}\n'

    done = subprocess.run(["bash", "-ec", begin + lines], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n0.13.2\n" in done.stdout
    newest = release_of_all(whole.site.root, "my-demo")[-1]
    assert {"seaborn-base", "emcee"} <= {one.name for one in newest[1].packages}


def test_the_same_again_adds_packages_and_what_failed_or_went_leaves_nothing(based: Any, index: Any) -> None:
    index("broken", files={"broken.py": "raise ImportError('no')\n"})
    for project in ("emcee", "corner"):
        index(project, files={f"{project}.py": ""})
    path, lock = based.recipes.folder / "my-demo.yaml", based.lock("my-demo")
    assert based("extend", "demo", "broken").code == 1
    assert not path.exists()
    assert not lock.exists()
    assert based("extend", "demo", "emcee").code == 0
    path.write_text(path.read_text() + "# mine\n")

    more = based("extend", "my-demo", "corner", "emcee", "--json").data

    assert (more["base"].partition("/")[0], sorted(more["added"])) == ("demo", ["corner", "emcee"])
    listed = 'pypi:                             # requirements as pip takes them\n  - "corner"\n  - "emcee"\n# mine\n'
    assert path.read_text().endswith(listed)
    again = based("extend", "demo", "corner", "--json").data
    assert (again["built"]["status"], again["built"]["release"]) == ("unchanged", more["built"]["release"])
    before = path.read_text(), lock.read_text()
    for wrong, code in (("nothing-like-it", "wheel-unknown"), ("a @ file:///x", "bad-requirement")):
        assert based("extend", "demo", wrong, "--json").codes == [code]
    assert (path.read_text(), lock.read_text()) == before
    assert based("uninstall", "my-demo").code == 0
    base = based.recipes.folder / "demo.yaml"
    base.write_text(base.read_text().replace("schema: 1", "schema: 1\nlayers: [plot]"))  # one that travels with mlviews
    path.unlink()  # as the tutorial says; the lock of what it asked for is still there
    done = based("extend", "demo", "emcee >=1", "--json")
    assert done.code == 0, done.out
    assert done.data["added"] == {"emcee": "1.0"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x: 1", 'x: 1\npypi:\n  - "b"\n'),
        ("pypi:   # mine\n  - a\nmore: 1\n", 'pypi:   # mine\n  - "b"\n  - a\nmore: 1\n'),
        ("pypi:\n- a\n", 'pypi:\n- "b"\n- a\n'),
        ("x: 1\npypi:\n    - a\n", 'x: 1\npypi:\n    - "b"\n    - a\n'),
        ("pypi:\n  []\neditable:\n  - /x\n", 'pypi:\n  - "b"\neditable:\n  - /x\n'),
    ],
)
def test_a_requirement_is_added_to_a_list_however_it_is_indented(before: str, after: str, tmp_path: Path) -> None:
    path = tmp_path / "my-demo.yaml"
    path.write_text(before)

    _add(path, "pypi", ["b"])

    assert path.read_text() == after


def test_conda_packages_for_every_platform_go_on_top_too(based: Any, index: Any, shelf: Shelf) -> None:
    index("tagger", files={"tagger.py": "import helper\nprint(helper.__file__)\n"}, requires=["helper"])
    shelf.add("helper", modules={"helper": ""})
    shelf.add("forhere", subdir="linux-64", files={"lib/libx.so": "x"})
    assert based("extend", "demo", "tagger").code == 0
    prefix, release = release_of(based.root, "my-demo")
    assert {one.name for one in release.packages} == {"python", "tagger", "helper"}
    assert says(based.process("run", "my-demo", "--", "python", "-c", "import tagger")).startswith(str(prefix))
    recipe = (based.recipes.folder / "my-demo.yaml").read_text()
    based.recipes.text("my-demo.yaml", f"{recipe}dependencies: [forhere]\n")
    assert based("lock", "my-demo", "--json").codes == ["package-unknown"]


def test_the_bases_packages_stay_and_a_conflict_is_blamed(based: Any, index: Any) -> None:
    index("numbers", "1.9")
    index("tagger", requires=["numbers<2"])
    done = based("extend", "demo", "numbers <2", "--name", "old")
    assert done.code == 1
    assert "numbers <2  <-  recipe old" in done.err
    assert "numbers ==2.3  <-  base (demo/" in done.err
    assert "has numbers 2.3, which stays" in done.err
    through = based("extend", "demo", "tagger", "--name", "old")
    assert "numbers <2  <-  wheel (tagger 1.0)" in through.err
    assert not (based.recipes.folder / "old.yaml").exists()
    assert not list(based.lockfiles.glob("old*"))


def test_a_second_copy_of_a_library_of_the_base_is_refused(whole: Any, shelf: Shelf, index: Any) -> None:
    shelf.add("libtorch", subdir="linux-64", files={"lib/libtorch_cpu.so": "\x7fELF"})
    whole.recipe("numbers", "libtorch")
    site = whole.site
    files = {"tagger.py": "", "tagger.libs/libtorch_cpu.so": "\x7fELF"}
    index("tagger", tag=f"{ABI}-{ABI}-manylinux_2_17_x86_64", files=files)
    done = site("extend", "demo", "tagger", "--json")
    assert (done.code, done.codes) == (1, ["second-library"])
    said = done.json["errors"][0]["message"]
    assert "libtorch_cpu.so" in said
    assert "tagger" in said


def test_a_new_default_of_the_base(based: Any, whole: Any, index: Any) -> None:
    """The lock no longer holds; building again moves on, and says what differs."""
    index("tagger")
    assert based("extend", "demo", "tagger").code == 0
    whole.recipe("greet", "numbers", "plain")
    assert based("lock", "my-demo", "--check", "--json").codes == ["lock-stale"]
    moved = based("build", "my-demo", "--json")
    assert moved.code == 0, moved.out
    assert [(change["kind"], change["name"]) for change in moved.data["base-changes"]] == [("added", "plain")]
    default = (based.root / "envs/demo/default").readlink()
    assert moved.data["base"] == f"demo/{default}"
    # What broke the view is looked for on one base alone, between the versions of what is on top.
    (before, _), (after, _) = release_of_all(based.root, "my-demo")
    apart = based("bisect", "my-demo", "--good", before, "--bad", after, "--json")
    assert (apart.code, apart.codes) == (1, ["base-differs"])
    for version in ("1.1", "1.2"):
        index("tagger", version, files={"tagger.py": "import nothing\n"}, requires=["numbers"])
    assert based("lock", "my-demo", "--upgrade").code == 0
    options = ("--check=imports", "--retries=0", "--json")
    found = based("bisect", "my-demo", "--good", after, "--bad", based.lock("my-demo"), *options)
    assert found.code == 0, found.out
    assert [(one["name"], one["before"], one["after"]) for one in found.data["step"]] == [("tagger", "1.0", "1.1")]


def test_the_base_of_an_extension_that_is_seen_stays(based: Any, whole: Any, index: Any) -> None:
    index("tagger")
    assert based("extend", "demo", "tagger").code == 0
    first = release_of(based.root, "demo")[0].parent.name
    whole.recipe("greet")
    told = based("gc", "--keep", "1", "--keep-days", "0", "--json").data
    why = {line["release"]: line["why"] for line in told["kept"] if line["view"] == "demo"}[first]
    assert why.startswith("in use by view my-demo/")
    refused = based("remove", f"demo/{first}", "--json")
    assert refused.codes == ["release-in-use"]
    assert "is in use: view my-demo/" in refused.json["errors"][0]["message"]
    assert based.process("run", "my-demo", "--", "python", "-c", "import tagger").code == 0


def test_a_base_that_is_gone_is_told(based: Any, index: Any) -> None:
    index("tagger")
    assert based("extend", "demo", "tagger").code == 0
    base, prefix = release_of(based.root, "demo")[0], release_of(based.root, "my-demo")[0]
    started = {"argv": [f"{prefix}/launch"], "metadata": {"mlviews": {"view": "my-demo", "release": "1", "lock": ""}}}
    (kernels := Path(os.environ["HOME"]) / ".local/share/jupyter/kernels/my-demo").mkdir(parents=True)
    (kernels / "kernel.json").write_text(json.dumps(started))

    def state() -> str:
        (line,) = (one for one in based("kernel", "list", "--json").data["kernels"] if one["folder"] == str(kernels))
        return str(line["state"])

    assert state() == "ok"
    (base / "bin").rename(base / "gone")
    assert state() == "gone"
    ran = based.process("run", "my-demo", "--", "python", "-c", "1")
    assert (ran.code, str(base) in ran.err) == (127, True)
    sourced = subprocess.run(["sh", "-c", f". {prefix}/setup.sh"], capture_output=True, text=True, check=False)
    assert f"this host has no folder {base}/bin" in sourced.stderr
    (finding,) = (line for line in based("doctor", "--json").data["findings"] if line["name"] == "base")
    assert (finding["status"], str(base) in finding["found"]) == ("problem", True)


def test_a_base_in_another_root_that_cannot_be_written(based: Any, index: Any, tmp_path: Path) -> None:
    index("tagger")
    own = ("--root", str(tmp_path / "own"))
    assert based("extend", "demo", "tagger", *own, "--json").codes == ["base-missing"]
    central = based.root / "envs/demo"
    done = based("extend", str(central), "tagger", *own)
    assert done.code == 0, done.err
    recipe = (based.recipes.folder / "my-demo.yaml").read_text()
    assert f'on: "{central}"' in recipe
    assert based.process("run", "my-demo", *own, "--", "python", "-c", "import tagger, greet").code == 0
    (based.recipes.folder / "my-demo.yaml").unlink()
    loaded = {**os.environ, "MLVIEWS_VIEW": "demo", "CONDA_PREFIX": str(release_of(based.root, "demo")[0])}
    again = based.process("extend", "demo", "tagger", *own, env=loaded)
    assert again.code == 0, again.err
    assert (based.recipes.folder / "my-demo.yaml").read_text() == recipe


def test_what_cannot_be_extended_or_published(based: Any, index: Any, tmp_path: Path) -> None:
    index("tagger")
    assert based("extend", "nothing", "tagger", "--json").codes == ["view-unknown"]
    assert based("extend", "/nothing", "tagger", "--json").codes == ["base-missing"]
    assert based("extend", "demo", "tagger @ file:///x.whl", "--json").codes == ["bad-requirement"]
    assert based("extend", "demo", "tagger").code == 0
    assert based("extend", "demo", "tagger", "--name", "demo", "--json").codes == ["recipe-exists"]
    assert based("extend", "my-demo", "tagger", "--name", "more", "--json").codes == ["base-extends"]
    published = based("publish", "my-demo", "--plan", "--prefix", "/cvmfs/x.org", "--json")
    assert "extension" in {remark["rule"] for remark in published.data["remarks"] if remark["forbids"]}
    assert based("container", "build", "my-demo", "-o", str(tmp_path / "x.tar"), "--json").codes == ["image-extension"]
    based.recipes.recipe("two", on="demo", pypi=["tagger"], dependencies=None)
    assert "takes that view's hardware" in based("lock", "two").err


def test_another_version_in_front_of_the_bases(whole: Any, shelf: Shelf, index: Any) -> None:
    """For this view alone; what of the base asks for another one is named."""
    shelf.add("fits", depends=["numbers >=2"], modules={"fits": ""})
    whole.recipe("greet", "numbers", "fits")
    site = whole.site
    index("numbers", "1.9", files={"numbers_of.py": "version = '1.9'\n"})
    assert site("extend", "demo", "numbers <2", "--replace", "number", "--json").codes == ["replace-unknown"]
    done = site("extend", "demo", "numbers <2", "--replace", "numbers")
    assert done.code == 0, done.err
    assert "numbers: 1.9, not 2.3" in done.out
    assert "breaks fits, which asks for numbers >=2" in done.out
    code = "import numbers_of, fits; print(numbers_of.version)"
    assert says(site.process("run", "my-demo", "--", "python", "-c", code)) == "1.9"
    assert says(site.process("run", "demo", "--", "python", "-c", code)) == "2.3"
    release = release_of(site.root, "my-demo")[1]
    assert (release.replaced, release.broken) == ({"numbers": "1.9, not 2.3"}, {"fits": "numbers >=2"})
    assert site("build", "my-demo", "--json").data["status"] == "unchanged"


EDITABLE = """
import os, zipfile
def get_requires_for_build_editable(settings=None):
    return ["helper"]
def build_editable(folder, settings=None, metadata=None):
    import backing, helper
    with zipfile.ZipFile(os.path.join(folder, "mine-0.1.dev1-0.editable-py3-none-any.whl"), "w") as packed:
        for path, text in backing.files(os.getcwd() + "/src").items():
            packed.writestr(path, text)
    return "mine-0.1.dev1-0.editable-py3-none-any.whl"
"""
BACKING = """
import base64, hashlib
def files(folder):
    info = "mine-0.1.dev1.dist-info"
    found = {
        "_mine.pth": folder,
        f"{info}/METADATA": "Metadata-Version: 2.1\\nName: mine\\nVersion: 0.1.dev1\\nRequires-Dist: tagger\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\n",
    }
    digest = lambda text: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    record = "".join(f"{path},sha256={digest(text)},{len(text)}\\n" for path, text in found.items())
    return {**found, f"{info}/RECORD": record + f"{info}/RECORD,,\\n"}
"""


def test_a_project_as_it_lies(based: Any, index: Any, closed: Any, tmp_path: Path) -> None:
    """Its dependencies are solved for; what changes in it changes at once."""
    (based.root / "cache").chmod(0o2775)
    index("tagger")
    index("helper")
    index("backing", files={"backing.py": BACKING})
    project = tmp_path / "mycode"
    (project / "src").mkdir(parents=True)
    (project / "src/mine.py").write_text("import tagger\nvalue = 1\n")
    system = '[build-system]\nrequires = ["backing"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (project / "pyproject.toml").write_text(system)
    (project / "backend.py").write_text(EDITABLE)
    done = based("extend", "demo", "--editable", project)
    assert done.code == 0, done.err
    assert f"editable {project}: read where it lies" in done.out.replace("\n", "")
    release = release_of(based.root, "my-demo")[1]
    assert release.editable == (str(project),)
    more = tmp_path / "more"
    shutil.copytree(project, more)
    index("backing-more", files={"backing_more.py": BACKING.replace("mine", "more")})
    (more / "pyproject.toml").write_text(system.replace('"backing"', '"backing-more"'))
    (more / "backend.py").write_text(EDITABLE.replace("mine", "more").replace("backing", "backing_more"))
    (more / "src/mine.py").rename(more / "src/more.py")
    assert based("extend", "my-demo", "helper", "--editable", more, "--editable", project).code == 0
    (_, release) = release_of_all(based.root, "my-demo")[-1]
    assert release.editable == (str(more), str(project))
    for wrong, word in (("./mycode", "--editable FOLDER takes"), ("a @ git+https://x.example/a", "Clone it")):
        assert word in based("extend", "my-demo", wrong).err
    assert {"mine", "tagger"} <= {one.name for one in release.packages}
    run = ("run", "my-demo", "--", "python", "-c", "import mine; print(mine.value)")
    assert says(based.process(*run)) == "1"
    (project / "src/mine.py").write_text("value = 2\n")
    assert says(based.process(*run)) == "2"
    assert based("verify", "my-demo").code == 0
    assert closed(based.root / "cache/made") == []
    assert based("extend", "demo", "--editable", tmp_path / "none", "--name", "x", "--json").codes == ["not-a-project"]
    based.recipes.recipe("alone", "python", editable=[str(project)])
    assert "only a view `on` another one can have it" in based("lock", "alone").err


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a project whose backend lies beside it, and returns a link to its folder."""

    def write(backend: str, path: str = ".") -> Path:
        (tmp_path / "real").mkdir()
        (tmp_path / "real/backend.py").write_text(backend)
        system = f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["{path}"]\n'
        (tmp_path / "real/pyproject.toml").write_text(system)
        (tmp_path / "project").symlink_to("real")
        return tmp_path / "project"

    return write


def test_a_project_behind_a_link_has_a_backend_of_its_own(project: Any, tmp_path: Path) -> None:
    backend = BACKING + EDITABLE.replace("import backing, helper", "").replace("backing.", "").replace(
        '["helper"]', "[]"
    )
    offer = editable_offer(project(backend), tmp_path / "cache")
    assert (offer.name, str(offer.version)) == ("mine", "0.1.dev1")


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        ("x = 1\n", "backend cannot build editable wheels (PEP 660)"),
        ("import nowhere\n", "No module named 'nowhere'"),
        ("def build_editable(*more):\n    raise SystemExit('no compiler')\n", "no compiler"),
    ],
)
def test_a_project_that_cannot_be_prepared(project: Any, tmp_path: Path, backend: str, words: str) -> None:
    with pytest.raises(FailedError) as caught:
        editable_offer(project(backend), tmp_path / "cache")
    assert caught.value.code == "editable-failed"
    assert words in caught.value.message


@pytest.mark.parametrize("path", ["..", "/", "a/../.."])
def test_a_backend_outside_its_project_is_refused(project: Any, tmp_path: Path, path: str) -> None:
    with pytest.raises(BadInputError, match="backend-path leads out of it"):
        editable_offer(project("", path), tmp_path / "cache")
