"""The tutorial about tracks: its hits obey physics, its graph holds the tracks, and the lines of its page are run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
EXAMPLE = REPOSITORY / "examples/tracking"
PAGE = REPOSITORY / "docs/tutorials/tracks.md"


@pytest.fixture(scope="module")
def programs() -> Iterator[dict[str, Any]]:
    sys.path.insert(0, str(EXAMPLE))
    try:
        import graph
        import hits
        import tracks

        yield {"hits": hits, "graph": graph, "tracks": tracks}
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in ("hits", "graph", "tracks"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def event(programs: Any) -> Any:
    return programs["hits"].make_event(6000, seed=5)


def test_hits_give_back_the_momenta_that_went_in(programs: Any, event: Any) -> None:
    ratio = programs["hits"].momentum(event) / event.pt
    soft = event.pt < 3
    assert np.median(ratio) == pytest.approx(1, abs=0.002)
    assert np.abs(ratio[soft] - 1).max() < 0.03
    # A stiffer track bends less: the same error of a hit is a larger one of its momentum.
    assert np.std(ratio[event.pt > 10]) > 2 * np.std(ratio[soft])


def test_particles_of_both_charges_bend_apart_and_leave_a_hit_in_each_layer(event: Any) -> None:
    for particle in range(0, len(event.pt), 50):
        own = event.particle == particle
        order = np.argsort(event.layer[own])
        assert event.layer[own][order].tolist() == list(range(10))
        bend = np.diff(np.unwrap(event.phi[own][order]))
        assert (np.sign(bend[3:]) == -event.charge[particle]).mean() > 0.9 or event.pt[particle] > 10
    assert (event.particle < 0).mean() == pytest.approx(1 / 7, abs=0.01)


def test_the_graph_holds_nearly_all_that_belongs_together(programs: Any, event: Any) -> None:
    made = programs["graph"].make_graph(event)
    assert made.true.sum() > 0.99 * 9 * len(event.pt)
    inner, outer = made.edges
    assert (event.layer[outer] == event.layer[inner] + 1).all()
    assert np.abs(made.hits).max() < 10
    assert np.isfinite(made.between).all()
    # Every edge once, also over the seam at pi.
    assert len(np.unique(made.edges, axis=1).T) == made.edges.shape[1]
    seam = np.abs(event.phi[inner] - event.phi[outer]) > np.pi
    assert made.true[seam].any()


def test_tracks_are_what_hangs_together(programs: Any, event: Any) -> None:
    tracks, made = programs["tracks"], programs["graph"].make_graph(event)
    right = np.where(made.true, 1.0, -1.0)
    found = tracks.judge(event, tracks.tracks_of(6000, tracks.best_edges(made.edges, right)))
    assert found.efficiency > 0.98
    assert found.purity == 1
    nothing = tracks.judge(event, tracks.tracks_of(6000, tracks.best_edges(made.edges, -right)))
    assert nothing.efficiency < 0.02
    chain = np.array([[3, 1, 7], [1, 5, 8]])
    assert tracks.tracks_of(9, chain).tolist() == [0, 1, 2, 1, 4, 1, 6, 7, 7]


@pytest.mark.slow
def test_the_page_is_run_word_for_word(run_page: Any) -> None:
    said = run_page(PAGE)

    (efficiency,) = re.findall(r"efficiency ([.\d]+), purity", said)
    assert float(efficiency) > 0.7
