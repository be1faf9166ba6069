"""The kit's second half: a view of what is installed, built, loaded and proved without network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from gpu.cuobjdump import listed, read
from gpu.report import Clock, Step
from gpu.rewheel import Installed, installed, needed, remake_all
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from mlviews.gpus.scan import scan
from mlviews.recipe.catalogue import open_catalogue
from mlviews.site.file import SHIPPED_SITES
from mlviews.wheels.requirements import project_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping


VIEW = "kit"
_FIRST = ("wheels made again", "build at the pypi site")  # without these there is nothing to go on with
LARGEST = 300_000_000  # bytes: cuobjdump takes a minute for more
INIT = ("/usr/share/lmod/lmod/init/bash", "/usr/share/modules/init/bash", "/usr/share/Modules/init/bash")
_WHERE = "import json, sys, sysconfig; print(json.dumps([p for p in sys.path if p]))"


class StepFailed(Exception):  # noqa: N818  (ends a step, and those after it)
    pass


@dataclass(frozen=True, slots=True)
class Choice:
    """What the view is made of: layers of the catalogue, and the CUDA of what is installed; None for the CPU."""

    layers: tuple[str, ...]
    cuda: str | None


def steps(
    python: Path, kit: Path, work: Path, clock: Clock, *, gpu: bool, failed: Container[str] = ()
) -> Iterator[Step]:
    """Do the second half, step by step; what follows a step that failed is not run.

    Args:
        python: the machine's own.
        kit: the kit's folder.
        work: folder for the wheels, the store and the cache.
        clock: says when to end.
        gpu: whether the view must compute on one.
        failed: checks that the machine's own packages failed; the view is made of them and would fail as they do.
    """
    found = there(python)
    choice = choose_layers(found)
    index = work / "index"
    jobs: list[tuple[str, Callable[[], tuple[str, Any]]]] = [
        ("wheels made again", lambda: _index(choice, found, kit, work, index, failed)),
        ("build at the pypi site", lambda: _build(work, index, clock)),
        ("load", lambda: _load(work, clock)),
        ("proof through the kernel", lambda: _prove(work, index, clock, gpu=gpu)),
        ("which GPUs it serves", lambda: _served(work, index, clock)),
        ("a tagger trained in it", lambda: _train(kit, work, clock, gpu=gpu)),
        ("gpus against cuobjdump", lambda: _compare(work, clock)),
    ]
    broken = ""
    for name, job in jobs:
        start = time.time()
        if broken or clock.left() < 5:
            yield Step(name, "not run", broken or "no time was left", 0)
            continue
        try:
            said, data = job()
            status = "not run" if data is None else "done"
            yield Step(name, status, said, time.time() - start, data)
        except (StepFailed, OSError, ValueError, subprocess.TimeoutExpired) as error:
            yield Step(name, "failed", " ".join(str(error).split())[:1000], time.time() - start)
            broken = f"after {name} failed" if name in _FIRST else ""


def there(python: Path) -> dict[str, Installed]:
    """Return what a Python has installed."""
    return installed(json.loads(_said([str(python), "-c", _WHERE])))


def choose_layers(there: Mapping[str, Installed]) -> Choice:
    """Return what of base, pytorch-cuda and onnx-cuda this machine can have, or of their CPU counterparts.

    What is installed decides, not whether there is a GPU: so a rehearsal builds from CUDA's wheels where there are any.
    """
    layers = ["base"]
    cuda = _cuda(there)
    if "torch" in there:
        layers.append("pytorch-cuda" if cuda else "pytorch")
    if {"onnx", "onnxruntime"} <= there.keys() or {"onnx", "onnxruntime-gpu"} <= there.keys():
        layers.append("onnx-cuda" if cuda and "onnxruntime-gpu" in there else "onnx")
    return Choice(tuple(layers), cuda)


def _cuda(there: Mapping[str, Installed]) -> str | None:
    """Return the CUDA that the installed PyTorch is built for, such as ``13.0``, by its local version (``+cu130``)."""
    local = Version(there["torch"].version).local if "torch" in there else None
    if local and local.startswith("cu") and local[2:].isdigit():
        return f"{local[2:-1]}.{local[-1]}"
    toolkit = there.get("nvidia-cuda-runtime") or there.get("nvidia-cuda-runtime-cu12")
    return ".".join(toolkit.version.split(".")[:2]) if toolkit else None


def write_catalogue(choice: Choice, layers: Path, folder: Path, failed: Container[str] = ()) -> None:
    """Write a recipe of the view, and the catalogue's layers beside it; CUDA's says what is installed here.

    Their constraints keep the catalogue's versions together, and here the versions are given: they are left out.

    Args:
        choice: what the view is made of.
        layers: the catalogue's own.
        folder: the recipes' folder to write.
        failed: checks that are left out.
    """
    (folder / "layers").mkdir(parents=True, exist_ok=True)
    for path in layers.glob("*.yaml"):
        layer = yaml.safe_load(path.read_text(encoding="utf-8"))
        layer.pop("constraints", None)
        layer["smoke"] = [check for check in layer.get("smoke", ()) if check not in failed]
        (folder / "layers" / path.name).write_text(yaml.safe_dump(layer))
    if choice.cuda:
        layer = {"schema": 1, "summary": "The GPU of this machine", "hardware": {"cuda": choice.cuda}}
        (folder / "layers/cuda.yaml").write_text(yaml.safe_dump(layer))
    recipe = {
        "schema": 1, "name": VIEW, "summary": "What this machine has", "module": f"atlasml/{VIEW}",
        "layers": list(choice.layers), "platforms": ["linux-64"],
    }  # fmt: skip
    (folder / f"{VIEW}.yaml").write_text(yaml.safe_dump(recipe))


def _index(
    choice: Choice, there: Mapping[str, Installed], kit: Path, work: Path, index: Path, failed: Container[str]
) -> tuple[str, Any]:
    """Make wheels of all that the view needs and the machine has, and the site that knows them."""
    index.mkdir(parents=True, exist_ok=True)
    recipes = Path(str(files("mlviews") / "_data/recipes"))
    write_catalogue(choice, recipes / "layers", work / "recipes", failed)
    names = [request.name for request in open_catalogue(work / "recipes").view(VIEW).dependencies]
    asked = {name: project_for(name, there) for name in names if name != "python"}
    chosen, missing = needed((project for project in asked.values() if project in there), there)
    made = remake_all(chosen.values(), index)
    kept = {name: item.version for name, item in chosen.items() if name not in made.lost}
    carried = {parse_wheel_filename(wheel.name)[0]: wheel for wheel in (kit / "kernel").glob("*.whl")}
    for name in carried.keys() - kept.keys():
        shutil.copy(carried[name], index)
    (work / "constraints.txt").write_text("".join(f"{name}=={version}\n" for name, version in kept.items()))
    absent = [name for name, project in asked.items() if project not in {*kept, *carried}]
    write_site(work, {name: project for name, project in asked.items() if project in kept}, kept, choice.cuda, absent)
    lost = {**made.lost, **{name: f"{who} needs it" for name, who in missing.items() if name not in carried}}
    told = {"lost": lost, "absent": absent, "size": made.size, "wheels": len(made.wheels), "cuda": choice.cuda}
    without = ", ".join(sorted({*lost, *absent})) or "nothing"
    layers = ", ".join(choice.layers)
    return f"{len(made.wheels)} wheels, {made.size / 1e9:.2f} GB; layers {layers}; without: {without}", told


def project_for(name: str, there: Mapping[str, Installed]) -> str:
    """Return the project that gives a view what it asks for: builds for GPUs have other names at conda-forge."""
    project = str(canonicalize_name(project_of(name.removesuffix("-gpu"))[0]))
    return f"{project}-gpu" if f"{project}-gpu" in there else project


def write_site(
    work: Path, projects: Mapping[str, str], kept: Mapping[str, str], cuda: str | None, absent: Iterable[str]
) -> None:
    """Write the pypi site as it is shipped, with the versions that are here, where a user's own site would be.

    Args:
        work: the kit's folder.
        projects: package -> the project that gives it here.
        kept: project -> its version.
        cuda: the CUDA that the wheels are for.
        absent: packages that are not here.
    """
    site = yaml.safe_load((SHIPPED_SITES / "pypi.yaml").read_text(encoding="utf-8"))
    site["pins"] = {name: Version(kept[project]).public for name, project in projects.items()}
    site["absent"] = site.get("absent", {}) | dict.fromkeys(absent, "not on this machine")
    # What it says of CUDA's wheels is of the CUDA that it is shipped for.
    site.pop("cuda")
    if cuda:
        stand_ins = {name: project for name, project in projects.items() if name.removesuffix("-gpu") != project}
        site["cuda"] = [{"version": cuda, "stand-ins": stand_ins}]
    folder = work / "config/mlviews/sites"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pypi.yaml").write_text(yaml.safe_dump(site))


def _mlviews(work: Path, index: Path, clock: Clock, *arguments: str) -> Any:
    """Run mlviews at the pypi site, with the index alone; returns what it answers."""
    environment = {
        **os.environ,
        "XDG_CONFIG_HOME": str(work / "config"),
        "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index),
        "PIP_CONSTRAINT": str(work / "constraints.txt"),
    }  # fmt: skip
    options = ["--site", "pypi", "--root", str(work / "root"), "--recipes", str(work / "recipes"), "--json"]
    ended = subprocess.run(
        [sys.executable, "-m", "mlviews", *arguments, *options],
        env=environment, cwd=work, capture_output=True, text=True, check=False, timeout=clock.left(),
    )  # fmt: skip
    try:
        found = json.loads(ended.stdout)
    except ValueError:
        raise StepFailed(f"mlviews {arguments[0]} ended with {ended.returncode}: {ended.stderr[-800:]}") from None
    if ended.returncode:
        errors = "; ".join(error["message"] for error in found["errors"])
        failed = "; ".join(
            f"{c['name']}: {c['status']}, {c['reason']}" for c in _lines(found) if c["status"] in {"fail", "error"}
        )
        raise StepFailed(f"mlviews {arguments[0]} ended with {ended.returncode}: {errors or failed}")
    return found["data"]


def _build(work: Path, index: Path, clock: Clock) -> tuple[str, Any]:
    data = _mlviews(work, index, clock, "build", VIEW)
    passed = [check for check in data["checks"] if check["status"] == "pass"]
    on_gpu = sum(check["device"] not in {"", "cpu"} for check in passed)
    return f"{data['packages']} packages, {len(passed)} checks pass, {on_gpu} of them on the GPU", data


def _lines(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    data = found["data"] or {}
    routes = [check for route in data.get("routes", ()) for check in route["checks"]]
    return routes or data.get("checks", [])


def _load(work: Path, clock: Clock) -> tuple[str, Any]:
    """Load the view by its module where there are modules, else by its script, and ask its Python for what it has."""
    root = work / "root"
    script = next((root / "envs" / VIEW).glob("*/*/setup.sh"))
    ways = [init for init in INIT if Path(init).exists()]
    load = (
        f"source {ways[0]}; module use {root}/modulefiles; module load atlasml/{VIEW}" if ways else f"source {script}"
    )
    program = "import sys; import torch; print(sys.prefix, torch.__version__, torch.cuda.is_available())"
    ended = subprocess.run(
        ["bash", "-c", f"{load} && python -c '{program}'"],
        env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False, timeout=clock.left(),
    )  # fmt: skip
    if ended.returncode or not ended.stdout.startswith(str(root)):
        raise StepFailed(f"{load}: {ended.stdout[-300:]} {ended.stderr[-500:]}")
    _, version, cuda = ended.stdout.split()
    way = "module" if ways else "setup.sh"
    return f"by {way}: PyTorch {version}, {'with' if cuda == 'True' else 'without'} a GPU", {"way": way}


def _prove(work: Path, index: Path, clock: Clock, *, gpu: bool) -> tuple[str, Any]:
    """Run the view's checks in its kernel; the build has run them in its prefix."""
    need = ("--require-gpu",) if gpu else ()
    data = _mlviews(work, index, clock, "smoke", VIEW, "--via", "kernel", *need)
    (route,) = data["routes"]
    counts = {status: sum(c["status"] == status for c in route["checks"]) for status in ("pass", "skip")}
    return f"{counts['pass']} pass, {counts['skip']} skipped", data


