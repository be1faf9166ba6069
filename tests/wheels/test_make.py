"""The whole way, with small wheels and no network: resolve, convert, index, solve, install, run."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import sysconfig
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from packaging.tags import sys_tags
from packaging.utils import canonicalize_name
from rattler import MatchSpec
from rattler.index import index_fs
from webserver import Quiet, listening

from mlviews.errors import FailedError, RefusedError
from mlviews.loop import run
from mlviews.wheels.archive import write_conda
from mlviews.wheels.channel import WheelChannel, make_channel
from mlviews.wheels.convert import PackagePlan, plan_package
from mlviews.wheels.pip import Found
from mlviews.wheels.target import host_target

if TYPE_CHECKING:
    from collections.abc import Callable

ABI = f"cp{sysconfig.get_config_var('py_version_nodot')}"
PLATFORM = next(tag.platform for tag in sys_tags() if tag.platform.startswith("manylinux_2_17"))
SCRIPT = "import sys\n\n\ndef main():\n    print(__name__, *sys.argv[1:])\n"


@pytest.fixture(scope="module")
def wheels(make_wheel: Any, module_wheelhouse: Path) -> Path:
    """A small index: one wheel of every kind."""
    folder = module_wheelhouse
    make_wheel(
        folder,
        "alpha",
        "1.2",
        files={
            "alpha/__init__.py": SCRIPT,
            "alpha/.hidden": "hidden",
            "alpha-1.2.data/data/share/alpha/data.txt": "data",
            "alpha-1.2.data/scripts/alpha-python": "#!python -E\nimport alpha; alpha.main()\n",
            "alpha-1.2.data/scripts/alpha-shell": '#!/bin/sh\necho shell "$@"\n',
            "alpha-1.2.data/purelib/alpha/extra.py": "",
            "alpha-1.2.dist-info/direct_url.json": "{}",
        },
        scripts={"alpha": "alpha:main", "Alpha_2": "alpha:main [cli]"},
        requires=[
            "Beta_Pkg[fast-er,undeclared]>=1",
            'nowhere; sys_platform == "win32"',
            'delta; python_version >= "3.8"',
            'epsilon; extra == "all"',
        ],
        metadata="License-Expression: MIT\n",
    )
    make_wheel(
        folder,
        "beta-pkg",
        "1.0",
        requires=[
            'gamma; extra == "fast-er"',
            'beta-pkg[most]; extra == "fast-er"',
            'zeta; extra == "most"',
            'nowhere; extra == "undeclared"',
        ],
        metadata="Provides-Extra: fast-er\nProvides-Extra: most\n",
    )
    make_wheel(folder, "gamma", "0.1rc1")
    make_wheel(folder, "delta", "2!1.0.post3", requires_python=">=3.6,!=3.7.1,<5")
    make_wheel(folder, "zeta", "3")
    make_wheel(folder, "epsilon", "1")
    make_wheel(
        folder,
        "native",
        "2.0+cpu.1",
        tag=f"{ABI}-{ABI}-{PLATFORM}",
        files={
            "native/__init__.py": SCRIPT,
            "native-2.0+cpu.1.data/headers/native.h": "#define NATIVE 1\n",
            "native-2.0+cpu.1.data/platlib/native/_c.so": "\x7fELF?",
        },
        scripts={"native-tool": "native:main"},
        requires=["alpha"],
    )
    make_wheel(folder, "stable", "1.0", tag=f"cp38-abi3-{PLATFORM}", files={"stable.py": ""})
    make_wheel(folder, "torch", "2.13.0+cpu", files={"torch.py": "x = 1\n"})
    make_wheel(folder, "torch", "2.14.0", files={"torch.py": "x = 2\n"}, requires=["nvidia-cublas-cu12"])
    make_wheel(folder, "nvidia-cublas-cu12", "12.1")
    make_wheel(folder, "xgboost-cpu", "3.0")
    make_wheel(folder, "psycopg2", "1.0")
    make_wheel(folder, "psycopg2-binary", "1.0")
    return folder


@pytest.fixture
def no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the second that packing the host's Python takes, where a test is about something else."""
    index = {"name": "python", "version": host_target().python, "subdir": host_target().subdir, "depends": []}
    plan = plan_package(index, build="", content="")

    def write(folder: Path, target: Any) -> PackagePlan:
        write_conda(folder, index=plan.index)
        return plan

    monkeypatch.setattr("mlviews.wheels.channel.write_host_python", write)


