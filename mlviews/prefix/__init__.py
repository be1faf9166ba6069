"""One prefix: installed, compiled, captured, and whether it is still what was installed."""
