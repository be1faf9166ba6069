"""The package change that breaks a view, found by installing mixtures of two locks."""
