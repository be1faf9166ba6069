"""Images of releases: made, run and made again, by mlviews itself and by buildah from what mlviews writes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from mlviews.container import layers as layers_module
from mlviews.container.oci import EPOCH

STAND_IN = Path(__file__).resolve().parent.parent / "data/micromamba.py"
PREFIX = "/opt/mlviews/demo"


@pytest.fixture
def shared(empty_shelf: Any, tmp_path: Path) -> Any:
    """A channel whose python is the system's, which the base image has in the same place."""
    shelf = type(empty_shelf)(tmp_path / "container-channel")
    asked = ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    minor = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    shelf.add(
        "python",
        f"{minor}.0",
        build="0_cpython",
        subdir="linux-64",
        files={"pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = false\n"},
        links={f"bin/python{minor}": "/usr/bin/python3", "bin/python": f"python{minor}"},
    )
    shelf.add(
        "greet",
        modules={"greet": "import sys\ndef main():\n    print('hello from', sys.prefix)\n"},
        license="MIT OR Apache-2.0",
    )
    placeholder = "/opt/placehold" + "_placehold" * 24
    shelf.add(
        "native",
        subdir="linux-64",
        depends=("plain",),
        license="My own",
        files={
            "bin/native": f"#!/bin/sh\necho {placeholder}/share\n",
            "etc/conda/activate.d/native.sh": f'export NATIVE="{placeholder}/share it\'s \\$HOME"\n',
            "share/" + "deep/" * 30 + "d\u00e9j\u00e0": "long\n",
        },
        links={"lib/link": "../share"},
    )
    shelf.add("plain", files={"share/plain/data": "plain\n"})
    return shelf


