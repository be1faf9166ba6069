"""A channel of many small packages in which faults are planted, drawn by a seed that no test knows."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

COUNT = 32


@dataclass
class Garden:
    """A view of many modules, each of which has an old version and a new one; the good lock holds the old ones."""

    cli: Any
    shelf: Any
    draw: random.Random
    names: list[str] = field(default_factory=list)
    _new: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    _between: list[tuple[str, str, str, tuple[str, ...]]] = field(default_factory=list)

    def grow(self, count: int = COUNT) -> None:
        """Add packages whose old and new versions work."""
        self.names = [f"m{number:02}" for number in range(count)]
        for name in self.names:
            self.old(name)
            self.new(name)

    def old(self, name: str, *depends: str) -> None:
        """Add a package's old version."""
        self.shelf.add(name, "1.0", modules={name: "version = 1\n"}, depends=depends)

    def new(self, name: str, source: str = "", *depends: str) -> None:
        """Say what the new version does when it is imported, and what it asks for."""
        self._new[name] = (f"version = 2\n{source}", depends)

    def between(self, name: str, version: str, source: str, *depends: str) -> None:
        """Add a version between the old and the new one; it goes into no lock."""
        self._between.append((name, version, source, depends))

    def lock(self) -> None:
        """Make the two locks."""
        self.cli.recipes.recipe("garden", "python", *self.names)
        self.make("good")
        new = [(name, "2.0", source, depends) for name, (source, depends) in self._new.items()]
        for name, version, source, depends in [*self._between, *new]:
            self.shelf.add(name, version, modules={name: source}, depends=depends)
        self.make("bad")

    def make(self, name: str) -> None:
        """Make a lock of what there is now."""
        done = self.cli("lock", "garden", "--upgrade")
        assert done.code == 0, done.err
        Path(f"{name}.yml").write_bytes(self.cli.lock("garden").read_bytes())

    def bisect(self, *options: str) -> Any:
        """Bisect with the one check that the packages are made for."""
        return self.cli("bisect", "garden", "--good", "good.yml", "--bad", "bad.yml", "--check", "imports", *options)


@pytest.fixture
def garden(cli: Any, empty_shelf: Any, monkeypatch: pytest.MonkeyPatch) -> Garden:
    monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={empty_shelf.folder}")
    seed = random.SystemRandom().getrandbits(32)
    print(f"the seed is {seed}")
    return Garden(cli, empty_shelf, random.Random(seed))