def _served(work: Path, index: Path, clock: Clock) -> tuple[str, Any]:
    """Tell which GPUs the view serves, and for those that it does not serve natively, whose libraries are to blame."""
    data = _mlviews(work, index, clock, "gpus", VIEW)
    ways: dict[str, list[str]] = {}
    for verdict in data["gpus"]:
        ways.setdefault(verdict["way"], []).append(verdict["gpu"])
    return "; ".join(f"{way}: {', '.join(names)}" for way, names in ways.items()), data


def _train(kit: Path, work: Path, clock: Clock, *, gpu: bool) -> tuple[str, Any]:
    """Train the example's tagger in the loaded view, export it and apply it with ONNX Runtime."""
    jets, epochs = ("--jets 20000 --points 1000", "--epochs 4 --batch 256") if gpu else ("--jets 300", "--epochs 1")
    example = kit / "examples/flavour-tagging"
    lines = (
        f"jets.py {jets} -o {work}/jets.npz",
        f"train.py {work}/jets.npz {epochs} -o {work}/tagger.pt",
        f"export.py {work}/tagger.pt -o {work}/tagger.onnx",
        f"score.py {work}/tagger.onnx {work}/jets.npz -o {work}/scores.npz",
    )
    script = next((work / "root/envs" / VIEW).glob("*/*/setup.sh"))
    program = "; ".join(f"SECONDS=0; python {example}/{line}; echo took $SECONDS s" for line in lines)
    ended = subprocess.run(
        ["bash", "-ec", f"source {script}; {program}"],
        env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False, timeout=clock.left(),
    )  # fmt: skip
    if ended.returncode:
        raise StepFailed(f"{ended.stdout[-500:]} {ended.stderr[-500:]}")
    told = ended.stdout.splitlines()
    return "; ".join(told), told


