"""What this host offers a view: C library, processor, GPU and driver, module system, container tools, space."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlviews.errors import MlviewsError, last_line
from mlviews.files.permissions import group_id, runs_programs
from mlviews.files.reading import is_folder_at
from mlviews.gpus.nvidia import GPUS, dotted, toolkit_driver, version_key
from mlviews.hardware import ARCHSPECS, host_glibc, host_platform
from mlviews.jobs.submit import SUBMITTERS, TITLES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from mlviews.recipe.catalogue import Catalogue
    from mlviews.recipe.view import ViewSpec
    from mlviews.release import Release
    from mlviews.site.batch import BatchSystem, System
    from mlviews.site.profile import Site
    from mlviews.store.disk import Store


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that ``mlviews doctor`` looked at."""

    name: str
    status: Literal["ok", "note", "problem"]
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a view runs on this host.

    Attributes:
        runs: whether this host offers what it needs.
        built: whether the site has a default release of it for this host.
    """

    view: str
    runs: bool
    why: str
    built: bool = False


@dataclass(frozen=True, slots=True)
class DriverLine:
    """A CUDA version that views ask for, and the driver that offers it.

    Attributes:
        driver: the oldest that does, on Linux; null where NVIDIA's table has none.
        here: whether this host's driver does.
    """

    cuda: str
    driver: str | None
    here: bool
    views: Sequence[str]


# nfs(5) and mount.lustre(8): with these, `flock` is granted without asking the server.
_LOCAL = {
    "nfs": frozenset({"nolock", "local_lock=flock", "local_lock=all"}),
    "lustre": frozenset({"localflock"}),
}

_AFS = Path("/afs")
_PATIENCE_SECONDS = 20
_VIEW_BYTES = 15_000_000_000  # the largest GPU view of the catalogue, unpacked, with room for its archives

# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR: CUDA driver API, CUdevice_attribute.
_COMPUTE_CAPABILITY = (75, 76)

# What a level adds to the one before it: x86-64 psABI, table 3.1, in the names of /proc/cpuinfo.
_X86_LEVELS = {
    "x86_64_v2": {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"},
    "x86_64_v3": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
    "x86_64_v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}


@dataclass(frozen=True, slots=True)
class Host:
    """What was found.

    Attributes:
        glibc: version, or empty.
        cuda: newest CUDA that the driver supports, or empty where there is no driver.
        archspec: micro-architecture level.
        findings: the same and more, for people.
        compute: compute capability of each GPU, as in ``sm_70``: 70.
    """

    platform: str
    glibc: str
    cuda: str
    archspec: str
    findings: tuple[Finding, ...]
    compute: tuple[int, ...] = ()


def examine(site: Site) -> Host:
    """Look at this host; runs ``nvidia-smi`` where there is one, and changes nothing."""
    platform, glibc, level = host_platform(), host_glibc(), _archspec()
    driver, cuda = _driver()
    findings = (
        Finding(name="platform", status="ok" if platform in ARCHSPECS else "problem", found=f"{platform}, {level}"),
        Finding(name="glibc", status="ok", found=glibc)
        if glibc
        else Finding(name="glibc", status="problem", found="none", advice="Views need a Linux with glibc, not musl."),
        _gpu(driver, cuda),
        _modules(),
        _containers(),
        _site(site),
        _space(site.root),
        _locks(site.root),
        *(_batch(system, batch) for system, batch in site.batch.items()),
    )
    return Host(platform, glibc, cuda, level, findings, _compute())


def fits(catalogue: Catalogue, host: Host, built: Collection[str] = ()) -> list[Fit]:
    """Tell for each view of the catalogue whether it runs on this host, and if not, why.

    Args:
        built: views that have a release for it.
    """
    found = []
    for name in catalogue.names:
        try:
            why = _misfit(catalogue.view(name), host)
        except MlviewsError as error:
            why = ": ".join([error.message, *error.faults[:1]])
        found.append(Fit(view=name, runs=not why, why=why, built=name in built))
    return found


def left_out(releases: Iterable[Release], host: Host) -> list[Finding]:
    """Tell which releases hold no code for a GPU of this host, as was seen when they were built."""
    found = []
    for release in releases:
        gpus = [
            name
            for name, way in release.served.items()
            if way == "none" and name in GPUS and GPUS[name].compute in host.compute
        ]
        if gpus:
            named = f"{release.label} holds no code for this host's GPU ({' or '.join(gpus)})"
            advice = (
                "Its first work on the GPU will fail. Take another view; `mlviews gpus` says which GPUs a view serves."
            )
            found.append(Finding(name="GPU code", status="note", found=named, advice=advice))
    return found


def without_base(releases: Iterable[Release]) -> list[Finding]:
    """Tell which releases extend one that is no longer there, or not on this host."""
    found = []
    for release in releases:
        if release.base and not is_folder_at(Path(release.needed), follow=True):
            base = f"{release.base.view}/{release.base.release}"
            named = f"{release.label} extends {base}, which is not in {release.base.prefix}"
            advice = f"`mlviews build {release.view}` makes it again, on top of another release of {release.base.view}."
            found.append(Finding(name="base", status="problem", found=named, advice=advice))
    return found


def out_of_place(store: Store) -> list[Finding]:
    """Tell which defaults cannot be loaded: their folder is gone, or the root was moved since they were built."""
    found = []
    for view in store.views():
        if lost := store.lost_default(view):
            named = f"the default {view}/{lost} is not there any more"
            advice = f"`mlviews promote {view}/RELEASE` makes another the default; `mlviews build {view}` makes one."
            found.append(Finding(name="release", status="problem", found=named, advice=advice))
            continue
        name = store.default(view)
        for release in store.entry(view, name).platforms.values() if name else ():
            if not store.in_place(release):
                named = f"{view}/{name} runs only in {release.prefix}, for which it was built"
                advice = f"Move the root back, or build the view for this place: `mlviews build {view}`."
                found.append(Finding(name="release", status="problem", found=named, advice=advice))
    return found


def drivers(catalogue: Catalogue, host: Host) -> list[DriverLine]:
    """Tell which driver each CUDA version that views ask for needs, and whether this host's is one."""
    asked: dict[str, list[str]] = {}
    for name in catalogue.names:
        with suppress(MlviewsError):  # a faulty recipe is told by `fits`
            if cuda := catalogue.view(name).hardware.cuda:
                asked.setdefault(cuda, []).append(name)
    return [
        DriverLine(cuda=cuda, driver=toolkit_driver(cuda), here=_offers(host, cuda), views=asked[cuda])
        for cuda in sorted(asked, key=version_key)
    ]


