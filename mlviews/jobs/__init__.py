"""From a view to a job: one value, and the files of three batch systems made from it."""
