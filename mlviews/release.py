"""A release: one installed, immutable version of a view, its ``release.json``, and all that loading it changes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from mlviews.files.storefile import StoreFile, StorePart

RELEASE_LOCK = "conda-lock.yml"
"""Beside ``release.json``, the lock that it was installed from."""
LOCK_VARIABLE = "MLVIEWS_LOCK"
"""Where a view is loaded, the digest of its lock: what a result is to be reproduced with."""
NEVER_INHERITED = ("PYTHONPATH", "PYTHONHOME", "PIP_BREAK_SYSTEM_PACKAGES")
"""A view must not see the user's own packages, nor let its pip write into a release."""

# Lmod 8.6 and environment-modules 5.2 run what follows a newline in a variable's value as a command: no release holds
# control characters.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Value = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$")]
Folder = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f:]+$")]


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError("it leads out of the prefix")
    return path


Inside = Annotated[str, AfterValidator(_inside)]


class Around(StorePart):
    """Text put before and after a variable's own value, separators included; ``alone`` is set where there is none."""

    before: Text = ""
    after: Text = ""
    alone: Value

    def put(self, value: str) -> str:
        """Return the variable's new value; one that has the text already stays as it is."""
        if not value or value == self.alone or (value.startswith(self.before) and value.endswith(self.after)):
            return value or self.alone
        return f"{self.before}{value}{self.after}"


class Activation(StorePart):
    """What loading a view changes in the environment, captured once when it is built.

    ``prepend`` and ``append`` hold folders put before and after the value of PATH-like variables, first folder first;
    ``set`` variables with one value; ``default`` values of variables that the user has not set; ``around`` text put
    around the user's own; ``unset`` variables that must not reach the view (``PYTHONPATH``, ``PYTHONHOME``). Values are
    final strings: nothing in them is expanded. None is empty: Lmod 8.6 stops in the middle of unloading at an empty
    value. ``notes`` say what packages' scripts printed, wanted to write, or set in vain.
    """

    prepend: dict[Variable, tuple[Folder, ...]]
    append: dict[Variable, tuple[Folder, ...]] = Field(default_factory=dict)
    set: dict[Variable, Value]
    default: dict[Variable, Value] = Field(default_factory=dict)
    around: dict[Variable, Around] = Field(default_factory=dict)
    unset: tuple[Variable, ...]
    notes: tuple[Text, ...] = ()

    def moved(self, old: str, new: str) -> Activation:
        """Return what loading changes where the prefix ``old`` lies at ``new``."""

        def move(value: Any) -> Any:
            if isinstance(value, str):
                return with_paths_in(value, old, new)
            if isinstance(value, dict):
                return {key: move(inner) for key, inner in value.items()}
            return [move(inner) for inner in value]

        return Activation.model_validate(move(self.model_dump()))


def with_paths_in(text: str, old: str, new: str) -> str:
    """Return a text in which each path of the folder ``old``, or below it, is one of the folder ``new``."""
    return re.sub(re.escape(old) + r"(?![\w.+-])", lambda _: new, text)


class LinkScripts(StorePart):
    """What became of packages' post-link scripts.

    Attributes:
        run: packages whose script ran, in that order.
        skipped: packages whose script did not: the recipe's ``link-scripts`` do not name them.
        without: packages that it names and that have none, or are not there.
        written: files, links and folders that scripts made or changed, by their path in the prefix.
        removed: those that scripts removed.
        notes: what the scripts said.
    """

    run: tuple[Text, ...] = ()
    skipped: tuple[Text, ...] = ()
    without: tuple[Text, ...] = ()
    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    notes: tuple[Text, ...] = ()

    @property
    def asked(self) -> frozenset[str]:
        """The packages that the recipe named."""
        return frozenset((*self.run, *self.without))


class Clobber(StorePart):
    """Two packages have a file of one name, with different contents.

    Attributes:
        path: in the prefix.
        kept: the package whose file lies there.
        lost: the one whose file does not; it lies in ``__clobbers__/<package>``.
    """

    path: str
    kept: Text
    lost: Text