@pytest.fixture
def demo(cli: Any, shared: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line, with a release of a view on that channel."""
    monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={shared.folder}")
    cli.recipes.recipe("demo", "python", "greet", "native", summary='It\'s d\u00e9j\u00e0 vu: $(x) "y" {{ z }}')
    built = cli("build", "demo")
    assert built.code == 0, built.err
    return cli


def build(demo: Any, base: Path, output: Path, *options: str) -> Any:
    done = demo("container", "build", "demo", "--base", f"oci-archive:{base}", "-o", output, "--json", *options)
    assert done.code == 0, done.out
    return done.data


def blobs(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def layers(archive: Path) -> list[list[tarfile.TarInfo]]:
    """Return the members of each layer of an image's archive."""
    found = blobs(archive)
    manifest = json.loads(found[f"blobs/sha256/{json.loads(found['index.json'])['manifests'][0]['digest'][7:]}"])
    members = []
    for item in manifest["layers"]:
        with tarfile.open(fileobj=io.BytesIO(found[f"blobs/sha256/{item['digest'][7:]}"])) as tar:
            members.append(tar.getmembers())
    return members


def test_an_image_runs_and_shows_what_the_release_is(demo, images, base_archive, tmp_path):
    data = build(demo, base_archive, tmp_path / "demo.oci.tar")
    name = images.buildah("pull", "--quiet", f"oci-archive:{tmp_path / 'demo.oci.tar'}").splitlines()[-1]
    assert data["config"] == f"sha256:{name}"

    launch = f"{PREFIX}/launch"
    assert images.inside(name, launch, "python", "-c", "import greet; greet.main()") == f"hello from {PREFIX}"
    assert images.inside(name, "native") == f"{PREFIX}/share"  # past the entry point, as `exec` does
    poisoned = (
        "PYTHONHOME=/nowhere PYTHONPATH=/nowhere exec \"$0\" sh -c 'id -u; echo ${PYTHONHOME-none}; echo $NATIVE'"
    )
    assert images.inside(name, "sh", "-c", poisoned, launch).splitlines() == [
        "1000",
        "none",
        f"{PREFIX}/share it's $HOME",
    ]
    config = images.config(name)
    assert config["Entrypoint"] == [launch]
    assert f"NATIVE={PREFIX}/share it's $HOME" in config["Env"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.description"] == 'It\'s d\u00e9j\u00e0 vu: $(x) "y" {{ z }}'
    assert labels["mlviews.lock"] == data["lock"]
    assert labels["org.opencontainers.image.base.digest"] == data["base-digest"]
    assert "org.opencontainers.image.base.name" not in labels  # nobody else has that file
    assert json.loads(images.inside(name, "cat", f"{PREFIX}/release.json"))["prefix"] == PREFIX
    assert images.inside(name, "cat", f"{PREFIX}/conda-lock.yml") == demo.lock("demo").read_text().strip()
    inside = images.inside(name, "cat", f"{PREFIX}/sbom.cdx.json")
    assert {item["name"]: item.get("licenses") for item in json.loads(inside)["components"]}["greet"]
    where = images.inside(name, "sh", "-c", f"grep -rlE '{tmp_path}|{demo.root}' {PREFIX} || true")
    assert where == ""  # nothing of the host that it was made on


def test_what_link_scripts_wrote_is_in_the_image_under_its_own_path(demo, shared, images, base_archive, tmp_path):
    script = 'native > "$PREFIX/share/plugins"; echo more >> "$PREFIX/share/plain/data"; rm "$PREFIX/share/doomed"'
    files = {"bin/.plugins-post-link.sh": script, "share/doomed": "doomed\n"}
    shared.add("plugins", depends=("native",), files=files)
    demo.recipes.recipe("demo", "python", "greet", "plugins", link_scripts=["plugins"])
    assert demo("lock", "demo").code == 0
    assert demo("build", "demo").code == 0

    build(demo, base_archive, tmp_path / "demo.oci.tar")

    name = images.buildah("pull", "--quiet", f"oci-archive:{tmp_path / 'demo.oci.tar'}").splitlines()[-1]
    assert images.inside(name, "cat", f"{PREFIX}/share/plugins", f"{PREFIX}/share/plain/data").splitlines() == [
        *(f"{PREFIX}/share", "plain", "more"),
    ]
    assert "doomed" not in images.inside(name, "ls", f"{PREFIX}/share")
    where = images.inside(name, "sh", "-c", f"grep -rlE '{tmp_path}|{demo.root}' {PREFIX} || true")
    assert where == ""  # nothing of the host that it was made on


def test_the_same_lock_on_the_same_base_is_the_same_image(demo, base_archive, tmp_path, monkeypatch):
    first = build(demo, base_archive, tmp_path / "first.oci.tar")
    monkeypatch.setenv("MLVIEWS_ROOT", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    os.umask(0o077)
    try:
        assert demo("build", "demo").code == 0
        second = build(demo, base_archive, tmp_path / "second.oci.tar")
    finally:
        os.umask(0o022)
    assert (first["digest"], first["config"]) == (second["digest"], second["config"])
    assert (tmp_path / "first.oci.tar").read_bytes() == (tmp_path / "second.oci.tar").read_bytes()

    demo.recipes.recipe("demo", "python", "greet")
    assert demo("lock", "demo").code == 0
    assert demo("build", "demo").code == 0
    third = build(demo, base_archive, tmp_path / "third.oci.tar")
    assert third["digest"] != first["digest"]


def test_what_lies_in_layers_is_root_s_for_all_to_read_and_of_no_time(demo, base_archive, tmp_path):
    data = build(demo, base_archive, tmp_path / "demo.oci.tar")
    assert [layer["holds"] for layer in data["layers"]] == ["packages", "view"]
    packages, view = layers(tmp_path / "demo.oci.tar")[1:]
    for member in (*packages, *view):
        assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", EPOCH)
        assert member.pax_headers == {}
        assert member.mode == (0o777 if member.issym() else 0o755 if member.isdir() else member.mode & 0o755 | 0o644)
    paths = [member.name for member in packages if not member.isdir()]
    assert paths == sorted(paths)
    links = {member.name: member.linkname for member in packages if member.issym()}
    assert links[f"{PREFIX[1:]}/lib/link"] == "../share"  # a folder
    assert "opt/mlviews/demo/share/" + "deep/" * 30 + "d\u00e9j\u00e0" in paths
    assert {Path(member.name).name for member in view if not member.isdir()} == {
        *("EXTERNALLY-MANAGED", "conda-lock.yml", "frozen", "history", "launch", "release.json", "sbom.cdx.json"),
        *("setup.csh", "setup.fish", "setup.sh", "aliases.csh", "aliases.fish", "aliases.sh"),
        *("pip", "pip3", next(demo.root.glob("envs/demo/2*/linux-64/bin/pip3.*")).name, "pip.py"),
    }


def test_layers_do_not_depend_on_the_order_in_which_a_disk_gives_files(demo, base_archive, tmp_path, monkeypatch):
    monkeypatch.setattr(layers_module, "_LARGE", 1)  # a layer for each package
    first = build(demo, base_archive, tmp_path / "first.oci.tar")
    walk = os.walk

    def backwards(folder: Path) -> Any:
        return reversed([(here, folders, names[::-1]) for here, folders, names in walk(folder)])

    monkeypatch.setattr(os, "walk", backwards)
    second = build(demo, base_archive, tmp_path / "second.oci.tar")

    assert len(first["layers"]) > 3
    assert first["digest"] == second["digest"]


def test_a_base_may_be_packed_as_gnu_tar_packs_a_folder(demo, base_archive, tmp_path):
    first = build(demo, base_archive, tmp_path / "first.oci.tar")
    (tmp_path / "layout").mkdir()
    subprocess.run(["tar", "-xf", base_archive, "-C", tmp_path / "layout"], check=True)
    subprocess.run(["tar", "-cf", tmp_path / "packed.tar", "-C", tmp_path / "layout", "."], check=True)

    assert build(demo, tmp_path / "packed.tar", tmp_path / "second.oci.tar")["digest"] == first["digest"]


def test_a_release_with_another_lock_is_no_image(demo, base_archive, tmp_path):
    demo.recipes.recipe("demo", "python", "greet")
    assert demo("lock", "demo").code == 0
    release = next(demo.root.glob("envs/demo/2*/linux-64"))
    shutil.copy(demo.lock("demo"), release / "conda-lock.yml")

    done = demo("container", "build", "demo", "--base", base_archive, "-o", tmp_path / "demo.oci.tar", "--json")

    assert (done.code, done.codes) == (1, ["release-broken"])
    assert not (tmp_path / "demo.oci.tar").exists()


def test_a_base_is_fetched_by_its_name_once_and_said_aloud(demo, images, base_image, tmp_path):
    demo.site("ours", container={"base": {"2.34": base_image}})
    done = demo("container", "build", "demo", "--site", "ours", "-o", tmp_path / "demo.oci.tar")
    assert done.code == 0, done.err
    assert (
        f"note: the base {base_image} is a tag, and a tag can move to another image; it was {base_image}@sha256:"
        in done.err
    )
    assert f"Fetching {base_image}" in done.err
    assert "digest: sha256:" in done.out
    assert "Fetching" not in demo("container", "build", "demo", "--site", "ours", "-o", tmp_path / "again.oci.tar").err
    assert (tmp_path / "demo.oci.tar").read_bytes() == (tmp_path / "again.oci.tar").read_bytes()
    name = images.buildah("pull", "--quiet", f"oci-archive:{tmp_path / 'demo.oci.tar'}").splitlines()[-1]
    assert images.config(name)["Labels"]["org.opencontainers.image.base.name"] == base_image


@pytest.mark.parametrize("late", [0, 1])
def test_two_that_fetch_one_base_both_get_it_whole(tmp_path, monkeypatch, late):
    """A skopeo that writes slowly, in two processes at once; each has the whole file when it goes on."""
    programs = tmp_path / "programs"
    programs.mkdir()
    # Its last argument is `oci-archive:FILE`; like the real one, it does not write over a file.
    (programs / "skopeo").write_text(
        '#!/bin/sh\nfor last; do :; done; file=${last#oci-archive:}\n[ ! -e "$file" ] || exit 1\n'
        'for n in 1 2 3 4; do printf 0123456789 >> "$file"; sleep 0.1; done\n'
    )
    (programs / "skopeo").chmod(0o755)
    code = (
        "import sys, time; from pathlib import Path; from mlviews.container.images import base_file\n"
        "time.sleep(float(sys.argv[2])); print(base_file('a/b:1', Path(sys.argv[1]), 'amd64').stat().st_size)"
    )
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "cache", str(wait)],
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for wait in (0, 0.15 * late)
    ]

    assert [process.communicate(timeout=60)[0] for process in started] == ["40\n", "40\n"]
    (kept,) = (tmp_path / "cache/images").iterdir()
    assert kept.stat().st_size == 40


def test_an_image_is_pushed_and_nothing_is_left(demo, require, base_archive, tmp_path):
    require("skopeo")
    target = tmp_path / "registry"
    options = ["--base", base_archive, "--push", f"oci:{target}:v1", "--json"]
    data = demo("container", "build", "demo", *options).data
    assert (data["archive"], data["pushed"]) == (None, f"oci:{target}:v1")
    assert json.loads((target / "index.json").read_text())["manifests"][0]["digest"] == data["digest"]
    assert [*demo.root.glob("cache/.push*"), *demo.root.glob("cache/.image*")] == []
    assert list(tmp_path.glob("*.oci.tar")) == []


@pytest.mark.parametrize(
    ("options", "missing"),
    [(["--push", "a/b"], "skopeo"), (["--apptainer"], "apptainer"), (["--base", "docker.io/a/b:1"], "skopeo")],
)
def test_a_tool_that_is_missing_is_named(demo, options, missing, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    done = demo("container", "build", "demo", "--json", *options)
    assert (done.code, done.codes) == (3, ["tool-missing"])
    assert missing in done.json["errors"][0]["message"]
    assert done.json["errors"][0]["hint"]


def test_no_image_without_a_release(cli):
    cli.recipes.recipe("demo", "plain")
    done = cli("container", "build", "demo", "--json")
    assert (done.code, done.codes) == (1, ["release-missing"]), done.out


def broken_bases(good: Path, folder: Path) -> dict[str, Path]:
    """Write archives that are no base, each by what is wrong with it."""
    content = blobs(good)
    index = json.loads(content["index.json"])
    manifest = f"blobs/sha256/{index['manifests'][0]['digest'][7:]}"
    layer = f"blobs/sha256/{json.loads(content[manifest])['layers'][0]['digest'][7:]}"
    other = {**json.loads(content[manifest]), "annotations": {"a": "b"}}
    config = f"blobs/sha256/{json.loads(content[manifest])['config']['digest'][7:]}"
    arm = json.dumps({**json.loads(content[config]), "architecture": "arm64"}).encode()
    for_arm, arm_manifest = manifest_of(json.loads(content[manifest]), arm)
    bare = json.dumps({**json.loads(content[config]), "config": {"Env": ["PATH"]}}).encode()
    with_bare, bare_manifest = manifest_of(json.loads(content[manifest]), bare)
    sizeless = json.loads(content[manifest])
    del sizeless["layers"][0]["size"]
    without_size, sizeless_manifest = manifest_of(sizeless, content[config])
    nested: dict[str, Any] = {
        "manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": "sha256:x"}]
    }
    faults = {
        "no archive": None,
        "no index": {key: value for key, value in content.items() if key != "index.json"},
        "another layer": {**content, layer: b"x" * len(content[layer])},
        "a longer layer": {**content, layer: content[layer] + b"x"},
        "a layer is missing": {key: value for key, value in content.items() if key != layer},
        "another manifest": {**content, manifest: json.dumps(other).encode()},
        "for arm": {**content, "index.json": for_arm, **arm_manifest},
        "a variable without a value": {**content, "index.json": with_bare, **bare_manifest},
        "a layer without a size": {**content, "index.json": without_size, **sizeless_manifest},
        "a digest leads elsewhere": {**content, "index.json": json.dumps(nested).encode()},
        "a list": {**content, "index.json": b"[]"},
        "two images": {**content, "index.json": json.dumps({"manifests": index["manifests"] * 2}).encode()},
    }
    written = {}
    for number, (name, files) in enumerate(faults.items()):
        written[name] = folder / f"base-{number}.tar"
        if files is None:
            written[name].write_bytes(b"not a tar file")
            continue
        with tarfile.open(written[name], "w") as tar:
            for path, text in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
    return written


