"""What there is: views, layers, checks; and one view as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome, complete_view, verb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlviews.cli.terminal import Console
    from mlviews.errors import FailedError, MlviewsError
    from mlviews.lock.status import LockStatus
    from mlviews.recipe.compose import Reason, Request, ViewSpec
    from mlviews.results import AskedPackage, ListResult, ShownSite, ShowResult, ViewLine
    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec
    from mlviews.store.listing import BuiltView

__all__ = ["checks", "layers", "list_views", "show"]


@verb("list")
def list_views(app: App) -> Outcome:
    """List all views: module, platforms, hardware, and the state of each lock; one's own recipes first."""
    from mlviews.errors import MlviewsError
    from mlviews.lock.status import lock_status
    from mlviews.results import ListResult
    from mlviews.site.spec import for_site
    from mlviews.variants import choices, read_driver

    lines: list[ViewLine] = []
    errors: list[MlviewsError] = []
    site = app.site  # what is wrong with it is said once
    for name in app.catalogue.names:
        try:
            spec = app.catalogue.view(name)
            found = lock_status(for_site(spec, site), site)
            lines.append(_line(spec, found, _built(name, site, errors), own=name in app.catalogue.own))
            errors += _unreadable(found)
        except MlviewsError as error:
            errors.append(error)
    result = ListResult(
        recipes=str(app.catalogue.folder),
        views=lines,
        hidden=app.catalogue.hidden,
        variants=choices(app.catalogue, read_driver()),
    )
    code = max((error.exit_code for error in errors), default=0)
    return Outcome(result, lambda console: _list(console, result), code, tuple(errors))


def _unreadable(found: LockStatus) -> tuple[FailedError, ...]:
    """Return the error where a lock may be fine, and cannot be read."""
    from mlviews.errors import FailedError

    return (found.error,) if isinstance(found.error, FailedError) else ()


def _built(view: str, site: Site, errors: list[MlviewsError]) -> BuiltView | None:
    from mlviews.reading import UnreadableError
    from mlviews.store.disk import Store
    from mlviews.store.listing import built_view

    try:
        return built_view(Store(site.root, site.prefix), view)
    except UnreadableError as error:
        errors.append(error)
        return None


def _line(spec: ViewSpec, found: LockStatus, built: BuiltView | None, *, own: bool) -> ViewLine:
    from mlviews.results import ViewLine

    return ViewLine(
        name=spec.name,
        module=spec.module,
        summary=spec.summary,
        own=own,
        platforms=list(spec.platforms),
        cuda=spec.hardware.cuda,
        lock=found.state,
        packages=found.summary.packages[spec.platforms[0]] if found.summary else None,
        built=built,
    )


_LOCK_STYLES = {"current": "green", "stale": "yellow", "invalid": "red", "none": "dim", "unavailable": "dim"}


def _list(console: Console, result: ListResult) -> None:
    from mlviews.cli.terminal import say, tell_variants

    own, others = ([line for line in result.views if line.own is own] for own in (True, False))
    if own and others:
        say(console, ("own recipes", "bold"), f" in {result.recipes}")
        _table(console, own)
        say(console, ("\nthe catalogue", "bold"))
    _table(console, others if own and others else result.views)
    for view, by in result.hidden.items():
        why = "has the same name" if view == by else f"has the module of {view}"
        say(console, f"The catalogue's {view} is hidden: {by} in {result.recipes} {why}.")
    tell_variants(console, result.variants)


def _table(console: Console, lines: Sequence[ViewLine]) -> None:
    from mlviews.cli.terminal import Column, write_table

    columns = (
        Column("View", style="bold"), Column("Module", rank=2), Column("CUDA", rank=1), Column("Platforms", rank=3),
        Column("Lock", rank=4), Column("Packages", rank=5, right=True), Column("Built"), Column("Checks", rank=6),
        Column("Summary", folds=40),
    )  # fmt: skip
    rows = (
        (
            line.name, line.module, line.cuda or "-", " ".join(line.platforms), (line.lock, _LOCK_STYLES[line.lock]),
            str(line.packages or "-"), *_told(line.built), line.summary,
        )
        for line in lines
    )  # fmt: skip
    write_table(console, columns, rows)


