"""Views -> the GitHub workflow that runs every night: a job for each view on each platform, one report of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from mlviews.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlviews.recipe.view import ViewSpec

_HEADER = """\
# Made by `mlviews ci github` from the recipes: do not edit it; make it again when views come or go.
#
# It runs by the clock or by hand{requests}: nobody else's code reaches the runners with GPUs.
# Repository variables switch on what a repository must have first (Settings, Actions, Variables):
#   MLVIEWS_GPU_RUNNERS=yes  views for GPUs are tested on self-hosted runners with the labels below
#   MLVIEWS_PAGES=yes        the report is published; Settings, Pages must name GitHub Actions as its source
# Actions are named by their major version: no source was at hand to verify the commit behind a tag.
"""
_READY_HEADER = """\
# Made by `mlviews ci github --ready-made` from the recipes: do not edit it; make it again when views come or go.
#
# A view is built, proved, packed and pushed when its lock on the default branch changes, every view when a tag comes.
# Nothing comes from a cache here: what is pushed is made of the lock's own archives. Repository variables switch on:
#   MLVIEWS_GPU_RUNNERS=yes               views for GPUs, on self-hosted runners with the labels below
#   MLVIEWS_REGISTRY=ghcr.io/OWNER/views  images and packs are pushed there; if that is not GitHub's own, with the
#                                         secrets MLVIEWS_REGISTRY_USER and MLVIEWS_REGISTRY_TOKEN
# Actions are named by their major version: no source was at hand to verify the commit behind a tag.
"""
# GitHub's names of its runners, and of a self-hosted runner's architecture.
_HOSTED = {"linux-64": "ubuntu-24.04", "linux-aarch64": "ubuntu-24.04-arm"}
_ARCHITECTURES = {"linux-64": "X64", "linux-aarch64": "ARM64"}
_MOST_JOBS = 256  # of one matrix (docs.github.com, "Running variations of jobs in a workflow")

_PYTHON = "3.12"
_ROOT = "~/mlviews-nightly"  # outside of the checkout: a self-hosted runner keeps its packages from night to night
_HISTORY = f"{_ROOT}/nightly/history.sqlite"
_HISTORY_KEY = "nights-${{ github.run_id }}-${{ github.run_attempt }}"
_UPLOAD = "actions/upload-artifact@v4"
_CELL = "${{ matrix.view }}-${{ matrix.platform }}"
_READ = {"contents": "read"}
# Conditions, which `_when` joins.
_HOSTED_ONLY = "runner.environment == 'github-hosted'"
_HAS_GPUS = "vars.MLVIEWS_GPU_RUNNERS == 'yes'"
_REQUESTED = "github.event_name == 'pull_request'"
_NOT_REQUESTED = "github.event_name != 'pull_request'"
_OWN = "(github.ref_type == 'tag' || github.ref_name == github.event.repository.default_branch)"
_ALWAYS = "!cancelled()"
GATHER = """\
set --
for history in nights/*/history.sqlite; do
  if [ -e "$history" ]; then set -- "$@" --gather "$history"; fi
done
if [ $# -eq 0 ]; then echo "no runner has found out anything" >&2; exit 3; fi
mlviews nightly "$@"
"""
CHECK_LOCKS = "mlviews lock --all --check"
# VIEW, PLATFORM, TAG (of Git, or empty), BEFORE (the commit before the push), REGISTRY, REGISTRY_USER, REGISTRY_TOKEN.
READY = """\
set -euo pipefail
lock=$MLVIEWS_LOCKFILES/$VIEW.conda-lock.yml
if [ -z "$TAG" ] && git diff --quiet "$BEFORE" HEAD -- "$lock"; then
  echo "the lock of $VIEW is what it was"
  exit 0
fi
mlviews build "$VIEW"
mlviews smoke "$VIEW"
mkdir -p ready
mlviews pack "$VIEW" -o "ready/$VIEW.sqfs"
mlviews container build "$VIEW" -o image.oci.tar
if [ -n "$REGISTRY" ]; then
  keys=$(mktemp -d)
  trap 'rm -rf "$keys"' EXIT
  skopeo login --authfile "$keys/a" --username "$REGISTRY_USER" --password-stdin "${REGISTRY%%/*}" <<< "$REGISTRY_TOKEN"
  digest=$(sed -n 's/^ *mlviews-lock-digest: *//p' "$lock")
  for tag in "lock-${digest:0:12}" ${TAG:+"${TAG//[^A-Za-z0-9._-]/-}"}; do
    if [ "$PLATFORM" != linux-64 ]; then tag=$tag-${PLATFORM#linux-}; fi
    skopeo copy --authfile "$keys/a" oci-archive:image.oci.tar "docker://$REGISTRY/$VIEW:$tag"
    (cd ready && oras push --registry-config "$keys/a" --artifact-type application/vnd.mlviews.pack \
      "$REGISTRY/$VIEW:$tag-pack" "$VIEW.sqfs:application/vnd.squashfs" "$VIEW.sqfs.launch:text/x-shellscript")
  done
fi
"""
_PUBLISH = f"""\
mkdir -p public
cp -RL {_ROOT}/nightly/latest/. public/
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a repository decides.

    Attributes:
        cron: when the night begins (UTC), as five fields.
        gpu_labels: labels of the self-hosted runners that have GPUs, beside their system's and architecture's.
        requirement: what pip installs mlviews from.
        recipes: the folder of recipes in the repository; None for those that travel with mlviews.
        lockfiles: the folder of lock files in the repository.
        locks: whether each pull or merge request is told which locks do not answer their recipes.
        ready: of GitLab, whether a view is built, proved, packed and pushed when its lock changes or a tag comes.
    """

    cron: str = "17 3 * * *"
    gpu_labels: tuple[str, ...] = ("gpu",)
    requirement: str = ".[report]"
    recipes: str | None = "recipes"
    lockfiles: str = "lockfiles"
    locks: bool = False
    ready: bool = False
    site: str = "local"

    @property
    def unusual(self) -> dict[str, str]:
        """The variables that name what is not as usual: the folder of recipes, the site."""
        site = {"MLVIEWS_SITE": self.site} if self.site != "local" else {}
        return {"MLVIEWS_RECIPES": self.recipes, **site} if self.recipes else site


def workflow(specs: Sequence[ViewSpec], settings: Settings) -> str:
    """Return the workflow's text; the same views and settings always give the same.

    Raises:
        RefusedError: there is no view, or more of them than GitHub runs in one matrix.
    """
    nights = (_NOT_REQUESTED,) if settings.locks else ()
    tests = {
        name: _job(_tests(settings), cells=cells, minutes=180 if name == "gpu" else 120, when=(*switch, *nights))
        for name, cells, switch in _kinds(specs, settings)
    }
    jobs = {
        **tests,
        "report": _job(_report(settings), needs=[*tests], minutes=30, when=(_ALWAYS, *nights)),
        "pages": _job(
            [{"id": "deployment", "uses": "actions/deploy-pages@v4"}],
            needs=["report"],
            minutes=10,
            when=(_ALWAYS, "vars.MLVIEWS_PAGES == 'yes'", *nights),
            permissions={"pages": "write", "id-token": "write"},
            concurrency={"group": "pages", "cancel-in-progress": False},
            environment={"name": "github-pages", "url": "${{ steps.deployment.outputs.page_url }}"},
        ),
    }
    on: dict[str, Any] = {"schedule": [{"cron": settings.cron}], "workflow_dispatch": {}}
    group, requests = "nightly", ", never for a pull request"
    if settings.locks:
        check = {"name": "Locks answer their recipes", "run": CHECK_LOCKS}
        jobs["locks"] = _job([*_start(settings), check], minutes=30, when=(_REQUESTED,))
        on["pull_request"] = {}
        group = f"nightly${{{{ {_REQUESTED} && github.ref || '' }}}}"
        requests = "; for a pull request it checks locks alone"
    return _HEADER.format(requests=requests) + _content("nightly", on, group, settings, jobs)


def ready_workflow(specs: Sequence[ViewSpec], settings: Settings) -> str:
    """Return the text of a workflow that makes views ready for use, when a push asks for it.

    It stands by itself: what a night keeps in caches has no way into what is pushed.

    Raises:
        RefusedError: as `workflow`.
    """
    permissions = {**_READ, "packages": "write"}
    jobs = {
        name: _job(_ready(settings), cells=cells, minutes=120, when=(*switch, _OWN), permissions=permissions)
        for name, cells, switch in _kinds(specs, settings)
    }
    # A tag is looked at whatever it changes.
    on = {"push": {"tags": ["**"], "branches": ["**"], "paths": [f"{settings.lockfiles}/*.conda-lock.yml"]}}
    return _READY_HEADER + _content("ready-made", on, "ready-made-${{ github.ref }}", settings, jobs)


def _content(name: str, on: dict[str, Any], group: str, settings: Settings, jobs: dict[str, Any]) -> str:
    unusual = {key: literal(value) for key, value in settings.unusual.items()}
    return written(
        {
            "name": name,
            "on": on,
            "permissions": {},
            "concurrency": {"group": group, "cancel-in-progress": False},
            "env": {**unusual, "MLVIEWS_LOCKFILES": literal(settings.lockfiles), "MLVIEWS_ROOT": _ROOT},
            "jobs": jobs,
        }
    )


def written(content: Mapping[str, Any]) -> str:
    """Return YAML: scripts as blocks, in the given order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=4096, allow_unicode=True)


