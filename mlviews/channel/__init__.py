"""A conda channel made of wheels and the host's CPython, for sites that reach no conda channel."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlviews.channel.make import WheelChannel, make_channel
    from mlviews.channel.restore import restore_archives

__all__ = ["WheelChannel", "make_channel", "restore_archives"]

_MODULES = {
    "WheelChannel": "make",
    "make_channel": "make",
    "restore_archives": "restore",
}


def __getattr__(name: str) -> object:
    # The parts take 0.2 s to import, and commands that only ask what the host is must not wait for them.
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(name)
