"""Settings of the shadow engine.

Knows: every limit of the engine, its unit and its default.
Does not know: where the values come from.
Spec: AWS IoT device shadow service, quotas.
"""

from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_MIB: Final = 1024 * 1024


class ShadowSettings(BaseModel):
    """The section `[shadow]`; sizes are bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    document_size_maximum: int = Field(default=8192, ge=2, le=1_048_576)
    """Largest `state` of a document, as compact JSON and without metadata; beyond it 413."""
    request_size_maximum: int = Field(default=32_768, ge=2, le=16_777_216)
    """Largest payload of a request; beyond it 413 before anything is read."""
    depth_maximum: int = Field(default=8, ge=1, le=64)
    """Levels of objects and arrays in a section, the section itself being the first; beyond it 400."""
    client_token_size_maximum: int = Field(default=64, ge=1, le=1024)
    """Longest `clientToken` in UTF-8; beyond it 400."""
    in_flight_maximum: int = Field(default=10, ge=1, le=65_535)
    """Unanswered requests of one connection on one thing; beyond it 429."""
    requests_per_second_maximum: int = Field(default=20, ge=0, le=1_000_000)
    """Requests on the shadows of one thing in any second of the clock; beyond it 429. 0 for no limit."""
    tenant_requests_per_second_maximum: int = Field(default=0, ge=0, le=10_000_000)
    """Requests on all shadows of a tenant in any second of the clock; beyond it 429. 0 for no limit."""
    drop_delta: bool = False
    """Ignore a `state.delta` that a client echoes, instead of refusing the request with 400."""
    delta_supersedes: bool = True
    """A newer delta replaces the older one of the same shadow that still waits for a session."""
    hot_documents_maximum: int = Field(default=100_000, ge=0, le=100_000_000)
    """Documents kept in memory between requests; beyond it the least recently used is forgotten."""
    hot_bytes_maximum: int = Field(default=64 * _MIB, ge=0, le=1024 * 1024 * _MIB)
    """Memory for these documents, about; beyond it the least recently used is forgotten."""
    turn_size_maximum: int = Field(default=256, ge=1, le=65_536)
    """Requests decided in one go; with so many waiting for a commit, the next ones wait in the mailbox."""
    tombstone_hours: int = Field(default=48, ge=0, le=8760)
    """How long the version counter of a deleted shadow survives; after it numbering restarts at 1."""
    journal_versions: int = Field(default=100, ge=0, le=1_000_000)
    """Versions of a shadow that the journal keeps, at least; older ones are removed. 0 keeps no journal."""
    journal_days: int = Field(default=30, ge=1, le=36_500)
    """Days that the journal keeps a change, at least; a day later it is removed."""
    sweep_interval_s: float = Field(default=60.0, gt=0, le=86_400, allow_inf_nan=False)
    """Pause between two sweeps for expired tombstones and journal entries."""
    reconcile_interval_s: float = Field(default=1.0, ge=0, le=3600, allow_inf_nan=False)
    """Pause between two looks at shadows with a delta; 0 for never, then no delta is sent again."""
    resend_after_connect_s: float = Field(default=2.0, ge=0, le=3600, allow_inf_nan=False)
    """How long after its connection a device is sent the delta again; it must have subscribed by then."""
    resend_first_s: float = Field(default=60.0, gt=0, le=604_800, allow_inf_nan=False)
    """How long a connected device has to act on a delta before it is sent again; doubles each time."""
    resend_maximum_s: float = Field(default=3600.0, gt=0, le=604_800, allow_inf_nan=False)
    """Longest pause between two times that a delta is sent."""
    drifts_maximum: int = Field(default=100_000, ge=1, le=100_000_000)
    """Shadows with a delta that are followed at one time; the others are not sent theirs again."""

    @model_validator(mode="after")
    def _a_full_document_fits_into_a_request(self) -> Self:
        if self.request_size_maximum < self.document_size_maximum:
            raise ValueError("request_size_maximum must not be below document_size_maximum")
        return self

    @model_validator(mode="after")
    def _the_longest_pause_is_not_below_the_first(self) -> Self:
        if self.resend_maximum_s < self.resend_first_s:
            raise ValueError("resend_maximum_s must not be below resend_first_s")
        return self
