"""Dockerfiles and Apptainer definitions, read by buildah, hadolint and a shell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlviews.container.build import _environment
from mlviews.container.definitions import Contents, definition_files, render_apptainer, render_dockerfile
from mlviews.container.describe import of_recipe, of_release
from mlviews.errors import RefusedError
from mlviews.lock.lockfile import Lock, LockedPackage
from mlviews.release import Around
from mlviews.render import escape
from mlviews.site.model import Images, base_for

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)
DIGEST = "sha256:" + "0" * 64
PINNED = Images(installer=f"docker.io/a/installer@{DIGEST}", base={"2.34": f"docker.io/a/base@{DIGEST}"})


def package(name: str, *depends: str, **changes: Any) -> LockedPackage:
    url = f"https://conda.anaconda.org/conda-forge/linux-64/{name}-1.0-h0_0.conda"
    values = {"platform": "linux-64", "url": url, "md5": "1" * 32, "sha256": "2" * 64, "size": 10}
    dependencies = dict.fromkeys(depends, "")
    return LockedPackage(name, "1.0", "h0_0", **{**values, "dependencies": dependencies, **changes})


HARDWARE = {"glibc": "2.34", "cuda": None, "archspec": None, "gpus": []}
INPUTS = {"platforms": ["linux-64"], "hardware": HARDWARE}
LOCK = Lock("plotting", INPUTS, "solver", (package("a", "z"), package("python"), package("z")))


@pytest.fixture
def make_container(make_release: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that describes the image of a release, or of a lock alone."""

    def make(*, images: Images = PINNED, cuda: str | None = None, gpus: tuple[str, ...] = (), **changes: Any) -> Any:
        return of_release(
            make_release(glibc="2.34", cuda=cuda, gpus=gpus, **{"lock_digest": LOCK.digest, **changes}), LOCK, images
        )

    return make


@pytest.fixture
def uncaptured() -> Callable[..., Any]:
    """Return a function that describes the image of a lock that was never built."""

    def make(summary: str = "Plots") -> Any:
        values = {
            "name": "plotting",
            "summary": summary,
            "module": "atlasml/plotting",
            "dependencies": (),
            "gaps": (),
            "some_gpus_only": (),
            "pip_check_waivers": (),
        }
        spec: Any = SimpleNamespace(**values)
        return of_recipe(spec, LOCK, "linux-64", PINNED)

    return make


def scratch(dockerfile: str) -> str:
    """Return the last stage of a Dockerfile, on an empty base and without what it copies."""
    stage = dockerfile[dockerfile.rindex("FROM") :]
    return re.sub(r"(?m)^COPY .*\n", "", re.sub(r"^FROM .*", "FROM scratch", stage))


def test_every_text_comes_back_from_the_image(images, make_container, hostile, tmp_path):
    for number, text in enumerate(hostile):
        container = make_container(
            summary=text, images=PINNED.model_copy(update={"source": text}), variables={"HOSTILE": text}
        )
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "Dockerfile").write_text(scratch(render_dockerfile(container)))
        images.build(folder, f"localhost/hostile-{number}")
        config = images.config(f"localhost/hostile-{number}")
        assert config["Labels"]["org.opencontainers.image.description"] == text
        assert config["Labels"]["org.opencontainers.image.source"] == text
        assert f"HOSTILE={text}" in config["Env"]
    assert list(tmp_path.rglob("pwned")) == []


