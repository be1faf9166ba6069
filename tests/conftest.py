"""What all tests share: a conda channel of the project's own, folders of recipes, and the command line."""

from __future__ import annotations

import compileall
import fcntl
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

    Packages = Mapping[str, Mapping[str, list[str]]]

# The machines are shared: a slow example is no failure. What a fixture gives is never changed by an example.
settings.register_profile(
    "mlviews", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("mlviews")

# A shell starts what it puts in the background with SIGINT ignored, and children would inherit that: the tests that
# interrupt them need it as a terminal gives it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["browser", "pythons", "shelf", "slurm", "pool"]

HERE = Path(__file__).resolve().parent
SUBDIRS = ("linux-64", "linux-aarch64", "noarch")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # hundreds of processes import it, perhaps told to write no byte code
        compileall.compile_dir(HERE.parent / "mlviews", quiet=1)
    # conda-lock warns of itself when it is imported.
    config.addinivalue_line("filterwarnings", r"ignore:conda_lock\._vendor:PendingDeprecationWarning")
    config.addinivalue_line("filterwarnings", r"ignore::DeprecationWarning:conda_lock\.")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait, for Slurm, for servers that must not answer, for the disk."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture(scope="session")
def repository() -> Path:
    return HERE.parent


@pytest.fixture(scope="session")
def conda_locks_text() -> Callable[[Path], str]:
    """Return a function that reads a lock with conda-lock, and writes it as conda-lock does, but for its remarks.

    One thing is ours: lines are not folded, so that a change in what was solved shows as one line.
    """
    from conda_lock.lockfile import parse_conda_lock_file

    def text(path: Path) -> str:
        content = parse_conda_lock_file(path)
        content.alphasort_inplace()
        content.filter_virtual_packages_inplace()
        remarks = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
        return remarks + yaml.dump(content.to_v1().dict_for_output(), sort_keys=False, width=4096)

    return text


@pytest.fixture(scope="session")
def require() -> Callable[[str], str]:
    """Return a function that finds a program; where it is missing the test is skipped, in CI it fails."""

    def find(program: str) -> str:
        found = shutil.which(program)
        if found is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} is missing: run .ci/system-packages")
        return found

    return find


