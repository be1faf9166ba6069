#!/usr/bin/env python3
"""Compare what mlviews puts on top of a view with what pip would choose, the view's versions as its constraints.

    python tests/wheels/against_pip.py --slice FOLDER [PACKAGE...]

FOLDER holds ``linux-64/repodata.json`` and its like, as a mirror of conda-forge does. The view holds what most of the
packages need; each package is then locked on top of exactly that, from the index that pip is configured for, and pip,
that of this Python, is asked for the same under the view's versions. Prints a Markdown table. Exit 1 where a difference
has no reason that can be read off what the packages say of themselves.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlviews.hardware import host_glibc
from mlviews.lock.lockfile import LockedPackage, lock_path
from mlviews.lock.parse import read_lock
from mlviews.wheels.requirements import project_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


BASE = ["numpy", "scipy", "pandas", "matplotlib-base", "h5py", "pyyaml", "tqdm", "requests", "jinja2", "rich"]
PACKAGES = [
    *("atlas-ftag-tools", "atlasify", "awkward", "boost-histogram", "cabinetry", "coffea", "correctionlib"),
    *("dask-awkward", "decaylanguage", "fastjet", "func-adl", "hepunits", "hist", "histoprint", "iminuit", "mplhep"),
    *("numba-stats", "particle", "puma-hep", "pyhepmc", "pyhf", "pylhe", "salt-ml", "servicex", "uproot", "vector"),
    *("xgboost", "zfit"),
]
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
SDIST = "atlasify"  # it has no wheel, and puma needs it


@dataclass(frozen=True)
class Choice:
    """What one of the two adds: project -> version, and project -> what it requires there; or why it refuses."""

    versions: Mapping[str, str]
    requires: Mapping[str, Sequence[Requirement]]
    refusal: str = ""


@dataclass(frozen=True)
class Bench:
    """Where things lie while this runs."""

    work: Path

    def mlviews(self, *arguments: object) -> Any:
        """Run one command; return its envelope."""
        options = ("--recipes", self.work / "recipes", "--lockfiles", self.work / "locks", "--root", self.work / "root")
        command = [sys.executable, "-m", "mlviews", *map(str, (*arguments, *options)), "--json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=self.work)
        return json.loads(done.stdout)

    def write(self, name: str, dependencies: Sequence[str], pypi: Sequence[str]) -> None:
        """Write a recipe."""
        recipe = {"schema": 1, "name": name, "summary": name, "module": f"compare/{name}", "platforms": ["linux-64"]}
        recipe |= {"hardware": {"glibc": host_glibc(), "archspec": "x86_64_v3"}, "dependencies": list(dependencies)}
        folder = self.work / "recipes"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(
            yaml.safe_dump({**recipe, **({"pypi": list(pypi), "sdists": [SDIST]} if pypi else {})})
        )

    def lock(self, name: str, channel: Path) -> str:
        """Lock a view; return why that is refused, empty where it is not."""
        said = self.mlviews("lock", name, "--mirror", f"conda-forge={channel}")
        return "; ".join(error["message"] for error in said["errors"])

    def locked(self, name: str) -> tuple[LockedPackage, ...]:
        """Return what a view's lock holds."""
        return read_lock(lock_path(self.work / "locks", name)).packages


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", type=Path, required=True, help="a mirror of conda-forge")
    parser.add_argument("packages", nargs="*", default=PACKAGES)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch))
        bench.write("base", [f"python {MINOR}.*", *BASE], ())
        if refusal := bench.lock("base", given.slice.absolute()):
            sys.exit(refusal)
        base = bench.locked("base")
        alone = _channel_of(base, given.slice, bench.work / "channel")
        held = {project_of(one.name)[0]: one.version for one in base if any("python" in text for text in one.needs)}
        python = next(one.version for one in base if one.name == "python")
        print(f"Python {python}; the view holds {len(base)} packages\n")
        print("| package | mlviews | pip | added by both | why they differ |\n| --- | --- | --- | --- | --- |")
        reasons = [_row(bench, name, base, alone, held) for name in given.packages]
    unclear = [name for name, reason in zip(given.packages, reasons, strict=True) if "?" in reason]
    alike = sum(not reason for reason in reasons)
    print(f"\n{len(reasons)} packages, {alike} alike; unclear: {', '.join(unclear) or '-'}")
    return 1 if unclear else 0