@settings(max_examples=8)
@given(texts=st.lists(TEXT, min_size=20, max_size=40))
def test_docker_gives_any_text_back(images, texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    lines = [
        f"LABEL t{number}={escape._docker(text)}\nENV T{number}={escape._docker(text)}"
        for number, text in enumerate(texts)
    ]
    (folder / "Dockerfile").write_text("\n".join(["FROM scratch", *lines, ""]), encoding="utf-8")
    config = images.config(images.build(folder, "localhost/any"))
    assert [config["Labels"][f"t{number}"] for number in range(len(texts))] == texts
    found = dict(entry.split("=", 1) for entry in config["Env"])
    assert [found[f"T{number}"] for number in range(len(texts))] == texts


@given(text=TEXT)
def test_a_definitions_shell_gives_any_text_back_and_apptainer_finds_nothing_to_fill_in(text):
    quoted = escape._definition(text)
    assert "{{" not in quoted
    done = subprocess.run(["sh", "-c", f"printf %s {quoted}"], capture_output=True, check=True)
    assert done.stdout.decode() == text


@pytest.mark.parametrize("quote", [escape._docker, escape._definition, escape._line])
def test_what_no_line_can_hold_is_refused(quote):
    with pytest.raises(ValueError, match="control characters"):
        quote("a\nRUN touch pwned")


@pytest.mark.parametrize("word", ["", "a b", "a\nb", "$(x)", "a;b", "{{a}}", '"'])
def test_what_needs_quotes_does_not_stand_without(word):
    with pytest.raises(ValueError, match="without quotes"):
        escape._bare(word)


def test_a_definition_shows_how_its_image_gets_at_the_gpu(make_container):
    assert "apptainer exec -e --nv IMAGE python" in render_apptainer(make_container(cuda="12.9", gpus=("T4",)))
    assert "--nv" not in render_apptainer(make_container())


def test_what_only_begins_like_the_prefix_is_not_moved_with_it(make_release, tmp_path):
    prefix = str(tmp_path / "envs/plotting/2026.11.23/linux-64")
    variables = {"OTHER": f"{prefix}-other/x", "OWN": f"{prefix}/x:{prefix}"}

    found = of_release(make_release(glibc="2.34", variables=variables), LOCK, PINNED).release.activation.set

    assert found["OTHER"] == f"{prefix}-other/x"
    assert found["OWN"] == "/opt/mlviews/plotting/x:/opt/mlviews/plotting"


def test_the_image_says_where_it_comes_from(images, make_container, tmp_path):
    container = make_container(cuda="12.9", gpus=("T4", "A100"))
    (tmp_path / "Dockerfile").write_text(scratch(render_dockerfile(container)))
    config = images.config(images.build(tmp_path, "localhost/origin"))
    assert {key: value for key, value in config["Labels"].items() if not key.startswith("io.buildah")} == {
        "org.opencontainers.image.title": "plotting",
        "org.opencontainers.image.description": "Plots and histograms",
        "org.opencontainers.image.version": f"lock-{LOCK.digest[:12]}",
        "org.opencontainers.image.base.name": "docker.io/a/base",
        "org.opencontainers.image.base.digest": DIGEST,
        "mlviews.version": container.release.mlviews,
        "mlviews.module": "atlasml/plotting",
        "mlviews.platform": "linux-64",
        "mlviews.recipe": LOCK.recipe_digest,
        "mlviews.lock": LOCK.digest,
        "mlviews.glibc": "2.34",
        "mlviews.cuda": "12.9",
        "mlviews.gpus": "T4,A100",
    }
    prefix = "/opt/mlviews/plotting"
    assert config["Entrypoint"] == [f"{prefix}/launch"]
    assert config["User"] == "1000:1000"
    assert dict(entry.split("=", 1) for entry in config["Env"]) == {
        "PATH": f"{prefix}/bin:{prefix}/more/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "XDG_DATA_DIRS": f"{prefix}/share",
        "CONDA_PREFIX": prefix,
        "MLVIEWS_VIEW": "plotting",
        "MLVIEWS_RELEASE": f"lock-{LOCK.digest[:12]}",
        "MLVIEWS_LOCK": LOCK.digest,
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "NVIDIA_REQUIRE_CUDA": "cuda>=12.9",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "PYTHONHOME": "",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": "",
    }


def test_a_list_of_folders_of_the_base_stays_behind_the_views(images, make_container, tmp_path):
    stage = scratch(render_dockerfile(make_container()))
    (tmp_path / "Dockerfile").write_text(stage.replace("FROM scratch\n", 'FROM scratch\nENV XDG_DATA_DIRS="/base"\n'))
    config = images.config(images.build(tmp_path, "localhost/lists"))
    assert "XDG_DATA_DIRS=/opt/mlviews/plotting/share:/base" in config["Env"]


def test_what_scripts_mean_goes_into_the_image(images, make_container, hostile, tmp_path):
    """Defaults, and text before and after what the base image says; whatever the text holds."""
    meant = {
        "append": {"XDG_DATA_DIRS": ("/last",), "PATH": ("/last",)},
        "default": {"OWN": "no", **{f"DEFAULT_{number}": text for number, text in enumerate(hostile)}},
        "around": {
            "FLAGS": Around(after=" -O2", alone=" -O2"),
            **{f"NEW_{number}": Around(before="x", alone=text) for number, text in enumerate(hostile)},
            **{f"AROUND_{number}": Around(before=text, after=text, alone="x") for number, text in enumerate(hostile)},
        },
    }
    below = {"OWN": "yes", "FLAGS": "-g", **{f"AROUND_{number}": "=" for number in range(len(hostile))}}
    container = make_container(meant=meant)
    lines = "".join(f'ENV {name}="{value}"\n' for name, value in below.items())
    stage = scratch(render_dockerfile(container)).replace("FROM scratch\n", f"FROM scratch\n{lines}")
    (tmp_path / "Dockerfile").write_text(stage, encoding="utf-8")
    found = dict(entry.split("=", 1) for entry in images.config(images.build(tmp_path, "localhost/meant"))["Env"])
    built = _environment(container, below)
    for environment in (found, built):
        assert (environment["OWN"], environment["FLAGS"]) == ("yes", "-g -O2")
        assert environment["XDG_DATA_DIRS"] == f"{container.prefix}/share:/last"
        assert environment["PATH"].endswith("/bin:/last")
        for number, text in enumerate(hostile):
            assert environment[f"DEFAULT_{number}"] == text
            assert environment[f"NEW_{number}"] == text
            assert environment[f"AROUND_{number}"] == f"{text}={text}"
    assert not [name for name in found if name.startswith("MLVIEWS_") and name not in built]


def test_a_definitions_shell_knows_what_scripts_mean(make_container, hostile):
    meant = {
        "append": {"XDG_DATA_DIRS": ("/last",)},
        "default": {f"DEFAULT_{number}": text for number, text in enumerate(hostile)} | {"OWN": "no"},
        "around": {f"AROUND_{n}": Around(before=text, after=text, alone=text) for n, text in enumerate(hostile)},
    }
    text = render_apptainer(make_container(meant=meant))
    lines = text.partition("%environment\n")[2].partition("%runscript")[0].replace("{''{", "{{")
    program = lines + lines + "env -0"  # Apptainer may run it twice
    done = subprocess.run(
        ["sh", "-eu", "-c", program], env={"OWN": "", "AROUND_1": "="}, capture_output=True, text=True, check=True
    )
    found = dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)
    assert found["OWN"] == ""
    assert found["XDG_DATA_DIRS"].endswith(":/last")
    assert {n: found[f"DEFAULT_{n}"] for n in range(len(hostile))} == dict(enumerate(hostile))
    alone = {n: text if n != 1 else f"{text}={text}" for n, text in enumerate(hostile)}
    assert {n: found[f"AROUND_{n}"] for n in range(len(hostile))} == alone


