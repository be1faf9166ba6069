"""Images in OCI's layout, read from an archive or a folder and written to an archive.

See https://github.com/opencontainers/image-spec/blob/main/image-layout.md. What is written is sorted and bears fixed
times: the same layers on the same base give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from mlviews.errors import BadInputError
from mlviews.files.writing import HashingReader

_Reader = Callable[[str], IO[bytes]]
"""Opens a file of a layout by its path; KeyError or OSError where there is none."""
EPOCH = 315532800
"""1980-01-01, the time of everything in an image: the first that zip files, such as wheels, can hold."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_LAYOUT = {"imageLayoutVersion": "1.0.0"}
ARCHITECTURES = {"linux-64": "amd64", "linux-aarch64": "arm64", "linux-ppc64le": "ppc64le"}
_LARGEST_JSON = 16 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """Content by its digest: bytes, or a file that holds them."""

    media_type: str
    digest: str
    size: int
    content: bytes | Path

    @property
    def descriptor(self) -> dict[str, Any]:
        """How other parts of an image name it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Base:
    """An image to build on.

    Attributes:
        digest: of its manifest.
        layers: the descriptors of its layers, the lowest first.
        size: of all layers, in bytes.
        config: what it says of itself.
        variables: what its environment holds.
        history: how its layers were made.
    """

    digest: str
    layers: tuple[Mapping[str, Any], ...]
    size: int
    config: Mapping[str, Any]
    variables: Mapping[str, str]
    labels: Mapping[str, str]
    history: tuple[Mapping[str, Any], ...]
    _read: _Reader
    _name: str

    @contextmanager
    def blob(self, descriptor: Mapping[str, Any]) -> Iterator[IO[bytes]]:
        """Open one blob for reading; at the end it must have been what its digest says.

        Raises:
            BadInputError: it is missing, or is not.
        """
        with _reading(self._name), self._read(_path(descriptor["digest"])) as source:
            checked = HashingReader(source)
            yield cast("IO[bytes]", checked)
            if f"sha256:{checked.digest.hexdigest()}" != descriptor["digest"] or source.read(1):
                raise ValueError(f"{descriptor['digest']} has other bytes than its digest says")


@contextmanager
def open_base(path: Path, platform: str) -> Iterator[Base]:
    """Open an image in an OCI archive or layout folder, for as long as the context lasts.

    Args:
        platform: the conda subdir that it must be for; of an image for many it is the part that is read.

    Raises:
        BadInputError: it is no such image.
    """
    name = str(path)
    if path.is_dir():
        yield _base(lambda part: (path / part).open("rb"), name, platform)
        return
    with _reading(name):
        archive = tarfile.open(path)  # noqa: SIM115  (closed below)
    with archive:

        def read(part: str) -> IO[bytes]:
            # GNU tar writes ./index.json where others write index.json
            file = archive.extractfile(next((m for m in (part, f"./{part}") if m in names), part))
            if file is None:
                raise KeyError(part)
            return file

        with _reading(name):
            names = set(archive.getnames())
        yield _base(read, name, platform)


def _base(read: _Reader, name: str, platform: str) -> Base:
    with _reading(name):
        index = _json(read, "index.json")
        descriptor = _manifest(index, read, platform, name)
        manifest = _json(read, _path(descriptor["digest"]), descriptor["digest"])
        config = _json(read, _path(manifest["config"]["digest"]), manifest["config"]["digest"])
        if config["architecture"] != ARCHITECTURES[platform] or config["os"] != "linux":
            found = f"{config['os']} on {config['architecture']}"
            raise _broken(name, f"it is for {found}, but the view is for {platform}")
        layers, running = manifest["layers"], config.get("config") or {}
        for layer in layers:
            _path(layer["digest"])
        if len(layers) != len(config["rootfs"]["diff_ids"]):
            raise _broken(name, "its manifest and its configuration do not name the same layers")
        return Base(
            digest=descriptor["digest"],
            layers=tuple(layers),
            size=sum(layer["size"] for layer in layers),
            config=config,
            variables=dict(entry.split("=", 1) for entry in running.get("Env") or ()),
            labels=dict(running.get("Labels") or {}),
            history=tuple(config.get("history") or ()),
            _read=read,
            _name=name,
        )


def _manifest(index: Mapping[str, Any], read: _Reader, platform: str, name: str) -> Mapping[str, Any]:
    """Return the descriptor of the one manifest for a platform; an index may hold others, and further indexes."""
    architecture = ARCHITECTURES[platform]
    fitting = [
        item
        for item in index["manifests"]
        if item.get("platform", {}).get("architecture", architecture) == architecture
        and item.get("platform", {}).get("os", "linux") == "linux"
    ]
    if not fitting:
        raise _broken(name, f"it holds nothing for {platform}")
    if len(fitting) > 1:
        raise _broken(name, f"it holds {len(fitting)} images for {platform}")
    if fitting[0]["mediaType"] == _INDEX:
        return _manifest(_json(read, _path(fitting[0]["digest"]), fitting[0]["digest"]), read, platform, name)
    found: Mapping[str, Any] = fitting[0]
    return found


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn what is wrong with an image into an error for people: it may be anyone's."""
    try:
        yield
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError, tarfile.TarError) as error:
        raise _broken(name, f"{type(error).__name__}: {error}") from error


