"""CUDA's wheels become CUDA builds, their libraries find NVIDIA's, and a site's stand-ins make GPU views of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from packaging.tags import sys_tags
from rattler import MatchSpec

from mlviews.wheels.channel import make_channel
from mlviews.wheels.convert import plan_wheel
from mlviews.wheels.cuda import add_runpath, cuda_of
from mlviews.wheels.elf import has_runpath, libraries_needed, set_runpath
from mlviews.wheels.requirements import stand_ins
from mlviews.wheels.target import host_target
from mlviews.wheels.wheel import open_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.site.spec import SiteSpec

PLATFORM = next(tag.platform for tag in sys_tags() if tag.platform.startswith("manylinux_2_17"))
NATIVE = f"py3-none-{PLATFORM}"


@pytest.mark.parametrize(
    ("name", "tag", "requires", "cuda"),
    [
        ("nvidia-cublas-cu12", NATIVE, [], "12"),
        ("nvidia-cudnn-cu13", NATIVE, [], "13"),
        ("cupy-cuda12x", NATIVE, [], "12"),
        ("jax-cuda12-plugin", NATIVE, [], "12"),
        ("torch", NATIVE, ["nvidia-cublas-cu12==12.8.4.1", "cuda-bindings==12.9.4"], "12"),
        ("torch", NATIVE, ["nvidia-cudnn-cu13==9.1", "cuda-toolkit[cublas]==13.0.2"], "13"),
        ("onnxruntime-gpu", NATIVE, ['nvidia-cufft-cu12~=11.0; extra == "cuda"'], "12"),
        ("nvidia-cublas", NATIVE, [], "13"),
        ("onnxruntime-gpu", NATIVE, ['nvidia-cufft~=12.0; extra == "cuda"'], "13"),
        ("tensorflow", NATIVE, ['nvidia-nccl-cu12<3; extra == "and-cuda"'], "12"),
        ("jax", "py3-none-any", ['jax-cuda12-plugin==0.10; extra == "cuda12"'], ""),
        ("numba-cuda", NATIVE, ['cuda-toolkit==12.*; extra == "cu12"', 'cuda-toolkit==13.*; extra == "cu13"'], ""),
        ("torch", NATIVE, [], ""),
        ("numpy", NATIVE, ["nvidia-ml-py"], ""),
    ],
)
def test_what_a_wheel_is_built_for(
    make_wheel: Any, tmp_path: Path, name: str, tag: str, requires: list[str], cuda: str
) -> None:
    path = make_wheel(tmp_path, name, "1.0", tag=tag, requires=requires)
    with open_wheel(path, hashlib.sha256(path.read_bytes()).hexdigest()) as wheel:
        assert cuda_of(wheel) == cuda
        index = plan_wheel(wheel, host_target()).index
    tied = {dependency.split()[0] for dependency in index["depends"]} & {"__cuda", "cuda-version", "cudatoolkit"}
    assert tied == ({"__cuda", "cuda-version"} if cuda else set())
    assert index["build"].startswith(f"cuda{cuda}_") is bool(cuda)


@pytest.mark.parametrize(
    ("spec", "name", "project", "expected"),
    [
        ("onnxruntime >=1.24 *cuda*", "onnxruntime", "onnxruntime-gpu[cudnn,cuda]",
         ("onnxruntime-gpu >=1.24 *cuda*", "onnxruntime-gpu.extra.cuda", "onnxruntime-gpu.extra.cudnn")),
        ("pytorch-gpu >=2.6", "pytorch-gpu", "torch", ("pytorch >=2.6",)),
        ("libcudnn <9.11", "libcudnn", "nvidia-cudnn-cu12", ("nvidia-cudnn-cu12 <9.11",)),
        ("cupy", "cupy", "cupy-cuda12x[ctk]", ("cupy-cuda12x", "cupy-cuda12x.extra.ctk")),
    ],
)  # fmt: skip
def test_what_stands_in(spec: str, name: str, project: str, expected: tuple[str, ...]) -> None:
    assert stand_ins(spec, name, project) == expected
    assert all(MatchSpec(text) for text in expected)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Real libraries: one that needs cuBLAS and says nowhere where it is, and cuBLAS."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, "a C compiler is needed"
    folder = tmp_path_factory.mktemp("libraries")

    def compiled(name: str, text: str, *options: str) -> bytes:
        source = folder / f"{name}.c"
        source.write_text(text)
        command = [compiler, "-shared", "-fPIC", "-o", folder / name, source, f"-Wl,-soname,{name}", *options]
        subprocess.run([str(part) for part in command], check=True)
        return (folder / name).read_bytes()

    cublas = compiled("libcublas.so.12", "int gemm(void) { return 42; }\n")
    needs = "int gemm(void); int provider(void) { return gemm(); }\n"
    provider = compiled("libprovider.so", needs, str(folder / "libcublas.so.12"))
    placed = compiled("libplaced.so", needs, str(folder / "libcublas.so.12"), "-Wl,-rpath,/elsewhere")
    return SimpleNamespace(cublas=cublas, provider=provider, placed=placed)


def test_a_library_that_says_where_others_lie_is_left_as_it_is(libraries: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "libprovider.so"
    path.write_bytes(libraries.provider)
    set_runpath([path], "$ORIGIN/own")
    before = path.read_bytes()
    add_runpath(path, "../..")
    assert path.read_bytes() == before


@pytest.mark.parametrize("first", [False, True])
def test_a_runpath_is_added(libraries: SimpleNamespace, tmp_path: Path, *, first: bool) -> None:
    path = tmp_path / "libprovider.so"
    path.write_bytes(libraries.provider)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/libcublas.so.12").write_bytes(libraries.cublas)
    assert ("libcublas.so.12" in libraries_needed(path), has_runpath(path)) == (True, False)
    folders = f"$ORIGIN/nowhere:$ORIGIN/{'x' * 5000}:$ORIGIN/there"
    set_runpath([path], folders, first=first)
    assert ("libcublas.so.12" in libraries_needed(path), has_runpath(path)) == (True, True)
    found = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    assert f"libcublas.so.12 => {tmp_path}/there/libcublas.so.12" in found
    shown = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    assert f"[{folders}]" in shown
    assert ("(RPATH)" in shown, "(RUNPATH)" in shown) == (first, not first)


@pytest.mark.parametrize("folder", ["cublas", "cu13"])
def test_a_library_looks_where_the_wheels_of_its_cuda_put_it(
    folder: str, libraries: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "onnxruntime/capi/libprovider.so"
    path.parent.mkdir(parents=True)
    path.write_bytes(libraries.provider)
    add_runpath(path, "../..")
    cublas = tmp_path / "nvidia" / folder / "lib/libcublas.so.12"
    cublas.parent.mkdir(parents=True)
    cublas.write_bytes(libraries.cublas)

    found = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout

    assert f"/nvidia/{folder}/lib/libcublas.so.12" in found


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF?" + bytes(200), b"text"])
def test_what_is_no_library_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.so"
    path.write_bytes(content)
    add_runpath(path, "../..")
    assert path.read_bytes() == content
    with pytest.raises(ValueError, match="patchelf failed"):
        set_runpath([path], "$ORIGIN")


@pytest.fixture
def gpu_index(make_wheel: Any, wheelhouse: Path, binaries: Any, libraries: SimpleNamespace) -> Path:
    """An index with the kinds of wheels that GPU views are made of; device code is real fat binaries."""
    code = binaries.library(
        binaries.container(binaries.Piece("sm_70"), binaries.Piece("sm_80")), needed=("libcudart.so.12",)
    )
    folder = wheelhouse
    make_wheel(folder, "nvidia-cublas-cu12", "12.8", tag=NATIVE, files={
        "nvidia/cublas/lib/libcublas.so.12": libraries.cublas,
        "nvidia/cublas/lib/libcublasLt.so.12": code,
    })  # fmt: skip
    make_wheel(folder, "nvidia-cublas-cu12", "12.9", tag=NATIVE, files={"nvidia/new": ""})
    make_wheel(
        folder, "onnxruntime-gpu", "1.26", tag=NATIVE, requires=['nvidia-cublas-cu12~=12.0; extra == "cuda"'],
        metadata="Provides-Extra: cuda\n",
        files={"onnxruntime/capi/libprovider.so": libraries.provider, "onnxruntime/capi/libplaced.so": libraries.placed,
               "onnxruntime/__init__.py": ""},
    )  # fmt: skip
    make_wheel(folder, "onnxruntime", "1.27", tag=NATIVE, files={"onnxruntime/__init__.py": ""})
    make_wheel(folder, "torch", "2.10", tag=NATIVE, requires=["nvidia-cublas-cu12>=12"], files={
        "torch/__init__.py": "", "torch/lib/libtorch.so": code, "torch/lib/libprovider.so": libraries.provider,
    })  # fmt: skip
    make_wheel(folder, "torch", "2.13+cpu", tag=NATIVE, files={"torch/__init__.py": ""})
    return folder


def test_a_library_finds_nvidias_in_the_prefix(gpu_index: Path, tmp_path: Path, unpacked: Any) -> None:
    made = make_channel(
        ["onnxruntime-gpu *cuda*", "onnxruntime-gpu.extra.cuda", "pytorch"],
        pins={"pytorch": "2.10", "nvidia-cublas-cu12": "12.8"}, cache=tmp_path / "cache", cuda="12.8",
    )  # fmt: skip
    prefix = unpacked(made.folder, tmp_path / "prefix")
    site = prefix / "site-packages"
    command = ["ldd", site / "onnxruntime/capi/libprovider.so"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert os.path.realpath(found.split("libcublas.so.12 => ")[1].split(" ")[0]) == str(
        site / "nvidia/cublas/lib/libcublas.so.12"
    )
    untouched = [site / "onnxruntime/capi/libplaced.so", site / "torch/lib/libprovider.so"]
    assert all(b"nvidia/cublas/lib\0" not in path.read_bytes() for path in untouched)
    record = (site / "onnxruntime_gpu-1.26.dist-info/RECORD").read_text()
    assert "onnxruntime/capi/libprovider.so,,\n" in record  # pip does the same for what it changes
    assert "onnxruntime/__init__.py,sha256=" in record
    listed = {
        record["name"]: record
        for file in made.folder.glob("*/repodata.json")
        for record in json.loads(file.read_text())["packages.conda"].values()
    }
    assert listed["cuda-version"]["version"] == "12.8"
    assert listed["cuda-version"]["constrains"] == ["__cuda >=12"]
    assert {"__cuda", "cuda-version >=12,<13"} <= set(listed["onnxruntime-gpu"]["depends"])


@pytest.fixture
def unpacked() -> Any:
    """Return a function that unpacks every archive of a channel into a folder."""

    def unpack(channel: Path, folder: Path) -> Path:
        import io
        import tarfile
        import zipfile

        from mlviews.wheels.archive import zstd

        for path in (path for path in channel.glob("*/*.conda") if not path.name.startswith("python-")):
            with zipfile.ZipFile(path) as archive:
                packed = archive.read(f"pkg-{path.stem}.tar.zst")
            content = zstd.decompress(packed)
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        return folder

    return unpack


SITE = """\
schema: 1
name: wheels
summary: For a test
root: {root}
packages: wheels
channels: []
lockfiles: "{root}/lockfiles"
pins: {{pytorch: "2.13"}}
absent: {{gxx: no wheel}}
cuda:
  - version: "12.8"
    stand-ins: {{onnxruntime: "onnxruntime-gpu[cuda]", pytorch-gpu: torch, libcublas: nvidia-cublas-cu12}}
    pins: {{pytorch: "2.10"}}
    absent: {{cuda-cudart-dev: Triton has it}}
