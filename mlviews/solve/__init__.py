"""Specs -> records: channels, the solver, and the smallest conflict."""
