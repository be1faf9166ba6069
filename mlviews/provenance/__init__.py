"""What made a release and a result: signed statements, and the lock's name in a model."""
