"""Lock files: written, read, compared, and whether they answer the recipe."""
