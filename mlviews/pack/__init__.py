"""A release as one file, a lock as one folder, and what starts from them."""
