"""Wheels made on the spot, and a pip that sees nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from rattler import BuildString, Channel, GenericVirtualPackage, MatchSpec, PackageName, Version, install, solve

from mlviews.loop import run
from mlviews.wheels.target import host_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mlviews.wheels.channel import WheelChannel

    MakeWheel = Callable[..., Path]


@dataclass
class Draft:
    """What a wheel will hold; a test changes it before it is written."""

    name: str
    version: str
    files: dict[str, bytes]
    record: dict[str, str]
    modes: dict[str, int] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)

    @property
    def dist_info(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}.dist-info"


def promise(content: bytes, algorithm: str = "sha256") -> str:
    """Return a hash as RECORD has it."""
    digest = hashlib.new(algorithm, content).digest()
    return f"{algorithm}={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()},{len(content)}"


@pytest.fixture(scope="session")
def make_wheel() -> MakeWheel:
    """Return a function that writes a wheel and returns its path.

    ``change`` gets the `Draft` when all is in it but RECORD's text.
    """

    def make(
        folder: Path,
        name: str,
        version: str = "1.0",
        *,
        tag: str = "py3-none-any",
        files: Mapping[str, bytes | str] | None = None,
        requires: Sequence[str] = (),
        requires_python: str = "",
        scripts: Mapping[str, str] | None = None,
        metadata: str = "",
        change: Callable[[Draft], Any] = lambda draft: None,
    ) -> Path:
        draft = Draft(name=name, version=version, files={}, record={})
        stem = name.replace("-", "_")
        given = files if files is not None else {f"{stem}/__init__.py": f"version = {version!r}\n"}
        draft.files.update({path: text.encode() if isinstance(text, str) else text for path, text in given.items()})
        header = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: A package called {name}\n"
        header += "".join(f"Requires-Dist: {line}\n" for line in requires)
        header += f"Requires-Python: {requires_python}\n" if requires_python else ""
        draft.files[f"{draft.dist_info}/METADATA"] = (header + metadata).encode()
        draft.files[f"{draft.dist_info}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
        if scripts:
            lines = "".join(f"{key} = {value}\n" for key, value in scripts.items())
            draft.files[f"{draft.dist_info}/entry_points.txt"] = f"[console_scripts]\n{lines}".encode()
        draft.record.update({path: promise(content) for path, content in draft.files.items()})
        change(draft)
        record = "".join(f"{path},{value}\n" for path, value in draft.record.items()) + f"{draft.dist_info}/RECORD,,\n"
        draft.files.setdefault(f"{draft.dist_info}/RECORD", record.encode())
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem}-{version}-{tag}.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member in [*draft.files, *draft.twice]:
                info = zipfile.ZipInfo(member, (2024, 1, 1, 0, 0, 0))
                info.external_attr = draft.modes.get(member, 0o100644) << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, draft.files[member])
        return path

    return make


@pytest.fixture(scope="session")
def sha256() -> Callable[[Path], str]:
    return lambda path: hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all pip sees."""
    return _only_wheels_in(tmp_path / "wheelhouse", monkeypatch)


@pytest.fixture
def index(make_wheel: MakeWheel, wheelhouse: Path) -> MakeWheel:
    """Return a function that puts a wheel where pip looks."""
    return partial(make_wheel, wheelhouse)


@pytest.fixture(scope="module")
def module_wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        yield _only_wheels_in(tmp_path_factory.mktemp("wheelhouse"), patch)


def _only_wheels_in(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    folder.mkdir(exist_ok=True)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        patch.delenv(name)
    patch.setenv("PIP_CONFIG_FILE", os.devnull)
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture(scope="session")
def install_from() -> Callable[[WheelChannel, Sequence[str], Path], Path]:
    """Return a function that solves specs on a wheel channel, installs them in a folder and returns the prefix."""

    async def work(made: WheelChannel, specs: Sequence[str], folder: Path) -> None:
        virtual = {"__unix": "0", "__linux": "5", "__glibc": made.glibc}
        found = await solve(
            [Channel(made.folder.as_uri())],
            [MatchSpec(spec) for spec in specs],
            platforms=[host_target().subdir, "noarch"],
            virtual_packages=[
                GenericVirtualPackage(PackageName(name), Version(version), BuildString("0"))
                for name, version in virtual.items()
            ],
            constraints=[MatchSpec(spec) for spec in made.constraints],
        )
        await install(found, folder / "prefix", cache_dir=folder / "packages", show_progress=False)

    def installed(made: WheelChannel, specs: Sequence[str], folder: Path) -> Path:
        asked = [spec for spec in specs if spec.split()[0] != "python"]
        run(work(made, [*asked, f"python =={made.python}"], folder))
        return folder / "prefix"

    return installed


@pytest.fixture(scope="session")
def call() -> Callable[..., str]:
    """Return a function that runs a program with an empty environment and returns what it prints."""

    def called(*command: str | Path) -> str:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, env={}, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return called


@pytest.fixture
def closed() -> Iterator[Callable[[Path], list[str]]]:
    """Let the umask close what is made; return a function that names what a group that shares a folder cannot write."""

    def found(folder: Path) -> list[str]:
        paths = [path for path in folder.rglob("*") if path.lstat().st_mode & 0o064 != 0o064]
        return [str(path.relative_to(folder)) for path in paths]

    before = os.umask(0o077)
    yield found
    os.umask(before)


BACKEND = """
import base64, hashlib, os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    files = {{"{name}.py": CODE, "{info}/METADATA": open("PKG-INFO").read(), "{info}/WHEEL": "Wheel-Version: 1.0\\n"}}
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{{path}},sha256={{digest}},{{len(text.encode())}}\\n"
    wheel = "{name}-{version}-" + TAG + ".whl"
    with zipfile.ZipFile(os.path.join(folder, wheel), "w") as packed:
        for path, text in (*files.items(), ("{info}/RECORD", record + "{info}/RECORD,,\\n")):
            packed.writestr(zipfile.ZipInfo(path), text)
    return wheel
"""
PROJECT = '[build-system]\nrequires = [{requires}]\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@pytest.fixture
def sources(wheelhouse: Path) -> Callable[..., Path]:
    """Return a function that puts a source distribution, with a backend of its own, where pip looks."""

    def put(
        name: str = "style", version: str = "1.0", *, code: str = "CODE = 'x = 1\\n'\n", tag: str = "py3-none-any",
        requires: str = "", needs: str = "", member: str = "",
    ) -> Path:  # fmt: skip
        path = wheelhouse / f"{name}-{version}.tar.gz"
        info = f"{name}-{version}.dist-info"
        said = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + needs
        files = {
            f"{name}-{version}/PKG-INFO": said,
            f"{name}-{version}/pyproject.toml": PROJECT.format(requires=requires),
            f"{name}-{version}/backend.py": code
            + f"TAG = {tag!r}\n"
            + BACKEND.format(name=name, version=version, info=info),
            **({member: "evil"} if member else {}),
        }
        with tarfile.open(path, "w:gz") as packed:
            for member_, text in files.items():
                header = tarfile.TarInfo(member_)
                header.size = len(text.encode())
                packed.addfile(header, io.BytesIO(text.encode()))
        return path

    return put
