"""Small, locked, GPU-ready machine-learning environments for physics experiments."""

__version__ = "0.1.0"
