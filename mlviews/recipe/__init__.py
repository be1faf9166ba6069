"""Recipes and layers: read, checked, joined into a view's spec."""