def _broken(name: str, why: str) -> BadInputError:
    return BadInputError(
        "base-invalid",
        f"{name} cannot be the base of an image: {why}",
        "Name an OCI archive or layout, such as `skopeo copy docker://IMAGE oci-archive:FILE` writes.",
    )


def _json(read: _Reader, path: str, digest: str | None = None) -> Any:
    with read(path) as file:
        text = file.read(_LARGEST_JSON)
    if digest and f"sha256:{hashlib.sha256(text).hexdigest()}" != digest:
        raise ValueError(f"{digest} has other bytes than its digest says")
    return json.loads(text)


def _path(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != len(hashlib.sha256().hexdigest()) or not value.isalnum():
        raise ValueError(f"{digest!r} is not a sha256 digest")
    return f"blobs/sha256/{value}"


def to_json(content: object) -> bytes:
    """Return the one form in which the project writes parts of images."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def write_archive(path: Path, base: Base, blobs: Iterable[Blob], manifest: Blob, *, name: str) -> None:
    """Write an image as an OCI archive, which skopeo, podman, buildah and Apptainer read.

    Args:
        blobs: what is new, without the manifest.
        name: what the image is called in the archive.
    """
    named = {**manifest.descriptor, "annotations": {"org.opencontainers.image.ref.name": name}}
    index = to_json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [named]})
    new = {blob.digest: blob for blob in (*blobs, manifest)}
    old = {layer["digest"]: layer for layer in base.layers if layer["digest"] not in new}
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for folder in ("blobs", "blobs/sha256"):
            archive.addfile(member(folder, kind=tarfile.DIRTYPE, mode=0o755))
        for digest in sorted([*new, *old]):
            blob = new.get(digest)
            with _opened(blob) if blob else base.blob(old[digest]) as content:
                archive.addfile(member(_path(digest), size=blob.size if blob else old[digest]["size"]), content)
        for part, text in (("index.json", index), ("oci-layout", to_json(_LAYOUT))):
            archive.addfile(member(part, size=len(text)), io.BytesIO(text))


def _opened(blob: Blob) -> IO[bytes]:
    return io.BytesIO(blob.content) if isinstance(blob.content, bytes) else blob.content.open("rb")


def member(name: str, *, size: int = 0, kind: bytes = tarfile.REGTYPE, mode: int = 0o644) -> tarfile.TarInfo:
    """Return a member of an archive: root's, of the time that everything has."""
    made = tarfile.TarInfo(name)
    made.type, made.size, made.mode, made.mtime = kind, size, mode, EPOCH
    return made
