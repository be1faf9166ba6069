"""A Dockerfile and an Apptainer definition of a view, and what they copy.

The packages are the lock's, solved by nobody. Dockerfiles keep to what docker, podman, buildah and their rootless forms
all read: no here-documents, no `COPY --link`, no SHELL, which images in OCI's format do not have.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mlviews.conda.servers import mirror_servers
from mlviews.credentials import hide
from mlviews.errors import RefusedError
from mlviews.files.reading import RELEASE_FILE
from mlviews.release import RELEASE_LOCK, sealed
from mlviews.render import escape
from mlviews.render.exchange import render_explicit
from mlviews.render.setup_script import PrefixFile, prefix_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.container.describe import Container
    from mlviews.lock.lockfile import Lock

ENVIRONMENT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH of an image that says nothing of it."""

_LIST = "/mlviews/explicit.txt"


def render_dockerfile(container: Container) -> str:
    """Return a ``Dockerfile``; it copies ``explicit.txt``, and the folder ``view`` into the prefix.

    Raises:
        ValueError: a text of the recipe holds control characters; recipes cannot.
    """
    return escape.render("Dockerfile", "docker", _values(container))


def render_apptainer(container: Container) -> str:
    """Return ``view.def``, for ``apptainer build`` from 1.2; it copies what the `render_dockerfile` one does.

    ``%environment`` empties what it cannot unset: ``apptainer exec`` would ignore that.
    """
    values = _values(container)
    loose = {"org.opencontainers.image.description", "org.opencontainers.image.source"}
    return escape.render(
        "view.def",
        "definition",
        {
            **values,
            "labels": {key: value for key, value in container.labels.items() if key not in loose},
            "loose": {key: value for key, value in container.labels.items() if key in loose},
            "install": shlex.join(["/bin/sh", "-c", _install(container)]),
            "count": str(len(container.release.packages)),
            "nv": "--nv " if container.release.cuda else "",
        },
    )


def render_scripts(container: Container) -> str:
    """Return what runs the packages' activation scripts, as conda would, and then a program."""
    folder = str(container.prefix / "etc/conda/activate.d")
    return escape.render("with-scripts", "sh", {"folder": folder})


def environment(container: Container) -> dict[str, str]:
    """Return the variables of the image that have one value, whatever the base image says of them."""
    own = container.loading.activation
    return {**container.gpu, **dict.fromkeys(own.unset, ""), **own.set}


def _values(container: Container) -> dict[str, Any]:
    release, change = container.release, container.loading
    own = change.activation
    return {
        "view": release.view,
        "summary": release.summary,
        "mlviews": release.mlviews,
        "lock": release.lock_digest,
        "platform": release.platform,
        "remarks": container.remarks,
        "installer": container.installer,
        "base": container.base,
        "labels": container.labels,
        "environment": dict(sorted(environment(container).items())),
        "first": {name: ":".join(folders) for name, folders in own.prepend.items() if name != "PATH"},
        "last": {name: ":".join(folders) for name, folders in own.append.items() if name != "PATH"},
        "default": own.default,
        "around": own.around,
        "path": change.around_list("PATH", ENVIRONMENT_PATH),
        "prefix": str(container.prefix),
        "install": ["/bin/sh", "-c", _install(container)],
        "entrypoint": list(container.entrypoint),
        "command": [container.program],
        "python": container.release.has_python,
        "job": container.job,
        "list": _LIST,
    }


def _install(container: Container) -> str:
    """Return the shell's line that installs the list, and makes it independent of when that happened.

    A Python file's bytecode bears the time of its source, which image builders set to another: bytecode that is checked
    by nothing stays valid (PEP 552).
    """
    prefix, python = shlex.quote(str(container.prefix)), shlex.quote(f"{container.prefix}/bin/python")
    compiled = f"{python} -m compileall -q --invalidation-mode unchecked-hash {prefix}/lib > /dev/null || true"
    return " && ".join(
        [
            f"micromamba create --yes --no-rc --no-pyc --prefix {prefix} --file {_LIST}",
            f": > {prefix}/conda-meta/history",
            f"if [ -x {python} ]; then {compiled}; fi",
        ]
    )


Kind = Literal["dockerfile", "apptainer"]

_MAIN = {"dockerfile": ("Dockerfile", render_dockerfile), "apptainer": ("view.def", render_apptainer)}


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into an image.

    Attributes:
        lock_text: the lock's file.
        licenses: archive -> licence, where known.
    """

    container: Container
    lock: Lock
    lock_text: str
    licenses: Mapping[str, str] = field(default_factory=dict)


def image_files(contents: Contents) -> dict[str, PrefixFile]:
    """Return the files that the view gets in an image besides its packages, by their path below the prefix."""
    from mlviews.render.sbom import SBOM, render_sbom  # noqa: PLC0415  (takes time to import; definitions need none)

    container, lock = contents.container, contents.lock
    release = container.release
    scripts = {"with-scripts": PrefixFile(render_scripts(container), executable=True)} if container.scripts else {}
    return {
        **prefix_files(release),
        **scripts,
        RELEASE_LOCK: PrefixFile(contents.lock_text),
        RELEASE_FILE: PrefixFile(sealed(release)),
        SBOM: PrefixFile(render_sbom(lock, [release.platform], licenses=contents.licenses)),
    }


def definition_files(kind: Kind, contents: Contents, *, mirrors: Mapping[str, str]) -> dict[str, PrefixFile]:
    """Return the files of a definition's folder by their path, the definition first.

    Args:
        mirrors: the site's; those that are servers stand in the list of packages, without what is secret in them.

    Raises:
        RefusedError: the packages lie in folders of this host, where no image builder sees them.
    """
    container, lock = contents.container, contents.lock
    platform = container.release.platform
    if here := next((package for package in lock.on(platform) if package.url.startswith("file:")), None):
        raise RefusedError(
            "container-local",
            f"the lock of {lock.view} names files of this host, which an image builder cannot read: {here.url}",
            f"`mlviews container build {lock.view}` makes the image from the packages here.",
        )
    name, render = _MAIN[kind]
    inside = image_files(contents)
    return {
        name: PrefixFile(render(container)),
        "explicit.txt": PrefixFile(render_explicit(lock, platform, strong=True, mirrors=_servers(mirrors))),
        **{f"view/{path}": file for path, file in inside.items()},
    }


def _servers(mirrors: Mapping[str, str]) -> dict[str, str]:
    """Return those of a site's mirrors that are servers, by the channel's URL; whoever builds brings the credentials.

    A mirror with a token in its path is left out: its URL is a secret.
    """
    return {url: server.url for url, server in mirror_servers(mirrors).items() if hide(server.url) == server.url}


_UNPACKED = "/cvmfs/unpacked.cern.ch"
# Under which name CERN's repository of unpacked images keeps those of Docker's registry.
_REGISTRIES = {"docker.io": "registry.hub.docker.com"}


def unpacked(reference: str) -> str:
    """Return where CERN's CVMFS repository of unpacked images keeps an image, once it is on its list."""
    registry, _, rest = reference.partition("/")
    return f"{_UNPACKED}/{_REGISTRIES.get(registry, registry)}/{rest}"