SPECS = ("native >=2", "stable", "pytorch", "pytorch-cpu 2.*", "xgboost", "python >=3.99")
PINS = {"pytorch": "2.13.0"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(wheels: Path, cache: Path) -> WheelChannel:
    return make_channel(SPECS, pins=PINS, cache=cache)


@pytest.fixture(scope="module")
def prefix(made: WheelChannel, install_from: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_from(made, SPECS, tmp_path_factory.mktemp("prefix"))


def records(made: WheelChannel) -> dict[str, dict[str, Any]]:
    return {
        record["name"]: record
        for file in made.folder.glob("*/repodata.json")
        for record in json.loads(file.read_text())["packages.conda"].values()
    }


# What is in the channel


def test_the_constraints_name_one_build_of_everything(made: WheelChannel) -> None:
    names = {spec.split()[0] for spec in made.constraints}
    assert names == {
        *("native", "alpha", "beta-pkg", "gamma", "delta", "zeta"),
        *("beta-pkg.extra.fast-er", "beta-pkg.extra.most", "beta-pkg.extra.undeclared"),
        *("stable", "pytorch", "pytorch-cpu", "py-xgboost", "xgboost", "python", "python_abi"),
    }
    assert all(MatchSpec(spec).version and MatchSpec(spec).build for spec in made.constraints)
    assert made.python == host_target().python


def test_records_say_what_each_wheel_needs(made: WheelChannel) -> None:
    found = records(made)
    minor, subdir = host_target().minor, host_target().subdir
    alpha, native, stable = found["alpha"], found["native"], found["stable"]
    assert (alpha["subdir"], alpha["noarch"], alpha["license"]) == ("noarch", "python", "MIT")
    assert alpha["depends"] == [
        *("__linux", "beta-pkg >=1", "beta-pkg.extra.fast-er >=1", "beta-pkg.extra.undeclared >=1"),
        *("delta", "python", f"python {minor}.*"),
    ]
    assert (native["subdir"], native.get("noarch"), native["version"]) == (subdir, None, "2.0")
    assert native["build"].startswith("cpu_1_py")
    assert {"__glibc >=2.17", f"python {minor}.*", f"python_abi {minor}.* *_{ABI}"} <= set(native["depends"])
    assert (stable["subdir"], stable["noarch"]) == (subdir, "python")
    assert {"__glibc >=2.17", "python >=3.8"} <= set(stable["depends"])
    assert found["delta"]["depends"] == ["python !=3.7.1,<5,>=3.6"]
    assert found["delta"]["version"] == "2!1.0.post3"
    assert found["beta-pkg.extra.fast-er"]["depends"] == [
        *("beta-pkg", "beta-pkg ==1.0", "beta-pkg.extra.most", "gamma", f"python {minor}.*"),
    ]
    assert found["pytorch-cpu"]["depends"] == ["pytorch ==2.13.0"]
    assert found["pytorch"]["purls"] == ["pkg:pypi/torch@2.13.0%2Bcpu"]


def test_rattler_would_index_the_same(made: WheelChannel, tmp_path: Path) -> None:
    ours: dict[str, Any] = {}
    for file in made.folder.glob("*/repodata.json"):
        ours |= json.loads(file.read_text())["packages.conda"]
    for archive in made.folder.glob("*/*.conda"):
        (tmp_path / archive.parent.name).mkdir(exist_ok=True)
        os.link(archive, tmp_path / archive.relative_to(made.folder))
    run(index_fs(tmp_path, write_zst=False, write_shards=False))
    theirs: dict[str, Any] = {}
    for file in tmp_path.glob("*/repodata.json"):
        theirs |= json.loads(file.read_text())["packages.conda"]
    for record in theirs.values():
        record.pop("indexed_timestamp")
    assert _told(ours) == _told(theirs)


def _told(index: dict[str, Any]) -> dict[str, Any]:
    """Return records without what says nothing; a package URL may be written in more than one way."""
    return {
        name: {
            key: [unquote(purl) for purl in value] if key == "purls" else value
            for key, value in record.items()
            if value
        }
        for name, record in index.items()
    }


def test_the_same_view_again_changes_nothing(made: WheelChannel, cache: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file() and path.name != ".lock"}
    assert make_channel(SPECS, pins=PINS, cache=cache) == made
    after = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before


@pytest.mark.usefixtures("no_python")
def test_a_second_view_downloads_and_converts_only_what_is_new(wheels: Path, tmp_path: Path) -> None:
    make_channel(["alpha"], pins={}, cache=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.suffix in {".conda", ".json"}}
    make_channel(["alpha", "epsilon"], pins={}, cache=tmp_path)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.suffix in {".conda", ".json"}}
    new = [path.name.partition("-")[0] for path, written in after.items() if before.get(path) != written]
    # Its archive, what is known of its wheel, the index, and the host's Python, which here is written every time.
    assert (new.count("epsilon"), new.count("repodata.json"), len(new)) == (1, 1, 4)


def test_wheels_go_once_their_archive_is_made(made: WheelChannel, cache: Path) -> None:
    assert not list(cache.rglob("*.whl"))
    assert {path.suffix for path in (cache / "wheels").iterdir()} == {".json", ""}


def test_another_cache_gives_the_same_bytes(made: WheelChannel, tmp_path: Path) -> None:
    other = make_channel(SPECS, pins=PINS, cache=tmp_path)
    assert other.constraints == made.constraints
    for archive in other.folder.glob("*/*"):
        assert archive.read_bytes() == (made.folder / archive.relative_to(other.folder)).read_bytes(), archive


# What runs


def test_the_python_is_the_hosts_and_stands_alone(prefix: Path, call: Any) -> None:
    code = (
        "import bz2, ctypes, decimal, hashlib, json, lzma, sqlite3, ssl, sys, sysconfig, uuid, zlib\n"
        "ssl.create_default_context(); hashlib.new('sha3_256'); sqlite3.connect(':memory:').execute('select 1')\n"
        "loaded = [line.split()[-1] for line in open('/proc/self/maps') if '.so' in line]\n"
        "print(json.dumps([sys.version, sys.prefix, sysconfig.get_paths(), sorted(set(loaded))]))"
    )
    version, base, paths, loaded = json.loads(call(prefix / "bin/python", "-c", code))
    assert (version, base) == (sys.version, str(prefix))
    assert all(Path(path).is_relative_to(prefix) for path in paths.values())
    assert paths["purelib"] == f"{prefix}/{host_target().site_packages}"
    outside = {Path(path).name.partition(".")[0] for path in loaded if not Path(path).is_relative_to(prefix)}
    assert outside <= {"ld-linux-x86-64", "ld-linux-aarch64", "libc", "libm", "libpthread", "libdl", "librt", "libutil"}


def test_its_build_files_name_the_prefix(prefix: Path, call: Any) -> None:
    code = "import sysconfig; print(*map(sysconfig.get_config_var, ['prefix', 'INCLUDEPY', 'LIBPL', 'LIBDEST']))"
    assert all(path.startswith(str(prefix)) for path in call(prefix / "bin/python", "-c", code).split())
    assert not [
        path
        for path in (prefix / "lib").rglob("*")
        if path.suffix in {".py", ".json", ""} and path.is_file() and b"mlviews_prefix_placeholder" in path.read_bytes()
    ]


def test_it_makes_virtual_environments(prefix: Path, tmp_path: Path, call: Any) -> None:
    call(prefix / "bin/python", "-m", "venv", "--without-pip", tmp_path / "v")
    assert call(tmp_path / "v/bin/python", "-c", "import sys; print(sys.base_prefix)") == str(prefix)


def test_it_has_tk_where_the_host_has_it(prefix: Path, call: Any) -> None:
    """puma imports it, with a display or without."""
    there = importlib.util.find_spec("_tkinter") is not None
    told = "import importlib.util; print(importlib.util.find_spec('_tkinter') is not None)"
    assert call(prefix / "bin/python", "-c", told) == str(there)
    assert not there or call(prefix / "bin/python", "-c", "import tkinter; print(tkinter.TkVersion)")


def test_it_leaves_out_what_no_view_needs(prefix: Path) -> None:
    library = prefix / f"lib/python{host_target().minor}"
    assert (library / "os.py").exists()
    gone = ["test", "idlelib", "turtle.py", "sitecustomize.py", "EXTERNALLY-MANAGED"]
    assert not [name for name in gone if (library / name).exists()]


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("alpha", "alpha a b"),
        ("Alpha_2", "alpha a b"),
        ("native-tool", "native a b"),
        ("alpha-python", "alpha a b"),
        ("alpha-shell", "shell a b"),
    ],
)
def test_scripts_run(prefix: Path, script: str, output: str, call: Any) -> None:
    assert call(prefix / "bin" / script, "a", "b") == output