def _offers(host: Host, cuda: str) -> bool:
    return bool(host.cuda) and version_key(host.cuda) >= version_key(cuda)


def _misfit(spec: ViewSpec, host: Host) -> str:
    hardware = spec.hardware
    if host.platform not in spec.platforms:
        return f"is for {', '.join(spec.platforms)} only"
    if spec.on:
        return ""  # its hardware is its base's
    if _figures(host.glibc) < _figures(hardware.glibc):
        return f"needs glibc {hardware.glibc}; this host has {host.glibc or 'none'}"
    levels = ARCHSPECS[host.platform]
    if hardware.archspec in levels and levels.index(host.archspec) < levels.index(hardware.archspec):
        return f"needs a processor of level {hardware.archspec}; this host has {host.archspec}"
    return _gpu_misfit(hardware.cuda, hardware.gpus, host) if hardware.cuda else ""


def _gpu_misfit(cuda: str, gpus: Sequence[str], host: Host) -> str:
    if not host.cuda:
        return "needs an NVIDIA driver; this host has none"
    if not _offers(host, cuda):
        return f"needs a driver for CUDA {cuda}; this one serves {host.cuda}"
    oldest = min((GPUS[name] for name in gpus), key=lambda gpu: gpu.compute, default=None)
    if oldest and host.compute and max(host.compute) < oldest.compute:
        most = dotted(max(host.compute))
        needs = f"{dotted(oldest.compute)} ({oldest.name})"
        return f"needs a GPU of compute capability {needs} or newer; this host has {most}"
    return ""


