"""Views -> the pipeline of GitLab that runs every night: the same jobs as GitHub's workflow (`mlviews.ci.github`).

See https://docs.gitlab.com/ci/yaml/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mlviews.ci.github import CHECK_LOCKS, GATHER, READY, Settings, no_views, too_many, written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlviews.recipe.view import ViewSpec

_HEADER = """\
# Made by `mlviews ci gitlab` from the recipes: do not edit it; make it again when views come or go.
#
# Build, Pipeline schedules starts it each night: enter `{cron}`. New pipeline starts it by hand.
# CI/CD variables of the project switch on what it must have first (Settings, CI/CD, Variables):
#   MLVIEWS_GPU_RUNNERS=yes  views for GPUs are tested on runners with the tags of the job `gpu`
#   MLVIEWS_PAGES=yes        the report is published
#   MLVIEWS_ARM_RUNNER       tag of the runners for linux-aarch64, if it is not GitLab.com's
{ready}"""
_HEADER_READY = """\
#   MLVIEWS_REGISTRY         such as $CI_REGISTRY_IMAGE: images and packs are pushed there; if that is not the project's
#                            own, with MLVIEWS_REGISTRY_USER and MLVIEWS_REGISTRY_TOKEN
# A view is built, proved, packed and pushed when its lock on the default branch changes, every view when a tag comes.
"""
_MOST_JOBS = 200  # of one matrix (docs.gitlab.com, "parallel:matrix")
_IMAGE = "python:3.12"
_IMAGE_READY = "python:3.12-trixie"  # the first Debian that packages oras
_ARM = "saas-linux-small-arm64"
_ROOT = ".mlviews-nightly"  # in the checkout: GitLab caches nothing from elsewhere
_HISTORY = f"{_ROOT}/nightly/history.sqlite"
_NIGHT = '$CI_PIPELINE_SOURCE == "schedule" || $CI_PIPELINE_SOURCE == "web"'
_HAS_GPUS = '$MLVIEWS_GPU_RUNNERS == "yes"'
_MERGE = '$CI_PIPELINE_SOURCE == "merge_request_event"'
_KEEP = f"""\
mkdir -p "nights/night-$VIEW-$PLATFORM"
cp {_HISTORY} "nights/night-$VIEW-$PLATFORM/"
"""
_PUBLISH = f"""\
mkdir -p public
cp -RL {_ROOT}/nightly/latest/. public/
"""


class _Kind(NamedTuple):
    """Views that one job tests, on one platform.

    Attributes:
        tags: of its runners.
        switch: when there are such runners; empty for always.
    """

    job: str
    views: list[str]
    platform: str
    tags: list[str]
    switch: str


def pipeline(specs: Sequence[ViewSpec], settings: Settings) -> str:
    """Return the text of ``.gitlab-ci.yml``; the same views and settings always give the same.

    Raises:
        RefusedError: there is no view, or more of them than GitLab runs in one matrix.
    """
    kinds = _kinds(specs, settings)
    rules, jobs = [_NIGHT], {kind.job: _tests(kind) for kind in kinds}
    jobs |= {"report": _report([*jobs]), "pages": _pages()}
    if settings.locks:
        rules.append(_MERGE)
        jobs["locks"] = {
            "stage": "test", "rules": [{"if": _MERGE}], "timeout": "30 minutes", "script": [CHECK_LOCKS],
        }  # fmt: skip
    if settings.ready:
        jobs |= {f"ready-{kind.job}": _ready(kind, settings) for kind in kinds}
    content = {
        "workflow": {"rules": [*({"if": rule} for rule in rules), *(_pushes(settings) if settings.ready else ())]},
        "stages": ["test", "report", "deploy"],
        "variables": {
            **{name: literal(value) for name, value in settings.unusual.items()},
            "MLVIEWS_LOCKFILES": literal(settings.lockfiles),
            "MLVIEWS_ROOT": f"$CI_PROJECT_DIR/{_ROOT}",
            "MLVIEWS_ARM_RUNNER": _ARM,
            "REQUIREMENT": literal(settings.requirement),
        },
        "default": {
            "image": _IMAGE,
            "before_script": ['python -m pip install "$REQUIREMENT"'],
            "interruptible": False,
        },
        **jobs,
    }
    return _HEADER.format(cron=settings.cron, ready=_HEADER_READY if settings.ready else "") + written(content)


def _kinds(specs: Sequence[ViewSpec], settings: Settings) -> list[_Kind]:
    tags = [literal(label) for label in settings.gpu_labels]
    found = []
    for job, gpu, platform, own, switch in (
        ("cpu", False, "linux-64", [], ""),
        ("cpu-arm", False, "linux-aarch64", ["$MLVIEWS_ARM_RUNNER"], ""),
        ("gpu", True, "linux-64", tags, _HAS_GPUS),
        ("gpu-arm", True, "linux-aarch64", tags, _HAS_GPUS),
    ):
        views = [s.name for s in specs if (s.hardware.cuda is not None) is gpu and platform in s.platforms]
        if len(views) > _MOST_JOBS:
            raise too_many(len(views), "GitLab", _MOST_JOBS)
        if views:
            found.append(_Kind(job, views, platform, own, switch))
    if not found:
        raise no_views()
    return found


def literal(text: str) -> str:
    """Return text as GitLab must read it in a variable to give back the same: nothing in it is a variable."""
    return text.replace("$", "$$")


def _when(switch: str, condition: str) -> str:
    return f"{switch} && ({condition})" if switch else condition


def _runners(kind: _Kind) -> dict[str, Any]:
    matrix = {"VIEW": [*map(literal, kind.views)], "PLATFORM": [kind.platform]}
    return {**({"tags": kind.tags} if kind.tags else {}), "parallel": {"matrix": [matrix]}}


def _tests(kind: _Kind) -> dict[str, Any]:
    packages = {"key": "packages-$PLATFORM-$VIEW", "paths": [f"{_ROOT}/cache/pkgs"]}
    return {
        **_runners(kind),
        "stage": "test",
        "rules": [{"if": _when(kind.switch, _NIGHT)}],
        "timeout": "3 hours",
        "cache": [packages, _history("pull")],
        "script": ['mlviews nightly "$VIEW"'],
        "after_script": [_KEEP],
        "artifacts": {"when": "always", "expire_in": "1 week", "paths": ["nights/"]},
    }


def _report(tests: Sequence[str]) -> dict[str, Any]:
    return {
        "stage": "report",
        "needs": [{"job": name, "optional": True} for name in tests],
        "rules": [{"if": _NIGHT, "when": "always"}],
        "timeout": "30 minutes",
        "cache": [{**_history("pull-push"), "when": "always"}],
        # Views that no runner tests are in the report all the same; what is broken fails the job after it is written.
        "script": ["mlviews nightly --solve-only || true", GATHER],
        "after_script": [_PUBLISH],
        "artifacts": {"when": "always", "paths": ["public/"]},
    }


def _pages() -> dict[str, Any]:
    return {
        "stage": "deploy",
        "needs": ["report"],
        "rules": [{"if": _when('$MLVIEWS_PAGES == "yes"', _NIGHT), "when": "always"}],
        "timeout": "10 minutes",
        "before_script": [],
        "script": ["ls public"],
        "artifacts": {"paths": ["public/"]},
    }


def _pushes(settings: Settings, switch: str = "") -> list[dict[str, Any]]:
    """Return the rules of what a push starts."""
    branch = '$CI_PIPELINE_SOURCE == "push" && $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH'
    locks = literal(f"{settings.lockfiles}/*.conda-lock.yml")
    return [{"if": _when(switch, "$CI_COMMIT_TAG")}, {"if": _when(switch, branch), "changes": [locks]}]


def _ready(kind: _Kind, settings: Settings) -> dict[str, Any]:
    """Return the job that builds, proves, packs and pushes what a push has changed, where a kind of view is tested."""
    tools = "apt-get -qq update && apt-get -qq install -y oras skopeo squashfs-tools"
    return {
        **_runners(kind),
        "stage": "deploy",
        "image": _IMAGE_READY,
        "rules": _pushes(settings, kind.switch),
        "timeout": "3 hours",
        "variables": {
            "GIT_DEPTH": "0",
            "TAG": "$CI_COMMIT_TAG",
            "BEFORE": "$CI_COMMIT_BEFORE_SHA",
            "REGISTRY": "$MLVIEWS_REGISTRY",
        },
        # GitLab's shell is sh where an image has no bash; this one has.
        "script": [
            tools,
            'export REGISTRY_USER="${MLVIEWS_REGISTRY_USER:-$CI_REGISTRY_USER}"',
            'export REGISTRY_TOKEN="${MLVIEWS_REGISTRY_TOKEN:-$CI_REGISTRY_PASSWORD}"',
            READY,
        ],
        "artifacts": {"paths": ["ready/"], "expire_in": "30 days"},
    }


def _history(policy: str) -> dict[str, Any]:
    return {"key": "nights", "policy": policy, "paths": [_HISTORY]}
