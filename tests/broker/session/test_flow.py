"""Every state of a QoS flow times every packet."""

import pytest

from broker.protocol.errors import ProtocolError
from broker.protocol.packets import PacketType
from broker.session import NEXT_FLOWS, Flow, advance

_ERRORS = (0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)

_EVERY_PAIR = [(flow, packet) for flow in Flow for packet in PacketType]

#: v5 §4.3.2 and §4.3.3, told again.
_LEGAL = {
    (Flow.AWAIT_PUBACK, PacketType.PUBACK): Flow.DONE,
    (Flow.AWAIT_PUBREC, PacketType.PUBREC): Flow.AWAIT_PUBCOMP,
    (Flow.AWAIT_PUBCOMP, PacketType.PUBREC): Flow.AWAIT_PUBCOMP,
    (Flow.AWAIT_PUBCOMP, PacketType.PUBCOMP): Flow.DONE,
}


@pytest.mark.parametrize(("flow", "packet"), _EVERY_PAIR, ids=lambda member: member.name)
def test_a_packet_moves_a_flow_as_the_specification_says_or_is_refused(
    flow: Flow, packet: PacketType
) -> None:
    if (flow, packet) in _LEGAL:
        assert advance(flow, packet, 0) is _LEGAL[flow, packet]
    else:
        with pytest.raises(ProtocolError, match=f"{packet.name} while {flow.name}"):
            advance(flow, packet, 0)


@pytest.mark.parametrize("reason_code", _ERRORS)
def test_a_failing_pubrec_ends_the_flow(reason_code: int) -> None:
    assert advance(Flow.AWAIT_PUBREC, PacketType.PUBREC, reason_code) is Flow.DONE


@pytest.mark.parametrize("reason_code", _ERRORS)
def test_a_failing_puback_ends_the_flow_like_any_other(reason_code: int) -> None:
    assert advance(Flow.AWAIT_PUBACK, PacketType.PUBACK, reason_code) is Flow.DONE


def test_pubrec_without_matching_subscribers_is_no_failure() -> None:
    assert advance(Flow.AWAIT_PUBREC, PacketType.PUBREC, 0x10) is Flow.AWAIT_PUBCOMP


def test_nothing_follows_done() -> None:
    assert not [flow for flow, _ in NEXT_FLOWS if flow is Flow.DONE]


def test_every_state_reaches_done() -> None:
    reached = {Flow.DONE}
    for _ in Flow:
        reached |= {flow for (flow, _), successor in NEXT_FLOWS.items() if successor in reached}
    assert reached == set(Flow)