def _figures(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _archspec() -> str:
    levels = ARCHSPECS.get(host_platform(), ("unknown",))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    flags = set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
    level = levels[0]
    for name in levels[1:]:
        if not _X86_LEVELS[name] <= flags:
            break
        level = name
    return level


def _driver() -> tuple[str, str]:
    """Return the GPUs with their driver's version, and the newest CUDA that the driver supports."""
    try:
        listed = _said("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
        driver = "; ".join(listed.split("\n")).strip("; ")
    except (OSError, subprocess.TimeoutExpired):
        driver = ""
    try:
        version = ctypes.c_int()
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version)) == 0:
            return driver, f"{version.value // 1000}.{version.value % 1000 // 10}"
    except (OSError, AttributeError):
        pass
    return driver, ""


def _compute() -> tuple[int, ...]:
    """Return the compute capability of each GPU that the driver gives this process."""
    found = []
    with suppress(OSError, AttributeError):
        cuda, count, figures = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
        if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0:
            for device in range(count.value):
                for figure, attribute in zip(figures, _COMPUTE_CAPABILITY, strict=True):
                    cuda.cuDeviceGetAttribute(ctypes.byref(figure), attribute, device)
                found.append(figures[0].value * 10 + figures[1].value)
    return tuple(found)


def _gpu(driver: str, cuda: str) -> Finding:
    if cuda:
        return Finding(name="GPU", status="ok", found=f"{driver or 'driver without nvidia-smi'}; CUDA {cuda}")
    device = any(Path("/dev").glob("nvidia[0-9]*"))
    advice = (
        "There is a GPU but no driver library (libcuda.so.1). Ask for the driver; in an Apptainer container use --nv."
        if device
        else "CPU views run here. GPU views can be locked and built, but not used."
    )
    return Finding(name="GPU", status="problem" if device else "note", found=driver or "none", advice=advice)


def _modules() -> Finding:
    if "LMOD_CMD" in os.environ:
        return Finding(name="modules", status="ok", found=f"Lmod {os.environ.get('LMOD_VERSION', '')}".strip())
    if "MODULESHOME" in os.environ:
        return Finding(name="modules", status="ok", found=f"environment-modules in {os.environ['MODULESHOME']}")
    return Finding(
        name="modules", status="note", found="none in this shell",
        advice="Use setup.sh or `mlviews run`. A login shell (`bash -l`) may have modules.",
    )  # fmt: skip


def _containers() -> Finding:
    found = [name for name in ("apptainer", "podman", "buildah", "docker") if shutil.which(name)]
    return Finding(
        name="containers",
        status="ok" if found else "note",
        found=", ".join(found) or "none",
        advice="" if found else "You need one only to build or run images.",
    )


def _site(site: Site) -> Finding:
    """Say which site is meant, and whether who asks is of the group that shares its root."""
    found = f"{site.name}: {'wheels' if site.packages == 'wheels' else ', '.join(site.channels)}"
    if site.group is None:
        return Finding(name="site", status="ok", found=found)
    found = f"{found}; {site.root} is shared by the group {site.group}"
    try:
        number = group_id(site.group)
    except MlviewsError as error:
        return Finding(name="site", status="problem", found=f"{site.name}: {error.message}", advice=error.hint)
    if number in {os.getegid(), *os.getgroups()} or os.geteuid() == 0:
        return Finding(name="site", status="ok", found=found)
    return Finding(
        name="site", status="note", found=f"{found}, and you are not in it", advice="Its members build there."
    )


def may_build(root: Path) -> bool:
    """Tell whether this user may write below a root, or make it."""
    return os.access(_existing(root), os.W_OK)


def _existing(folder: Path) -> Path:
    # What may not be looked at is no error here.
    return next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110


