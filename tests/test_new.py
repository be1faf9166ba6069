"""``mlviews new``: a recipe with comments, which locks as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from mlviews.adopt import adopt
from mlviews.files.writing import folder
from mlviews.lock.parse import read_lock
from mlviews.newview import held_by, write_new_recipe
from mlviews.recipe.catalogue import open_catalogue
from mlviews.recipe.model import Recipe, parse

if TYPE_CHECKING:
    from conftest import Cli


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("layered", [False, True])
def test_it_locks_as_it_is(cli: Cli, *, gpu: bool, layered: bool) -> None:
    if layered:  # one's own goes before the catalogue's
        cli.recipes.layer("base", "python", "ipykernel", "numpy")
    done = cli("new", "mine", *(["--gpu"] if gpu else []), "--json")
    assert done.code == 0
    path = str(cli.recipes.folder / "mine.yaml")
    assert done.data == {"view": "mine", "path": path, "adopted": None, "held": None}
    if gpu:  # its comments may be taken at their word
        text = Path(path).read_text()
        Path(path).write_text(text.replace("# variants:", "variants:").replace("#   cuda13:", "  cuda13:"))
        assert cli("show", "mine-cuda13", "--json").data["recipe"]["hardware"]["cuda"] == "13.0"
    assert cli("lock", "mine").code == 0
    names = {package.name: package.build for package in read_lock(cli.lock("mine")).packages}
    assert {"python", "ipykernel"} <= set(names)
    assert ("cuda" in names.get("pytorch", "")) is gpu
    assert cli("list", "--json").data["views"][0]["lock"] == "current"


def test_it_has_comments_and_says_what_comes_next(cli: Cli) -> None:
    done = cli("new", "mine")
    text = (cli.recipes.folder / "mine.yaml").read_text()
    assert text.count("#") > 4
    assert "mlviews lock mine" in done.out
    assert yaml.safe_load(text)["module"] == "atlasml/mine"


def test_what_is_there_is_not_overwritten(cli: Cli) -> None:
    path = cli.recipes.recipe("mine", "clock")
    before = path.read_bytes()
    done = cli("new", "mine", "--json")
    assert (done.code, done.codes) == (2, ["recipe-exists"])
    assert path.read_bytes() == before


def test_a_module_that_another_view_has(cli: Cli) -> None:
    cli.recipes.recipe("tagging-gpu", "clock", module="atlasml/tagging")
    done = cli("new", "tagging", "--json")
    assert (done.code, done.codes) == (2, ["recipe-clash"])
    assert "'atlasml/tagging'" in done.json["errors"][0]["message"]
    assert not (cli.recipes.folder / "tagging.yaml").exists()
    assert cli("show", "tagging-gpu").code == 0, "the other view is as it was"


@pytest.mark.parametrize(
    "name", ["", "default", "../x", "/tmp/x", "two words", "quo'te", "a\nb", "a\x1b[31m", "-x", "X", "é", "a" * 200]
)
def test_names_that_are_refused(cli: Cli, name: str) -> None:
    before = sorted(cli.recipes.folder.rglob("*"))
    done = cli("new", "--json", "--", name)
    assert (done.code, done.codes) == (2, ["name-invalid"])
    assert sorted(cli.recipes.folder.rglob("*")) == before
    assert {path.name for path in Path().iterdir()} <= {"home", "recipes"}


def test_the_shipped_recipes_are_not_the_users_to_add_to(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLVIEWS_RECIPES")
    cli.recipes.folder.rmdir()
    done = cli("new", "mine", "--json")
    assert done.data["path"] == str(Path("recipes/mine.yaml").absolute())
    assert cli("lock", "mine").code == 0


def test_a_folder_that_cannot_be_made(cli: Cli) -> None:
    done = cli("new", "mine", "--recipes", "/proc/recipes", "--json")
    assert (done.code, done.codes) == (3, ["write-failed"])


def test_it_names_the_checks_of_its_layers(cli: Cli) -> None:
    assert cli("new", "mine").code == 0
    (line,) = [line for line in (cli.recipes.folder / "mine.yaml").read_text().splitlines() if line[:6] == "smoke:"]
    assert line.endswith("its layers: kernel-start, import-order, pip-check, environment-leaks")


def test_a_copy_of_a_view(cli: Cli) -> None:
    done = cli("new", "mine", "--from", "plotting", "--json")
    assert done.data["adopted"] is None
    mine, plotting = (cli("show", view, "--json").data["recipe"] for view in ("mine", "plotting"))
    assert (mine["name"], mine["module"]) == ("mine", "atlasml/mine")
    assert [request["spec"] for request in mine["dependencies"]] == [r["spec"] for r in plotting["dependencies"]]
    assert cli("new", "other", "--from", "plotting", "--gpu", "--json").code == 2


# From what people have

ENVIRONMENT = """\
name: mine
channels: [conda-forge, pyg]
dependencies:
  - python=3.11
  - numpy>=2
  - pytorch-cuda=12.4
  - pytorch=2.6=cuda126_0
  - conda-forge::uproot
  - bioconda::samtools
  - pip:
    - torch_geometric==2.5; python_version > "3"
    - pywin32; sys_platform == "win32"
    - tqdm[notebook] ~=4.60
    - -e .
    - atlas-ftag-tools[more] >=0.3
