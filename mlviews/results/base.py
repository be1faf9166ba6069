"""What every result is, and what several hold."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Problem", "Result", "Why"]


class Result(BaseModel):
    """The data of one command, or a part of it."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Problem(Result):
    """One error."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(pattern="^[a-z0-9]+(-[a-z0-9]+)*$", description="What scripts may rely on.")
    message: str = Field(description="What happened, for people; it may change.")
    hint: str = Field(description="What to do next, for people; empty where there is nothing to do.")


class Why(Result):
    """A package and the reason it is treated as it is."""

    package: str
    why: str
