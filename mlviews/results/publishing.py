"""What ``publish`` gives back."""

from __future__ import annotations

from pydantic import Field

from mlviews.results.base import Result

__all__ = ["CatalogLine", "PublishResult", "RemarkLine"]


class CatalogLine(Result):
    """A folder with a catalog of its own on CVMFS."""

    folder: str
    entries: int


class RemarkLine(Result):
    """Something that a rule says of what would be published."""

    rule: str
    path: str
    why: str
    forbids: bool


class PublishResult(Result):
    """``mlviews publish VIEW --plan``."""

    view: str
    release: str
    repository: str
    base: str = Field(description="The folder in the repository that everything is put into.")
    files: int
    bytes: int
    catalogs: list[CatalogLine]
    replaced: list[str] | None = Field(description="What becomes another; null where the repository is not mounted.")
    remarks: list[RemarkLine]
    tar: str | None = Field(description="What was packed for `cvmfs_server ingest`.")
    command: str = Field(description="What publishes it.")