variables: {OMP_NUM_THREADS: 1}
"""
PIXI = """\
version: 6
environments:
  default:
    channels: [{url: https://conda.anaconda.org/conda-forge/}]
    packages:
      linux-64:
      - conda: https://conda.anaconda.org/conda-forge/linux-64/numpy-2.1.3-py312h58c1407_0.conda
      - conda: https://conda.anaconda.org/conda-forge/linux-64/python-3.12.7-hc5c86c4_0_cpython.conda
      - pypi: https://files.example/uproot-5.4.1-py3-none-any.whl
      osx-arm64:
      - conda: https://conda.anaconda.org/conda-forge/osx-arm64/other-1.0-0.conda
packages:
- conda: https://conda.anaconda.org/conda-forge/linux-64/numpy-2.1.3-py312h58c1407_0.conda
  depends: ["python >=3.12,<3.13.0a0"]
- conda: https://conda.anaconda.org/conda-forge/linux-64/python-3.12.7-hc5c86c4_0_cpython.conda
  depends: []
- conda: https://conda.anaconda.org/conda-forge/osx-arm64/other-1.0-0.conda
- pypi: https://files.example/uproot-5.4.1-py3-none-any.whl
  name: uproot
  version: 5.4.1
  requires_dist: ["numpy>=1.22", "torch; extra == 'x'"]
"""


def test_an_environment_file(tmp_path: Path) -> None:
    path = tmp_path / "environment.yml"
    path.write_text(ENVIRONMENT)
    adopted = adopt(path, {"tqdm"})
    wanted = ["python 3.11.*", "numpy>=2", "pytorch ==2.6", "uproot", "torch_geometric ==2.5", "tqdm ~=4.60"]
    assert [*adopted.dependencies] == wanted
    assert [*adopted.pypi] == ["atlas-ftag-tools[more]>=0.3"], "no channel is known to have it"
    assert [text.partition(": ")[0] for text in adopted.left_out] == [
        *("channel pyg", "pytorch-cuda=12.4", "bioconda::samtools", "tqdm[notebook]", "-e ."),
        "variables OMP_NUM_THREADS",
    ]


LOCKED = """\
package:
- {name: pytorch, platform: linux-64, version: "2.6", url: https://x.example/pytorch-2.6-cuda126_1.conda}
- {name: lightning, platform: linux-64, version: "2.5", url: lightning-2.5-0.conda, dependencies: {pytorch: ""}}
"""


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("dependencies: [numpy, pytorch-cuda=12.4]", "pytorch-cuda=12.4"),
        ("dependencies: [numpy, nvidia::cuda-toolkit]", "nvidia::cuda-toolkit"),
        ('dependencies: [numpy, "pytorch=2.6=*cuda*"]', "pytorch=2.6=*cuda*"),
        ('dependencies: [numpy, pip: ["torch == 2.6.0+cu124"]]', "torch == 2.6.0+cu124"),
        ("dependencies: [numpy, pytorch, cpuonly]", ""),
        (LOCKED, "pytorch=2.6=cuda126_1"),
    ],
)  # fmt: skip
def test_what_asks_for_cuda_starts_a_recipe_for_gpus(cli: Cli, tmp_path: Path, text: str, cuda: str) -> None:
    (tmp_path / "some.yml").write_text(text)
    assert cli("new", "mine", "--from", "some.yml", "--json").data["adopted"]["cuda"] == cuda
    recipe = parse(cli.recipes.folder / "mine.yaml", Recipe).model
    assert bool(recipe.hardware and recipe.hardware.cuda) is bool(cuda)
    assert not {"pytorch-cuda", "cpuonly"} & {spec.split()[0] for spec in recipe.dependencies}
    assert not any("+cu" in spec for spec in recipe.dependencies), "no channel has such versions"
    assert ("`--no-gpu`" in cli("new", "again", "--from", "some.yml").out) is bool(cuda)
    cli("new", "small", "--from", "some.yml", "--no-gpu")
    assert "  cuda:" not in (cli.recipes.folder / "small.yaml").read_text()


def test_files_that_requirements_include_are_read(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "environment.yml").write_text("dependencies: [numpy, pip: [-r parts/all.txt]]")
    (tmp_path / "parts/all.txt").write_text("uproot\n--requirement=more.txt  # two\n-r none.txt\n")
    (tmp_path / "parts/more.txt").write_text("awkward >=2\n-r all.txt\n")
    adopted = adopt(tmp_path / "environment.yml")
    assert [*adopted.dependencies, *adopted.pypi] == ["numpy", "uproot", "awkward>=2"]
    assert [*adopted.left_out] == ["-r all.txt: it includes itself", "-r none.txt: there is no such file"]


def test_what_conda_exports_is_more_than_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "export.yml"
    path.write_text("dependencies: [bzip2=1.0.8=h4bc722e_7, numpy=2.1.3=py311h71ddf71_0, pip: [wandb==0.18]]")
    (said,) = adopt(path).left_out
    assert said.startswith("builds of 2 packages: ")
    assert "--from-history" in said


def test_passwords_of_a_source_do_not_go_into_the_recipe(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy\n--index-url https://me:S3CRET@x.example\ngit+https://S3CRET@x\n")
    done = cli("new", "mine", "--from", "requirements.txt", "--json")
    assert len(done.data["adopted"]["left-out"]) == 2
    assert "--editable FOLDER" in done.data["adopted"]["left-out"][1]
    assert "S3CRET" not in str(done.json) + (cli.recipes.folder / "mine.yaml").read_text()


def test_requirements_of_pip(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(
        "torch>=2.6,<3  # with its compiler\n\nnumpy == 2.1.* \\\n --hash=sha256:00\n"
        "./lib\nlib @ https://x.example/lib.whl\nnot a requirement\n"
        "-e .\n--index-url https://x.example\ngit+https://x.example/lib\n"
    )
    adopted = adopt(path, {"numpy"})
    assert [*adopted.dependencies] == ["pytorch <3,>=2.6", "numpy 2.1.*"]
    reasons = [text.rpartition(": ")[2] for text in adopted.left_out]
    for reason, word in zip(
        reasons, ["--editable FOLDER", "URL", "form NAME", "--editable FOLDER", "configuration", "URL"], strict=True
    ):
        assert word in reason


def test_locks_of_others(tmp_path: Path) -> None:
    path = tmp_path / "pixi.lock"
    path.write_text(PIXI)
    assert [*adopt(path, {"uproot"}).dependencies] == ["python 3.12.*", "uproot 5.4.*"]
    assert [*adopt(path).pypi] == ["uproot ==5.4.*"]
    of_mlviews = folder("lockfiles") / "plotting.conda-lock.yml"
    names = {spec.split()[0] for spec in adopt(of_mlviews).dependencies}
    assert {"python", "ipympl", "uproot"} <= names
    assert "numpy" not in names, "others need it"


def test_environments(builder: Any, tmp_path: Path) -> None:
    made = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True)
    (site,) = made.glob("lib/python*/site-packages")
    for name, needs in {"torch": "", "Lightning": "Requires-Dist: torch>=2 ; extra == 'x'\n"}.items():
        (site / f"{name}-2.13.0+cpu.dist-info").mkdir()
        (site / f"{name}-2.13.0+cpu.dist-info/METADATA").write_text(f"Name: {name}\nVersion: 2.13.0+cpu\n{needs}")
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert [*adopt(made, {"lightning"}).dependencies] == ["lightning 2.13.*", f"python {minor}.*"]

    builder.recipes.recipe("demo", "python", "greet", "native")
    assert builder("build", "demo").code == 0
    (prefix,) = (builder.root / "envs/demo").glob("2*/linux-64")
    wanted = ["greet 1.0.*", "native 1.0.*", f"python {minor}.*"]
    assert [*adopt(prefix).dependencies] == wanted

    done = builder("new", "mine", "--from", prefix, "--json")
    assert done.data["held"] == {"view": "demo", "holds": wanted, "differs": [], "adds": []}
    assert "`mlviews build demo`" in builder("new", "again", "--from", prefix).out


def test_the_view_that_holds_most_and_what_it_would_add(tmp_path: Path) -> None:
    locks = {name: read_lock(folder("lockfiles") / f"{name}.conda-lock.yml") for name in ("plotting", "shallow")}
    held = held_by(["uproot", "numpy ==1.0", "mplhep[all] >=0.3", "matplotlib", "somethingrare >1"], locks)
    assert held
    assert (held.view, [*held.adds]) == ("plotting", ["somethingrare >1"])
    assert [*held.holds] == ["uproot", "mplhep[all] >=0.3", "matplotlib"], "matplotlib-base is what is imported"
    assert held.differs[0].startswith("numpy ==1.0 (it has 2.")
    assert held_by(["somethingrare"], locks) is None


@pytest.mark.parametrize(
    "text", ["", "a", "- a", "dependencies: 1", "package: [{}]", "a: &x 1", "environments: {}", "\0"]
)
def test_what_is_none_of_these(cli: Cli, tmp_path: Path, text: str) -> None:
    (tmp_path / "some.yml").write_text(text)
    done = cli("new", "mine", "--from", "some.yml", "--json")
    assert (done.code, done.codes) == (2, ["source-invalid"])
    assert not (cli.recipes.folder / "mine.yaml").exists()
    (tmp_path / "empty").mkdir()
    assert cli("new", "mine", "--from", "empty", "--json").codes == ["source-invalid"]
    (tmp_path / "requirements.txt").write_text("-e .\n")
    assert cli("new", "mine", "--from", "requirements.txt", "--json").codes == ["source-empty"]
    assert cli("new", "mine", "--from", "ploting", "--json").codes == ["source-missing"]
    assert "did you mean 'some.yml'?" in cli("new", "mine", "--from", "some.yaml").err


@given(lines=st.lists(st.text(st.characters(codec="utf-8"), max_size=40), max_size=4))
@example(lines=["0", "null", "1e3"])
@example(lines=["0\\"])
@example(lines=["numpy>=2\\", "# x", "é==1", "a: b", "x@{{y}}", "- x", "torch[a,b]!=2.*,~=1", "a===1", "a==1+local"])
def test_no_text_of_a_source_becomes_yaml(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "requirements.txt"
    path.write_bytes("\n".join(["numpy", *lines]).encode())  # last, a backslash before it would make it part of a line
    adopted = adopt(path)
    (tmp_path / "own").mkdir(exist_ok=True)
    (tmp_path / "own/mine.yaml").unlink(missing_ok=True)
    catalogue = open_catalogue(tmp_path / "own", behind=folder("recipes"))
    made = write_new_recipe("mine", tmp_path / "own", catalogue, adopted=adopted)
    recipe = parse(made, Recipe).model
    assert ([*recipe.dependencies], [*recipe.pypi]) == ([*adopted.dependencies], [*adopted.pypi])
    assert recipe.module == "atlasml/mine"
