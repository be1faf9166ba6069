"""Views -> the pipeline of GitLab that runs every night: the same jobs as GitHub's workflow (`mlviews.ci.github`).

See https://docs.gitlab.com/ci/yaml/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
_PUSHED = '$CI_COMMIT_TAG || ($CI_PIPELINE_SOURCE == "push" && $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH)'
_MOST_JOBS = 200  # of one matrix (docs.gitlab.com, "parallel:matrix")
_IMAGE = "python:3.12"
_IMAGE_READY = "python:3.12-trixie"  # the first Debian that packages oras
_ARM = "saas-linux-small-arm64"
_ROOT = ".mlviews-nightly"  # in the checkout: GitLab caches nothing from elsewhere
_HISTORY = f"{_ROOT}/nightly/history.sqlite"
_NIGHT = '$CI_PIPELINE_SOURCE == "schedule" || $CI_PIPELINE_SOURCE == "web"'
_MERGE = '$CI_PIPELINE_SOURCE == "merge_request_event"'
_KEEP = f"""\
mkdir -p "nights/night-$VIEW-$PLATFORM"
cp {_HISTORY} "nights/night-$VIEW-$PLATFORM/"
"""
_PUBLISH = f"""\
mkdir -p public
cp -RL {_ROOT}/nightly/latest/. public/
"""


def pipeline(specs: Sequence[ViewSpec], settings: Settings) -> str:
    """Return the text of ``.gitlab-ci.yml``; the same views and settings always give the same.

    Raises:
        RefusedError: there is no view, or more of them than GitLab runs in one matrix.
    """
    cpu, gpu = ([spec for spec in specs if (spec.hardware.cuda is not None) is has] for has in (False, True))
    gpu_tags = [literal(label) for label in settings.gpu_labels]
    gpu_rule = f'$MLVIEWS_GPU_RUNNERS == "yes" && ({_NIGHT})'
    kinds: tuple[tuple[str, str, list[ViewSpec], list[str], str], ...] = (
        ("cpu", "linux-64", cpu, [], _NIGHT),
        ("cpu-arm", "linux-aarch64", cpu, ["$MLVIEWS_ARM_RUNNER"], _NIGHT),
        ("gpu", "linux-64", gpu, gpu_tags, gpu_rule),
        ("gpu-arm", "linux-aarch64", gpu, gpu_tags, gpu_rule),
    )
    tests = {
        job: _tests(views, platform, tags, rule)
        for job, platform, kind, tags, rule in kinds
        if (views := [spec.name for spec in kind if platform in spec.platforms])
    }
    if not tests:
        raise no_views()
    rules = [{"if": rule} for rule in (_NIGHT, *([_MERGE] if settings.locks else []))]
    ready = {
        f"ready-{job}": _ready(tests[job], rule, settings)
        for job, _, _, _, rule in kinds
        if job in tests and settings.ready
    }
    locks = {"stage": "test", "rules": [{"if": _MERGE}], "timeout": "30 minutes", "script": [CHECK_LOCKS]}
    content = {
        "workflow": {"rules": [*rules, *_pushes(settings)]},
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
        **tests,
        "report": _report(list(tests)),
        "pages": _pages(),
        **({"locks": locks} if settings.locks else {}),
        **ready,
    }
    return _HEADER.format(cron=settings.cron, ready=_HEADER_READY if settings.ready else "") + written(content)


def literal(text: str) -> str:
    """Return text as GitLab must read it in a variable to give back the same: nothing in it is a variable."""
    return text.replace("$", "$$")


def _tests(views: Sequence[str], platform: str, tags: Sequence[str], rule: str) -> dict[str, Any]:
    if len(views) > _MOST_JOBS:
        raise too_many(len(views), "GitLab", _MOST_JOBS)
    packages = {"key": "packages-$PLATFORM-$VIEW", "paths": [f"{_ROOT}/cache/pkgs"]}
    return {
        "stage": "test",
        **({"tags": [*tags]} if tags else {}),
        "rules": [{"if": rule}],
        "timeout": "3 hours",
        "parallel": {"matrix": [{"VIEW": [*map(literal, views)], "PLATFORM": [platform]}]},
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
        "rules": [{"if": f'$MLVIEWS_PAGES == "yes" && ({_NIGHT})', "when": "always"}],
        "timeout": "10 minutes",
        "before_script": [],
        "script": ["ls public"],
        "artifacts": {"paths": ["public/"]},
    }


def _pushes(settings: Settings) -> list[dict[str, Any]]:
    """Return the rules of what a push starts."""
    if not settings.ready:
        return []
    branch = _PUSHED.partition("(")[2].rstrip(")")
    locks = f"{settings.lockfiles}/*.conda-lock.yml"
    return [{"if": "$CI_COMMIT_TAG"}, {"if": branch, "changes": [literal(locks)]}]


def _ready(tests: dict[str, Any], rule: str, settings: Settings) -> dict[str, Any]:
    """Return the job that builds, proves, packs and pushes what a push has changed, where a kind of view is tested."""
    switch = rule.partition(" && ")[0] if "MLVIEWS_GPU_RUNNERS" in rule else ""
    rules = [{**one, "if": f"{switch} && {one['if']}" if switch else one["if"]} for one in _pushes(settings)]
    tools = "apt-get -qq update && apt-get -qq install -y oras skopeo squashfs-tools"
    return {
        **{key: tests[key] for key in ("tags", "parallel") if key in tests},
        "stage": "deploy",
        "image": _IMAGE_READY,
        "rules": rules,
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
