"""A Dockerfile and an Apptainer definition of a view: its locked packages in a small base image, solved by nobody.

Dockerfiles keep to what docker, podman, buildah and their rootless forms all read: no here-documents, no `COPY --link`,
no SHELL, which images in OCI's format do not have.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from mlviews.render import escape

if TYPE_CHECKING:
    from mlviews.container.describe import Container

__all__ = ["ENVIRONMENT_PATH", "environment", "render_apptainer", "render_dockerfile", "render_scripts"]

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
    """Return the variables of the image that have one value; lists of folders are `Container.loading`'s ``prepend``."""
    change = container.loading
    return {**container.gpu, **dict.fromkeys(change.unset, ""), **change.set}


def _values(container: Container) -> dict[str, Any]:
    release = container.release
    return {
        "view": release.view,
        "summary": release.summary,
        "module": release.module,
        "mlviews": release.mlviews,
        "lock": release.lock_digest,
        "platform": release.platform,
        "remarks": container.remarks,
        "installer": container.installer,
        "base": container.base,
        "labels": container.labels,
        "environment": dict(sorted(environment(container).items())),
        "prepend": {name: ":".join(folders) for name, folders in container.loading.prepend.items() if name != "PATH"},
        "path": ":".join([*container.loading.prepend.get("PATH", ()), ENVIRONMENT_PATH]),
        "prefix": str(container.prefix),
        "install": ["/bin/sh", "-c", _install(container)],
        "entrypoint": list(container.entrypoint),
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