def no_views() -> RefusedError:
    """Return the error where there is nothing to test."""
    return RefusedError("no-views", "there is no view to test", "`mlviews new VIEW` starts one.")


def too_many(jobs: int, system: str, most: int) -> RefusedError:
    """Return the error where a CI system would not run so many jobs of one matrix."""
    return RefusedError(
        "too-many-jobs",
        f"{jobs} jobs would be needed; {system} runs at most {most} in one matrix",
        "Split the recipes into several folders, and make a workflow of each with --recipes.",
    )


def literal(text: str) -> str:
    """Return text as GitHub must read it to give back the same: nothing in it is an expression."""
    return text.replace("${{", "${{ '${{' }}")


def _kinds(
    specs: Sequence[ViewSpec], settings: Settings
) -> Iterable[tuple[str, list[dict[str, Any]], tuple[str, ...]]]:
    """Return the kinds of views that there are: what a job is called, the cells of its matrix, its own condition."""
    if not specs:
        raise no_views()
    for name, gpu, when in (("cpu", False, ()), ("gpu", True, (_HAS_GPUS,))):
        if cells := _cells([spec for spec in specs if (spec.hardware.cuda is not None) is gpu], settings, gpu=gpu):
            yield name, cells, when


def _cells(specs: Sequence[ViewSpec], settings: Settings, *, gpu: bool) -> list[dict[str, Any]]:
    labels = [literal(label) for label in settings.gpu_labels]
    cells = [
        {
            "view": literal(spec.name),
            "platform": literal(platform),
            "runner": ["self-hosted", "Linux", _ARCHITECTURES[platform], *labels] if gpu else [_HOSTED[platform]],
        }
        for spec in specs
        for platform in spec.platforms
    ]
    if len(cells) > _MOST_JOBS:
        raise too_many(len(cells), "GitHub", _MOST_JOBS)
    return cells