def test_files_lie_where_the_wheel_wants_them(prefix: Path, call: Any) -> None:
    site = prefix / host_target().site_packages
    assert (prefix / "share/alpha/data.txt").read_text() == "data"
    assert (prefix / f"include/python{host_target().minor}/native/native.h").exists()
    assert (site / "native/_c.so").exists()
    assert (site / "alpha/extra.py").exists()
    assert (site / "alpha/.hidden").read_text() == "hidden"
    assert (site / "stable.py").exists()
    assert not list(prefix.rglob("direct_url.json"))
    assert call(prefix / "bin/python", "-c", "import torch; print(torch.x)") == "1"


def test_record_lists_every_file_with_its_hash(prefix: Path) -> None:
    site = prefix / host_target().site_packages
    for folder in site.glob("*.dist-info"):
        assert (folder / "INSTALLER").read_text() == "conda\n"
        for path, promised, size in csv.reader((folder / "RECORD").read_text().splitlines()):
            content = (site / path).read_bytes()
            if promised:
                digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                assert (promised, size) == (f"sha256={digest}", str(len(content))), path
    listed = {row[0] for row in csv.reader((site / "alpha-1.2.dist-info/RECORD").read_text().splitlines())}
    assert {"../../../bin/alpha", "../../../bin/alpha-shell", "../../../share/alpha/data.txt"} <= listed