def manifest_of(manifest: dict[str, Any], config: bytes) -> tuple[bytes, dict[str, bytes]]:
    digest = hashlib.sha256(config).hexdigest()
    manifest["config"] |= {"digest": f"sha256:{digest}", "size": len(config)}
    text = json.dumps(manifest).encode()
    name = hashlib.sha256(text).hexdigest()
    described = {"mediaType": manifest["mediaType"], "digest": f"sha256:{name}", "size": len(text)}
    return json.dumps({"manifests": [described]}).encode(), {
        f"blobs/sha256/{digest}": config,
        f"blobs/sha256/{name}": text,
    }


def test_a_base_that_is_none_is_refused_and_nothing_is_written(demo, base_archive, tmp_path):
    for name, path in broken_bases(base_archive, tmp_path).items():
        output = tmp_path / "demo.oci.tar"
        done = demo("container", "build", "demo", "--base", path, "-o", output, "--json")
        assert (done.code, done.codes) == (2, ["base-invalid"]), name
        assert not output.exists()
        assert list(tmp_path.glob(".demo*")) == []


@pytest.mark.parametrize("base", ["Not an image", "oci-archive:/nowhere", "a b"])
def test_a_base_that_nobody_can_mean_is_wrong_usage(demo, base):
    assert demo("container", "build", "demo", "--base", base, "--json").code == 2


