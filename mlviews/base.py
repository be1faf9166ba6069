"""The release that a view extends: where it is, and what of it a solve and a lock must know."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.conda.records import CondaRecord, conda_record_files, load_conda_record, read_conda_records
from mlviews.errors import FailedError, NotBuiltError, RefusedError, nearest
from mlviews.files.reading import RELEASE_FILE, content, is_folder_at, link_text
from mlviews.files.storefile import parse
from mlviews.recipe.view import spec_name
from mlviews.release import Activation, Release, ReleaseBase, ReleasePackage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from rattler import RepoDataRecord


_LIBRARY = re.compile(r"(?:.*/)?(lib[^/]+\.so)(?:\.[0-9.]+)?")
_MANGLED = re.compile(r"-[0-9a-f]{8,}\.so")  # by auditwheel, so that nobody else's is taken for it


@dataclass(frozen=True, slots=True)
class Base:
    """A release that is there, and that another view extends."""

    release: Release

    @property
    def name(self) -> str:
        """VIEW/RELEASE."""
        return self.release.label

    @property
    def python(self) -> str:
        """The version and build of its Python."""
        return next(f"{one.version} {one.build}" for one in self.release.packages if one.name == "python")

    @property
    def inputs(self) -> Mapping[str, str]:
        """What a lock on top of it depends on: its content, wherever it lies."""
        return {"view": self.release.view, "lock": self.release.lock_digest, "python": self.python}

    @property
    def stated(self) -> ReleaseBase:
        """What a release on top of it says of it."""
        release = self.release
        return ReleaseBase(
            view=release.view, release=release.release, prefix=release.prefix, lock_digest=release.lock_digest
        )

    def records(self, replace: Collection[str]) -> tuple[RepoDataRecord, ...]:
        """Return its packages as repodata; what they ask of the host they were given when it was built.

        Args:
            replace: packages in whose place others may go: they are left out, and what others ask of them.

        Raises:
            RefusedError: it does not hold one that is to be replaced, or that is its Python.
        """
        from rattler import BuildString, PackageRecord, RepoDataRecord  # noqa: PLC0415  (only a solve needs them)

        self._refuse_unknown(replace)

        def stays(texts: Iterable[str]) -> list[str]:
            return [text for text in texts if not text.startswith("__") and spec_name(text) not in replace]

        found = []
        for file in conda_record_files(Path(self.release.prefix)):
            said = load_conda_record(file)
            if said["name"] in replace:
                continue
            record = PackageRecord(
                said["name"],
                said["version"],
                BuildString(said["build"]),
                int(said.get("build_number") or 0),
                self.release.platform,
                depends=stays(said.get("depends") or ()),
                constrains=stays(said.get("constrains") or ()),
            )
            archive = f"{said['name']}-{said['version']}-{said['build']}.conda"
            found.append(RepoDataRecord(record, archive, file.as_uri(), _HERE))
        return tuple(found)

    def _refuse_unknown(self, replace: Collection[str]) -> None:
        there = {one.name for one in self.release.packages} - {"python", "python_abi"}
        if unknown := sorted({*replace} - there):
            raise RefusedError(
                "replace-unknown",
                f"{self.name} has no {', '.join(unknown)} that could be replaced{nearest(unknown[0], there)}",
                f"`mlviews packages {self.release.view}` lists its packages. Its Python cannot be replaced.",
            )

    def replaced(self, packages: Iterable[ReleasePackage]) -> dict[str, str]:
        """Return which of its packages those of a release on top go in front of: name -> both versions, in words."""
        has = {one.name: one.version for one in self.release.packages if one.name != "python"}
        return {one.name: f"{one.version}, not {has[one.name]}" for one in packages if one.name in has}

    def broken(self, packages: Sequence[ReleasePackage]) -> dict[str, str]:
        """Return which of its packages ask for something else than they get then: name -> what they ask for."""
        from rattler import BuildString, MatchSpec, PackageRecord  # noqa: PLC0415  (takes time to import)

        fronts = self.replaced(packages)
        new = {
            one.name: PackageRecord(one.name, one.version, BuildString(one.build), 0, self.release.platform)
            for one in packages
            if one.name in fronts
        }
        found: dict[str, str] = {}
        for file in conda_record_files(Path(self.release.prefix)) if new else ():
            said = load_conda_record(file)
            asked = [text for text in said.get("depends") or () if spec_name(text) in new]
            unmet = [text for text in asked if not MatchSpec(text).matches(new[spec_name(text)])]
            if unmet and said["name"] not in new:
                found[said["name"]] = ", ".join(unmet)
        return found


_HERE = "file:///base"  # stands for the channel of packages that are there


def find_base(on: str, root: Path, platform: str) -> Base:
    """Return the release that a recipe's ``on`` names.

    Args:
        on: ``VIEW``, which means its default, or ``VIEW/RELEASE``; or the path of one of these below another root.

    Raises:
        RefusedError: there is none, it has no Python, it extends another one itself, or lies where it was not made for.
    """
    place = Path(on) if on.startswith("/") else root / "envs" / on
    name = link_text(place / "default")
    folder = (place / name if name else place) / platform
    text = content(folder / RELEASE_FILE)
    if text is None:
        message = f"there is no release of {on} for {platform} in {place}"
        hint = "Build it, or name where it is: /ROOT/envs/VIEW, or /ROOT/envs/VIEW/RELEASE."
        if on.startswith("/"):
            raise RefusedError("base-missing", message, hint)
        raise NotBuiltError("base-missing", message, hint, view=on.partition("/")[0])
    release = parse(Release, text, folder / RELEASE_FILE)
    if release.base is not None:
        base = release.base
        raise RefusedError(
            "base-extends",
            f"{release.view} extends {base.view}: mlviews puts no view on top of such a view",
            f"Extend {base.view}, and ask there for the packages of both.",
        )
    if not release.has_python:
        raise RefusedError("base-no-python", f"{release.view} holds no Python", "Extend a view that does.")
    prefix = Path(release.prefix)
    if not is_folder_at(prefix, follow=True) or not prefix.samefile(folder):
        raise FailedError(
            "base-elsewhere",
            f"{folder} was made for {prefix}, which is not that folder on this host",
            "Its programs run only in that folder. Mount it there, or build the view again.",
        )
    return Base(release)


def second_libraries(records: Iterable[CondaRecord], base: Base, replace: Collection[str]) -> tuple[str, ...]:
    """Return shared libraries in a prefix that its base has too: two copies of one in a process crash or disagree.

    Those that a wheel has renamed, so that only its own modules find them, are none.

    Args:
        replace: packages of the base whose libraries do not count: others go in their place.
    """
    own, has = _libraries(records), _libraries(read_conda_records(Path(base.release.prefix)))
    both = [name for name in own if name in has and has[name] not in replace]
    return tuple(f"{own[name]} brings {name}, and so does {has[name]}" for name in both)


def _libraries(records: Iterable[CondaRecord]) -> dict[str, str]:
    found = {}
    for record in records:
        for path in record.files:
            if (match := _LIBRARY.fullmatch(path)) and not _MANGLED.search(match[1]):
                found[match[1]] = record.name
    return found


def on_top(base: Activation, own: Activation, prefix: str) -> Activation:
    """Return what loading a view changes that extends another one: its own folders come first, the rest is the base's.

    ``CONDA_PREFIX`` stays the base's: by it, packages find headers and libraries, which are there. Jupyter finds the
    base's kernels and extensions.

    Args:
        base: what loading the base changes.
        own: what the view's own packages change.
        prefix: the base's.
    """
    settled = {*base.set, *base.default, *base.around, *base.unset}
    found = {"JUPYTER_PATH": (f"{prefix}/share/jupyter",), "JUPYTER_CONFIG_PATH": (f"{prefix}/etc/jupyter",)}

    def joined(first: Mapping[str, tuple[str, ...]], then: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        names = dict.fromkeys([*first, *then])
        return {name: tuple(dict.fromkeys([*first.get(name, ()), *then.get(name, ())])) for name in names}

    return Activation(
        prepend=joined(own.prepend, base.prepend),
        append=joined(joined(base.append, own.append), {k: v for k, v in found.items() if k not in settled}),
        set={**{name: value for name, value in own.set.items() if name not in settled}, **base.set},
        default={**{name: value for name, value in own.default.items() if name not in settled}, **base.default},
        around={**{name: value for name, value in own.around.items() if name not in settled}, **base.around},
        unset=tuple(dict.fromkeys([*base.unset, *(name for name in own.unset if name not in settled)])),
        notes=own.notes,
    )
