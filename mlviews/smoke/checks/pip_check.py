"""Every installed package finds what it says it needs, in the version that it says, as ``pip check`` has it.

Views hold no pip, so the metadata is read here; the versions and markers are judged by ``packaging``, pip's own judge:
the copy in the folder that the command line names first, else one that is installed. Packages named after it may lack
what they say that they need: what they lack is told, and is no fault.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from _protocol import Check, SkipCheck, run


def main(check: Check) -> str:
    requirements, utils = _packaging(check)
    installed: dict[str, str] = {}
    distributions = list(metadata.distributions())
    for distribution in distributions:
        # The first of a name is the one that is imported.
        installed.setdefault(utils.canonicalize_name(distribution.metadata["Name"]), distribution.version)
    waivers = {utils.canonicalize_name(name) for name in check.arguments[1:]}
    faults: list[str] = []
    waived: list[str] = []
    count = 0
    for distribution in distributions:
        for text in distribution.requires or ():
            requirement = requirements.Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            count += 1
            have = installed.get(utils.canonicalize_name(requirement.name))
            owner = f"{distribution.metadata['Name']} {distribution.version}"
            found = waived if utils.canonicalize_name(distribution.metadata["Name"]) in waivers else faults
            if have is None:
                found.append(f"{owner} needs {requirement}, which is not installed")
            elif not requirement.specifier.contains(have, prereleases=True):
                found.append(f"{owner} needs {requirement}, and {have} is installed")
    check.figures.update(packages=len(installed), requirements=count)
    check.expect(not faults, "; ".join(sorted(faults)))
    check.expect(installed, "no package is installed")
    if waived:
        return f"{count - len(waived)} of {count} requirements are met; waived: {'; '.join(sorted(waived))}"
    return f"{count} requirements of {len(installed)} packages are met"


def _packaging(check: Check) -> tuple[Any, Any]:
    if check.arguments:
        _load_aside(Path(check.arguments[0]))
    for name in ("packaging", "pip._vendor.packaging", "setuptools._vendor.packaging"):
        try:
            return importlib.import_module(f"{name}.requirements"), importlib.import_module(f"{name}.utils")
        except ModuleNotFoundError:
            continue
    raise SkipCheck("neither packaging nor pip is installed")


def _load_aside(folder: Path) -> None:
    """Make ``packaging`` importable from a folder whose neighbours must not be taken for this Python's packages."""
    spec = importlib.util.spec_from_file_location(
        "packaging", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec and spec.loader:
        sys.modules["packaging"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


if __name__ == "__main__":
    run(main)
