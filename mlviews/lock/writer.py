"""Lock -> lock file, through conda-lock's own models, so that conda-lock, micromamba and pixi read it.

Importing conda-lock takes half a second: only locking does.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from conda_lock.content_hash import compute_content_hashes
from conda_lock.lockfile.v2prelim.models import HashModel, LockedDependency, Lockfile, LockMeta
from conda_lock.models.lock_spec import LockSpecification
from conda_lock.src_parser.conda_common import conda_spec_to_versioned_dep
from conda_lock.virtual_package import virtual_package_repo_from_specification

from mlviews.errors import FailedError
from mlviews.lock.lockfile import RecordRest

if TYPE_CHECKING:
    from mlviews.lock.lockfile import Lock
    from mlviews.recipe.compose import ViewSpec

__all__ = ["lock_text"]

_Dumper: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_HEADER = """\
# Made by mlviews from the recipe {view}: do not edit, change the recipe and run `mlviews lock {view}`.
# Other tools read it too, for example: conda-lock install -n {view} {view}.conda-lock.yml
"""


def lock_text(lock: Lock, spec: ViewSpec) -> str:
    """Return the lock file's text; the same lock always gives the same bytes.

    Raises:
        FailedError: there is no room for temporary files, by way of which conda-lock computes its hash.
    """
    try:
        content_hash = _content_hash(lock, spec)
    except OSError as error:
        raise FailedError(
            "write-failed",
            f"a temporary file cannot be written: {error.strerror}",
            "Make room, or name another folder for temporary files in TMPDIR.",
        ) from error
    content = Lockfile(
        package=[
            LockedDependency(
                name=package.name,
                version=package.version,
                manager="conda",
                platform=package.platform,
                dependencies=dict(package.dependencies),
                url=package.url,
                hash=HashModel(md5=package.md5, sha256=package.sha256),
                categories={"main"},
            )
            for package in lock.packages
        ],
        metadata=LockMeta(
            content_hash=content_hash,
            channels=lock.inputs["channels"],
            platforms=list(lock.platforms),
            sources=[f"../recipes/{lock.view}.yaml"],
            custom_metadata={
                "mlviews-view": lock.view,
                "mlviews-inputs": json.dumps(lock.inputs, sort_keys=True),
                "mlviews-recipe-digest": lock.recipe_digest,
                "mlviews-lock-digest": lock.digest,
                "mlviews-solver": lock.solver,
                "mlviews-sizes": " ".join(str(package.size) for package in lock.packages),
                **_rests(lock),
            },
        ),
    )
    content.alphasort_inplace()
    body = yaml.dump(content.to_v1().dict_for_output(), Dumper=_Dumper, sort_keys=False, width=4096)
    return _HEADER.format(view=lock.view) + str(body)


def _rests(lock: Lock) -> dict[str, str]:
    """Return what `RecordRest` keeps: JSON, with a line for each package, for those who compare two locks."""
    if all(package.rest is None for package in lock.packages):
        return {}
    said = {f"{package.platform}/{package.name}": package.rest for package in lock.packages}
    lines = [f"{json.dumps(key)}: {_json(rest)}" for key, rest in said.items() if rest != RecordRest()]
    return {"mlviews-rest": "{" + ",".join(f"\n{line}" for line in lines) + "\n}"}


def _json(rest: RecordRest | None) -> str:
    return json.dumps(rest and {key: value for key, value in asdict(rest).items() if value})


def _content_hash(lock: Lock, spec: ViewSpec) -> dict[str, str]:
    """Return what ``conda-lock lock --check-input-hash`` computes for these specs and virtual packages."""
    dependencies = [conda_spec_to_versioned_dep(request.text, "main") for request in spec.dependencies]
    virtual = {
        platform: {
            "packages": {
                package.name: f"{package.version} {package.build}" if package.build != "0" else package.version
                for package in spec.hardware.virtual_packages(platform)
            }
        }
        for platform in lock.platforms
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.dump({"subdirs": virtual}, file, Dumper=_Dumper)
        file.flush()
        repodata = virtual_package_repo_from_specification(Path(file.name))
    specification = LockSpecification(
        dependencies={platform: list(dependencies) for platform in lock.platforms},
        channels=list(lock.inputs["channels"]),
        sources=[],
    )
    return compute_content_hashes(specification, repodata)
