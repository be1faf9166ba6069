"""Variants of a view share a module: real module systems, on hosts with the drivers that there are."""

from __future__ import annotations

import shlex
import subprocess
from datetime import datetime, timezone

import pytest

from mlviews.progress import silent
from mlviews.release import ReleaseVariant
from mlviews.store.disk import Store
from mlviews.store.loaders import write_default_loaders, write_release_loaders
from mlviews.store.removal import remove_held, uninstall

SYSTEMS = ["lmod", "newest_lmod", "environment_modules", "newest_environment_modules"]
HOSTS = {
    "none": ("", ""),
    "550": ("550.54.14", "Tesla T4"),
    "580": ("580.65.06", "NVIDIA H100 80GB HBM3"),
    "580 and V100": ("580.65.06", "Tesla V100-SXM2-32GB"),
    "garbage": ("$(touch pwned) [exec touch pwned]", "; exit"),
}


@pytest.fixture
def store(tmp_path, make_release):
    """Return a root with a view, its variant, and a view that has the name of a variant and is none."""
    store = Store(tmp_path, tmp_path)
    add(store, make_release, "plotting")
    add(store, make_release, "plotting-cuda13", variant="cuda13")
    add(store, make_release, "plotting-extra", module="atlasml/extra")
    return store


def add(store, make_release, view, release="2026.11.23", *, variant=None, module="atlasml/plotting", promote=True):
    """Put a release into the store, as a build does."""
    of = ReleaseVariant(name=variant, view="plotting", module=module) if variant else None
    made = make_release(
        view=view,
        release=release,
        module=f"{module}-{variant}" if variant else module,
        variant=of,
        cuda="13.0" if variant else "12.9",
        served={"V100": "none", "T4": "native", "H100": "native"} if variant else {"V100": "native"},
        packages=(),
        lock_digest=release,
    )
    store.write_release(made)
    write_release_loaders(store, view, store.entry(view, release))
    if promote:
        store.promote(view, release)
        write_default_loaders(store, view, store.entry(view, release))


@pytest.fixture
def loads(store, require, own_driver):
    """Return a function that gives what a module loads on each host, and what is left when it is unloaded."""
    return lambda start, module="atlasml/plotting", **hosts: look(
        [*own_driver, require("bash")], store.root, start("bash"), module, hosts or HOSTS
    )


def look(bash, root, start, module, hosts):
    script = ["mount -t tmpfs none /proc/driver", start, f"module use {root}/modulefiles"]
    for driver, model in hosts.values():
        line = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Tue Jun"
        information = f"Model: \t\t {model}"
        told = (
            "mkdir -p /proc/driver/nvidia/gpus/0",
            f"printf '%s\\n' {shlex.quote(line)} > /proc/driver/nvidia/version",
            f"printf '%s\\n' {shlex.quote(information)} > /proc/driver/nvidia/gpus/0/information",
        )
        script += [
            "rm -rf /proc/driver/nvidia",
            *(told if driver else ()),
            f"module load {module} 2>/dev/null; module -t list 2>&1 | grep -o 'atlasml/[^ ]*' | tr '\\n' ' '",
            f'printf "%s " "$MLVIEWS_VIEW/$MLVIEWS_RELEASE"; module unload {module}; echo "left $MLVIEWS_VIEW"',
        ]  # fmt: skip
    done = subprocess.run(
        [*bash, "--norc", "-c", "\n".join(script)],
        check=True, capture_output=True, text=True, timeout=120, cwd=root,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"},
    )  # fmt: skip
    assert not (root / "pwned").exists()
    return dict(zip(hosts, done.stdout.splitlines(), strict=True))


OWN = "atlasml/plotting/2026.11.23 plotting/2026.11.23 left "
CUDA13 = "atlasml/plotting/2026.11.23-cuda13 plotting-cuda13/2026.11.23 left "


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_shared_module_is_the_variant_that_the_host_serves_best(loads, request, system):
    start = request.getfixturevalue(system)
    due = {"550": OWN, "580": CUDA13, "580 and V100": OWN, "none": OWN, "garbage": OWN}
    hosts = list(due)[: 2 if "newest" in system else None]
    assert loads(start, **{host: HOSTS[host] for host in hosts}) == {host: due[host] for host in hosts}


def test_a_variant_is_promoted_by_itself(tmp_path, make_release, require, own_driver, environment_modules):
    store = Store(tmp_path, tmp_path)
    for view, variant in (("plotting-cuda13", "cuda13"), ("plotting", None)):
        store.mark_unpromoted(view, "2026.11.23")
        add(store, make_release, view, variant=variant, promote=variant is not None)
    store.mark_unpromoted("plotting-cuda13", "2026.11.24")
    add(store, make_release, "plotting-cuda13", "2026.11.24", variant="cuda13", promote=False)
    bash, start = [*own_driver, require("bash")], environment_modules("bash")
    hosts = {host: HOSTS[host] for host in ("none", "580")}

    assert look(bash, store.root, start, "atlasml/plotting", hosts) == {"none": "/ left ", "580": CUDA13}
    avail = [*bash, "--norc", "-c", f"{start}\nmodule use {store.root}/modulefiles; module -t avail atlasml/plotting/"]
    listed = subprocess.run(avail, check=True, capture_output=True, text=True, timeout=60, cwd=store.root)
    assert [line.partition("(")[0] for line in (listed.stdout + listed.stderr).splitlines()[1:]] == [
        "atlasml/plotting/2026.11.23-cuda13"
    ]


def test_the_shared_module_follows_what_is_promoted_rolled_back_and_removed(store, make_release, loads, lmod):
    one = {"580": HOSTS["580"]}
    asked = "atlasml/plotting/2026.11.23"
    assert loads(lmod, asked, **one) == {"580": OWN}
    asked = "atlasml/plotting-cuda13"
    told = "atlasml/plotting-cuda13/2026.11.23 plotting-cuda13/2026.11.23 left "
    assert loads(lmod, asked, **{"550": HOSTS["550"]}) == {"550": told}

    newer = CUDA13.replace("2026.11.23", "2026.11.24")
    add(store, make_release, "plotting-cuda13", "2026.11.24", variant="cuda13")
    assert loads(lmod, **one) == {"580": newer}
    assert loads(lmod, "atlasml/plotting/2026.11.23-cuda13", **one) == {"580": CUDA13}

    store.promote("plotting-cuda13", "2026.11.23", back=True)  # the one step: nothing else is written
    assert loads(lmod, **one) == {"580": CUDA13}

    remove_held(store, "plotting-cuda13", "2026.11.24", datetime.now(timezone.utc))
    gone = store.root / "modulefiles/atlasml/plotting/2026.11.24-cuda13.lua"
    assert "was removed" in gone.read_text()
    assert loads(lmod, **one) == {"580": CUDA13}

    uninstall(store, "plotting-cuda13", (), progress=silent)
    folder = store.root / "modulefiles/atlasml"
    assert not (folder / "plotting-cuda13").exists()
    assert sorted(path.name for path in (folder / "plotting").iterdir()) == [".version", "2026.11.23", "2026.11.23.lua"]
    assert loads(lmod, **one) == {"580": OWN}


def test_variants_load_where_the_recipes_own_is_not_built(store, loads, lmod):
    uninstall(store, "plotting", (), progress=silent)
    assert loads(lmod, none=HOSTS["none"]) == {"none": CUDA13}
