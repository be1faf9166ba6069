"""Releases on disk: what exists, the default, what goes and what is made anew."""
