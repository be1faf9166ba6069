"""Files: written whole, read without a guess, locked, shared with a group."""
