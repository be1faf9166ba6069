"""The workflow for GitHub: made from the recipes, valid by GitHub's published schema, and with no way in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from mlviews.ci.github import READY, Settings, literal, ready_workflow, workflow
from mlviews.ci.gitlab import pipeline
from mlviews.errors import RefusedError
from mlviews.recipe.catalogue import open_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Cli

    from mlviews.recipe.view import ViewSpec

REPOSITORY = Path(__file__).resolve().parent.parent
VIEWS = open_catalogue(REPOSITORY / "recipes").views()
SCHEMA = json.loads(
    (resources.files("check_jsonschema") / "builtin_schemas/vendor/github-workflows.json").read_text(encoding="utf-8")
)


def read(text: str) -> dict[str, Any]:
    """Read a workflow as GitHub does: ``on`` is no truth value."""
    return yaml.load(text, Loader=yaml.BaseLoader)


def faults(text: str) -> list[str]:
    content = yaml.safe_load(text)
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(SCHEMA).iter_errors(content)]


def given_back(text: str) -> str:
    """Return what GitHub makes of a text whose only expressions are strings."""
    return re.sub(r"\$\{\{ '((?:[^']|'')*)' \}\}", lambda match: match[1].replace("''", "'"), text)


def texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from (key, *texts(value))
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    elif isinstance(node, str):
        yield node


def jobs(text: str) -> dict[str, Any]:
    return read(text)["jobs"]


def matrix(job: dict[str, Any]) -> list[dict[str, Any]]:
    return job["strategy"]["matrix"]["include"]


def test_the_projects_own_workflow_is_current() -> None:
    written = (REPOSITORY / ".github/workflows/nightly.yml").read_text(encoding="utf-8")
    assert written == workflow(VIEWS, Settings()), "run `mlviews ci github -o .github/workflows/nightly.yml`"
    ready = (REPOSITORY / ".github/workflows/ready-made.yml").read_text(encoding="utf-8")
    made = ready_workflow(VIEWS, Settings(ready=True))
    assert ready == made, "run `mlviews ci github --ready-made -o .github/workflows/ready-made.yml`"


def test_it_is_valid_by_githubs_schema_and_the_schema_can_say_no() -> None:
    text = workflow(VIEWS, Settings())
    assert faults(text) == []
    assert faults(text.replace("runs-on", "runs_on"))
    assert faults(text.replace("cancel-in-progress: false", "cancel-in-progress: [1]"))


def test_each_view_on_each_platform_is_one_job_on_a_runner_of_its_kind() -> None:
    made = jobs(workflow(VIEWS, Settings(gpu_labels=("gpu", "a100"))))
    cells = {"cpu": matrix(made["cpu"]), "gpu": matrix(made["gpu"])}
    for kind, gpu in (("cpu", False), ("gpu", True)):
        expected = {(v.name, p) for v in VIEWS if (v.hardware.cuda is not None) is gpu for p in v.platforms}
        found = [(cell["view"], cell["platform"]) for cell in cells[kind]]
        assert len(found) == len(expected)
        assert {*found} == expected
    assert {cell["platform"]: cell["runner"] for cell in cells["cpu"]} == {
        "linux-64": ["ubuntu-24.04"],
        "linux-aarch64": ["ubuntu-24.04-arm"],
    }
    assert all(cell["runner"] == ["self-hosted", "Linux", "X64", "gpu", "a100"] for cell in cells["gpu"])
    assert made["report"]["needs"] == ["cpu", "gpu"]


def test_no_job_may_do_more_than_it_must_or_run_for_ever() -> None:
    content = read(workflow(VIEWS, Settings()))
    assert content["permissions"] == {}
    assert content["on"] == {"schedule": [{"cron": "17 3 * * *"}], "workflow_dispatch": {}}
    assert content["concurrency"] == {"group": "nightly", "cancel-in-progress": "false"}
    granted = {name: job["permissions"] for name, job in content["jobs"].items()}
    assert granted.pop("pages") == {"pages": "write", "id-token": "write"}
    assert set(map(json.dumps, granted.values())) == {'{"contents": "read"}'}
    for job in content["jobs"].values():
        assert int(job["timeout-minutes"]) <= 180
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[a-z-]+(/[a-z]+)?@v\d+", step.get("uses", "actions/x@v1"))
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] == "false"


def test_packages_are_cached_by_the_locks_digest() -> None:
    steps = jobs(workflow(VIEWS, Settings(lockfiles="some/locks")))["cpu"]["steps"]
    (cache,) = [step["with"] for step in steps if step.get("uses", "").startswith("actions/cache@")]
    assert "hashFiles(format('some/locks/{0}.conda-lock.yml', matrix.view))" in cache["key"]
    assert cache["key"].startswith(cache["restore-keys"])


def audited(text: str, tmp_path: Path) -> set[str]:
    """Return what zizmor, which looks for ways into workflows, finds in one."""
    path = tmp_path / ".github/workflows/nightly.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    command = [
        Path(sys.executable).parent / "zizmor",
        "--offline",
        "--no-config",
        "--no-exit-codes",
        "--format",
        "json",
    ]
    done = subprocess.run([*command, path], check=True, capture_output=True, text=True, timeout=60)
    return {finding["ident"] for finding in json.loads(done.stdout)}


def test_an_auditor_finds_no_way_in(tmp_path: Path) -> None:
    text = workflow(VIEWS, Settings())
    assert audited(text, tmp_path) <= {"unpinned-uses"}  # as the workflow's head says
    assert "template-injection" in audited(text.replace('"$VIEW"', "${{ github.event.inputs.view }}"), tmp_path)


HOSTILE = st.text(max_size=30) | st.sampled_from(
    [
        "${{ secrets.GITHUB_TOKEN }}",
        "$(id)",
        '"; id; "',
        "a\n  run: id",
        "- x: &a",
        "'",
        "${{ '${{' }}",
        "${{${{",
        "yes",
        "a\x85b\u2028c",
        "a\nb\x85",
    ]
)


def view(name: str, template: ViewSpec = VIEWS[0], **keys: Any) -> ViewSpec:
    return replace(template, name=name, **keys)


@given(name=HOSTILE, label=HOSTILE, requirement=HOSTILE, folder=HOSTILE)
def test_no_text_becomes_yaml_an_expression_or_a_command(name: str, label: str, requirement: str, folder: str) -> None:
    gpu = next(v for v in VIEWS if v.hardware.cuda)
    settings = Settings(gpu_labels=(label,), requirement=requirement, recipes=folder or None)
    plain = Settings(gpu_labels=("label",), requirement="requirement", recipes="folder" if folder else None)
    made, usual = read(workflow([view(name, gpu)], settings)), read(workflow([view("name", gpu)], plain))
    (cell,) = matrix(made["jobs"]["gpu"])
    assert given_back(cell["view"]) == name
    assert given_back(cell["runner"][-1]) == label
    steps = [step for job in made["jobs"].values() for step in job["steps"] if "REQUIREMENT" in step.get("env", {})]
    assert [given_back(step["env"]["REQUIREMENT"]) for step in steps] == [requirement] * 2
    # Apart from these texts, the workflow is what it always is: what runs, and every expression.
    hostile = {literal(text) for text in (name, label, requirement, folder)}
    usual_texts = {*texts(usual)}
    assert {text for text in texts(made) if text not in usual_texts} <= hostile
    assert all("${{" not in step.get("run", "") for job in made["jobs"].values() for step in job["steps"])


def test_the_same_recipes_give_the_same_bytes_and_no_view_gives_none() -> None:
    assert workflow(VIEWS, Settings()) == workflow(VIEWS, Settings())
    cpu = [v for v in VIEWS if v.hardware.cuda is None]
    assert set(jobs(workflow(cpu, Settings()))) == {"cpu", "report", "pages"}
    with pytest.raises(RefusedError, match="no view"):
        workflow([], Settings())
    with pytest.raises(RefusedError, match="257 jobs"):
        workflow([view(f"v{number}", cpu[0], platforms=("linux-64",)) for number in range(257)], Settings())


# The scripts


@pytest.mark.parametrize("found", [0, 1, 3])
def test_what_the_runners_found_is_gathered(tmp_path: Path, found: int) -> None:
    (script,) = [
        step["run"]
        for step in jobs(workflow(VIEWS, Settings()))["report"]["steps"]
        if "--gather" in step.get("run", "")
    ]
    (tmp_path / "nights").mkdir()
    for number in range(found):
        (tmp_path / f"nights/night {number}").mkdir()
        (tmp_path / f"nights/night {number}/history.sqlite").touch()
    (tmp_path / "mlviews").write_text('#!/bin/sh\nfor a in "$@"; do echo "$a"; done\n')
    (tmp_path / "mlviews").chmod(0o755)
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    expected = [f"--gather\nnights/night {number}/history.sqlite\n" for number in range(found)]
    assert (done.returncode, done.stdout) == ((0, "nightly\n" + "".join(expected)) if found else (3, ""))


# The command


def test_the_command_writes_what_it_prints(cli: Cli, tmp_path: Path) -> None:
    cli.recipes.recipe("demo", "plain", platforms=["linux-64", "linux-aarch64"])
    call = ("ci", "github", "--install", "mlviews[report]==1")
    printed = cli(*call)
    assert cli(*call, "-o", "deep/nightly.yml").out == "wrote deep/nightly.yml\n"
    assert printed.out == (tmp_path / "deep/nightly.yml").read_text() == cli(*call, "--json").data["workflow"]
    content = read(printed.out)
    assert content["env"]["MLVIEWS_RECIPES"] == "recipes"
    assert "MLVIEWS_SITE" not in content["env"]
    assert faults(printed.out) == []
    assert "mlviews[report]==1" in printed.out
    assert read(cli(*call, "--site", "pypi").out)["env"]["MLVIEWS_SITE"] == "pypi"
    pipeline = read(cli("ci", "gitlab", "--install", "mlviews==1", "--site", "pypi").out)
    assert pipeline["variables"]["MLVIEWS_SITE"] == "pypi", "runners use the site that the command was given"


@pytest.mark.parametrize(
    "wrong", [("--cron", "daily"), ("--cron", "1 2 3 4 5 6"), ("--gpu-label", "a,b"), ("--gpu-label", "")]
)
def test_what_is_no_time_or_label_is_refused(cli: Cli, wrong: tuple[str, str]) -> None:
    cli.recipes.recipe("demo", "plain")
    assert cli("ci", "github", *wrong).code == 2


# GitLab


GITLAB = json.loads(
    (resources.files("check_jsonschema") / "builtin_schemas/vendor/gitlab-ci.json").read_text(encoding="utf-8")
)


def gitlab_faults(text: str) -> list[str]:
    found = Draft7Validator(GITLAB).iter_errors(yaml.safe_load(text))
    return [f"{error.json_path}: {error.message}" for error in found]


@pytest.mark.parametrize("locks", [False, True])
def test_the_pipeline_is_valid_by_gitlabs_schema_and_the_schema_can_say_no(*, locks: bool) -> None:
    text = pipeline(VIEWS, Settings(locks=locks))
    assert gitlab_faults(text) == []
    assert gitlab_faults(text.replace("parallel:", "parallels:", 1))
    assert gitlab_faults(text.replace("when: always", "when: perhaps"))
    assert ("locks" in read(text)) is locks
    assert ("merge_request_event" in text) is locks
    assert text == pipeline(VIEWS, Settings(locks=locks))


def test_gitlab_tests_what_github_tests() -> None:
    made, there = read(pipeline(VIEWS, Settings(gpu_labels=("a100",)))), jobs(workflow(VIEWS, Settings()))
    tests = {name: job for name, job in made.items() if isinstance(job, dict) and "parallel" in job}
    found = {
        (view, cell["PLATFORM"][0], name.partition("-")[0])
        for name, job in tests.items()
        for cell in job["parallel"]["matrix"]
        for view in cell["VIEW"]
    }
    assert found == {(cell["view"], cell["platform"], name) for name in ("cpu", "gpu") for cell in matrix(there[name])}
    assert made["gpu"]["tags"] == ["a100"]
    assert "MLVIEWS_GPU_RUNNERS" in made["gpu"]["rules"][0]["if"]
    assert [need["job"] for need in made["report"]["needs"]] == [*tests]
    assert all("timeout" in job for job in (*tests.values(), made["report"], made["pages"]))
    with pytest.raises(RefusedError, match="no view"):
        pipeline([], Settings())
    cpu = next(v for v in VIEWS if v.hardware.cuda is None)
    with pytest.raises(RefusedError, match="201 jobs"):
        pipeline([view(f"v{number}", cpu, platforms=("linux-64",)) for number in range(201)], Settings())


@given(name=HOSTILE, label=HOSTILE, requirement=HOSTILE, folder=HOSTILE)
def test_no_text_becomes_yaml_a_variable_or_a_command_of_gitlab(
    name: str, label: str, requirement: str, folder: str
) -> None:
    gpu = next(v for v in VIEWS if v.hardware.cuda)
    settings = Settings(gpu_labels=(label,), requirement=requirement, recipes=folder or None)
    made = read(pipeline([view(name, gpu)], settings))
    assert made["gpu"]["parallel"]["matrix"][0]["VIEW"] == [name.replace("$", "$$")]
    assert made["gpu"]["tags"] == [label.replace("$", "$$")]
    assert made["variables"]["REQUIREMENT"] == requirement.replace("$", "$$")
    usual = read(pipeline([view("name", gpu)], Settings(gpu_labels=("l",), requirement="r", recipes=folder and "f")))
    scripts = [[job.get("script"), job.get("after_script")] for job in made.values() if isinstance(job, dict)]
    assert scripts == [[job.get("script"), job.get("after_script")] for job in usual.values() if isinstance(job, dict)]


def test_requests_are_told_of_stale_locks_and_run_nothing_else(tmp_path: Path) -> None:
    text = workflow(VIEWS, Settings(locks=True))
    assert faults(text) == []
    assert audited(text, tmp_path) <= {"unpinned-uses"}
    made = jobs(text)
    for name, job in made.items():
        assert ("github.event_name == 'pull_request'" in job["if"]) is (name == "locks")
        assert ("github.event_name != 'pull_request'" in job["if"]) is (name != "locks")
    assert made["locks"]["permissions"] == {"contents": "read"}
    assert made["locks"]["steps"][-1]["run"] == "mlviews lock --all --check"
    merge = read(pipeline(VIEWS, Settings(locks=True)))
    for name, job in merge.items():
        if isinstance(job, dict) and "script" in job:
            rules = [rule["if"] for rule in job["rules"]]
            assert any("merge_request_event" in rule for rule in rules) is (name == "locks"), name
    assert merge["locks"]["script"] == ["mlviews lock --all --check"]


@pytest.mark.parametrize(
    ("stated", "installed"),
    [
        (None, "mlviews[report]=="),
        (
            {"url": "https://u:p@git.example/m.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "mlviews[report] @ git+https://git.example/m.git@abc",
        ),
        ({"url": "https://x.example/m.whl", "archive_info": {}}, "mlviews[report] @ https://x.example/m.whl"),
        ({"url": "file:///home/me/m", "dir_info": {}}, "mlviews[report]=="),
    ],
)
def test_runners_get_mlviews_from_where_this_one_is(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, stated: dict[str, Any] | None, installed: str
) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return json.dumps(stated) if stated else None

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Installed())
    cli.recipes.recipe("demo", "plain")
    for system in ("github", "gitlab"):
        done = cli("ci", system)
        assert done.code == 0
        assert installed in done.out
        assert "u:p" not in done.out
        assert ("--install" in done.err) is ("dir_info" in (stated or {})), "nobody is left with what no runner can do"


def test_the_gitlab_command_writes_what_it_prints(cli: Cli, tmp_path: Path) -> None:
    cli.recipes.recipe("demo", "plain", platforms=["linux-64", "linux-aarch64"])
    call = ("ci", "gitlab", "--install", "mlviews==1", "--check-locks")
    printed = cli(*call)
    assert cli(*call, "-o", ".gitlab-ci.yml").out == "wrote .gitlab-ci.yml\n"
    assert printed.out == (tmp_path / ".gitlab-ci.yml").read_text() == cli(*call, "--json").data["pipeline"]
    assert gitlab_faults(printed.out) == []
    assert "lie in its root" in cli("ci", "gitlab", "--check-locks", "--site", "pypi").err


# Ready-made


def test_what_is_ready_made_runs_for_pushes_alone_and_takes_nothing_from_a_cache(tmp_path: Path) -> None:
    text = ready_workflow(VIEWS, Settings())
    assert faults(text) == []
    assert audited(text, tmp_path) <= {"unpinned-uses"}
    cached = text.replace("uses: actions/setup-python@v6", "uses: actions/cache@v4", 1)
    assert "cache-poisoning" in audited(cached, tmp_path)  # so it would be found
    content, nights = read(text), jobs(workflow(VIEWS, Settings()))
    assert [*content["on"]] == ["push"]
    assert content["permissions"] == {}
    assert [*content["jobs"]] == ["cpu", "gpu"]
    for name, job in content["jobs"].items():
        assert matrix(job) == matrix(nights[name])
        assert job["permissions"] == {"contents": "read", "packages": "write"}
        assert int(job["timeout-minutes"]) <= 180
        assert job["steps"][0]["with"]["persist-credentials"] == "false"
    assert "MLVIEWS_GPU_RUNNERS" in content["jobs"]["gpu"]["if"]
    with pytest.raises(RefusedError, match="no view"):
        ready_workflow([], Settings())

    for locks in (False, True):
        there = pipeline(VIEWS, Settings(ready=True, locks=locks))
        assert gitlab_faults(there) == []
        for name, job in read(there).items():
            if isinstance(job, dict) and "script" in job:
                rules = " ".join(rule["if"] for rule in job["rules"])
                assert ("$CI_COMMIT_TAG" in rules) is name.startswith("ready"), name
                assert ("schedule" in rules) is not (name.startswith("ready") or name == "locks"), name
        assert {"ready-cpu", "ready-cpu-arm", "ready-gpu"} <= {*read(there)}
        assert "changes" in str(read(there)["workflow"])


@pytest.mark.parametrize(
    ("change", "tag", "platform", "pushed"),
    [
        (False, "", "linux-64", None),
        (True, "", "linux-64", ["lock-0123456789ab"]),
        (False, "release/2026 $(id)", "linux-64", ["lock-0123456789ab", "release-2026---id-"]),
        (True, "v1", "linux-aarch64", ["lock-0123456789ab-aarch64", "v1-aarch64"]),
    ],
)
def test_a_push_makes_what_it_changed(
    tmp_path: Path, *, change: bool, tag: str, platform: str, pushed: list[str] | None
) -> None:
    """The script of both systems, in a real repository; what it would start writes down how it was called."""
    lock = tmp_path / "lockfiles/it's.conda-lock.yml"
    lock.parent.mkdir()
    lock.write_text("    mlviews-lock-digest: 0123456789abcdef\n")
    git = ["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for number in range(2):
        (tmp_path / "other").write_text(str(number))
        lock.write_text(lock.read_text() + "#\n" * (number and change))
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", "x"], check=True)
    (tmp_path / "bin").mkdir()
    for program in ("mlviews", "oras", "skopeo"):
        (tmp_path / "bin" / program).write_text(f'#!/bin/sh\necho {program} "$@" >> {tmp_path}/calls\n')
        (tmp_path / "bin" / program).chmod(0o755)
    values = {"VIEW": "it's", "PLATFORM": platform, "TAG": tag, "BEFORE": "HEAD~1", "MLVIEWS_LOCKFILES": "lockfiles"}
    values |= {"REGISTRY": "registry.example/a/b", "REGISTRY_USER": "u", "REGISTRY_TOKEN": "t"}

    def run(**changed: str) -> list[str]:
        environment = {**values, **changed, "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
        subprocess.run(["bash", "-c", READY], cwd=tmp_path, env=environment, check=True, capture_output=True)
        calls = tmp_path / "calls"
        said = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return said

    calls = run()
    if pushed is None:
        assert calls == []
        assert len(run(BEFORE="0" * 40)) > 4  # a branch that is new: nobody knows what it changes
        return
    assert calls[:2] == ["mlviews build it's", "mlviews smoke it's"]
    (keys,) = {found[1] for call in calls if (found := re.search(r"--(?:authfile|registry-config) (\S+)", call))}
    assert not Path(keys).parent.exists()
    assert f"skopeo login --authfile {keys} --username u --password-stdin registry.example" in calls
    assert [call.rpartition(":")[2] for call in calls if "copy" in call] == pushed
    packs = [call.split()[-3:] for call in calls if call.startswith("oras push ")]
    files = ["it's.sqfs:application/vnd.squashfs", "it's.sqfs.launch:text/x-shellscript"]
    assert packs == [[f"registry.example/a/b/it's:{tag}-pack", *files] for tag in pushed]
    assert not any(call.startswith(("skopeo", "oras")) for call in run(REGISTRY=""))
