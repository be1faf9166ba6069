"""What the tests of jobs share: a release that jobs enter, and folders that they are submitted from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from desk import Desk, make_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from slurm import Slurm

    from mlviews.release import Release


@pytest.fixture(name="make_view")
def _make_view() -> Callable[..., Release]:
    """Return the function that writes a release."""
    return make_view


@pytest.fixture
def desks(slurm: Slurm, tmp_path: Path) -> Iterator[Callable[[str], Desk]]:
    """Return a function that makes a folder for a test's jobs; all jobs are cancelled after it."""
    tmp_path.chmod(0o755)

    def make(name: str) -> Desk:
        (tmp_path / name).mkdir()
        return Desk(slurm, tmp_path / name, make_view(tmp_path / name))

    yield make
    slurm.cancel_all()


@pytest.fixture
def desk(desks: Callable[[str], Desk]) -> Desk:
    """A folder for one test's jobs."""
    return desks("desk")
