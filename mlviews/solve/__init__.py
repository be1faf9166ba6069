"""A view's requests -> packages, or the smallest set of requests in conflict."""