def _job(
    steps: list[dict[str, Any]],
    *,
    minutes: int,
    when: Sequence[str] = (),
    needs: Sequence[str] = (),
    cells: Sequence[dict[str, Any]] = (),
    permissions: Mapping[str, str] = _READ,
    **more: Any,
) -> dict[str, Any]:
    """Return a job; with cells it is one for each of them, on that cell's runner."""
    matrix = {"strategy": {"fail-fast": False, "matrix": {"include": [*cells]}}} if cells else {}
    return {
        **({"name": "${{ matrix.view }} on ${{ matrix.platform }}"} if cells else {}),
        **({"needs": [*needs]} if needs else {}),
        **_when(*when),
        "runs-on": "${{ matrix.runner }}" if cells else _HOSTED["linux-64"],
        "timeout-minutes": minutes,
        "permissions": {**permissions},
        **matrix,
        **more,
        "steps": steps,
    }


def _tests(settings: Settings) -> list[dict[str, Any]]:
    packages = "packages-${{ matrix.platform }}-${{ matrix.view }}-"
    lock = f"format('{_quoted(settings.lockfiles)}/{{0}}.conda-lock.yml', matrix.view)"
    cached = {
        "path": f"{_ROOT}/cache/pkgs",
        "key": f"{packages}${{{{ hashFiles({lock}) }}}}",
        "restore-keys": packages,
    }
    found = {"name": f"night-{_CELL}", "path": _HISTORY, "if-no-files-found": "error", "retention-days": 7}
    return [
        *_start(settings),
        _earlier(),
        # What a self-hosted runner has on its own disk need not travel.
        _use("actions/cache@v4", cached, "Packages, by the lock's digest", _HOSTED_ONLY),
        {"name": "Solve, install, check", "run": 'mlviews nightly "$VIEW"', "env": {"VIEW": "${{ matrix.view }}"}},
        _use(_UPLOAD, found, "What was found", _ALWAYS),
    ]


