"""What ``mlviews render`` writes: a table of formats, each a function of one view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlviews.container import batch
from mlviews.container.describe import NO_REPOSITORY
from mlviews.render import explicit, kernel, modulefile, setup_script

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlviews.container.files import Contents, Kind
    from mlviews.lock.lockfile import Lock
    from mlviews.release import Release
    from mlviews.render.modulefile import Known

__all__ = ["FORMATS", "Format", "Subject"]


@dataclass(frozen=True, slots=True)
class Subject:
    """One view as formats see it; what is a function is read only by the formats that call it.

    Attributes:
        platform: what it is rendered for.
        versioned: whether a release was named, or the default is meant.
        releases: gives the release, once for each platform that it has.
        known: gives what else is known of that release.
        lock: gives the release's own lock, where one was named, else the view's.
        image: gives what an image of that lock holds.
        mirrors: the site's, channel -> folder or URL.
    """

    view: str
    platform: str
    versioned: bool
    releases: Callable[[], Mapping[str, Release]]
    known: Callable[[], Known]
    lock: Callable[[], Lock]
    image: Callable[[], Contents]
    mirrors: Mapping[str, str]

    @property
    def release(self) -> Release:
        """The release on the platform."""
        return self.releases()[self.platform]


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        summary: what it is for.
        files: gives text by file name, the main file first. One file goes to stdout or into the file that ``-o``
            names, several go into the folder that it names.
        programs: those of the files that are programs.
        remarks: gives what people should know of the files, and need not read in them.
    """

    summary: str
    files: Callable[[Subject], Mapping[str, str]]
    programs: frozenset[str] = frozenset()
    remarks: Callable[[Subject], tuple[str, ...]] = lambda _: ()


def _lmod(subject: Subject) -> Mapping[str, str]:
    releases = subject.releases()
    text = modulefile.render_lua([releases[platform] for platform in sorted(releases)], subject.known())
    return {f"{subject.release.release}.lua": text}


def _tcl(subject: Subject) -> Mapping[str, str]:
    releases = subject.releases()
    text = modulefile.render_tcl([releases[platform] for platform in sorted(releases)], subject.known())
    return {subject.release.release: text}


def _definition(kind: Kind, summary: str) -> Format:
    def files(subject: Subject) -> Mapping[str, str]:
        from mlviews.container.files import definition_files  # noqa: PLC0415  (half of it is for bills of materials)

        made = definition_files(kind, subject.image(), mirrors=subject.mirrors)
        return {path: file.text for path, file in made.items()}

    return Format(summary, files, _PROGRAMS, lambda subject: subject.image().container.remarks)


def _batch(subject: Subject) -> Mapping[str, str]:
    return {f"{subject.view}.md": batch.render_batch(subject.image().container)}


def _placed(subject: Subject) -> tuple[str, ...]:
    if not subject.image().container.reference.startswith(NO_REPOSITORY):
        return ()
    return (f"the site names no `container: {{repository: ...}}`: {NO_REPOSITORY} stands for it",)


def _sbom(subject: Subject) -> Mapping[str, str]:
    from mlviews.render.sbom import SBOM, render_sbom  # noqa: PLC0415  (as above)

    contents = subject.image()
    return {SBOM: render_sbom(contents.lock, [subject.platform], licenses=contents.licenses)}


_PROGRAMS = frozenset({"view/launch", "view/with-scripts"})

FORMATS: Mapping[str, Format] = {
    "lmod": Format("modulefile for Lmod", _lmod),
    "tcl": Format("modulefile for environment-modules", _tcl),
    "sh": Format("setup.sh for bash, zsh, sh", lambda it: {"setup.sh": setup_script.render_setup(it.release)}),
    "csh": Format("setup.csh for tcsh", lambda it: {"setup.csh": setup_script.render_csh(it.release)}),
    "fish": Format("setup.fish for fish", lambda it: {"setup.fish": setup_script.render_fish(it.release)}),
    "kernel": Format(
        "kernel.json for Jupyter",
        lambda it: {kernel.SPECIFICATION: kernel.render(it.release, versioned=it.versioned)},
    ),
    "explicit": Format(
        "list of archives for conda, mamba", lambda it: {"explicit.txt": explicit.render(it.lock(), it.platform)}
    ),
    "dockerfile": _definition("dockerfile", "Dockerfile for docker, podman, buildah, and what it copies"),
    "apptainer": _definition("apptainer", "definition for Apptainer, and what it copies"),
    "batch": Format("how jobs use the image, in Markdown", _batch, remarks=_placed),
    "sbom": Format("bill of materials, CycloneDX", _sbom),
}
"""Format by the name that the command line gives it."""