class ReleasePackage(StorePart):
    """One installed conda package."""

    name: str
    version: str
    build: str

    @property
    def stem(self) -> str:
        """Name, version and build: what its record's file is called."""
        return f"{self.name}-{self.version}-{self.build}"


class ReleaseBase(StorePart):
    """The release that another one extends; ``prefix`` is where it must lie."""

    view: Text
    release: Text
    prefix: Folder
    lock_digest: Text


class ReleaseVariant(StorePart):
    """Which variant of a view a release is of, and the module that it shares with the others."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,16}$")]
    view: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+$")]
    module: Inside


class Release(StoreFile):
    """Everything that is rendered from a release, in one value; stored as ``release.json``.

    ``variant`` says whose variant the view is, where it is one.
    ``prefix`` is the path baked into the files (``/cvmfs/...`` on a host that builds for it). ``requested`` names the
    packages that the recipe itself asks for. ``absent`` and ``gaps`` say, package by package, why something is missing;
    ``differs`` what the site has instead of what the recipe asks for. ``overrides`` say which requirements of wheels
    the recipe loosened, and why; ``sdists`` name projects that were built of their sources where there was no wheel.
    ``base`` is the release that this one extends: its ``packages`` are what it adds, ``editable`` folders of projects
    that it reads where they lie; ``replaced`` says which of the base's packages others go in front of, and ``broken``
    which of them ask for something else then.
    ``gpus`` are those that the recipe names, and ``some_gpus_only`` says why a package may serve only some of them;
    ``served`` holds, of every GPU that mlviews knows, how the binaries serve it, and nothing where that was not looked
    at. ``pip_check_waivers`` says why a package may lack what it says that it needs. ``clobbers`` are files that
    packages lost to others. ``catalogs`` are the folders that have a catalog of their own on CVMFS, by their path in
    the prefix; a release for another place has none. ``files`` is the sha256 of ``files.json``, which lists what no
    conda record does; ``seal`` that of ``release.json`` itself, with an empty seal.
    """

    mlviews: str
    view: Text
    release: Text
    platform: Text
    summary: Text
    module: Text
    site: str
    prefix: Folder
    lock_digest: Text
    created: datetime
    glibc: str | None = None
    cuda: str | None = None
    gpus: tuple[str, ...] = ()
    some_gpus_only: dict[Text, Text] = Field(default_factory=dict)
    served: dict[Text, Literal["native", "ptx", "none"]] = Field(default_factory=dict)
    pip_check_waivers: dict[Text, Text] = Field(default_factory=dict)
    requested: tuple[str, ...] = ()
    gaps: dict[Text, Text] = Field(default_factory=dict)
    absent: dict[Text, Text] = Field(default_factory=dict)
    differs: dict[Text, Text] = Field(default_factory=dict)
    overrides: tuple[Text, ...] = ()
    sdists: tuple[Text, ...] = ()
    base: ReleaseBase | None = None
    variant: ReleaseVariant | None = None
    editable: tuple[Text, ...] = ()
    replaced: dict[Text, Text] = Field(default_factory=dict)
    broken: dict[Text, Text] = Field(default_factory=dict)
    packages: tuple[ReleasePackage, ...]
    link_scripts: LinkScripts = LinkScripts()
    clobbers: tuple[Clobber, ...] = ()
    activation: Activation
    catalogs: tuple[Inside, ...] = ()
    files: str = ""
    seal: str = ""

    @property
    def label(self) -> str:
        """``VIEW/RELEASE``, by which people and commands name it."""
        return f"{self.view}/{self.release}"

    @property
    def has_python(self) -> bool:
        """Whether it holds Python: without it there is no kernel, and nothing that a check could run with."""
        return any(package.name == "python" for package in self.packages)

    @property
    def locked_packages(self) -> int:
        """How many packages its lock names: the ``python`` of one that extends another is links to the base's alone."""
        return sum(1 for package in self.packages if not self.base or package.name != "python")

    @property
    def modules(self) -> tuple[tuple[str, str], ...]:
        """The modulefiles that load it, by module and version; that of a variant's shared module tells which it is."""
        return module_versions(self.module, self.release, self.variant)

    @property
    def needed(self) -> str:
        """The folder without which nothing of it runs: that of its programs, or of its base's."""
        return f"{self.base.prefix if self.base else self.prefix}/bin"

    @property
    def missing(self) -> str:
        """What whoever loads it is told where that folder is not."""
        told = f"mlviews: this host has no folder {self.needed}"
        if self.base is None:
            return told
        return f"{told}, which {self.view} needs; mlviews build {self.view} takes another release of {self.base.view}"


