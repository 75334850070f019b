"""Settings of the database.

Knows: every key of the `[storage]` section, its unit, range and default.
Does not know: where the values come from, what is stored.
Spec: none.
"""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Durability = Literal["fsync", "os", "memory"]

_MIB = 1024 * 1024


class StorageSettings(BaseModel):
    """The section `[storage]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    url: str | None = None
    """PostgreSQL server, as postgresql://user@host/database. Absent: SQLite, gnomon.db in the data folder."""
    durability: Durability = "fsync"
    """What an acknowledged change survives: fsync a power cut, os only a killed server, memory nothing."""
    commit_rows_maximum: int = Field(default=16_384, ge=1, le=1_000_000)
    """Most changes that one commit takes; later ones wait for the next commit."""
    commit_bytes_maximum: int = Field(default=16 * _MIB, ge=1024, le=1024 * _MIB)
    """Most bytes of changes that one commit takes; a single larger change is taken alone."""
    readers: int = Field(default=2, ge=1, le=64)
    """Connections that read, each on a thread of its own; later reads wait for a free one."""
    disk_bytes_maximum: int | None = Field(default=None, ge=_MIB)
    """Largest database file; at it, what needs room waits until something is deleted. Absent: no limit."""
    switch_interval_s: float = Field(default=5e-4, ge=1e-5, le=0.1)
    """How long a thread may keep Python from the others, in seconds; with less, commits are faster."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme != "postgresql":
            raise ValueError("should begin with postgresql://; leave it out for SQLite")
        if parts.password is not None or "password=" in parts.query:
            raise ValueError("should hold no password; put it into a passfile (?passfile=/path) or ~/.pgpass")
        return url

    @model_validator(mode="after")
    def _memory_has_no_server(self) -> Self:
        if self.url is not None and self.durability == "memory":
            raise ValueError('durability "memory" uses no database; leave out the url, or choose another')
        return self
