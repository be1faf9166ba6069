"""How a view's image is used where jobs run: Apptainer, CVMFS, PanDA and HTCondor, with the view's own names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlviews.hardware import GPUS
from mlviews.render import escape

if TYPE_CHECKING:
    from mlviews.container.describe import Container

__all__ = ["render_batch", "unpacked"]

_UNPACKED = "/cvmfs/unpacked.cern.ch"
# Under which name CERN's repository of unpacked images keeps those of Docker's registry.
_REGISTRIES = {"docker.io": "registry.hub.docker.com"}


def render_batch(container: Container) -> str:
    """Return a page in Markdown; every line of it in a code block works once the image is pushed."""
    release = container.release
    oldest = min((GPUS[name] for name in release.gpus), key=lambda gpu: gpu.compute, default=None)
    return escape.render(
        "batch.md",
        "markdown",
        {
            "view": release.view,
            "summary": release.summary,
            "release": release.release,
            "lock": release.lock_digest,
            "image": container.reference,
            "unpacked": unpacked(container.reference),
            "sif": f"{release.view}-{release.release}.sif",
            "archive": f"{release.view}-{release.release}.oci.tar",
            "gpu": release.cuda is not None,
            "cuda": release.cuda or "",
            "gpus": ", ".join(release.gpus),
            "nv": "--nv " if release.cuda else "",
            "capability": f"{oldest.compute // 10}.{oldest.compute % 10}" if oldest else "",
        },
    )


def unpacked(reference: str) -> str:
    """Return where CERN's CVMFS repository of unpacked images keeps an image, once it is on its list."""
    registry, _, rest = reference.partition("/")
    return f"{_UNPACKED}/{_REGISTRIES.get(registry, registry)}/{rest}"
