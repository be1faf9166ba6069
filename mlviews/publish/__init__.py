"""What CVMFS would get of a release, what forbids it, and the tar."""