def _report(settings: Settings) -> list[dict[str, Any]]:
    nights, pages = {"pattern": "night-*", "path": "nights"}, {"path": "public"}
    return [
        *_start(settings),
        _earlier(),
        # Views that no runner tests are in the report all the same; what is broken fails the step after the next.
        {"name": "Solve every view", "run": "mlviews nightly --solve-only", "continue-on-error": True},
        _use("actions/download-artifact@v4", nights, "What the runners found"),
        {"name": "Write the report", "run": GATHER},
        _use("actions/cache/save@v4", {"path": _HISTORY, "key": _HISTORY_KEY}, "Keep the history", _ALWAYS),
        {"name": "Collect the pages", **_when(_ALWAYS), "run": _PUBLISH},
        _use(_UPLOAD, {"name": "report", **pages}, "The report", _ALWAYS),
        _use("actions/upload-pages-artifact@v3", pages, "The report, as pages", _ALWAYS),
    ]


def _ready(settings: Settings) -> list[dict[str, Any]]:
    """Return the steps that build, prove, pack and push what a push has changed."""
    values = {
        "VIEW": "${{ matrix.view }}",
        "PLATFORM": "${{ matrix.platform }}",
        "TAG": "${{ github.ref_type == 'tag' && github.ref_name || '' }}",
        "BEFORE": "${{ github.event.before }}",
        "REGISTRY": "${{ vars.MLVIEWS_REGISTRY }}",
        "REGISTRY_USER": "${{ secrets.MLVIEWS_REGISTRY_USER || github.actor }}",
        "REGISTRY_TOKEN": "${{ secrets.MLVIEWS_REGISTRY_TOKEN || github.token }}",
    }
    packs = {"name": f"ready-{_CELL}", "path": "ready", "if-no-files-found": "ignore", "retention-days": 30}
    tools = "sudo apt-get -qq update && sudo apt-get -qq install -y skopeo squashfs-tools"
    return [
        *_start(settings, depth=0),  # the commit before the push is looked at
        {"name": "Tools", **_when(_HOSTED_ONLY), "run": tools},
        _use("oras-project/setup-oras@v1", {}, "What pushes packs", _HOSTED_ONLY),
        {"name": "Build, prove, pack, push", "run": READY, "shell": "bash", "env": values},
        _use(_UPLOAD, packs, "The packed release"),
    ]


def _start(settings: Settings, *, depth: int = 1) -> list[dict[str, Any]]:
    """Return the steps that every job begins with: the recipes, and mlviews."""
    install, requirement = 'python -m pip install "$REQUIREMENT"', literal(settings.requirement)
    return [
        _use("actions/checkout@v5", {"persist-credentials": False, "fetch-depth": depth}),
        _use("actions/setup-python@v6", {"python-version": _PYTHON}),
        {"name": "Install mlviews", "run": install, "env": {"REQUIREMENT": requirement}},
    ]


def _earlier() -> dict[str, Any]:
    history = {"path": _HISTORY, "key": _HISTORY_KEY, "restore-keys": "nights-"}
    return _use("actions/cache/restore@v4", history, "What earlier nights found")


def _use(action: str, inputs: Mapping[str, Any], name: str = "", *when: str) -> dict[str, Any]:
    head = {"name": name} if name else {}
    return {**head, **_when(*when), "uses": action, **({"with": {**inputs}} if inputs else {})}


def _when(*conditions: str) -> dict[str, str]:
    return {"if": f"${{{{ {' && '.join(conditions)} }}}}"} if conditions else {}


def _quoted(text: str) -> str:
    """Return text as it stands inside of quotes in a format string of GitHub's expressions."""
    return text.replace("'", "''").replace("{", "{{").replace("}", "}}")


class _Dumper(yaml.SafeDumper):
    """Writes scripts as blocks, and everything in full: GitHub knows anchors only lately."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Readers of YAML 1.1 fold these as they do line ends; only double quotes have an escape for them.
    folded = any(character in text for character in "\x85\u2028\u2029")
    style = '"' if folded else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
