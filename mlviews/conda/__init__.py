"""conda's channels, mirrors and servers."""
