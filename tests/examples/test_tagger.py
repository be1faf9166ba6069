"""The tutorial about a flavour tagger: its jets obey physics, and the lines of its page are run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
EXAMPLE = REPOSITORY / "examples/flavour-tagging"
PAGE = REPOSITORY / "docs/tutorials/tagger.md"


@pytest.fixture(scope="module")
def jets_module() -> ModuleType:
    sys.path.insert(0, str(EXAMPLE))
    try:
        import jets
    finally:
        sys.path.remove(str(EXAMPLE))
    return jets


@pytest.fixture(scope="module")
def jets(jets_module: Any) -> Any:
    return jets_module.make_jets(3000, points=60, seed=7)


def test_hadrons_live_as_long_as_the_particle_data_group_says(jets_module: Any, jets: Any) -> None:
    for flavour, known in (("charm", 0.410), ("bottom", 1.517)):
        mean, error = jets_module.mean_lifetime(jets, flavour)
        assert mean == pytest.approx(known, abs=4 * error)
        # An exponential's width is its mean: the error of n decays is known beforehand.
        assert error == pytest.approx(known / np.sqrt(1000), rel=0.25)
    assert not jets.flight[jets.flavour == 0].any()


def near(jets_module: Any, jets: Any, flavour: int) -> np.ndarray:
    """Return the significance of the impact parameters of a flavour's tracks that come from the collision itself."""
    pt, _, _, d0, d0_error, z0, z0_error = np.moveaxis(jets.tracks[jets.flavour == flavour], 2, 0)
    chosen = (pt > 1) & (np.abs(z0) < 3 * z0_error)
    return d0[chosen] / d0_error[chosen]


def test_impact_parameters_of_light_jets_are_resolution_and_those_of_bottom_jets_are_more(
    jets_module: Any, jets: Any
) -> None:
    light, charm, bottom = (near(jets_module, jets, flavour) for flavour in range(3))
    assert (light > 0).mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(light)))
    assert light.std() == pytest.approx(1, abs=0.05)
    assert (light > 4).mean() < 0.001
    assert 0.03 < (charm > 4).mean() < (bottom > 4).mean()
    assert (bottom < -4).mean() < 0.1 * (bottom > 4).mean()


def test_jets_are_numbers_and_no_flavour_is_told_by_its_momentum_or_its_crowd(jets: Any) -> None:
    assert np.isfinite(jets.tracks).all()
    assert jets.tracks.shape == (3000, 60, 7)
    there = (jets.tracks[:, :, 0] > 0).sum(axis=1)
    means = [there[jets.flavour == flavour].mean() for flavour in range(3)]
    assert max(means) - min(means) < 3


def test_no_jet_is_both_trained_on_and_plotted(jets_module: Any) -> None:
    parts = [set(range(17)[part]) for part in jets_module.split(17)]
    assert set.union(*parts) == set(range(17))
    assert sum(map(len, parts)) == 17


def test_plots_show_every_flavour(jets_module: Any, jets: Any, tmp_path: Path) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    np.savez(tmp_path / "jets.npz", **vars(jets))
    scores = np.random.default_rng(1).dirichlet([1, 1, 1], 3000)
    np.savez(tmp_path / "scores.npz", scores=scores, flavour=jets.flavour)
    command = [sys.executable, EXAMPLE / "plot.py", "jets.npz", "scores.npz", "-o", "plot.png"]

    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "MPLCONFIGDIR": str(tmp_path)})

    drawn = imread(tmp_path / "plot.png")[:, :, :3]
    for colour in ("#0072b2", "#e69f00", "#d55e00"):
        assert (np.abs(drawn - to_rgb(colour)).max(axis=2) < 0.02).sum() > 200


@pytest.mark.slow
def test_the_page_is_run_word_for_word_and_so_is_the_notebook(run_page: Any, tmp_path: Path) -> None:
    said = run_page(PAGE)

    areas = dict(re.findall(r"bottom against (\w+): area under the curve ([.\d]+)", said))
    assert float(areas["light"]) > 0.93 > float(areas["charm"]) > 0.72  # beyond what one cut reaches
    assert (tmp_path / "examples/flavour-tagging/tagger.png").read_bytes().startswith(b"\x89PNG")
    run_notebook(tmp_path / "examples/flavour-tagging/tagger.ipynb", tmp_path / "home")


def run_notebook(path: Path, home: Path) -> None:
    """Run a notebook's cells in the kernel that it names, as Jupyter finds it in a home."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import KernelManager

    notebook = json.loads(path.read_text())
    specs = KernelSpecManager(kernel_dirs=[str(home / ".local/share/jupyter/kernels")])
    manager = KernelManager(kernel_name=notebook["metadata"]["kernelspec"]["name"], kernel_spec_manager=specs)
    manager.start_kernel(cwd=str(path.parent))
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=120)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                answer = client.execute_interactive(cell["source"], timeout=600, output_hook=lambda _: None)
                assert answer["content"]["status"] == "ok", answer["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