def test_bytecode_holds_in_the_image_whatever_the_time_of_its_source(demo, shared, images, base_archive, tmp_path):
    source = tmp_path / "held.py"
    source.write_text("said = 'source'\n")
    code = tmp_path / "held.pyc"
    program = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2])"
    subprocess.run(["/usr/bin/python3", "-c", program, source, code], check=True)
    python = next(path.name for path in Path(demo.root).glob("envs/demo/2*/linux-64/bin/python3.*"))
    folder = f"lib/{python}/site-packages"
    cached = f"{folder}/__pycache__/held.c{python.replace('.', '').replace('python', 'python-')}.pyc"
    shared.add("held", subdir="linux-64", files={f"{folder}/held.py": source.read_bytes(), cached: code.read_bytes()})
    demo.recipes.recipe("demo", "python", "greet", "held")
    assert demo("lock", "demo").code == 0
    built = demo("build", "demo")
    assert built.code == 0, built.err
    build(demo, base_archive, tmp_path / "demo.oci.tar")
    name = images.buildah("pull", "--quiet", f"oci-archive:{tmp_path / 'demo.oci.tar'}").splitlines()[-1]
    told = images.inside(name, f"{PREFIX}/launch", "python", "-c", TELL_OF_BYTECODE)
    assert told == "01000000 True"