def _channel_of(packages: Iterable[LockedPackage], whole: Path, folder: Path) -> Path:
    """Write a channel that holds these packages alone."""
    files = {package.archive for package in packages}
    for subdir in ("linux-64", "noarch"):
        content = json.loads((whole / subdir / "repodata.json").read_text())
        for table in ("packages", "packages.conda"):
            content[table] = {file: one for file, one in content.get(table, {}).items() if file in files}
        (folder / subdir).mkdir(parents=True)
        (folder / subdir / "repodata.json").write_text(json.dumps(content))
    return folder


def _row(bench: Bench, name: str, base: Sequence[LockedPackage], channel: Path, held: Mapping[str, str]) -> str:
    """Print one package's row; return why the two differ, with ``?`` where that is not known."""
    ours, pips = _ours(bench, name, base, channel), _pips(name, held)
    reason = "; ".join(_differences(ours, pips, held))
    both = sum(pips.versions.get(project) == version for project, version in ours.versions.items())
    chosen = ("refused" if one.refusal else one.versions.get(canonicalize_name(name), "?") for one in (ours, pips))
    cells = (name, *chosen, f"{both} of {len(ours.versions)}", reason)
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return reason


def _ours(bench: Bench, name: str, base: Sequence[LockedPackage], channel: Path) -> Choice:
    bench.write(f"on-{name}", [f"{one.name} =={one.version} {one.build}" for one in base], [name])
    if refusal := bench.lock(f"on-{name}", channel):
        return Choice({}, {}, refusal)
    wheels = [one for one in bench.locked(f"on-{name}") if one.manager == "pip"]
    needed = {one.name: [Requirement(f"{key}{value}") for key, value in one.dependencies.items()] for one in wheels}
    return Choice({one.name: one.version for one in wheels}, needed)


def _pips(name: str, held: Mapping[str, str]) -> Choice:
    with tempfile.TemporaryDirectory() as scratch:
        lines = [f"{project}=={version}\n" for project, version in held.items()]
        (Path(scratch) / "constraints.txt").write_text("".join(lines))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += [
            "--only-binary=:all:",
            f"--no-binary={SDIST}",
            "--report=report.json",
            "--constraint=constraints.txt",
        ]
        done = subprocess.run([*command, name], check=False, capture_output=True, text=True, cwd=scratch)
        if done.returncode:
            return Choice({}, {}, next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "?"))
        items = json.loads((Path(scratch) / "report.json").read_text())["install"]
    found = {canonicalize_name(item["metadata"]["name"]): item["metadata"] for item in items}
    new = {project: said for project, said in found.items() if project not in held}
    needed = {key: [Requirement(text) for text in said.get("requires_dist", ())] for key, said in new.items()}
    return Choice({key: said["version"] for key, said in new.items()}, needed)


def _differences(ours: Choice, pips: Choice, held: Mapping[str, str]) -> Iterable[str]:
    """Yield why each project differs."""
    if ours.refusal or pips.refusal:
        said = {"mlviews": ours.refusal, "pip": pips.refusal}
        yield from (f"{who}: {_short(why)}" for who, why in said.items() if why)
        return
    for project in sorted({*ours.versions, *pips.versions}):
        mine, other = ours.versions.get(project, ""), pips.versions.get(project, "")
        if mine == other:
            continue
        against = [*_against(ours, project, other), *_against(pips, project, mine)] if mine and other else []
        lacking = "" if (mine and other) or project in held else _only(project, pips if other else ours)
        yield f"{project} {mine or '-'}, pip {other or '-'}: {'; '.join(against) or lacking or '?'}"


def _short(words: str) -> str:
    return re.sub(r" \(/[^)]*\)", "", " ".join(words.split()))[:600]


def _against(choice: Choice, project: str, version: str) -> Iterable[str]:
    """Yield who, of what one of the two chose, does not bear a version."""
    for who, lines in choice.requires.items():
        for line in lines:
            if canonicalize_name(line.name) == project and not line.specifier.contains(version, prereleases=True):
                yield f"{who} {choice.versions[who]} asks for {line.name}{line.specifier}"


def _only(project: str, choice: Choice) -> str:
    """Say who asks for what only one of the two has."""
    who = [name for name, lines in choice.requires.items() if any(canonicalize_name(o.name) == project for o in lines)]
    return f"asked for by {', '.join(f'{name} {choice.versions[name]}' for name in who)}" if who else ""


if __name__ == "__main__":
    sys.exit(main())