def test_pip_has_nothing_to_complain_about(prefix: Path) -> None:
    check = [sys.executable, "-m", "pip", "--python", str(prefix), "check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert "No broken requirements found" in done.stdout, done.stdout + done.stderr


# What cannot be had


def test_pip_says_what_cannot_be_resolved_and_who_asked(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        make_channel(
            ["alpha >=9", "stable", "pip"], pins={}, cache=tmp_path, askers={"alpha >=9": "recipe x (x.yaml:8)"}
        )
    assert caught.value.code == "unsolvable"
    assert "No matching distribution found for alpha>=9" in caught.value.message
    assert caught.value.message.endswith("\nThe view asks for:\n  alpha >=9  <-  recipe x (x.yaml:8)")
    assert "experimental" not in caught.value.message
    assert "Loosen" in str(caught.value.hint)


def test_a_project_that_the_index_lacks_is_called_a_wrong_name(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"\n  alpah$") as caught:
        make_channel(["alpah"], pins={}, cache=tmp_path)
    assert "Correct the name" in str(caught.value.hint)


def test_requirements_in_conflict_are_told_apart(make_wheel: Any, wheelhouse: Path, tmp_path: Path) -> None:
    make_wheel(wheelhouse, "one", requires=["shared<2"])
    make_wheel(wheelhouse, "two", requires=["shared>=2"])
    make_wheel(wheelhouse, "shared", "1")
    make_wheel(wheelhouse, "shared", "2")
    with pytest.raises(RefusedError) as caught:
        make_channel(["one", "two"], pins={}, cache=tmp_path)
    assert "one 1.0 depends on shared<2" in caught.value.message
    assert "two 1.0 depends on shared>=2" in caught.value.message


def test_a_wheel_that_brings_cuda_is_refused(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        make_channel(["pytorch"], pins={}, cache=tmp_path)
    assert caught.value.code == "cuda-wheels"
    assert "pip finds only builds for CUDA of torch==2.14.0" in caught.value.message
    assert "nvidia-cublas-cu12" in caught.value.message
    assert "pytorch.org gives INDEX under Get started, CPU" in caught.value.hint
    assert not list(tmp_path.rglob("*.whl"))


@pytest.fixture
def indexes(make_wheel: Any, wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """An index that has PyTorch for CUDA only, as pip's own, and one of its CPU builds; no folder of wheels."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    wheels = [
        make_wheel(tmp_path / "usual/torch", "torch", "2.13.0", requires=["nvidia-cublas-cu12"]),
        make_wheel(tmp_path / "usual/nvidia-cublas-cu12", "nvidia-cublas-cu12", "12.1"),
        make_wheel(tmp_path / "cpu/torch", "torch", "2.13.0+cpu", files={"torch.py": "x = 1\n"}),
    ]
    for wheel in wheels:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        (wheel.parent / "index.html").write_text(f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>')
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "usual").as_uri())
    return (tmp_path / "usual").as_uri(), (tmp_path / "cpu").as_uri()


@pytest.mark.usefixtures("no_python")
def test_cpu_builds_come_from_where_the_site_says(indexes: tuple[str, str], tmp_path: Path) -> None:
    made = make_channel(["pytorch"], pins=PINS, cache=tmp_path / "cache", cpu_index=indexes[1])
    assert any(spec.startswith("pytorch ==2.13.0 cpu_") for spec in made.constraints)
    assert not any("nvidia" in spec for spec in made.constraints)


def test_what_to_paste_is_said_where_no_cpu_build_is_found(indexes: tuple[str, str], tmp_path: Path) -> None:
    nowhere = (tmp_path / "nowhere").as_uri()
    with pytest.raises(RefusedError) as caught:
        make_channel(["pytorch"], pins=PINS, cache=tmp_path / "cache", cpu_index=nowhere)
    assert caught.value.code == "cuda-wheels"
    assert f"pip download --no-deps --dest wheels --index-url {nowhere} torch==2.13.0\n" in caught.value.hint
    assert "PIP_FIND_LINKS=$PWD/wheels mlviews build" in caught.value.hint
    assert not list(tmp_path.glob("cache/*/*.conda"))


@pytest.mark.usefixtures("no_python")
def test_two_wheels_of_one_conda_name_are_refused(wheels: Path, tmp_path: Path, make_wheel: Any) -> None:
    make_wheel(wheels, "needs-both", requires=["psycopg2", "psycopg2-binary"])
    with pytest.raises(FailedError) as caught:
        make_channel(["needs-both"], pins={}, cache=tmp_path)
    assert caught.value.code == "name-clash"


@pytest.mark.usefixtures("no_python")
def test_constraints_and_kept_versions_reach_pip(make_wheel: Any, wheelhouse: Path, tmp_path: Path) -> None:
    make_wheel(wheelhouse, "top", requires=["low"])
    for version in ("1.0", "1.1", "2.0"):
        make_wheel(wheelhouse, "low", version)

    def low(**options: Any) -> str:
        made = make_channel(["top"], pins={}, cache=tmp_path, **options)
        return next(spec.split()[1] for spec in made.constraints if spec.startswith("low "))

    assert low() == "==2.0"
    assert low(constraints=["low <2", "_libgcc_mutex 0.1"]) == "==1.1"
    assert low(keep={"low": "1.0", "gone": "1", "python": "2.7"}) == "==1.0"
    assert low(keep={"low": "1.0"}, constraints=["low >1"]) == "==2.0"
    made = make_channel(["top"], pins={"low": "1.1"}, keep={"low": "1.0"}, cache=tmp_path)
    assert any(spec.startswith("low ==1.1 ") for spec in made.constraints)


def test_no_network_is_said_as_such(wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(FailedError) as caught:
        make_channel(["alpha"], pins={}, cache=tmp_path)
    assert caught.value.code == "network"
    assert caught.value.message.startswith("pip could not reach a package index: Failed to establish a new connection")
    assert "\n" not in caught.value.message


def test_a_user_without_a_home_folder_has_wheels_too(
    make_wheel: Any, wheelhouse: Path, tmp_path: Path, require: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some batch systems and containers start programs: without HOME, by a number that has no name."""
    if os.geteuid():
        pytest.skip("only root becomes another user")
    make_wheel(wheelhouse, "alpha", files={"alpha/__init__.py": ""})
    monkeypatch.delenv("HOME")
    user = [require("setpriv"), "--reuid", "4242", "--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]
    code = (
        "import sys; from pathlib import Path; from mlviews.wheels.channel import make_channel\n"
        "made = make_channel(['alpha'], pins={}, cache=Path(sys.argv[1])); print(*made.constraints)"
    )

    done = subprocess.run(
        [*user, sys.executable, "-c", code, tmp_path / "cache"], capture_output=True, text=True, check=False
    )

    assert "alpha ==" in done.stdout, done.stderr


def test_a_pip_that_crashes_blames_no_wheel(wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "python").write_text(
        "#!/bin/sh\necho 'Traceback (most recent call last):\n  File \"pip\"\nRuntimeError: it broke'; exit 1\n"
    )
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    with pytest.raises(FailedError, match="pip crashed: RuntimeError: it broke") as caught:
        make_channel(["alpha"], pins={}, cache=tmp_path / "cache")

    assert (caught.value.code, "Traceback" in caught.value.detail) == ("pip-crashed", True)


class EveryOtherCut(Quiet):
    """Ends every other answer early. What goes wrong while pip tries again, pip takes for the network's fault."""

    answers = count()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send a file, or the beginning of it."""
        whole = next(self.answers) % 2
        outputfile.write(source.read() if whole else source.read(300_000))


@pytest.mark.parametrize("of_a_server", [False, True])
def test_a_full_disk_is_said_as_such(
    make_wheel: Any, wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounted: Any, of_a_server: bool
) -> None:
    wheel = make_wheel(wheelhouse, "alpha", files={"alpha/__init__.py": "", "alpha/data": os.urandom(2_000_000)})
    monkeypatch.setattr(EveryOtherCut, "answers", count())
    with (
        mounted(tmp_path / "cache", "-t", "tmpfs", "-o", "size=1m", "tmpfs"),
        listening(partial(EveryOtherCut, directory=str(wheelhouse))) as port,
    ):
        if of_a_server:
            url = f"http://127.0.0.1:{port}/{wheel.name}"
            page = f'<a href="{url}#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}">{wheel.name}</a>'
            (tmp_path / "page.html").write_text(page)
            monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "page.html"))
        with pytest.raises(FailedError) as caught:
            make_channel(["alpha"], pins={}, cache=tmp_path / "cache")
    assert (caught.value.code, "--root" in caught.value.hint) == ("disk-full", True)
    assert "\n" not in caught.value.message, "no traceback"


def test_other_bytes_than_the_index_promises_are_refused(
    make_wheel: Any, wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(wheelhouse, "alpha")
    page = tmp_path / "page.html"
    page.write_text(f'<a href="{wheel.as_uri()}#sha256={"0" * 64}">{wheel.name}</a>')
    monkeypatch.setenv("PIP_FIND_LINKS", str(page))
    with pytest.raises(FailedError) as caught:
        make_channel(["alpha"], pins={}, cache=tmp_path / "cache")
    assert caught.value.code == "hash-mismatch"


@pytest.mark.usefixtures("no_python")
def test_a_users_default_for_installing_does_not_matter(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_USER", "1")
    assert make_channel(["zeta"], pins={}, cache=tmp_path).constraints


@pytest.mark.parametrize(
    "url", ["https://x/y/..%2f..%2fevil-1.0-py3-none-any.whl", "file:///x/%2Fevil-1.0-py3-none-any.whl"]
)
def test_the_name_of_a_file_is_no_path(url: str) -> None:
    found = Found(name=canonicalize_name("evil"), version="1.0", url=url, sha256="0" * 64)
    assert found.file_name == "evil-1.0-py3-none-any.whl"


@pytest.mark.usefixtures("no_python")
def test_a_hostile_wheel_stops_it_and_leaves_the_channel_usable(
    make_wheel: Any, wheelhouse: Path, tmp_path: Path
) -> None:
    make_wheel(wheelhouse, "good")
    bad = make_wheel(wheelhouse, "bad", change=lambda draft: draft.record.update({"bad/__init__.py": "sha256=AAAA,3"}))
    with pytest.raises(FailedError) as caught:
        make_channel(["good", "bad"], pins={}, cache=tmp_path)
    assert (caught.value.code, bad.name in caught.value.message) == ("bad-wheel", True)
    assert len(make_channel(["good"], pins={}, cache=tmp_path).constraints) == 3


@pytest.mark.usefixtures("no_python")
def test_pip_is_not_taken_from_the_current_folder(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/pip.py").write_text("raise SystemExit('not this pip')")
    monkeypatch.chdir(tmp_path / "here")
    assert make_channel(["zeta"], pins={}, cache=tmp_path / "cache").constraints


# What goes wrong on the way


STOPPED = """
import os, signal, sys, threading, time, zipfile
from pathlib import Path
from mlviews.wheels import obtain
from mlviews.wheels.pip import Found
from mlviews.wheels.target import host_target
from mlviews.progress import silent

def slowly(self, size=-1, read=zipfile.ZipExtFile.read):
    time.sleep(0.05)
    return read(self, size)

host_target()
cache = Path(sys.argv[1])
found = [
    Found(name="large", version="1.0", url=path.as_uri(), sha256=path.parent.name) for path in cache.glob("*/*/*.whl")
]
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
zipfile.ZipExtFile.read = slowly
try:
    began = time.monotonic()
    obtain.obtain(found, cache, Path(sys.argv[2]), host_target(), silent)
except KeyboardInterrupt:
    print(time.monotonic() - began)
"""


def test_ctrl_c_stops_converting_at_once(make_wheel: Any, sha256: Any, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "large", files={f"large/{number}": str(number) for number in range(1000)})
    folder = tmp_path / "wheels" / sha256(wheel)
    folder.mkdir(parents=True)
    wheel.rename(folder / wheel.name)
    command = [sys.executable, "-c", STOPPED, str(tmp_path), str(tmp_path / "channel")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.5  # of 50 seconds
    assert not [path for path in (tmp_path / "channel").rglob("*") if path.is_file()]


KILLED = """
import os, signal, sys
from pathlib import Path
from mlviews.progress import silent
from mlviews.wheels import obtain
from mlviews.wheels.pip import Found
from mlviews.wheels.target import host_target

cache, house, stage, at = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
fetched = []

def watched(name, function):
    calls = []
    def call(*arguments):
        calls.append(1)
        if (name, len(calls)) == (stage, at):
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "fetch":
            fetched.extend(wheel.name for wheel in arguments[0])
        return function(*arguments)
    return call

obtain._GROUP = obtain._AT_ONCE = 1
for name in ("fetch", "write_wheel", "_keep"):
    setattr(obtain, name, watched(name, getattr(obtain, name)))
found = [
    Found(name=path.name[:2], version="1.0", url=path.as_uri(), sha256=path.parent.name)
    for path in sorted(house.glob("*/*.whl"), key=lambda path: path.name)
]
obtain.obtain(found, cache, cache / "channel", host_target(), silent)
print(*fetched)
"""


@pytest.mark.parametrize(
    ("stage", "at", "rest"), [("fetch", 2, "bb cc"), ("write_wheel", 2, "cc"), ("_keep", 2, "cc"), ("fetch", 3, "cc")]
)
def test_a_kill_costs_no_more_than_the_wheel_on_its_way(
    stage: str, at: int, rest: str, make_wheel: Any, sha256: Any, tmp_path: Path
) -> None:
    for name in ("aa", "bb", "cc"):
        wheel = make_wheel(tmp_path, name)
        folder = tmp_path / "house" / sha256(wheel)
        folder.mkdir(parents=True)
        wheel.rename(folder / wheel.name)

    def made(cache: str, stage: str = "", at: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path / cache), str(tmp_path / "house"), stage, str(at)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def archives(cache: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / cache / "channel").rglob("*.conda")}

    assert made("killed", stage, at).returncode == -signal.SIGKILL
    again = made("killed")
    assert (again.returncode, again.stdout.split()) == (0, rest.split()), again.stderr
    assert made("whole").returncode == 0
    assert archives("killed") == archives("whole")
    assert len(archives("whole")) == 3
    assert not list((tmp_path / "killed").rglob("*.whl"))


FULL = """
import resource, sys
from pathlib import Path
from random import Random
from mlviews.wheels.channel import make_channel
from mlviews.errors import FailedError
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    make_channel(["zeta"], pins={}, cache=Path(sys.argv[1]))
except FailedError as error:
    print(error.code)
"""


def test_a_full_disk_is_said_as_such_and_the_next_run_goes_on(wheels: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "write-failed\n", done.stderr
    assert not list(tmp_path.glob("channel/*/python-*"))
    assert any(spec.startswith("python ==") for spec in make_channel(["zeta"], pins={}, cache=tmp_path).constraints)


@pytest.mark.usefixtures("no_python")
def test_what_killed_processes_left_is_removed_after_a_day(wheels: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "wheels/.new-old", tmp_path / "wheels/.new-new"
    archive = tmp_path / "channel/noarch/.pkg-1-0.conda.x1"
    for folder in (old, new, archive.parent):
        folder.mkdir(parents=True)
    archive.touch()
    for path in (old, archive):
        os.utime(path, (0, 0))
    make_channel(["zeta"], pins={}, cache=tmp_path)
    assert [old.exists(), new.exists(), archive.exists()] == [False, True, False]


def test_two_processes_make_channels_in_one_cache(wheels: Path, made: WheelChannel, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from mlviews.wheels.channel import make_channel\n"
    code += "print(*make_channel(sys.argv[2:], pins={}, cache=Path(sys.argv[1])).constraints, sep=';')"
    views = [("alpha",), ("native", "stable")]
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *specs], stdout=subprocess.PIPE, text=True)
        for specs in views
    ]
    constraints = {spec for process in processes for spec in process.communicate()[0].strip().split(";")}
    assert [process.returncode for process in processes] == [0, 0]
    listed = {
        f"{record['name']} =={record['version']} {record['build']}"
        for file in tmp_path.glob("channel/*/repodata.json")
        for record in json.loads(file.read_text())["packages.conda"].values()
    }
    assert listed == constraints
    assert constraints <= set(made.constraints)