TELL_OF_BYTECODE = """
import importlib.util, pathlib, sys
sys.dont_write_bytecode = True
import held
code, source = (pathlib.Path(path).read_bytes() for path in (held.__cached__, held.__file__))
print(code[4:8].hex(), importlib.util.source_hash(source) == code[8:16])
"""


def test_the_checks_find_the_same_in_the_image_as_in_the_prefix(demo, images, base_archive, tmp_path):
    build(demo, base_archive, tmp_path / "demo.oci.tar")
    images.buildah("pull", "--quiet", f"oci-archive:{tmp_path / 'demo.oci.tar'}")  # and somebody keeps it
    before = sorted(images.buildah("images", "--all", "--quiet").split())
    base = f"oci-archive:{base_archive}"
    own = demo.recipes.folder / "checks/of_the_group.py"
    own.parent.mkdir()
    own.write_text("from _protocol import run\nrun(lambda check: check.need('greet').__name__)\n")
    checks = [f"--check={name}" for name in ("imports", "pip-check", "of-the-group")]
    tested = demo("smoke", "demo", "--via", "prefix", "--via", "container", "--base", base, *checks, "--json")
    found = {
        route["route"]: {line["name"]: line["status"] for line in route["checks"]} for route in tested.data["routes"]
    }
    passed = {"imports": "pass", "pip-check": "pass", "of-the-group": "pass"}
    assert found == {"prefix": passed, "container": passed}
    assert (tested.code, tested.data["differences"]) == (0, [])
    assert images.buildah("containers", "--quiet") == ""
    assert sorted(images.buildah("images", "--all", "--quiet").split()) == before
    assert [*demo.root.glob("cache/.route*")] == []