def test_hadolint_finds_nothing(make_container, uncaptured, hostile, tmp_path):
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint
    for container in [uncaptured(), *(make_container(summary=text, cuda="12.9") for text in hostile)]:
        (tmp_path / "Dockerfile").write_text(render_dockerfile(container))
        done = subprocess.run(
            [hadolint, "--no-color", tmp_path / "Dockerfile"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "")


def test_a_tag_is_said_aloud_and_a_digest_is_not(make_container):
    assert make_container().remarks == ()
    floating = make_container(images=Images())
    assert len(floating.remarks) == 2
    text = render_dockerfile(floating)
    assert "# docker.io/library/almalinux:9-minimal is a tag, and a tag can move to another image" in text
    assert "is a tag" not in render_dockerfile(make_container())


def test_without_a_release_the_packages_scripts_run_at_every_start(uncaptured):
    container = uncaptured()
    text = render_dockerfile(container)
    assert json.loads(re.findall(r"ENTRYPOINT (.*)", text)[0])[1] == "/opt/mlviews/plotting/with-scripts"
    assert "# there is no release of this lock here" in text
    files = definition_files("dockerfile", Contents(container, LOCK, "lock"), mirrors={})
    assert "/opt/mlviews/plotting/etc/conda/activate.d" in files["view/with-scripts"].text
    assert files["view/with-scripts"].executable


def test_a_definition_has_just_its_own_sections_whatever_the_recipe_says(make_container, hostile):
    plain = render_apptainer(make_container())
    sections = [
        "%files",
        "%post",
        "%files from installer",
        "%files",
        "%post",
        "%environment",
        "%runscript",
        "%test",
        "%labels",
        "%help",
    ]
    assert re.findall(r"(?m)^\s*(%.*)", plain) == sections
    for text in (*hostile, "%post touch pwned", "%"):
        changed = render_apptainer(make_container(summary=text, variables={"X": text}))
        assert [line for line in changed.splitlines() if line.split()[:1] and line.split()[0][0] == "%"] == sections
        assert "{{" not in changed
        assert changed.count("\n") == plain.count("\n") + 1  # X


def test_a_definitions_environment_holds_every_text(make_container, hostile):
    for text in hostile:
        definition = render_apptainer(make_container(variables={"X": text}, summary=text))
        section = definition.partition("%environment\n")[2].partition("%runscript")[0]
        script = f'{section}\nprintf \'%s\\0\' "$X" "$PYTHONHOME" "$XDG_DATA_DIRS"'
        done = subprocess.run(
            ["sh", "-euc", script], capture_output=True, check=True, env={"XDG_DATA_DIRS": "/usr/share"}
        )
        assert done.stdout.decode().split("\0")[:3] == [text, "", "/opt/mlviews/plotting/share:/usr/share"]


def test_packages_come_after_what_they_depend_on_with_their_hash(make_container):
    files = definition_files("apptainer", Contents(make_container(), LOCK, "lock"), mirrors={})
    view = [
        "aliases.csh",
        "aliases.fish",
        "aliases.sh",
        "conda-lock.yml",
        "conda-meta/frozen",
        "launch",
        "lib/python3.12/EXTERNALLY-MANAGED",
        "release.json",
    ]
    view += ["sbom.cdx.json", "setup.csh", "setup.fish", "setup.sh"]
    view += ["bin/pip", "bin/pip3", "bin/pip3.12", "lib/python3.12/site-packages/pip.py"]
    assert sorted(files) == ["explicit.txt", "view.def", *(f"view/{path}" for path in sorted(view))]
    assert files["explicit.txt"].text.splitlines()[2:] == [
        "@EXPLICIT",
        *(f"{item.url}#sha256:{'2' * 64}" for item in (LOCK.packages[2], LOCK.packages[0], LOCK.packages[1])),
    ]
    circle = Lock("v", LOCK.inputs, "solver", (package("a", "b"), package("b", "a")))
    names = definition_files("apptainer", Contents(make_container(), circle, "lock"), mirrors={})["explicit.txt"].text
    assert names.count("#sha256:") == 2


def test_a_server_that_stands_for_a_channel_is_in_the_list_and_a_folder_is_not(make_container):
    mirrors = {"conda-forge": "http://mirror.example/cf/"}
    files = definition_files("dockerfile", Contents(make_container(), LOCK, "lock"), mirrors=mirrors)
    assert "\nhttp://mirror.example/cf/linux-64/a-1.0-h0_0.conda#" in files["explicit.txt"].text
    files = definition_files("dockerfile", Contents(make_container(), LOCK, "lock"), mirrors={"conda-forge": "/mirror"})
    assert "\nhttps://conda.anaconda.org/conda-forge/linux-64/a-1.0-h0_0.conda#" in files["explicit.txt"].text


def test_packages_of_this_host_alone_are_refused(make_container):
    own = Lock("v", LOCK.inputs, "solver", (package("a", url="file:///cache/linux-64/a-1.0-h0_0.conda"),))
    with pytest.raises(RefusedError) as caught:
        definition_files("dockerfile", Contents(make_container(), own, "lock"), mirrors={})
    assert caught.value.code == "container-local"


@pytest.mark.parametrize(
    ("glibc", "image"), [("2.17", "a/eight"), ("2.28", "a/eight"), ("2.34", "a/ten"), ("2.100", "a/ten")]
)
def test_the_oldest_base_that_runs_the_view_is_taken(glibc, image):
    images = Images(base={"2.100": "a/ten", "2.28": "a/eight"})
    assert base_for(glibc, images) == image


def test_no_base_is_new_enough():
    with pytest.raises(RefusedError, match=r"2\.99"):
        base_for("2.99", Images())
