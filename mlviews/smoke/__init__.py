"""Checks that run with a view's own Python and prove what it can do."""
