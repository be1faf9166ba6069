"""A release -> an OCI image: its packages installed for their place in the image, layer by layer, on a base.

Nothing is solved, and nothing runs inside: no container tool is needed, and nobody's rights.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlviews.conda.records import installed_licenses
from mlviews.container.definitions import ENVIRONMENT_PATH, Contents, environment, image_files
from mlviews.container.describe import Container, of_release
from mlviews.container.images import base_file
from mlviews.container.layers import ImageLayer, parts_of, write_layers
from mlviews.container.oci import ARCHITECTURES, EPOCH, MANIFEST, Base, Blob, open_base, to_json, write_archive
from mlviews.errors import RefusedError
from mlviews.files.writing import make_folder, replacing, write_atomically, write_failure
from mlviews.lock.parse import read_lock
from mlviews.prefix.bytecode import compile_modules
from mlviews.prefix.install import Prefix, installed
from mlviews.prefix.linkscripts import carry_over
from mlviews.release import RELEASE_LOCK, Release
from mlviews.site.model import IMAGE, base_for, is_pinned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlviews.lock.lockfile import Lock
    from mlviews.progress import Progress
    from mlviews.site.profile import Site

_CONFIG = "application/vnd.oci.image.config.v1+json"
_CREATED = datetime.fromtimestamp(EPOCH, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class LayerLine:
    """One layer of an image.

    Attributes:
        holds: whose files: one large package's, `packages` the others', `view` mlviews' own.
        bytes: compressed.
    """

    holds: str
    digest: str
    bytes: int


@dataclass(frozen=True, slots=True)
class ContainerBuildResult:
    """An image that was written, and where it went: ``mlviews container build VIEW``.

    Attributes:
        lock: the lock's digest.
        digest: what a registry knows the image by.
        config: digest of its configuration: the image's id in podman and docker.
        base: the base image: a name or a file.
        bytes: of all layers, compressed.
        layers: on top of the base's.
        remarks: what makes the image less than certain, such as a base without a digest.
        archive: the OCI archive that was written.
        pushed: where it was pushed to.
        sif: the Apptainer image that was written.
    """

    view: str
    release: str
    lock: str
    platform: str
    digest: str
    config: str
    base: str
    base_digest: str
    bytes: int
    layers: Sequence[LayerLine]
    remarks: Sequence[str]
    archive: Path | None
    pushed: str | None
    sif: Path | None


def _remarks(base: str, digest: str) -> tuple[str, ...]:
    """Say what the next image may not have."""
    if is_pinned(base) or not re.fullmatch(IMAGE, base):
        return ()
    return (f"the base {base} is a tag, and a tag can move to another image; it was {base}@{digest}",)


def build_image(
    prefix: Path, release: Release, site: Site, output: Path, *, base: str | None, progress: Progress
) -> ContainerBuildResult:
    """Make the image of a release.

    Packages come from the site's cache; what it lost is fetched again and checked against the lock.

    Args:
        site: whose cache and base image are used.
        output: the OCI archive that is written.
        base: stands for the site's base image: a file or a name.

    Raises:
        RefusedError: the site has no base image for the view, or it extends another one.
        BadInputError: the base is no image for the view's platform.
        KeyboardInterrupt: Ctrl-C; ``output`` is what it was.
    """
    lock = _lock_of(prefix, release)
    wanted = base or base_for(release.glibc or "", site.container)
    file = base_file(wanted, site.cache, ARCHITECTURES[release.platform], progress=progress)
    make_folder(site.cache)
    make_folder(output.parent)
    with (
        open_base(file, release.platform) as found,
        tempfile.TemporaryDirectory(prefix=".image-", dir=site.cache) as name,
    ):
        container, tree = of_release(release, lock, site.container, base=_pinned(wanted, found)), Path(name) / "tree"
        _fill(tree, container, prefix, release, lock=lock, site=site, progress=progress)
        parts = parts_of(tree)
        with progress("Packing", total=sum(part.size for part in parts), unit="bytes") as advance:
            layers = write_layers(parts, tree, container.prefix, Path(name), advance)
        with progress("Writing the image"):
            manifest, config = _write(container, found, layers, output)
    return ContainerBuildResult(
        view=release.view,
        release=release.release,
        lock=release.lock_digest,
        platform=release.platform,
        digest=manifest.digest,
        config=config.digest,
        base=wanted,
        base_digest=found.digest,
        bytes=found.size + sum(layer.blob.size for layer in layers),
        layers=[LayerLine(layer.title, layer.blob.digest, layer.blob.size) for layer in layers],
        remarks=_remarks(wanted, found.digest),
        archive=output,
        pushed=None,
        sif=None,
    )


def _lock_of(prefix: Path, release: Release) -> Lock:
    """Return the lock that a release was made from, if an image of it would be whole."""
    if release.base:
        raise RefusedError(
            "image-extension",
            f"{release.view} extends {release.base.view}, and an image would not hold that base",
            f"Make a view of both: a recipe with what {release.base.view} has, and `pypi`.",
        )
    lock = read_lock(prefix / RELEASE_LOCK)
    if lock.digest != release.lock_digest:
        raise RefusedError(
            "release-broken", f"{prefix / RELEASE_LOCK} is not the lock of its release", f"Build {release.view} again."
        )
    return lock


def _fill(
    tree: Path, container: Container, prefix: Path, release: Release, *, lock: Lock, site: Site, progress: Progress
) -> None:
    """Install into a folder what an image holds of the view, as it is to lie in there."""
    source = Prefix(prefix, Path(release.prefix), release.platform)
    target = Prefix(tree, Path(container.prefix), release.platform)
    with installed(lock, target, site=site, progress=progress):
        # As they ran in the release: there is no container here yet that they could run in.
        records = carry_over(release.link_scripts, source, target)
        records = compile_modules(tree, records, platform=release.platform, cache=site.cache, progress=progress)
    text = (prefix / RELEASE_LOCK).read_text(encoding="utf-8")
    contents = Contents(container, lock, text, installed_licenses(records))
    for path, content in image_files(contents).items():
        write_atomically(tree / path, content.text, executable=content.executable)


def _pinned(wanted: str, base: Base) -> str:
    """Return the base's name with the digest that it had; of a file the digest alone: where it lay concerns nobody."""
    if is_pinned(wanted):
        return wanted
    return f"{wanted if re.fullmatch(IMAGE, wanted) else ''}@{base.digest}"


