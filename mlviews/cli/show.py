"""One view as a whole, by its recipe and lock; and one release, by what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, complete_view_or_release, verb
from mlviews.cli.output import Outcome
from mlviews.cli.packages import list_packages
from mlviews.cli.table import Column
from mlviews.progress import counted, size
from mlviews.values import from_attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlviews.cli.terminal import Console
    from mlviews.lock.status import LockStatus
    from mlviews.recipe.view import Reason, Request, ViewSpec
    from mlviews.release import Clobber
    from mlviews.results import AskedPackage, ShownLock, ShownRecipe, ShownRelease, ShownSite
    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec


@verb("show")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_view_or_release)
@click.option("--versions", is_flag=True, hidden=True)  # what `packages` was called first
def show(app: App, view: str, *, versions: bool) -> Outcome:
    """Show one view: what its recipe asks for, what is missing and why. With a release: what that release holds.

    `mlviews packages VIEW` lists the versions of all its packages.
    """
    if versions:
        return list_packages(app, view)
    if "/" in view:
        return _show_release(app, view)
    from mlviews.lock.status import lock_status
    from mlviews.results import ShownRecipe, ShowResult
    from mlviews.site.spec import for_site
    from mlviews.smoke.programs import unknown_checks
    from mlviews.smoke.records import proved_gpus, read_records

    spec = app.view(view)
    site_spec = for_site(spec, app.site)
    if site_spec.base:
        spec = site_spec.spec  # its hardware is the base's
    found = lock_status(site_spec, app.site)
    lock = found.summary
    records = read_records(app.site.root, spec.name, lock.digest) if lock else ()
    recipe = from_attributes(
        ShownRecipe,
        spec,
        dependencies=_asked(spec.dependencies),
        constraints=_asked(spec.constraints),
        pypi=_asked(spec.pypi),
        unknown_checks=unknown_checks(spec.smoke, spec.own_checks),
        link_scripts_skipped=_skipped_scripts(spec, found, app.site),
        lock=_lock(found),
        site=_at_site(site_spec, app.site),
        gpus=list(proved_gpus(spec.hardware.gpus, records)),
    )
    errors = found.unreadable
    return Outcome(
        ShowResult(view, recipe, None), lambda console, _: _write(console, recipe), 3 if errors else 0, errors
    )


def _show_release(app: App, label: str) -> Outcome:
    from mlviews.results import ShownRelease, ShowResult
    from mlviews.store.listing import releases_of

    store = app.store
    view, _, name = label.partition("/")
    entry = store.existing(view, (store.default(view) or name) if name == "default" else name)
    one = entry.release
    (facts,) = (line for line in releases_of(store, view).releases if line.release == entry.name)
    base = f"{one.base.view}/{one.base.release}" if one.base else None
    release = from_attributes(ShownRelease, one, facts=facts, base=base)
    return Outcome(ShowResult(view, None, release), lambda console, _: _write_release(console, release))


def _lock(found: LockStatus) -> ShownLock:
    from mlviews.results import ShownLock

    lock = found.summary
    return ShownLock(
        state=found.state,
        path=str(found.path) if found.path else None,
        digest=lock.digest if lock else None,
        packages=lock.packages if lock else {},
        bytes=lock.bytes if lock else {},
        changes=list(found.changes),
    )


def _at_site(site_spec: SiteSpec, site: Site) -> ShownSite | None:
    from mlviews.results import ShownSite
    from mlviews.store.disk import Store

    if site_spec.error:
        return None
    view, store = site_spec.spec.name, Store(site.root, site.prefix)
    name = store.default(view)
    built = next(iter(store.entry(view, name).platforms.values()), None) if name else None
    return ShownSite(
        name=site.name,
        cuda=site_spec.spec.hardware.cuda,
        absent=site_spec.absent,
        differs=site_spec.differs,
        served=built.served if built else {},
        clobbers=built.clobbers if built else (),
    )


def _skipped_scripts(spec: ViewSpec, lock: LockStatus, site: Site) -> list[str]:
    """Return packages with link scripts that the recipe does not name: what is unpacked here tells of them."""
    from mlviews.lock.lockfile import unpacked_scripts
    from mlviews.store.disk import Store

    if lock.summary is None:
        return []
    releases = Store(site.root, site.prefix).releases(spec.name)
    made = (entry for entry in releases if entry.lock_digest == lock.summary.digest)
    known = {name for entry in made for release in entry.platforms.values() for name in release.link_scripts.skipped}
    if (site.cache / "pkgs").is_dir() and lock.lock:  # reading the whole lock takes its time
        known |= unpacked_scripts(lock.lock.packages, site.cache)
    return sorted(known - {*spec.link_scripts})


def _asked(requests: Iterable[Request]) -> list[AskedPackage]:
    from mlviews.results import AskedPackage

    return [AskedPackage(spec=request.text, by=[origin.source for origin in request.origins]) for request in requests]


def _write_release(console: Console, release: ShownRelease) -> None:
    from mlviews.release import gpus_in_words, served_in_words

    facts = release.facts
    console.say((f"{facts.view}/{facts.release}", "bold"), f"  {release.summary}")
    rows = {
        "module": f"{release.module}/{facts.release}",
        "state": ", ".join([*(["the default"] if facts.default else []), *(["pinned"] if facts.pinned else [])]),
        "built": f"{facts.created:%Y-%m-%d %H:%M} UTC at site {release.site}",
        "extends": release.base or "",
        "platforms": ", ".join(facts.platforms),
        "hardware": f"glibc {release.glibc}, {f'CUDA {release.cuda}' if release.cuda else 'no GPU'}",
        "lock": facts.lock,
        "holds": f"{counted(facts.packages, 'package')}, {size(facts.bytes)}",
        "asked for": ", ".join(release.requested),
        "passed": ", ".join(facts.passed),
        "failed": ", ".join(facts.failed),
        "GPUs": gpus_in_words(facts.gpus),
        "holds code for": served_in_words(release.served),
        "promoted without proof": facts.override,
    }
    told = ((name, text) for name, text in rows.items() if text)
    console.table((Column(style="dim"), Column(folds=20)), told, header=False)
    sections = {
        f"site {release.site} had instead": [*release.differs.items()],
        f"site {release.site} could not have": [*release.absent.items()],
        _LOST: _lost(release.clobbers),
        _LOOSENED: [(text, "") for text in release.overrides],
        _GAPS: [*release.gaps.items()],
    }
    _write_sections(console, sections)


_GAPS = "gaps: what it should hold and cannot yet"
_LOOSENED = "overrides: requirements of wheels that are loosened"
_LOST = "files that packages lost to others"


def _write(console: Console, view: ShownRecipe) -> None:
    from mlviews.release import gpus_in_words, served_in_words
    from mlviews.smoke.programs import BASIC

    console.say((view.name, "bold"), f"  {view.summary}")
    locked = (_locked(on, count, view.lock.bytes[on]) for on, count in view.lock.packages.items())
    facts = (
        ("module", view.module),
        *([("extends", view.on)] if view.on else []),
        ("layers", ", ".join(view.layers) or "none"),
        ("platforms", ", ".join(view.platforms)),
        ("hardware", _hardware(view)),
        ("lock", "; ".join([view.lock.state, *locked])),
        ("checks", ", ".join(dict.fromkeys((*BASIC, *view.smoke)))),
        *(("no such check", check) for check in view.unknown_checks),
        *([("runs link scripts of", ", ".join(view.link_scripts))] if view.link_scripts else []),
        *([("and not those of", ", ".join(view.link_scripts_skipped))] if view.link_scripts_skipped else []),
        *([("GPUs", gpus_in_words(view.gpus))] if view.gpus else []),
        *([("holds code for", served_in_words(view.site.served))] if view.site and view.site.served else []),
    )
    console.table((Column(style="dim"), Column(folds=20)), facts, header=False)
    if view.lock.path:
        console.say(("lock file  ", "dim"), view.lock.path)
    if view.lock.changes:
        console.say(("the recipe has changed since that lock was made:", "yellow"))
    for change in view.lock.changes:
        console.say(f"  {change}")
    sections: dict[str, list[tuple[str, str]]] = {
        "dependencies": _by(view.dependencies),
        "constraints": _by(view.constraints),
        "pypi": _by(view.pypi),
        "sdists: built of sources where there is no wheel; their code runs then": [(name, "") for name in view.sdists],
        _LOOSENED: [(f"{one.of} takes {one.package} {one.spec or '*'}", one.why) for one in view.overrides],
        **(_here(view.site) if view.site else {}),
        _GAPS: _why(view.gaps),
        "cpu-only: may lock a CPU build": _why(view.cpu_only),
        "some-gpus-only: may lack code for some of the GPUs": _why(view.some_gpus_only),
        "pip-check-waivers: may lack what they say that they need": _why(view.pip_check_waivers),
    }
    _write_sections(console, sections)


def _locked(platform: str, packages: int, total: int) -> str:
    fetched = f", {size(total)} to fetch" if total else ""  # an index need not say how large its wheels are
    return f"{platform}: {counted(packages, 'package')}{fetched}"


def _write_sections(console: Console, sections: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    for title, rows in sections.items():
        if rows:
            console.say(("\n" + title, "bold"))
            console.table((Column(folds=20), Column(style="dim", folds=20)), rows, header=False)


def _here(site: ShownSite) -> dict[str, list[tuple[str, str]]]:
    return {
        f"site {site.name} has instead": list(site.differs.items()),
        f"site {site.name} cannot have": list(site.absent.items()),
        _LOST: _lost(site.clobbers),
    }


def _lost(clobbers: Sequence[Clobber]) -> list[tuple[str, str]]:
    return [(clobber.path, f"of {clobber.lost}; the file of {clobber.kept} has replaced it") for clobber in clobbers]


def _by(requests: Sequence[AskedPackage]) -> list[tuple[str, str]]:
    return [(request.spec, ", ".join(request.by)) for request in requests]


def _why(reasons: Sequence[Reason]) -> list[tuple[str, str]]:
    return [(reason.package, reason.why) for reason in reasons]


def _hardware(view: ShownRecipe) -> str:
    hardware = view.hardware
    parts = [f"glibc {hardware.glibc}", hardware.archspec or "baseline CPU"]
    parts.append(f"CUDA {hardware.cuda}" if hardware.cuda else "no GPU")
    return ", ".join(parts)
