"""Requests of operators: their form, who asks, and what a refusal looks like.

Knows: the fields of every request, their bounds, the error codes.
Does not know: how a request travels, how it is carried out.
Spec: none.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from broker.protocol.errors import PeerError
from broker.protocol.topics import check_topic_filter, split_shared

#: A ClientId has at most 65,535 bytes (v5 §1.5.4), and JSON may write a byte as six.
REQUEST_BYTES_MAXIMUM: Final = 512 * 1024
TRACE_SECONDS_MAXIMUM: Final = 300
TRACE_EVENTS_MAXIMUM: Final = 10_000
_COMPLAINT_MAXIMUM: Final = 200

ClientIdText = Annotated[str, Field(min_length=1, max_length=65_535)]


class AdminError(Exception):
    """A request is refused: `code` is one of a fixed list, the text one sentence for the operator."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Requester(Struct, frozen=True, kw_only=True):
    """Who asks; `send` answers, now and, where a request has several answers, later."""

    tenant: str
    client_id: str
    identity: str | None
    send: Callable[[dict[str, Any], int], None]


class AdminRequest(BaseModel):
    """What all requests have in common: no unknown field, no conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @property
    def audited(self) -> str | None:
        """What the request is about, for the audit log."""
        return None


class ListSessions(AdminRequest):
    """`session/list`: a page of sessions in the order of their client ids, from after `cursor`."""

    limit: Annotated[int, Field(ge=1, le=500)] = 100
    cursor: Annotated[str, Field(max_length=65_535)] = ""


class ShowSession(AdminRequest):
    """`session/show`: one session with its subscriptions."""

    client_id: ClientIdText

    @property
    def audited(self) -> str:
        """The client."""
        return self.client_id


class KickSession(ShowSession):
    """`session/kick`: close a client's connection; with `end` its session ends too."""

    end: bool = False


class StartTrace(AdminRequest):
    """`trace/start`: follow the packets of one client, or the messages of one topic filter."""

    client_id: ClientIdText | None = None
    topic_filter: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    seconds: Annotated[int, Field(ge=1, le=TRACE_SECONDS_MAXIMUM)] = 60
    events: Annotated[int, Field(ge=1, le=TRACE_EVENTS_MAXIMUM)] = TRACE_EVENTS_MAXIMUM

    @field_validator("topic_filter")
    @classmethod
    def _check_topic_filter(cls, topic_filter: str | None) -> str | None:
        if topic_filter is not None:
            try:
                encoded = topic_filter.encode()
                check_topic_filter(encoded)
            except (PeerError, UnicodeEncodeError) as error:
                raise ValueError("not a topic filter") from error
            if split_shared(encoded) is not None:
                raise ValueError("a shared subscription cannot be traced; trace the filter in it")
        return topic_filter

    @model_validator(mode="after")
    def _check_one_target(self) -> "StartTrace":
        if (self.client_id is None) == (self.topic_filter is None):
            raise ValueError("give either client_id or topic_filter")
        return self

    @property
    def audited(self) -> str | None:
        """The client, or the filter."""
        return self.client_id or self.topic_filter


class StopTrace(AdminRequest):
    """`trace/stop`: end one of one's own traces."""

    trace: Annotated[str, Field(min_length=1, max_length=64)]


class ListThings(AdminRequest):
    """`shadow/things`: a page of the things that have a shadow, in order, from after `cursor`."""

    limit: Annotated[int, Field(ge=1, le=500)] = 100
    cursor: Annotated[str, Field(pattern=r"^[a-zA-Z0-9:_-]{0,128}$")] = ""


class _OfThing(AdminRequest):
    thing_name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9:_-]{1,128}$")]

    @property
    def audited(self) -> str:
        """The thing."""
        return self.thing_name


class ListShadows(_OfThing):
    """`shadow/names`: a page of a thing's named shadows, in order, from after `cursor`."""

    limit: Annotated[int, Field(ge=1, le=500)] = 100
    cursor: Annotated[str, Field(pattern=r"^[$a-zA-Z0-9:_-]{0,64}$")] = ""


class _OfShadow(_OfThing):
    shadow_name: Annotated[str, Field(pattern=r"^[$a-zA-Z0-9:_-]{1,64}$")] | None = None


class ShowVersion(_OfShadow):
    """`shadow/show`: the document as an update made it, long ago or just now."""

    version: Annotated[int, Field(ge=1, le=2**63 - 1)]


class ShowHistory(_OfShadow):
    """`shadow/history`: a page of the latest changes, newest first, below `before_version`."""

    limit: Annotated[int, Field(ge=1, le=100)] = 100
    before_version: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None


class ListDrift(AdminRequest):
    """`shadow/drift`: the shadows that differ from what is desired for the longest time."""

    limit: Annotated[int, Field(ge=1, le=500)] = 100


RequestT = TypeVar("RequestT", bound=AdminRequest)


def parse_request(form: type[RequestT], payload: bytes) -> RequestT:
    """Return the request in `payload`; an empty one means an empty object.

    Raises:
        AdminError: InvalidRequest, naming the first field that is wrong.
    """
    if len(payload) > REQUEST_BYTES_MAXIMUM:
        raise AdminError("InvalidRequest", "the request is too long")
    try:
        return form.model_validate_json(payload or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "request"
        raise AdminError("InvalidRequest", f"{field}: {first['msg']}"[:_COMPLAINT_MAXIMUM]) from None
