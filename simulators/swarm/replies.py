"""What a shadow service says: the parts that a device looks at.

Knows: accepted, rejected and delta documents.
Does not know: what a device does about them.
Spec: AWS IoT device shadow service, response documents.
"""

from typing import Any, Final

from msgspec import Struct
from msgspec.json import Decoder


class Receipt(Struct, rename="camel"):
    """An answer without its state, which then need not be read."""

    version: int = 0
    code: int = 0
    client_token: str = ""


class Reply(Receipt):
    """An answer, or a delta, with its state."""

    state: dict[str, Any] | None = None


#: Both raise msgspec.MsgspecError for anything else.
decode_receipt: Final = Decoder(Receipt).decode
decode_reply: Final = Decoder(Reply).decode
