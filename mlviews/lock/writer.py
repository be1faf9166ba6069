"""Lock -> lock file: CEP 37, as conda-lock itself writes it, so that conda-lock, micromamba and pixi read it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import yaml

from mlviews.lock.lockfile import Lock, LockedPackage, RecordRest

_Dumper: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_HEADER = """\
# Made by mlviews from the recipe {view}: do not edit, change the recipe and run `mlviews lock {view}`.
# Other tools read it too, for example: conda-lock install -n {view} {view}.conda-lock.yml
"""


def lock_text(lock: Lock) -> str:
    """Return the lock file's text; the same lock always gives the same bytes.

    Source: CEP 37. Its ``content_hash`` is whatever tells whoever made the lock that the same is asked for: the
    recipe's digest. conda-lock's own would be the hash of other files than ours.
    """
    content = {
        "version": 1,
        "metadata": {
            "content_hash": dict.fromkeys(lock.platforms, lock.recipe_digest),
            "channels": [{"url": channel, "used_env_vars": []} for channel in lock.inputs["channels"]],
            "platforms": list(lock.platforms),
            "sources": [f"../recipes/{lock.view}.yaml"],
            "custom_metadata": {
                "mlviews-view": lock.view,
                "mlviews-inputs": json.dumps(lock.inputs, sort_keys=True),
                "mlviews-recipe-digest": lock.recipe_digest,
                "mlviews-lock-digest": lock.digest,
                "mlviews-solver": lock.solver,
                "mlviews-sizes": " ".join(str(package.size) for package in lock.packages),
                "mlviews-rest": _rests(lock),
                **_made(lock),
            },
        },
        "package": [_package(package) for package in lock.packages],
    }
    body = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=4096)
    return _HEADER.format(view=lock.view) + str(body)


def _package(package: LockedPackage) -> dict[str, Any]:
    return {
        "name": package.name,
        "version": package.version,
        "manager": package.manager,
        "platform": package.platform,
        "dependencies": dict(sorted(package.dependencies.items())),
        "url": package.url,
        "hash": {**({"md5": package.md5} if package.md5 else {}), "sha256": package.sha256},
        "category": "main",
        "optional": False,
    }


def _rests(lock: Lock) -> str:
    """Return what `RecordRest` keeps: JSON, with a line for each package, for those who compare two locks."""
    lines = [
        f"\n{json.dumps(f'{package.platform}/{package.name}')}: {_json(package.rest)}"
        for package in lock.packages
        if package.rest != RecordRest()
    ]
    return "{" + ",".join(lines) + "\n}"


def _made(lock: Lock) -> dict[str, str]:
    made = {f"{package.platform}/{package.name}": package.made for package in lock.packages if package.made}
    if not made:
        return {}
    from mlviews.wheels.made import made_text  # noqa: PLC0415  (few locks have such wheels)

    return {"mlviews-made": made_text(made)}


def _json(rest: RecordRest) -> str:
    return json.dumps({key: value for key, value in asdict(rest).items() if value})
