"""Settings of the shadow engine.

Knows: every limit of the engine, its unit and its default.
Does not know: where the values come from.
Spec: AWS IoT device shadow service, quotas.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ShadowSettings(BaseModel):
    """The section `[shadow]`; sizes are bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    document_size_maximum: int = Field(default=8192, ge=2, le=1_048_576)
    """Largest `state` of a document, as compact JSON and without metadata; beyond it 413."""
    request_size_maximum: int = Field(default=131_072, ge=2, le=16_777_216)
    """Largest payload of a request; beyond it 413 before anything is read."""
    depth_maximum: int = Field(default=8, ge=1, le=64)
    """Levels of objects and arrays in a section, the section itself being the first; beyond it 400."""
    client_token_size_maximum: int = Field(default=64, ge=1, le=1024)
    """Longest `clientToken` in UTF-8; beyond it 400."""
    in_flight_maximum: int = Field(default=10, ge=1, le=65_535)
    """Unanswered requests of one connection on one thing; beyond it 429."""
    drop_delta: bool = False
    """Ignore a `state.delta` that a client echoes, instead of refusing the request with 400."""
    hot_documents_maximum: int = Field(default=10_000, ge=0, le=10_000_000)
    """Documents kept in memory between requests; beyond it the least recently used is forgotten."""
    turn_size_maximum: int = Field(default=256, ge=1, le=65_536)
    """Requests decided in one go; with so many waiting for a commit, the next ones wait in the mailbox."""
    tombstone_hours: int = Field(default=48, ge=0, le=8760)
    """How long the version counter of a deleted shadow survives; after it numbering restarts at 1."""

    @model_validator(mode="after")
    def _a_full_document_fits_into_a_request(self) -> Self:
        if self.request_size_maximum < self.document_size_maximum:
            raise ValueError("request_size_maximum must not be below document_size_maximum")
        return self
