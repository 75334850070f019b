"""AUTH: enhanced authentication at CONNECT, and again while CONNECTED.

Knows: whose turn it is, that the method stays the same, what success and refusal mean.
Does not know: any method.
Spec: v5 §3.15, §4.12.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from ..access.ports import AccessRefusedError, Continue, Success
from ..protocol.connection import ConnectionState
from ..protocol.errors import ProtocolError
from ..protocol.packets import Auth
from ..protocol.properties import Properties
from ..protocol.reason_codes import ReasonCode
from .connect import handle_authenticated
from .connection import Exchange, Hold, ServedConnection
from .decisions import questions_about_session
from .effects import AskMethod, Authorize
from .holds import hold, unhold
from .lifecycle import close_connection
from .rights import change_rights, is_same_client
from .state import EngineState

#: DISCONNECT has no word for a wrong proof, nor for a method that does not answer (v5 §3.14.2.1).
_FAILED: Final = ReasonCode.NOT_AUTHORIZED


def handle_auth(state: EngineState, connection: ServedConnection, packet: Auth) -> None:
    """Hand the Client's next step to the method; nothing is read until it has answered.

    Raises:
        ProtocolError: there is no method, it is another one, or it is not the Client's turn.
    """
    exchange = connection.exchange
    properties = packet.properties
    if exchange is None:
        raise ProtocolError("AUTH without a method in CONNECT", spec="v5 [MQTT-4.12.0-7]")
    if properties.authentication_method != exchange.method.method:
        raise ProtocolError("AUTH with another method than CONNECT", spec="v5 [MQTT-4.12.0-5]")
    data = properties.authentication_data
    question: Callable[[], Awaitable[Continue | Success]]
    if packet.reason_code is ReasonCode.CONTINUE_AUTHENTICATION and exchange.proceed is not None:
        question = partial(exchange.proceed, data)
        exchange.proceed = None
    elif packet.reason_code is ReasonCode.RE_AUTHENTICATE and exchange.is_over:
        question = partial(exchange.method.start, exchange.request, data)
        exchange.is_over = False
    else:
        raise ProtocolError("AUTH out of turn", spec="v5 [MQTT-4.12.0-3], [MQTT-4.12.1-1]")
    hold(state, connection, Hold.AUTHENTICATING)
    state.effects.append(AskMethod(connection, question))


def handle_method_answer(
    state: EngineState,
    connection: ServedConnection,
    answer: Continue | Success | AccessRefusedError,
    now: float,
) -> None:
    """Go on with the exchange, or let the Client in, or end it; nothing happens where it went away."""
    exchange = connection.exchange
    if exchange is None or connection.state is ConnectionState.CLOSED:
        return
    is_connecting = connection.state is ConnectionState.AUTHENTICATING
    if isinstance(answer, Continue):
        exchange.proceed = answer.proceed
        _write(connection, exchange, ReasonCode.CONTINUE_AUTHENTICATION, answer.data)
        unhold(state, connection, Hold.AUTHENTICATING)
    elif isinstance(answer, AccessRefusedError):
        if is_connecting:
            handle_authenticated(state, connection, answer, now)
        else:  # v5 [MQTT-4.12.1-2].
            close_connection(state, connection, _FAILED, answer.detail, now)
    elif is_connecting:
        exchange.is_over = True
        exchange.data = answer.data
        handle_authenticated(state, connection, answer.principal, now)
    else:
        _renew(state, connection, exchange, answer, True, now)


def _renew(
    state: EngineState,
    connection: ServedConnection,
    exchange: Exchange,
    answer: Success,
    is_decided: bool,
    now: float,
) -> None:
    """The Client proved again who it is: from now on it has the rights that come with that."""
    if connection.state is not ConnectionState.CONNECTED:
        return
    principal = answer.principal
    if not is_decided or not is_same_client(principal, connection.principal):
        detail = "re-authenticated as somebody else, or nobody decided what it may do"
        close_connection(state, connection, _FAILED, detail, now)
        return
    session = connection.attached
    will_topic = None if session.will is None else session.will.message.topic
    if questions := questions_about_session(principal, session, will_topic):
        resume = partial(_renew, state, connection, exchange, answer)
        state.effects.append(Authorize(connection, principal, questions, resume))
        return
    exchange.is_over = True
    change_rights(state, connection, principal)
    _write(connection, exchange, ReasonCode.SUCCESS, answer.data)
    unhold(state, connection, Hold.AUTHENTICATING)


def _write(
    connection: ServedConnection, exchange: Exchange, reason_code: ReasonCode, data: bytes | None
) -> None:
    properties = Properties(authentication_method=exchange.method.method, authentication_data=data)
    connection.write_packet(Auth(reason_code, properties))
