"""Files that are written from a release: a value goes in, text comes out."""
