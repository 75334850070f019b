"""Sender's side of one Packet Identifier: the states, and which acknowledgement moves them.

Knows: the table.
Does not know: messages, Sessions, who waits for what.
Spec: v5 §4.3.2, §4.3.3; v3.1.1 §4.3.2, §4.3.3.
"""

import enum
from collections.abc import Mapping
from typing import Final

from ..protocol.errors import ProtocolError
from ..protocol.packets import PacketType


class Flow(enum.Enum):
    """Sender side of one Packet Identifier."""

    AWAIT_PUBACK = enum.auto()
    AWAIT_PUBREC = enum.auto()
    AWAIT_PUBCOMP = enum.auto()
    DONE = enum.auto()


NEXT_FLOWS: Final[Mapping[tuple[Flow, PacketType], Flow]] = {
    (Flow.AWAIT_PUBACK, PacketType.PUBACK): Flow.DONE,
    (Flow.AWAIT_PUBREC, PacketType.PUBREC): Flow.AWAIT_PUBCOMP,
    # A PUBREC that comes again after a reconnect is answered by PUBREL again (v3.1.1 §4.3.3).
    (Flow.AWAIT_PUBCOMP, PacketType.PUBREC): Flow.AWAIT_PUBCOMP,
    (Flow.AWAIT_PUBCOMP, PacketType.PUBCOMP): Flow.DONE,
}


def advance(flow: Flow, packet: PacketType, reason_code: int) -> Flow:
    """Return the state that follows an acknowledgement.

    Raises:
        ProtocolError: the acknowledgement does not belong to this state.

    Spec: v5 §4.3.2, §4.3.3; v3.1.1 §4.3.2, §4.3.3.
    """
    try:
        successor = NEXT_FLOWS[flow, packet]
    except KeyError:
        raise ProtocolError(f"{packet.name} while {flow.name}", spec="v5 §4.3.3") from None
    if packet is PacketType.PUBREC and reason_code >= 0x80:
        return Flow.DONE  # v5 [MQTT-4.3.3-4]: PUBREL only answers a PUBREC below 0x80.
    return successor
