"""Lock, recipe, site and what loading changes -> all that an image of the view is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import mlviews
from mlviews.lock.lockfile import lock_tag
from mlviews.release import NEVER_INHERITED, Activation, Loading, Release, ReleasePackage, loading
from mlviews.site.model import Images, base_for, is_pinned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.lock.lockfile import Lock
    from mlviews.recipe.view import ViewSpec

NO_REPOSITORY = "registry.example/views"
"""Stands for a repository where the site names none."""

_FOLDER = PurePosixPath("/opt/mlviews")
_EPOCH = datetime.fromtimestamp(0, timezone.utc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """An image of a view, before anybody makes it. The same lock and base give the same value.

    Attributes:
        release: the view as it lies in the image, where its lock takes the place of a release's date.
        installer: the image that installs the packages, in a Dockerfile and an Apptainer definition.
        base: the image that the view is put into.
        reference: what the image is called in its registry.
        labels: by name; of the image as a whole.
        scripts: whether the packages' activation scripts must run at every start, since nobody has captured yet what
            they change.
    """

    release: Release
    installer: str
    base: str
    reference: str
    labels: Mapping[str, str]
    scripts: bool

    @property
    def prefix(self) -> PurePosixPath:
        """Where the view lies in the image."""
        return PurePosixPath(self.release.prefix)

    @property
    def entrypoint(self) -> tuple[str, ...]:
        """What starts a program in the image: it takes out of the environment what the view must not see."""
        launch = str(self.prefix / "launch")
        return (launch, str(self.prefix / "with-scripts")) if self.scripts else (launch,)

    @property
    def program(self) -> str:
        """What starts where nobody names a program."""
        return "python" if self.release.has_python else "sh"

    @property
    def job(self) -> str:
        """An example of a program and its file, for pages on using the image."""
        return "python train.py" if self.release.has_python else "sh job.sh"

    @property
    def loading(self) -> Loading:
        """What the environment of the image holds from the start: some programs are run past the entry point."""
        return loading(self.release)

    @property
    def gpu(self) -> Mapping[str, str]:
        """What NVIDIA's container runtime reads: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/."""
        if self.release.cuda is None:
            return {}
        return {
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            "NVIDIA_REQUIRE_CUDA": f"cuda>={self.release.cuda}",
            "NVIDIA_VISIBLE_DEVICES": "all",
        }

    @property
    def remarks(self) -> tuple[str, ...]:
        """Say which images are pinned by nothing but a tag, and what nobody has captured."""
        floating = (
            f"{image} is a tag, and a tag can move to another image; the site's {key} takes NAME@sha256:DIGEST"
            for key, image in (("container.installer", self.installer), ("container.base", self.base))
            if not is_pinned(image)
        )
        uncaptured = (
            "there is no release of this lock here, so its packages' activation scripts run each time that the entry "
            f"point starts a program, but not for `exec`; `mlviews build {self.release.view}` captures them"
        )
        return (*floating, *([uncaptured] if self.scripts else []))


def of_release(release: Release, lock: Lock, images: Images, *, base: str | None = None) -> Container:
    """Describe the image of a release.

    Args:
        base: stands for the site's base image.

    Raises:
        RefusedError: the site has no base image for the view's glibc.
    """
    prefix = str(_FOLDER / release.view)
    inside = release.model_copy(
        update={
            "mlviews": mlviews.__version__,
            "release": lock_tag(lock.digest),
            "site": "container",
            "prefix": prefix,
            "created": _EPOCH,
            "activation": release.activation.moved(release.prefix, prefix),
            "files": "",  # the files are the image's own
            "seal": "",
        }
    )
    return _container(inside, lock, images, base, scripts=False)


def of_recipe(spec: ViewSpec, lock: Lock, platform: str, images: Images) -> Container:
    """Describe the image of a lock that nobody here has built yet: what loading it changes is not known.

    Args:
        spec: the recipe; what the hardware must be stands in the lock.
        platform: for which of the lock's platforms.

    Raises:
        RefusedError: the site has no base image for the view's glibc.
    """
    prefix, hardware = str(_FOLDER / spec.name), lock.inputs["hardware"]
    inside = Release(
        mlviews=mlviews.__version__,
        view=spec.name,
        release=lock_tag(lock.digest),
        platform=platform,
        summary=spec.summary,
        module=spec.module,
        site="container",
        prefix=prefix,
        lock_digest=lock.digest,
        created=_EPOCH,
        glibc=hardware["glibc"],
        cuda=hardware["cuda"],
        gpus=tuple(hardware["gpus"]),
        requested=tuple(dict.fromkeys(request.name for request in spec.dependencies)),
        some_gpus_only={reason.package: reason.why for reason in spec.some_gpus_only},
        pip_check_waivers={reason.package: reason.why for reason in spec.pip_check_waivers},
        gaps={reason.package: reason.why for reason in spec.gaps},
        packages=tuple(
            ReleasePackage(name=package.name, version=package.version, build=package.build)
            for package in lock.on(platform)
        ),
        activation=Activation(
            prepend={"PATH": (f"{prefix}/bin",)},
            set={"CONDA_PREFIX": prefix, "PYTHONNOUSERSITE": "1"},
            unset=NEVER_INHERITED,
        ),
    )
    return _container(inside, lock, images, None, scripts=True)


def _container(inside: Release, lock: Lock, images: Images, base: str | None, *, scripts: bool) -> Container:
    chosen = base or base_for(inside.glibc or "", images)
    return Container(
        release=inside,
        installer=images.installer,
        base=chosen,
        reference=f"{images.repository or NO_REPOSITORY}/{inside.view}:{inside.release}",
        labels=_labels(inside, lock, images, chosen),
        scripts=scripts,
    )


def _labels(release: Release, lock: Lock, images: Images, base: str) -> dict[str, str]:
    """Return labels by https://github.com/opencontainers/image-spec/blob/main/annotations.md, and our own."""
    name, _, digest = base.partition("@")
    labels = {
        "org.opencontainers.image.title": release.view,
        "org.opencontainers.image.description": release.summary,
        "org.opencontainers.image.version": release.release,
        "org.opencontainers.image.source": images.source,
        "org.opencontainers.image.base.name": name,
        "org.opencontainers.image.base.digest": digest,
        "mlviews.version": release.mlviews,
        "mlviews.module": release.module,
        "mlviews.platform": release.platform,
        "mlviews.recipe": lock.recipe_digest,
        "mlviews.lock": lock.digest,
        "mlviews.glibc": release.glibc,
        "mlviews.cuda": release.cuda,
        "mlviews.gpus": ",".join(release.gpus),
    }
    return {key: value for key, value in labels.items() if value}