def default_prefix(prefix: str) -> PurePosixPath:
    """Return the path by which whoever follows the default reaches the view that has a release in ``prefix``."""
    release = PurePosixPath(prefix)  # envs/<view>/<release>/<platform>
    return release.parents[1] / "default" / release.name


def module_versions(module: str, release: str, variant: ReleaseVariant | None) -> tuple[tuple[str, str], ...]:
    """Return the modulefiles that load a release, by module and version.

    Args:
        variant: where the view is one of another's: that one's module has it too, under a version that tells which.
    """
    shared = ((variant.module, f"{release}-{variant.name}"),) if variant else ()
    return ((module, release), *shared)


def sealed(release: Release) -> str:
    """Return the text of ``release.json``, with a seal by which any change of it is found."""
    text = release.model_copy(update={"seal": ""}).text()
    return _with_seal(text, "", hashlib.sha256(text.encode()).hexdigest())


def is_intact(content: bytes, release: Release) -> bool:
    """Tell whether the bytes of a ``release.json`` are those that were written."""
    text = _with_seal(content.decode(errors="replace"), release.seal, "")
    return hashlib.sha256(text.encode()).hexdigest() == release.seal


def _with_seal(text: str, old: str, new: str) -> str:
    """Put another seal in: the last of all keys, whatever else the text holds."""
    before, _, after = text.rpartition(f'"seal": "{old}"')
    return f'{before}"seal": "{new}"{after}'