# --- what buildah makes of a Dockerfile ----------------------------------------------------------------------------


@pytest.fixture
def installer(images: Any, base_image: str, tmp_path: Path) -> str:
    """An installer image with a stand-in for micromamba."""
    folder = tmp_path / "installer"
    folder.mkdir()
    (folder / "micromamba").write_text(f"#!/usr/bin/python3\n{STAND_IN.read_text()}")
    (folder / "micromamba").chmod(0o755)
    (folder / "Dockerfile").write_text(f"FROM {base_image}\nCOPY micromamba /usr/bin/micromamba\nUSER 1000\n")
    name = "docker.io/library/mlviews-tests-installer:1"
    images.build(folder, name)
    return name


@pytest.fixture
def served(demo: Any, shared: Any, serve: Any, installer: str, base_image: str) -> Any:
    """The channel on a server that stands for conda-forge, at a site `ours` with the tests' own images."""
    server = serve(shared.folder)
    images = {"installer": installer, "base": {"2.34": base_image}}
    demo.site("ours", container=images, mirrors={"conda-forge": server.url})
    os.environ.pop("MLVIEWS_MIRROR")  # `cli` puts it back
    return server


def test_buildah_makes_the_image_from_the_dockerfile_and_the_same_one_again(demo, shared, served, images, tmp_path):
    folder = tmp_path / "definition"
    done = demo("render", "demo", "dockerfile", "--site", "ours", "-o", folder)
    assert done.code == 0, done.err
    assert done.err.count("note: ") == 2  # two tags

    first = images.build(folder, "localhost/demo", "--network", "host")
    assert len(served.archives()) == 4
    again = images.build(folder, "localhost/again", "--network", "host", "--no-cache")
    assert first == again
    launch = f"{PREFIX}/launch"
    assert images.inside(first, launch, "python", "-c", "import greet; greet.main()") == f"hello from {PREFIX}"
    assert images.inside(first, launch, "sh", "-c", "native; id -u; echo $NATIVE").splitlines() == [
        f"{PREFIX}/share",
        "1000",
        f"{PREFIX}/share it's $HOME",
    ]
    assert images.config(first)["Labels"]["mlviews.lock"] == images.inside(
        first,
        launch,
        "python",
        "-c",
        "import json; print(json.load(open('/opt/mlviews/demo/release.json'))['lock_digest'])",
    )

    archive = shared.archive("plain")
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(AssertionError, match="does not match"):
        images.build(folder, "localhost/changed", "--network", "host", "--no-cache")


@pytest.mark.usefixtures("served")
def test_scripts_of_packages_run_where_nobody_has_captured_them(demo, images, tmp_path, monkeypatch):
    monkeypatch.setenv("MLVIEWS_ROOT", str(tmp_path / "none"))
    done = demo("render", "demo", "dockerfile", "--site", "ours", "-o", tmp_path / "definition")
    assert "there is no release of this lock here" in done.err
    name = images.build(tmp_path / "definition", "localhost/scripts", "--network", "host")
    entry = images.config(name)["Entrypoint"]
    assert images.inside(name, *entry, "sh", "-c", 'echo "$NATIVE"') == f"{PREFIX}/share it's $HOME"


# --- bills of materials --------------------------------------------------------------------------------------------


