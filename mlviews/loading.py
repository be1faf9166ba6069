"""All that loading a release changes in an environment: the one value that every way of loading is rendered from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.release import Release

__all__ = ["Loading", "loading"]

# Where LCG views and Athena keep their libraries and headers. Such an entry outlives the session that set it, and would
# come before the view's own for the loader, ROOT's interpreter and what torch.compile starts; other entries stay, since
# containers keep the GPU's driver libraries in one.
_LCG = (
    "/cvmfs/sft.cern.ch/lcg",
    "/cvmfs/sft-nightlies.cern.ch/lcg",
    "/cvmfs/atlas.cern.ch/repo/sw/software",
)
_FOREIGN = dict.fromkeys(("LD_LIBRARY_PATH", "ROOT_INCLUDE_PATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"), _LCG)

# What matplotlib, Triton, Inductor and the rest write in the home folder unless they are told of another one.
_CACHES = {
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "XDG_CACHE_HOME": "cache",
}


@dataclass(frozen=True, slots=True)
class Loading:
    """What loading changes.

    Attributes:
        prepend: folders put before lists of folders, first folder first.
        set: variables with one value.
        unset: variables that must not reach the view.
        foreign: lists of folders that lose what lies below the given ones.
        caches: in a job whose HOME cannot be written to, variables that are not set get a folder of this name below
            ``MLVIEWS_CACHE``, which lies in ``TMPDIR`` and bears the process's number.
    """

    prepend: Mapping[str, tuple[str, ...]]
    set: Mapping[str, str]
    unset: tuple[str, ...]
    foreign: Mapping[str, tuple[str, ...]]
    caches: Mapping[str, str]

    @property
    def lists(self) -> tuple[str, ...]:
        """Every list of folders that changes."""
        return tuple(dict.fromkeys([*self.prepend, *self.foreign]))


def loading(release: Release) -> Loading:
    """Return all that loading ``release`` changes: what was captured, and what every view shares."""
    captured = release.activation
    told = {"MLVIEWS_VIEW": release.view, "MLVIEWS_RELEASE": release.release}
    known = {*captured.set, *captured.prepend, *captured.unset}
    return Loading(
        prepend=captured.prepend,
        set={**captured.set, **told},
        unset=captured.unset,
        foreign={name: folders for name, folders in _FOREIGN.items() if name not in {*captured.set, *captured.unset}},
        caches={name: folder for name, folder in _CACHES.items() if name not in known},
    )