# Where LCG views and Athena keep their libraries and headers. Such an entry outlives the session that set it, and would
# come before the view's own for the loader, ROOT's interpreter and what torch.compile starts; other entries stay, since
# containers keep the GPU's driver libraries in one.
_LCG = ("/cvmfs/sft.cern.ch/lcg", "/cvmfs/sft-nightlies.cern.ch/lcg", "/cvmfs/atlas.cern.ch/repo/sw/software")
_FOREIGN = dict.fromkeys(
    ("LD_LIBRARY_PATH", "ROOT_INCLUDE_PATH", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH"), _LCG
)

# What matplotlib, Triton, Inductor and the rest write in the home folder unless they are told of another one.
_CACHES = {
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "XDG_CACHE_HOME": "cache",
}


# conda's own stack of environments, as deep as it goes by default (`max_shlvl`). With the view in CONDA_PREFIX,
# `conda deactivate` would take the view for the top of it.
_CONDA = (
    *("CONDA_SHLVL", "CONDA_DEFAULT_ENV", "CONDA_PROMPT_MODIFIER"),
    *(f"CONDA_PREFIX_{level}" for level in range(1, 8)),
    *(f"CONDA_STACKED_{level}" for level in range(2, 9)),
)


@dataclass(frozen=True, slots=True)
class Loading:
    """What loading changes.

    Attributes:
        activation: what was captured, and the variables that tell which view is loaded.
        trace: variables that tell another view's loader what to take out; an image, which holds one view, has none.
        conda: conda's own variables, which are put aside.
        foreign: lists of folders that lose what lies below the given ones.
        caches: in a job whose HOME cannot be written to, variables that are not set get a folder of this name below
            ``MLVIEWS_CACHE``: a new one in ``TMPDIR`` that is the user's alone, where it is not set.
    """

    activation: Activation
    trace: Mapping[str, str]
    conda: tuple[str, ...]
    foreign: Mapping[str, tuple[str, ...]]
    caches: Mapping[str, str]

    @property
    def lists(self) -> tuple[str, ...]:
        """Every list of folders that changes."""
        return tuple(dict.fromkeys([*self.activation.prepend, *self.activation.append, *self.foreign]))

    def around_list(self, name: str, value: str) -> str:
        """Return a list of folders with those that are put before and after it."""
        first, last = self.activation.prepend.get(name, ()), self.activation.append.get(name, ())
        return ":".join([*first, *filter(None, [value]), *last])


def loading(release: Release) -> Loading:
    """Return all that loading ``release`` changes: what was captured, and what every view shares."""
    captured = release.activation
    told = {"MLVIEWS_VIEW": release.view, "MLVIEWS_RELEASE": release.release, LOCK_VARIABLE: release.lock_digest}
    fixed = {*captured.set, *captured.unset, *captured.default, *captured.around}
    known = {*fixed, *captured.prepend, *captured.append}
    return Loading(
        activation=captured.model_copy(update={"set": {**captured.set, **told}}),
        trace=_trace(captured),
        conda=tuple(name for name in _CONDA if name not in fixed),
        foreign={name: folders for name, folders in _FOREIGN.items() if name not in fixed},
        caches={name: folder for name, folder in _CACHES.items() if name not in known},
    )


def _trace(captured: Activation) -> dict[str, str]:
    """Return the variables by which another view's loader takes this one out again.

    A child shell, a program or a kernel inherits what a view has set, and knows nothing else of it: the release may be
    removed since, or lie where this host does not see it. ``MLVIEWS_LISTS`` names the lists that hold
    ``MLVIEWS_FOLDERS``; ``MLVIEWS_CHANGED`` what gets back the value of ``MLVIEWS_OLD_<name>``, or none;
    ``MLVIEWS_DEFAULTS`` what goes where it still is ``MLVIEWS_MADE_<name>``, which has a colon in front.
    """
    lists = {**captured.prepend, **captured.append}
    folders = [folder for group in (captured.prepend, captured.append) for each in group.values() for folder in each]
    # The lock's variable is taken out with these; the loaders know the view's and the release's by name.
    changed = [*captured.set, *captured.around, *captured.unset, *_CONDA, LOCK_VARIABLE]
    trace = {
        "MLVIEWS_LISTS": " ".join(lists),
        "MLVIEWS_FOLDERS": ":".join(dict.fromkeys(folders)),
        "MLVIEWS_CHANGED": " ".join(changed),
        "MLVIEWS_DEFAULTS": " ".join(captured.default),
    }
    return {name: value for name, value in trace.items() if value}


@dataclass(frozen=True, slots=True)
class GpuLine:
    """What is known of a view's lock on one GPU; see docs/smoke.md.

    Attributes:
        gpu: as the recipe names it; the driver's name for one that it does not.
        device: the driver's name for it.
        driver: version of NVIDIA's driver.
        checked: when it was last tested (UTC).
        passed: checks that passed when they were last tested on it.
        failed: checks that failed when they were last tested on it.
    """

    gpu: str
    status: Literal["proved", "failed", "unproved"]
    device: str = ""
    driver: str = ""
    checked: str | None = None
    passed: Sequence[str] = ()
    failed: Sequence[str] = ()


def served_in_words(served: Mapping[str, str]) -> str:
    """Return ``V100, T4; B200 through PTX; not P100``, or ``no GPU``; empty where nothing was looked at."""
    ways = {way: ", ".join(gpu for gpu, found in served.items() if found == way) for way in ("native", "ptx", "none")}
    if served and not (ways["native"] or ways["ptx"]):
        return "no GPU"
    parts = [ways["native"], ways["ptx"] and f"{ways['ptx']} through PTX", ways["none"] and f"not {ways['none']}"]
    return "; ".join(part for part in parts if part)


def gpus_in_words(lines: Iterable[GpuLine]) -> str:
    """Return ``H100 proved; T4, V100 claimed, unproved``; empty where there is no GPU to speak of."""
    words = {"proved": "proved", "failed": "failed", "unproved": "claimed, unproved"}
    by_status: dict[str, list[str]] = {status: [] for status in words}
    for line in lines:
        by_status[line.status].append(line.gpu)
    return "; ".join(f"{', '.join(gpus)} {words[status]}" for status, gpus in by_status.items() if gpus)