def test_a_bill_of_materials_is_valid_and_lies_beside_the_release(demo):
    said = demo("render", "demo", "sbom")
    assert said.code == 0
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(said.out) is None
    assert demo("render", "demo", "sbom").out == said.out
    release = next(demo.root.glob("envs/demo/2*/linux-64"))
    assert release.with_name("linux-64.sbom.cdx.json").read_text() == said.out

    bill = json.loads(said.out)
    found = {item["name"]: item for item in bill["components"]}
    assert sorted(found) == ["greet", "native", "plain", "python"]
    assert found["greet"]["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert found["native"]["licenses"] == [{"license": {"name": "My own"}}]
    purl = "pkg:conda/greet@1.0?build=h0_0&channel=conda-forge&subdir=noarch&type=conda"
    assert found["greet"]["purl"] == purl
    depends = {item["ref"]: item.get("dependsOn", []) for item in bill["dependencies"]}
    assert depends[found["native"]["bom-ref"]] == [found["plain"]["bom-ref"]]
    assert len(depends["view:demo"]) == 4


def test_a_lock_that_nobody_built_has_a_bill_without_licences(demo, monkeypatch, tmp_path):
    monkeypatch.setenv("MLVIEWS_ROOT", str(tmp_path / "empty"))
    bill = json.loads(demo("render", "demo", "sbom").out)
    assert [item["name"] for item in bill["components"] if "licenses" in item] == []
    assert all({entry["alg"] for entry in item["hashes"]} == {"MD5", "SHA-256"} for item in bill["components"])


# --- what Apptainer makes of it ------------------------------------------------------------------------------------


@pytest.fixture
def apptainer(require: Any, as_user: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return a function that runs Apptainer as users do, and let mlviews run it so."""
    program = require("apptainer")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apptainer").write_text(f'#!/bin/sh\nexec {shlex.join(as_user())} {program} "$@"\n')
    (tmp_path / "bin/apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("APPTAINER_MKSQUASHFS_ARGS", "-noI -noD -noF -noX")  # nobody waits for small images here

    def run(*arguments: str | Path, cwd: Path = tmp_path) -> str:
        done = subprocess.run(["apptainer", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_apptainer_runs_the_image_and_its_start_is_measured(apptainer, demo, base_archive, tmp_path, monkeypatch):
    data = build(demo, base_archive, tmp_path / "demo.oci.tar", "--apptainer")
    assert data["sif"] == str(tmp_path / "demo.sif")
    for way in ("exec", "run"):
        said = apptainer(way, "-e", "--no-home", data["sif"], "python", "-c", "import greet; greet.main()")
        assert said == f"hello from {PREFIX}"
    find = shutil.which
    monkeypatch.setattr("shutil.which", lambda name: None if name == "mksquashfs" else find(name))  # that has a test
    measured = demo("startup", "demo", "--module", "greet", "--runs", "1", "--sif", data["sif"], "--json")
    assert measured.code == 0, measured.out
    assert [line["place"] for line in measured.data["lines"]] == ["prefix"] * 4 + ["image"] * 4


@pytest.mark.usefixtures("served")
def test_apptainer_builds_the_definition(apptainer, demo, images, tmp_path):
    folder = tmp_path / "definition"
    assert demo("render", "demo", "apptainer", "--site", "ours", "-o", folder).code == 0
    text = (folder / "view.def").read_text().replace("Bootstrap: docker", "Bootstrap: oci-archive")
    for number, name in enumerate(re.findall(r"(?m)^From: (.*)", text)):
        archive = tmp_path / f"{number}.tar"
        images.buildah("push", "--quiet", "--disable-compression", name, f"oci-archive:{archive}:latest")
        text = text.replace(f"From: {name}", f"From: {archive}")
    (folder / "view.def").write_text(text)
    sif = tmp_path / "demo.sif"
    apptainer("build", "--ignore-fakeroot-command", sif, "view.def", cwd=folder)
    assert 'org.opencontainers.image.description: It\'s d\u00e9j\u00e0 vu: $(x) "y" {{ z }}' in apptainer(
        "inspect", "--labels", sif
    )
    said = apptainer("exec", "-e", "--no-home", sif, "python", "-c", "import greet; greet.main()")
    assert said == f"hello from {PREFIX}"