def _compare(work: Path, clock: Clock) -> tuple[str, Any]:
    """Compare every library with device code, piece by piece, the small ones first."""
    found = shutil.which("cuobjdump") or shutil.which("cuobjdump", path="/usr/local/cuda/bin")
    prefix = next((work / "root/envs" / VIEW).glob("*/*/setup.sh")).parent
    libraries = sorted(
        (prefix / library.path for library in scan(prefix).libraries), key=lambda path: path.stat().st_size
    )
    if not libraries or not found:
        return ("the view has no device code" if not libraries else "there is no cuobjdump here"), None
    same, different, left = [], {}, []

    def both(path: Path) -> tuple[Counter[str], Counter[str]] | str:
        if path.stat().st_size > LARGEST or clock.left() < 15:
            return ""
        try:
            return read(path), listed(Path(found), path, clock.left() - 10)
        except (ValueError, subprocess.TimeoutExpired) as error:
            return f" ({error})"

    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
        for path, answer in zip(libraries, pool.map(both, libraries), strict=True):
            name = str(path.relative_to(prefix))
            if isinstance(answer, str):
                left.append(name + answer)
            elif answer[0] == answer[1]:
                same.append(name)
            else:
                ours, theirs = answer
                different[name] = {"mlviews": dict(ours - theirs), "cuobjdump": dict(theirs - ours)}
    if different:
        raise StepFailed(f"{len(same)} libraries agree, these do not: {json.dumps(different)[:800]}")
    return f"{len(same)} libraries agree piece by piece; {len(left)} were left out", {"same": same, "left": left}


def _said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
