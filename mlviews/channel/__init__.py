"""A conda channel made of wheels and the host's CPython, for sites that reach no conda channel."""

from __future__ import annotations

from mlviews.channel.make import WheelChannel, make_channel
from mlviews.channel.restore import restore_archives

__all__ = ["WheelChannel", "make_channel", "restore_archives"]