@pytest.fixture
def as_user(require: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return what goes before a command for it to run as a user who is no root: ``nobody``, who may use /dev/fuse if
    told so, and write into tmp_path."""
    require("setpriv")
    if os.geteuid():
        pytest.skip("only root becomes another user, and makes a /dev/fuse that he may use")
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:  # pytest's own folder is its user's alone
        if not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 0o011)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    (tmp_path / "nobody").mkdir(mode=0o777)
    (tmp_path / "nobody").chmod(0o777)

    def before(*, fuse: bool = True) -> list[str]:
        device = tmp_path / "fuse"
        make = f"mknod -m {'666' if fuse else '600'} {device}$$ c 10 229 && mount --bind {device}$$ /dev/fuse"
        user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        return ["unshare", "--mount", "sh", "-c", f'{make} && rm {device}$$ && exec "$@"', "sh", *user]

    return before


# CUDA's binaries, written and real

# 50 MB in all: libraries of CUDA 11, 12 and 13; the assembler; what lists fat binaries.
CUDA_WHEELS = (
    "nvidia-nvjpeg-cu11==11.9.0.86",
    "nvidia-nvjpeg-cu12==12.4.0.76",
    "nvidia-nvjpeg==13.0.1.86",
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-cuda-cuobjdump==13.4.92",
)


@pytest.fixture(scope="session")
def binaries() -> ModuleType:
    """What writes CUDA's binaries: ``tests/gpus/binaries.py``."""
    spec = importlib.util.spec_from_file_location("binaries", HERE / "gpus/binaries.py")
    assert spec
    assert spec.loader
    module = sys.modules["binaries"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cuda_wheels() -> Path:
    """A folder with real CUDA libraries and NVIDIA's tools out of wheels, side by side; made once, and kept."""
    digest = hashlib.sha256(repr(CUDA_WHEELS).encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlviews-tests" / f"cuda-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:", "--upgrade"]
            made = subprocess.run(
                [*command, "--target", folder, *CUDA_WHEELS], capture_output=True, text=True, check=False
            )
            if made.returncode:
                lacking = f"pip cannot install {' '.join(CUDA_WHEELS)}: {made.stderr[-500:]}"
                (pytest.fail if os.environ.get("CI") else pytest.skip)(lacking)
            (folder / "done").touch()
    return folder


# A conda channel


@pytest.fixture(scope="session")
def channel_packages() -> Packages:
    """The packages of the test channel: subdir -> "name version build [@ time]" -> what it depends on."""
    return yaml.safe_load((HERE / "data/channel.yaml").read_text())


@pytest.fixture(scope="session")
def make_channel() -> Callable[..., Path]:
    """Return a function that writes a channel of metadata without archives, as a mirror of conda-forge."""
    return _write_channel


@pytest.fixture(scope="session")
def channel(channel_packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the test channel."""
    return _write_channel(tmp_path_factory.mktemp("channel"), channel_packages)


@pytest.fixture(scope="session")
def slice_folder() -> Path:
    """A slice of conda-forge's real metadata, where there is one; it is too large to be part of the project."""
    folder = Path(os.environ.get("MLVIEWS_SLICE") or HERE.parent.parent / "shared" / "conda-forge-slice")
    if not folder.is_dir():
        pytest.skip("there is no slice of conda-forge's metadata: set MLVIEWS_SLICE")
    return folder


def _write_channel(folder: Path, packages: Packages) -> Path:
    for subdir in SUBDIRS:
        index = {}
        for line, depends in packages.get(subdir, {}).items():
            record = _record(subdir, line, depends)
            record |= _made_up(record)
            index[f"{record['name']}-{record['version']}-{record['build']}.conda"] = record
        repodata = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": index, "repodata_version": 1}
        (folder / subdir).mkdir(parents=True, exist_ok=True)
        (folder / subdir / "repodata.json").write_text(json.dumps(repodata))
    return folder


def _record(subdir: str, line: str, depends: list[str]) -> dict[str, Any]:
    label, _, built_at = line.partition(" @ ")
    name, version, build = label.split()
    built = datetime.fromisoformat(built_at or "2025-01-01").replace(tzinfo=timezone.utc)
    record = {
        "name": name,
        "version": version,
        "build": build,
        "build_number": int(re.findall(r"(?:^|_)(\d+)(?=_|$)", build)[-1]),
        "depends": [spec for spec in depends if not spec.startswith("!")],
        "constrains": [spec[1:] for spec in depends if spec.startswith("!")],
        "license": "BSD-3-Clause",
        "subdir": subdir,
        "timestamp": int(built.timestamp() * 1000),
    }
    if subdir == "noarch":
        record["noarch"] = "python" if any(spec.split()[0] == "python" for spec in depends) else "generic"
    return record


def _made_up(record: dict[str, Any]) -> dict[str, Any]:
    content = json.dumps(record).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    return {"md5": hashlib.md5(content).hexdigest(), "sha256": sha256, "size": 1000 + int(sha256[:4], 16)}


# Recipes


@dataclass(frozen=True)
class Recipes:
    """A folder of recipes; keys that a test does not give have plain values."""

    folder: Path

    def recipe(self, name: str, /, *dependencies: str, **keys: Any) -> Path:
        """Write a recipe; ``cpu_only`` stands for the key ``cpu-only``, None leaves a key out."""
        plain = {
            "schema": 1,
            "name": name,
            "summary": f"About {name}",
            "module": f"atlasml/{name}",
            "platforms": ["linux-64"],
            "hardware": {"glibc": "2.34"},
            "dependencies": list(dependencies),
        }
        return self.text(f"{name}.yaml", _dump({**plain, **keys}))

    def layer(self, name: str, /, *dependencies: str, **keys: Any) -> Path:
        """Write a layer."""
        return self.text(f"layers/{name}.yaml", _dump({"schema": 1, "dependencies": list(dependencies), **keys}))

    def text(self, name: str, text: str | bytes) -> Path:
        """Write any file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path


def _dump(keys: dict[str, Any]) -> str:
    given = {key.replace("_", "-"): value for key, value in keys.items() if value is not None}
    return yaml.safe_dump(given, sort_keys=False)


@pytest.fixture
def recipes(tmp_path: Path) -> Recipes:
    return Recipes(tmp_path / "recipes")


# The command line


@dataclass(frozen=True)
class Result:
    """What one call gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The envelope, which must be all that is on stdout, and what the shipped schemas say."""
        envelope = json.loads(self.out)
        _validator("envelope").validate(envelope)
        assert (envelope["status"] == "ok") == (self.code == 0)
        if envelope["data"] is not None:
            _validator(f"result-{re.sub('[ -]', '', envelope['command'])}").validate(envelope["data"])
        return envelope

    @property
    def data(self) -> Any:
        return self.json["data"]

    @property
    def codes(self) -> list[str]:
        """The codes of the envelope's errors."""
        return [error["code"] for error in self.json["errors"]]


@functools.cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    path = HERE.parent / f"mlviews/schemas/{name}.schema.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text()))


@dataclass(frozen=True)
class Cli:
    """Calls ``mlviews`` with folders of its own, in this process or in one of its own."""

    recipes: Recipes
    lockfiles: Path
    root: Path
    _capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str | Path) -> Result:
        from mlviews.__main__ import run

        self._capture.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = self._capture.readouterr()
        return Result(code, captured.out, captured.err)

    def process(self, *arguments: str | Path, **options: Any) -> Result:
        """Call it in a process of its own."""
        done = subprocess.run(
            self.command(*arguments), check=False, capture_output=True, text=True, timeout=120, **options
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    @staticmethod
    def command(*arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "mlviews", *map(str, arguments)]

    def site(self, name: str, **keys: Any) -> None:
        """Write a site of the user's own."""
        folder = Path(os.environ["XDG_CONFIG_HOME"]) / "mlviews/sites"
        folder.mkdir(parents=True, exist_ok=True)
        plain = {"schema": 1, "name": name, "summary": f"About {name}", "root": str(self.root)}
        (folder / f"{name}.yaml").write_text(_dump({**plain, **keys}))

    def lock(self, view: str) -> Path:
        """Return where a view's lock lies."""
        return self.lockfiles / f"{view}.conda-lock.yml"


def imported(*arguments: str) -> set[str]:
    """Run one call and return which packages it imports."""
    code = "import sys; from mlviews.__main__ import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {name.split(".")[0] for name in done.stderr.split()}


@pytest.fixture
def cli(
    recipes: Recipes,
    channel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    """The command line, on the test channel; nothing of the user's own is read."""
    for name in [name for name in os.environ if name.startswith("MLVIEWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    made = Cli(recipes, tmp_path / "lockfiles", tmp_path / "root", capsys)
    made.recipes.folder.mkdir(exist_ok=True)
    for name, value in {
        "HOME": home,
        "XDG_CONFIG_HOME": home / ".config",
        "MLVIEWS_RECIPES": made.recipes.folder,
        "MLVIEWS_LOCKFILES": made.lockfiles,
        "MLVIEWS_ROOT": made.root,
        "MLVIEWS_MIRROR": f"conda-forge={channel}",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture(scope="session")
def mounted() -> Callable[..., AbstractContextManager[None]]:
    """Return what mounts a file system on a folder for a while; a test is skipped where that is not allowed."""

    @contextmanager
    def mount(folder: Path, *options: str) -> Iterator[None]:
        folder.mkdir(exist_ok=True)
        done = subprocess.run(["mount", *options, str(folder)], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)

    return mount


# Containers


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], str]) -> Iterator[Path]:
    """The tests' own store of images, which every container tool reads for as long as a test uses `images`.

    The overlay driver mounts the store's folder on itself and leaves it so: pytest could never delete it.
    """
    require("buildah")
    folder = tmp_path_factory.mktemp("containers")
    lines = ["[storage]", f'driver = "{_driver(folder)}"', f'runroot = "{folder}/run"', f'graphroot = "{folder}/graph"']
    (folder / "storage.conf").write_text("\n".join([*lines, ""]))
    yield folder / "storage.conf"
    # Python takes a mount of a folder on itself for none, so umount is asked until there is nothing left to do.
    while not subprocess.run(["umount", folder / "graph/overlay"], check=False, capture_output=True).returncode:
        pass


def _driver(folder: Path) -> str:
    """Return how images are stored: overlay where this file system can be one's upper folder, else by copying."""
    for name in ("low", "up", "work", "merged"):
        (folder / name).mkdir()
    options = f"lowerdir={folder}/low,upperdir={folder}/up,workdir={folder}/work"
    mounted = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, folder / "merged"], check=False, capture_output=True
    )
    if mounted.returncode:
        return "vfs"
    subprocess.run(["umount", folder / "merged"], check=True)
    return "overlay"


@dataclass(frozen=True)
class ImageTools:
    """Runs buildah on the tests' own store."""

    folder: Path

    def buildah(self, *arguments: str | Path, **options: Any) -> str:
        """Run it; what it prints on stdout comes back."""
        done = subprocess.run(
            ["buildah", *map(str, arguments)], check=False, capture_output=True, text=True, timeout=120, **options
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def build(self, folder: Path, name: str, *options: str) -> str:
        """Build a folder's Dockerfile without a network's images; its id comes back."""
        fixed = ["--isolation", "chroot", "--pull-never", "--timestamp", "0", "--quiet"]
        return self.buildah("bud", *fixed, *options, "--tag", name, folder).splitlines()[-1]

    def config(self, name: str) -> dict[str, Any]:
        """Return what an image says of itself."""
        return json.loads(self.buildah("inspect", "--type", "image", name))["OCIv1"]["config"]

    def inside(self, name: str, *command: str) -> str:
        """Run a program in a container of an image, as its user, with its environment; what it prints comes back.

        By a file: `buildah run` may lose the end of what a program prints to a pipe.
        """
        said = self.folder / "said"
        said.mkdir(exist_ok=True)
        said.chmod(0o777)  # the image's user is nobody here
        (said / "out").unlink(missing_ok=True)
        container = self.buildah("from", "--pull-never", name)
        try:
            entered = ["run", "--isolation", "chroot", f"--volume={said}:/said", container, "--"]
            self.buildah(*entered, "sh", "-c", '"$@" > /said/out', "sh", *command)
        finally:
            self.buildah("rm", container)
        return (said / "out").read_text().strip()


@pytest.fixture
def images(storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageTools:
    """The container tools, on the tests' own store."""
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    return ImageTools(tmp_path)


@pytest.fixture(scope="session")
def base_archive(storage: Path, require: Callable[[str], str]) -> Path:
    """A base image as an OCI archive: this host's own Debian or Ubuntu, with its Python; made once and kept."""
    require("mmdebstrap")
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = release["VERSION_CODENAME"].strip('"')
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlviews-tests" / f"base-{suite}.oci.tar"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            _make_base(suite, storage, kept)
    return kept


def _make_base(suite: str, storage: Path, kept: Path) -> None:
    folder = storage.parent / "base"
    folder.mkdir()
    tree = folder / "tree.tar"
    lean = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "locale", "man")]
    made = ["mmdebstrap", "--quiet", "--variant=essential", "--skip=output/dev", "--dpkgopt=force-unsafe-io", *lean]
    made.append("--include=python3,python3-zstandard")
    subprocess.run([*made, suite, tree], check=True, capture_output=True)
    (folder / "Dockerfile").write_text('FROM scratch\nADD tree.tar /\nCMD ["/bin/sh"]\n')
    environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(storage)}
    name = "localhost/mlviews-tests-base"
    for command in (
        ["buildah", "bud", "--isolation", "chroot", "--timestamp", "0", "--tag", name, folder],
        ["buildah", "push", "--quiet", "--compression-level=1", name, f"oci-archive:{kept}.part:latest"],
        ["buildah", "rmi", name],
    ):
        subprocess.run(command, check=True, capture_output=True, env=environment)
    Path(f"{kept}.part").replace(kept)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def base_image(storage: Path, base_archive: Path) -> str:
    """The base image by the name it has in the tests' own store."""
    name = "docker.io/library/mlviews-tests-base:1"
    environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(storage)}
    pulled = subprocess.run(
        ["buildah", "pull", "--quiet", f"oci-archive:{base_archive}"],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    subprocess.run(
        ["buildah", "tag", pulled.stdout.split()[-1], name], check=True, capture_output=True, env=environment
    )
    return name