def _write(container: Container, base: Base, layers: Sequence[ImageLayer], output: Path) -> tuple[Blob, Blob]:
    """Write the archive; return its manifest and its configuration."""
    config = _blob(_CONFIG, _config(container, base, layers))
    name = f"{container.release.view}:{container.release.release}"
    labels = {key: container.labels[key] for key in container.labels if key.startswith("org.opencontainers.image.")}
    blobs = [layer.blob for layer in layers]
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor,
        "layers": [*base.layers, *(blob.descriptor for blob in blobs)],
        "annotations": labels,
    }
    manifest = _blob(MANIFEST, content)
    try:
        with replacing(output) as part:
            write_archive(part, base, [config, *blobs], manifest, name=name)
    except OSError as error:
        raise write_failure(f"{output} cannot be written", error) from error
    return manifest, config


def _blob(kind: str, content: Any) -> Blob:
    text = to_json(content)
    return Blob(kind, f"sha256:{hashlib.sha256(text).hexdigest()}", len(text), text)


def _config(container: Container, base: Base, layers: Sequence[ImageLayer]) -> dict[str, Any]:
    """Return the image's configuration: https://github.com/opencontainers/image-spec/blob/main/config.md."""
    made = [{"created": _CREATED, "created_by": f"mlviews: {layer.title}"} for layer in layers]
    variables = sorted(_environment(container, base.variables).items())
    return {
        **base.config,
        "created": _CREATED,
        "config": {
            **(base.config.get("config") or {}),
            "Env": [f"{name}={value}" for name, value in variables],
            "Labels": {**base.labels, **container.labels},
            "User": "1000:1000",
            "Entrypoint": list(container.entrypoint),
            "Cmd": [container.program],
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [*base.config["rootfs"]["diff_ids"], *(layer.diff_id for layer in layers)],
        },
        "history": [*base.history, *made],
    }


def _environment(container: Container, below: Mapping[str, str]) -> dict[str, str]:
    change = container.loading
    own = change.activation
    return {
        **below,
        **{name: change.around_list(name, below.get(name, "")) for name in (*own.prepend, *own.append)},
        **{name: below.get(name, value) for name, value in own.default.items()},
        **{name: text.put(below.get(name, "")) for name, text in own.around.items()},
        **environment(container),
        "PATH": change.around_list("PATH", below.get("PATH") or ENVIRONMENT_PATH),
    }
