"""Views -> the GitHub workflow that runs every night: a job for each view on each platform, one report of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from mlviews.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
_ACTIONS = {
    name: f"actions/{name}@{version}"
    for name, version in {
        "cache": "v4",
        "cache/restore": "v4",
        "cache/save": "v4",
        "checkout": "v5",
        "deploy-pages": "v4",
        "download-artifact": "v4",
        "setup-python": "v6",
        "upload-artifact": "v4",
        "upload-pages-artifact": "v3",
    }.items()
} | {"setup-oras": "oras-project/setup-oras@v1"}
# GitHub's names of its runners, and of a self-hosted runner's architecture.
_HOSTED = {"linux-64": "ubuntu-24.04", "linux-aarch64": "ubuntu-24.04-arm"}
_ARCHITECTURES = {"linux-64": "X64", "linux-aarch64": "ARM64"}
_MOST_JOBS = 256  # of one matrix (docs.github.com, "Running variations of jobs in a workflow")

_PYTHON = "3.12"
_ROOT = "~/mlviews-nightly"  # outside of the checkout: a self-hosted runner keeps its packages from night to night
_HISTORY = f"{_ROOT}/nightly/history.sqlite"
_HISTORY_KEY = "nights-${{ github.run_id }}-${{ github.run_attempt }}"
_ALWAYS = "${{ !cancelled() }}"
_OWN = "github.ref_type == 'tag' || github.ref_name == github.event.repository.default_branch"
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
    gpu = [spec for spec in specs if spec.hardware.cuda is not None]
    jobs: dict[str, Any] = {}
    if cells := _cells([spec for spec in specs if spec not in gpu], settings, gpu=False):
        nights = {"if": "${{ github.event_name != 'pull_request' }}"} if settings.locks else {}
        jobs["cpu"] = {**nights, **_tests(cells, settings, minutes=120)}
    if cells := _cells(gpu, settings, gpu=True):
        alone = "${{ vars.MLVIEWS_GPU_RUNNERS == 'yes' }}"
        by_night = "${{ vars.MLVIEWS_GPU_RUNNERS == 'yes' && github.event_name != 'pull_request' }}"
        jobs["gpu"] = {"if": by_night if settings.locks else alone, **_tests(cells, settings, minutes=180)}
    if not jobs:
        raise no_views()
    jobs["report"] = _report(list(jobs), settings)
    jobs["pages"] = _pages(settings)
    if settings.locks:
        jobs["locks"] = _locks(settings)
    content = {
        "name": "nightly",
        "on": {
            "schedule": [{"cron": settings.cron}],
            "workflow_dispatch": {},
            **({"pull_request": {}} if settings.locks else {}),
        },
        "permissions": {},
        "concurrency": {
            "group": "nightly${{ github.event_name == 'pull_request' && github.ref || '' }}"
            if settings.locks
            else "nightly",
            "cancel-in-progress": False,
        },
        "env": _environment(settings),
        "jobs": jobs,
    }
    requests = "; for a pull request it checks locks alone" if settings.locks else ", never for a pull request"
    return _HEADER.format(requests=requests) + written(content)


def ready_workflow(specs: Sequence[ViewSpec], settings: Settings) -> str:
    """Return the text of a workflow that makes views ready for use, when a push asks for it.

    It stands by itself: what a night keeps in caches has no way into what is pushed.

    Raises:
        RefusedError: as `workflow`.
    """
    jobs = {
        name: {"if": f"${{{{ {condition} }}}}", **_ready(cells, settings)}
        for name, gpu, condition in (
            ("cpu", False, _OWN),
            ("gpu", True, f"vars.MLVIEWS_GPU_RUNNERS == 'yes' && ({_OWN})"),
        )
        if (cells := _cells([spec for spec in specs if (spec.hardware.cuda is not None) is gpu], settings, gpu=gpu))
    }
    if not jobs:
        raise no_views()
    locks = f"{settings.lockfiles}/*.conda-lock.yml"
    content = {
        "name": "ready-made",
        "on": {
            "push": {"tags": ["**"], "branches": ["**"], "paths": [locks]}
        },  # a tag is looked at whatever it changes
        "permissions": {},
        "concurrency": {"group": "ready-made-${{ github.ref }}", "cancel-in-progress": False},
        "env": _environment(settings),
        "jobs": jobs,
    }
    return _READY_HEADER + written(content)


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


def _environment(settings: Settings) -> dict[str, str]:
    unusual = {name: literal(value) for name, value in settings.unusual.items()}
    return {**unusual, "MLVIEWS_LOCKFILES": literal(settings.lockfiles), "MLVIEWS_ROOT": _ROOT}


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


def _tests(cells: list[dict[str, Any]], settings: Settings, *, minutes: int) -> dict[str, Any]:
    packages = "packages-${{ matrix.platform }}-${{ matrix.view }}-"
    lock = f"format('{_quoted(settings.lockfiles)}/{{0}}.conda-lock.yml', matrix.view)"
    cached = {
        "path": f"{_ROOT}/cache/pkgs",
        "key": f"{packages}${{{{ hashFiles({lock}) }}}}",
        "restore-keys": packages,
    }
    found = {
        "name": "night-${{ matrix.view }}-${{ matrix.platform }}",
        "path": _HISTORY,
        "if-no-files-found": "error",
        "retention-days": 7,
    }
    # What a self-hosted runner has on its own disk need not travel.
    hosted = "${{ runner.environment == 'github-hosted' }}"
    steps = [
        *_start(settings),
        _use("cache", cached, name="Packages, by the lock's digest", condition=hosted),
        {"name": "Solve, install, check", "run": 'mlviews nightly "$VIEW"', "env": {"VIEW": "${{ matrix.view }}"}},
        _use("upload-artifact", found, name="What was found", condition=_ALWAYS),
    ]
    return {
        "name": "${{ matrix.view }} on ${{ matrix.platform }}",
        "runs-on": "${{ matrix.runner }}",
        "timeout-minutes": minutes,
        "permissions": {"contents": "read"},
        "strategy": {"fail-fast": False, "matrix": {"include": cells}},
        "steps": steps,
    }


def _report(tests: list[str], settings: Settings) -> dict[str, Any]:
    report = {"name": "report", "path": "public"}
    steps = [
        *_start(settings),
        # Views that no runner tests are in the report all the same; what is broken fails the step after the next.
        {"name": "Solve every view", "run": "mlviews nightly --solve-only", "continue-on-error": True},
        _use("download-artifact", {"pattern": "night-*", "path": "nights"}, name="What the runners found"),
        {"name": "Write the report", "run": GATHER},
        _use("cache/save", {"path": _HISTORY, "key": _HISTORY_KEY}, name="Keep the history", condition=_ALWAYS),
        {"name": "Collect the pages", "if": _ALWAYS, "run": _PUBLISH},
        _use("upload-artifact", report, name="The report", condition=_ALWAYS),
        _use("upload-pages-artifact", {"path": "public"}, name="The report, as pages", condition=_ALWAYS),
    ]
    return {
        "needs": tests,
        "if": "${{ !cancelled() && github.event_name != 'pull_request' }}" if settings.locks else _ALWAYS,
        "runs-on": _HOSTED["linux-64"],
        "timeout-minutes": 30,
        "permissions": {"contents": "read"},
        "steps": steps,
    }


def _ready(cells: list[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """Return the job that builds, proves, packs and pushes what a push has changed."""
    values = {
        "VIEW": "${{ matrix.view }}",
        "PLATFORM": "${{ matrix.platform }}",
        "TAG": "${{ github.ref_type == 'tag' && github.ref_name || '' }}",
        "BEFORE": "${{ github.event.before }}",
        "REGISTRY": "${{ vars.MLVIEWS_REGISTRY }}",
        "REGISTRY_USER": "${{ secrets.MLVIEWS_REGISTRY_USER || github.actor }}",
        "REGISTRY_TOKEN": "${{ secrets.MLVIEWS_REGISTRY_TOKEN || github.token }}",
    }
    packs = {
        "name": "ready-${{ matrix.view }}-${{ matrix.platform }}",
        "path": "ready",
        "if-no-files-found": "ignore",
        "retention-days": 30,
    }
    hosted = "${{ runner.environment == 'github-hosted' }}"
    tools = "sudo apt-get -qq update && sudo apt-get -qq install -y skopeo squashfs-tools"
    checkout, *rest = _start(settings)
    checkout["with"] |= {"fetch-depth": 0}  # the commit before the push is looked at
    return {
        "name": "${{ matrix.view }} on ${{ matrix.platform }}",
        "runs-on": "${{ matrix.runner }}",
        "timeout-minutes": 120,
        "permissions": {"contents": "read", "packages": "write"},
        "strategy": {"fail-fast": False, "matrix": {"include": cells}},
        "steps": [
            checkout,
            *(step for step in rest if step.get("name") != "Earlier nights"),
            {"name": "Tools", "if": hosted, "run": tools},
            _use("setup-oras", {}, name="What pushes packs", condition=hosted),
            {"name": "Build, prove, pack, push", "run": READY, "shell": "bash", "env": values},
            _use("upload-artifact", packs, name="The packed release"),
        ],
    }


def _locks(settings: Settings) -> dict[str, Any]:
    return {
        "if": "${{ github.event_name == 'pull_request' }}",
        "runs-on": _HOSTED["linux-64"],
        "timeout-minutes": 30,
        "permissions": {"contents": "read"},
        "steps": [*_start(settings), {"name": "Locks answer their recipes", "run": CHECK_LOCKS}],
    }


def _pages(settings: Settings) -> dict[str, Any]:
    nights = " && github.event_name != 'pull_request'" if settings.locks else ""
    return {
        "needs": "report",
        "if": f"${{{{ !cancelled() && vars.MLVIEWS_PAGES == 'yes'{nights} }}}}",
        "runs-on": _HOSTED["linux-64"],
        "timeout-minutes": 10,
        "permissions": {"pages": "write", "id-token": "write"},
        "concurrency": {"group": "pages", "cancel-in-progress": False},
        "environment": {"name": "github-pages", "url": "${{ steps.deployment.outputs.page_url }}"},
        "steps": [{"id": "deployment", "uses": _ACTIONS["deploy-pages"]}],
    }


def _start(settings: Settings) -> list[dict[str, Any]]:
    """Return the steps that every job begins with: the recipes, mlviews, and what earlier nights found."""
    earlier = {"path": _HISTORY, "key": _HISTORY_KEY, "restore-keys": "nights-"}
    return [
        _use("checkout", {"persist-credentials": False}),
        _use("setup-python", {"python-version": _PYTHON}),
        _use("cache/restore", earlier, name="Earlier nights"),
        {
            "name": "Install mlviews",
            "run": 'python -m pip install "$REQUIREMENT"',
            "env": {"REQUIREMENT": literal(settings.requirement)},
        },
    ]


def _use(action: str, inputs: Mapping[str, Any], *, name: str = "", condition: str = "") -> dict[str, Any]:
    head = {key: value for key, value in (("name", name), ("if", condition)) if value}
    return {**head, "uses": _ACTIONS[action], **({"with": dict(inputs)} if inputs else {})}


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