def _told(built: BuiltView | None) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the default release and what is known of it, in words."""
    if built is None:
        return ("-", "dim"), ("-", "dim")
    counts = {"passed": built.passed, "failed": built.failed}
    checks = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "unproved"
    release = (built.release, "green") if built.default else (f"{built.release}, no default", "yellow")
    return release, (checks, "red" if built.failed else "")


@verb("show")
@click.argument("view", shell_complete=complete_view)
def show(app: App, view: str) -> Outcome:
    """Show one view: what it holds, which layer asked for it, what is missing and why."""
    from mlviews.lock.status import lock_status
    from mlviews.results import ShownLock, ShowResult
    from mlviews.site.spec import for_site
    from mlviews.smoke.records import proved_gpus, read_records

    spec = app.catalogue.view(view)
    site_spec = for_site(spec, app.site)
    if site_spec.base:
        spec = site_spec.spec  # its hardware is the base's
    found = lock_status(site_spec, app.site)
    lock = found.summary
    records = read_records(app.site.root, spec.name, lock.digest) if lock else ()
    result = ShowResult(
        name=spec.name,
        summary=spec.summary,
        module=spec.module,
        layers=list(spec.layers),
        platforms=list(spec.platforms),
        hardware=spec.hardware,
        dependencies=_asked(spec.dependencies),
        constraints=_asked(spec.constraints),
        pypi=_asked(spec.pypi),
        gaps=spec.gaps,
        cpu_only=spec.cpu_only,
        some_gpus_only=spec.some_gpus_only,
        smoke=list(spec.smoke),
        link_scripts=spec.link_scripts,
        link_scripts_skipped=_skipped_scripts(spec, found, app.site),
        pip_check_waivers=spec.pip_check_waivers,
        overrides=spec.overrides,
        sdists=spec.sdists,
        on=spec.on,
        lock=ShownLock(
            state=found.state,
            path=str(found.path) if found.path else None,
            digest=lock.digest if lock else None,
            packages=lock.packages if lock else {},
            bytes=lock.bytes if lock else {},
            changes=list(found.changes),
        ),
        site=_at_site(site_spec, app.site),
        gpus=list(proved_gpus(spec.hardware.gpus, records)),
    )
    errors = _unreadable(found)
    return Outcome(result, lambda console: _write(console, result), 3 if errors else 0, errors)


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


def _write(console: Console, view: ShowResult) -> None:
    from mlviews.cli.terminal import Column, say, size, write_table
    from mlviews.release import gpus_in_words, served_in_words

    say(console, (view.name, "bold"), f"  {view.summary}")
    locked = (
        (f"lock {on}", f"{n} packages, {size(view.lock.bytes[on])} to fetch") for on, n in view.lock.packages.items()
    )
    facts = (
        ("module", view.module),
        *([("extends", view.on)] if view.on else []),
        ("layers", ", ".join(view.layers) or "none"),
        ("platforms", ", ".join(view.platforms)),
        ("hardware", _hardware(view)),
        *locked,
        ("lock", view.lock.state),
        ("smoke", ", ".join(view.smoke) or "none"),
        *([("runs link scripts of", ", ".join(view.link_scripts))] if view.link_scripts else []),
        *([("and not those of", ", ".join(view.link_scripts_skipped))] if view.link_scripts_skipped else []),
        *([("GPUs", gpus_in_words(view.gpus))] if view.gpus else []),
        *([("holds code for", served_in_words(view.site.served))] if view.site and view.site.served else []),
    )
    write_table(console, (Column(style="dim"), Column(folds=20)), facts, header=False)
    if view.lock.path:
        say(console, ("lock file  ", "dim"), view.lock.path)
    for change in view.lock.changes:
        say(console, "  ", ("changed since", "yellow"), f" {change}")
    sections: dict[str, list[tuple[str, str]]] = {
        "dependencies": _by(view.dependencies),
        "constraints": _by(view.constraints),
        "pypi": _by(view.pypi),
        "overrides: requirements of wheels that are loosened": [
            (f"{one.of} takes {one.package} {one.spec or '*'}", one.why) for one in view.overrides
        ],
        "sdists: built of sources where there is no wheel; their code runs then": [(name, "") for name in view.sdists],
        **(_here(view.site) if view.site else {}),
        "gaps: what it should hold and cannot yet": _why(view.gaps),
        "cpu-only: may lock a CPU build": _why(view.cpu_only),
        "some-gpus-only: may lack code for some of the GPUs": _why(view.some_gpus_only),
        "pip-check-waivers: may lack what they say that they need": _why(view.pip_check_waivers),
    }
    for title, rows in sections.items():
        if rows:
            say(console, ("\n" + title, "bold"))
            write_table(console, (Column(folds=20), Column(style="dim", folds=20)), rows, header=False)


def _here(site: ShownSite) -> dict[str, list[tuple[str, str]]]:
    return {
        f"site {site.name} has instead": list(site.differs.items()),
        f"site {site.name} cannot have": list(site.absent.items()),
        "files that packages lost to others": [
            (clobber.path, f"of {clobber.lost}; that of {clobber.kept} lies there") for clobber in site.clobbers
        ],
    }


def _by(requests: Sequence[AskedPackage]) -> list[tuple[str, str]]:
    return [(request.spec, ", ".join(request.by)) for request in requests]


def _why(reasons: Sequence[Reason]) -> list[tuple[str, str]]:
    return [(reason.package, reason.why) for reason in reasons]


def _hardware(view: ShowResult) -> str:
    hardware = view.hardware
    parts = [f"glibc {hardware.glibc}", hardware.archspec or "baseline CPU"]
    parts.append(f"CUDA {hardware.cuda}" if hardware.cuda else "no GPU")
    return ", ".join(parts)


@verb("layers")
def layers(app: App) -> Outcome:
    """List the layers: the parts that recipes share. One's own go before mlviews' own."""
    from mlviews.recipe.compose import layer_files
    from mlviews.recipe.model import Layer, parse
    from mlviews.results import LayerLine, LayersResult

    lines = []
    for name, path in sorted(layer_files(*app.catalogue.layers).items()):
        layer = parse(path, Layer).model
        asked = [*layer.dependencies, *layer.pypi]
        lines.append(LayerLine(name, layer.summary or "", asked, layer.layers, layer.smoke, path))
    result = LayersResult(lines)

    def write(console: Console) -> None:
        from mlviews.cli.terminal import Column, write_table

        columns = (
            Column("Layer", style="bold"), Column("Asks for", folds=30), Column("Checks", rank=1, folds=30),
            Column("Summary", rank=2, folds=20),
        )  # fmt: skip
        rows = (
            (
                line.name,
                ", ".join([*(f"layer {name}" for name in line.layers), *line.dependencies]),
                ", ".join(line.smoke) or "-",
                line.summary or "-",
            )
            for line in lines
        )
        write_table(console, columns, rows)

    return Outcome(result, write)


@verb("checks")
def checks(app: App) -> Outcome:
    """List the checks: what a recipe can name under `smoke`."""
    del app
    from mlviews.results import ChecksResult, KnownCheck
    from mlviews.smoke.programs import PROGRAMS, about

    lines = [KnownCheck(item.name, about(item), item.gpu, item.level) for item in PROGRAMS.values()]

    def write(console: Console) -> None:
        from mlviews.cli.terminal import Column, write_table

        columns = (
            Column("Check", style="bold"),
            Column("GPU", rank=1),
            Column("Level", rank=2),
            Column("Proves", folds=30),
        )
        write_table(
            console, columns, ((line.name, "yes" if line.gpu else "-", line.level, line.proves) for line in lines)
        )

    return Outcome(ChecksResult(lines), write)
