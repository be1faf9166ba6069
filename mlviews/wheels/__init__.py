"""A conda channel made of wheels and the host's CPython, for sites that reach no conda channel."""