def _space(root: Path) -> Finding:
    there = _existing(root)
    if not may_build(root):
        advice = "You can use the views there. To build your own, choose another folder with --root DIR."
        return Finding(name="space", status="note", found=f"{there} is not writable for you", advice=advice)
    try:
        free = min(shutil.disk_usage(there).free, _quota(there))
    except (OSError, subprocess.TimeoutExpired) as error:
        advice = (
            "Ask who runs that file system, or choose another folder with --root DIR."
            " On AFS, `kinit` and `aklog` renew your token."
        )
        return Finding(name="space", status="problem", found=f"{there} does not answer: {error}", advice=advice)
    if not runs_programs(there):
        advice = "No view can be built there. Choose another folder with --root DIR."
        found = f"{there} is mounted with noexec: no program there can run"
        return Finding(name="space", status="problem", found=found, advice=advice)
    status = f"{free / 1e9:.1f} GB free for {root}"
    if free < _VIEW_BYTES:
        advice = f"A build of a GPU view needs up to {_VIEW_BYTES / 1e9:.0f} GB. Choose another folder with --root DIR."
        return Finding(name="space", status="note", found=status, advice=advice)
    return Finding(name="space", status="ok", found=status)


def _locks(root: Path) -> Finding:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        mounts = ""
    if option := only_here(root, mounts):
        advice = "Build on one host only, or mount that folder so that locks reach its server."
        return Finding(name="locks", status="problem", found=f"{root} is mounted with {option}", advice=advice)
    return Finding(name="locks", status="ok", found="not tested yet: each build tests file locks first")


def _batch(system: System, batch: BatchSystem) -> Finding:
    """Tell whether jobs can be submitted here, and whether Slurm has the partitions that the site's file names."""
    name, program = TITLES[system], SUBMITTERS[system]
    queues = ", ".join(
        " ".join(filter(None, [queue, f"(up to {given.limit})" if given.limit else "", "/".join(given.gpus)]))
        for queue, given in batch.queues.items()
    )
    if not shutil.which(program):
        return Finding(
            name=name, status="note", found=f"{program} is missing", advice="Submit jobs from a host that has it."
        )
    known = _partitions() if system == "slurm" and batch.queues else {*batch.queues}
    if batch.queues and not known:
        what = f"{program} is here, but sinfo names no partition"
        return Finding(name=name, status="problem", found=what, advice="Does Slurm run? `sinfo` says more.")
    if lacking := {*batch.queues} - known:
        what = f"there is no partition {', '.join(sorted(lacking))}; the site's file names {queues}"
        return Finding(
            name=name, status="problem", found=what, advice="`sinfo` lists the partitions. Correct the site's file."
        )
    return Finding(name=name, status="ok", found=queues or f"{program}; the site's file names no queue")


def _partitions() -> set[str]:
    """Return the names of Slurm's partitions; empty where its controller does not answer."""
    try:
        return {*_said("sinfo", "--noheader", "--format=%R").split()}
    except (OSError, subprocess.TimeoutExpired):
        return set()


def _said(*command: str) -> str:
    """Return what a program prints; nothing where it fails.

    Raises:
        OSError: it is not here.
        subprocess.TimeoutExpired: it does not answer.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE_SECONDS)
    return "" if done.returncode else done.stdout


def _quota(folder: Path) -> int:
    """Return the bytes that the user's quota leaves on AFS, or a very large number where nothing says so."""
    unlimited = 1 << 62
    if not folder.is_relative_to(_AFS) or not shutil.which("fs"):
        return unlimited
    words = last_line(_said("fs", "listquota", str(folder))).split()
    if len(words) > 2 and words[1].isdecimal() and words[2].isdecimal():  # noqa: PLR2004  (volume, quota, used: in kB)
        return (int(words[1]) - int(words[2])) * 1024
    return unlimited


def only_here(path: Path, mounts: str) -> str | None:
    """Return the mount option by which locks below ``path`` keep out this host's processes alone; None without one.

    Args:
        path: a folder, which may not be there yet.
        mounts: the text of ``/proc/self/mounts``.
    """
    found: tuple[int, str | None] = (0, None)
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 4:  # noqa: PLR2004  (device, folder, type, options)
            continue
        folder = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])
        if len(folder) >= found[0] and path.is_relative_to(folder):
            local = _LOCAL.get(fields[2].removesuffix("4"), frozenset()) & {*fields[3].split(",")}
            found = len(folder), min(local, default=None)
    return found[1]
