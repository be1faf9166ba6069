"""Sites: shipped ones, the user's own, and what options change."""

from __future__ import annotations

import dataclasses
import getpass
from pathlib import Path

import pytest
import yaml

from mlviews.errors import BadInputError, FailedError
from mlviews.recipe.catalogue import open_catalogue
from mlviews.site.file import SHIPPED_SITES, use_site
from mlviews.site.profile import open_site, site_names
from mlviews.site.spec import for_site


@pytest.fixture
def sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder of sites, in an empty home."""
    home = tmp_path / "home"
    folder = home / ".config/mlviews/sites"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


def write(folder: Path, text: str, name: str = "ours") -> None:
    (folder / f"{name}.yaml").write_text(f"schema: 1\nname: {name}\nsummary: Ours\n{text}")


@pytest.mark.usefixtures("sites")
def test_every_shipped_site_opens(tmp_path: Path) -> None:
    assert set(site_names()) >= {"local", "pypi", "cvmfs", "lxplus", "swan"}
    for name in site_names():
        site = open_site(name)
        assert site.name == name
        assert site.root.is_absolute()
        assert site.cache == site.root / "cache"
    local = open_site("local")
    assert local.root == local.prefix == tmp_path / "home/.local/share/mlviews"
    assert local.channels == ("conda-forge",)
    assert local.lockfiles == tmp_path / "lockfiles"
    assert local.shipped_lockfiles is not None
    wheels = open_site("pypi")
    assert wheels.lockfiles == wheels.root / "lockfiles"
    assert wheels.shipped_lockfiles is None
    assert wheels.channels == (f"file://{wheels.cache}/channel",)
    assert open_site("cvmfs").prefix == Path("/cvmfs/atlasml.cern.ch")
    user = getpass.getuser()
    assert open_site("lxplus").root == Path(f"/afs/cern.ch/work/{user[0]}/{user}/mlviews")


def test_what_is_kept_of_a_site_goes_with_its_file(sites: Path, tmp_path: Path) -> None:
    write(sites, "root: /first\n")
    assert (open_site("ours").root, open_site("ours").root) == (Path("/first"), Path("/first"))
    (kept,) = (tmp_path / "home/.cache/mlviews/sites").glob("ours*")
    kept.write_text(kept.read_text().replace("/first", "/kept"))
    assert open_site("ours").root == Path("/kept"), "it is read"
    write(sites, "root: /second\n")
    assert open_site("ours").root == Path("/second")
    write(sites, "rooot: /third\n")
    with pytest.raises(BadInputError, match="rooot"):
        open_site("ours")


def test_a_variant_gets_wheels_for_its_own_cuda(sites: Path, repository: Path) -> None:
    own, cuda13 = open_catalogue(repository / "recipes").family("inference-gpu")
    site = open_site("pypi")
    assert for_site(own, site).spec.hardware.cuda == "12.8"
    assert for_site(cuda13, site).spec.hardware.cuda == "13.0"
    said = yaml.safe_load((SHIPPED_SITES / "pypi.yaml").read_text())
    (sites / "pypi.yaml").write_text(yaml.safe_dump({**said, "cuda": said["cuda"][:1]}))
    only = open_site("pypi")
    refused = for_site(cuda13, only).error
    assert refused
    assert "site pypi has wheels for 12.8" in refused.message
    newer = dataclasses.replace(cuda13, variant=None)  # CUDA 12 runs with a driver for 13
    assert for_site(newer, only).spec.hardware.cuda == "12.8"


def test_no_view_for_gpus_gets_wheels_for_cpus(repository: Path) -> None:
    from mlviews.wheels.requirements import provider_of

    site = open_site("pypi")
    assert site.cuda
    for spec in open_catalogue(repository / "recipes").views():
        if spec.hardware.cuda:
            asked = [request.name for request in for_site(spec, site).spec.dependencies if request.name != "python"]
            assert [name for name in asked if provider_of(name)[0].endswith("-cpu")] == [], spec.name


def test_a_users_own_site(sites: Path) -> None:
    write(sites, "root: ~/views\nchannels: [https://example.org/ours, conda-forge]\nmirrors: {conda-forge: /mirror}\n")
    assert "ours" in site_names()
    site = open_site("ours", mirrors={"https://example.org/ours": "/other"})
    assert site.root == Path.home() / "views"
    assert site.channels == ("https://example.org/ours", "conda-forge")
    assert site.mirrors == {"conda-forge": "/mirror", "https://example.org/ours": "/other"}
    assert open_site("ours", mirrors={"conda-forge": "/mine"}).mirrors == {"conda-forge": "/mine"}


def test_a_users_own_site_goes_before_the_shipped_one(sites: Path) -> None:
    write(sites, "root: /mine\n", "local")
    assert open_site("local").root == Path("/mine")


def test_the_configuration_folder_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "config/mlviews/sites"
    folder.mkdir(parents=True)
    write(folder, "root: /x\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert open_site("ours").root == Path("/x")


def test_placeholders_and_options(sites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "jdoe")
    write(sites, 'root: /eos/{initial}/{user}\nprefix: /cvmfs/{user}\nlockfiles: "{root}/locks"\n')
    site = open_site("ours")
    assert (site.root, site.prefix) == (Path("/eos/j/jdoe"), Path("/cvmfs/jdoe"))
    assert site.lockfiles == Path("/eos/j/jdoe/locks")
    moved = open_site("ours", root=Path("here"))
    assert (moved.root, moved.prefix) == (tmp_path / "here", Path("/cvmfs/jdoe")), "the site's prefix stays"
    moved = open_site("ours", root=Path("here"), prefix=Path("there"))
    assert (moved.root, moved.prefix) == (tmp_path / "here", tmp_path / "there")
    assert open_site("local", root=Path("here")).prefix == tmp_path / "here"
    assert moved.lockfiles == tmp_path / "here/locks"
    own = open_site("ours", lockfiles=Path("~/locks").expanduser())
    assert own.lockfiles == Path.home() / "locks"
    assert own.shipped_lockfiles is None, "one's own folder of locks stands alone"


@pytest.mark.usefixtures("sites")
@pytest.mark.parametrize("name", ["lokal", "../local", "/etc/passwd", "", "x" * 300, "a\x00b"])
def test_an_unknown_site(name: str) -> None:
    with pytest.raises(BadInputError) as caught:
        open_site(name)
    assert caught.value.code == "site-unknown"
    assert "local, lxplus" in caught.value.hint


def test_the_nearest_site_is_named(sites: Path) -> None:
    with pytest.raises(BadInputError, match="did you mean 'local'"):
        open_site("lokal")


def test_a_site_must_be_named_as_its_file(sites: Path) -> None:
    write(sites, "root: /x\n")
    (sites / "ours.yaml").rename(sites / "theirs.yaml")
    with pytest.raises(BadInputError) as caught:
        open_site("theirs")
    assert caught.value.code == "site-invalid"
    assert "is 'ours', but the file is theirs.yaml" in caught.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rot: /x\n", "did you mean 'root'?"),
        ("root: /x\npackages: pip\n", "'conda' or 'wheels'"),
        ("root: /x\nchannels: conda-forge\n", "a list stands below it"),
        ("root: /x\npromote: yes\n", "promote"),
        ("root: 7\n", "write it in quotes"),
        ("root: /x\npromotion: {within: 1w}\n", "'1w' is not what this key takes. How old they may be: `7d` for days"),
        ("root: /x\ncontainer: {base: {'2.34': A}}\n", "container.base.2.34: 'A' is not what this key takes. glibc ->"),
        ('root: /x\nmirrors: {"a\\tb": /y}\n', "control character U+0009"),
        ('root: "/x\\ny"\n', "control character U+000A"),
        ("root: /x\npins: {pytorch: 2.13}\n", "pins.pytorch: YAML reads 2.13 as a number or another kind, not as text"),
    ],
)
def test_faults_of_a_site_file(sites: Path, text: str, words: str) -> None:
    write(sites, text)
    with pytest.raises(BadInputError) as caught:
        open_site("ours")
    assert caught.value.code == "file-invalid"
    assert caught.value.hint == "docs/reference/site-keys.md lists every key."
    assert words in str(caught.value)
    assert f"{sites}/ours.yaml:" in str(caught.value)


def test_a_user_without_a_name(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    write(sites, "root: /eos/{user}\n")
    with pytest.raises(BadInputError, match="has no name or no home folder"):
        open_site("ours")


def test_a_site_by_the_path_of_its_file(sites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(sites, "root: /x\npackages: wheels\n")
    (sites / "ours.yaml").rename(tmp_path / "theirs.yaml")
    monkeypatch.chdir(tmp_path)
    for path in (str(tmp_path / "theirs.yaml"), "./theirs.yaml"):
        site = open_site(path)
        assert (site.name, site.root) == ("ours", Path("/x"))
        assert site.lockfiles == Path("/x/lockfiles"), "a lock of wheels lies with what it names"
    with pytest.raises(BadInputError) as caught:
        open_site("./ours.yaml")
    assert caught.value.code == "site-unknown"
    assert "--site FOLDER/NAME.yaml" in caught.value.hint


def test_where_the_choice_of_a_site_cannot_be_written_the_variable_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(FailedError) as failed:
        use_site("pypi")
    assert failed.value.hint == "Without it, type `export MLVIEWS_SITE=pypi`."