"""


def test_a_gpu_view_and_a_cpu_view_of_one_site(gpu_index: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from mlviews.lock.make import LockOptions, lock_views
    from mlviews.lock.status import lock_status
    from mlviews.recipe.catalogue import open_catalogue
    from mlviews.site.profile import open_site
    from mlviews.site.spec import for_site

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    sites = tmp_path / "config/mlviews/sites"
    sites.mkdir(parents=True)
    (sites / "wheels.yaml").write_text(SITE.format(root=tmp_path / "root"))
    recipes = tmp_path / "recipes"
    (recipes / "layers").mkdir(parents=True)
    text = (
        "schema: 1\nname: {name}\nsummary: A view\nmodule: test/{name}\nplatforms: [linux-64]\n"
        'hardware: {{glibc: "2.28"{gpu}}}\n'
        "dependencies: [python, onnxruntime{cuda}, {torch}, gxx]\nconstraints: [{limit}]\n"
        "gaps: [{{package: onnxruntime, why: newer is not in the metadata}}, {{package: flax, why: not there}}]\n"
    )
    gpu = text.format(
        name="g", gpu=', cuda: "12.9", gpus: [V100, A100]', cuda=" >=1 *cuda*", torch="pytorch-gpu, cuda-cudart-dev",
        limit="libcublas <12.9",
    )  # fmt: skip
    (recipes / "g.yaml").write_text(gpu)
    (recipes / "c.yaml").write_text(text.format(name="c", gpu="", cuda="", torch="pytorch", limit=""))
    site, catalogue = open_site("wheels"), open_catalogue(recipes)
    views = [for_site(catalogue.view(name), site) for name in "gc"]
    assert lock_views(views, site, LockOptions())[1] == ()

    def versions(site_spec: SiteSpec) -> dict[str, str]:
        lock = lock_status(site_spec, site).lock
        assert lock is not None
        return {package.name: package.version for package in lock.packages}

    gpu_packages, cpu_packages = map(versions, views)
    assert gpu_packages["onnxruntime-gpu"] == "1.26"
    assert gpu_packages["nvidia-cublas-cu12"] == "12.8"
    assert (gpu_packages["pytorch"], gpu_packages["cuda-version"]) == ("2.10", "12.8")
    assert "onnxruntime" not in gpu_packages
    assert (cpu_packages["onnxruntime"], cpu_packages["pytorch"]) == ("1.27", "2.13")
    assert not {name for name in cpu_packages if "cuda" in name or "nvidia" in name}
    view = views[0]
    assert view.spec.hardware.cuda == "12.8"
    assert {*view.absent} == {"gxx", "cuda-cudart-dev"}
    assert {*view.differs} == {"onnxruntime", "pytorch-gpu", "CUDA"}
    assert [gap.package for gap in view.spec.gaps] == ["flax"]  # the recipe's reason for the other is wrong here
    assert view.requested == ("python", "onnxruntime-gpu", "pytorch")
