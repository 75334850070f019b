"""What a connected Client may do changes: who it is was asked again.

Knows: everything that hangs on a principal and must follow it.
Does not know: why it was asked again, how it is found.
Spec: v5 §4.12.1, §5.4.2; v3.1.1 §5.4.2.
"""

from functools import partial
from typing import Final

from ..access.ports import AccessRefusedError
from ..access.principal import Principal
from ..protocol.connection import ConnectionState
from ..protocol.reason_codes import ReasonCode
from .connection import Origin, ServedConnection
from .decisions import questions_about_session
from .effects import Authorize
from .lifecycle import close_connection, drop_will
from .state import EngineState
from .subscribe import withdraw_forbidden

#: Refusals that say nothing about the Client: it may come again.
_NO_ANSWER: Final = (ReasonCode.SERVER_BUSY, ReasonCode.SERVER_UNAVAILABLE)


def is_same_client(principal: Principal, earlier: Principal | None) -> bool:
    """Say whether tenant, Client Identifier and identity are as before: the Session belongs to them."""
    return (
        earlier is not None
        and (principal.tenant, principal.client_id) == (earlier.tenant, earlier.client_id)
        and principal.identity == earlier.identity
    )


def change_rights(state: EngineState, connection: ServedConnection, principal: Principal) -> None:
    """Give a connected Client other permissions, and take from it what they forbid."""
    session = connection.attached
    tenant = state.tenant(principal.tenant)
    connection.principal = principal
    connection.origin = Origin(connection.client_id, principal)
    connection.routes.clear()
    session.permissions = principal.permissions
    session.may_receive = principal.permissions.may_receive
    session.drop_forbidden()
    withdraw_forbidden(state, tenant, connection)
    tenant.changed()
    will = session.will
    if will is not None and not principal.permissions.may_publish(
        will.message.topic, is_retain=will.message.is_retain
    ):
        drop_will(state, session)


def handle_authenticated_again(
    state: EngineState, connection: ServedConnection, answer: Principal | AccessRefusedError, now: float
) -> None:
    """The rules have changed: go on with the new permissions, or close; nothing happens before CONNACK."""
    if connection.state is ConnectionState.AUTHENTICATING:
        connection.is_outdated = True
    if connection.state is not ConnectionState.CONNECTED:
        return
    if isinstance(answer, AccessRefusedError):
        reason_code = (
            ReasonCode.SERVER_BUSY if answer.reason_code in _NO_ANSWER else ReasonCode.NOT_AUTHORIZED
        )
        close_connection(state, connection, reason_code, answer.detail, now)
    elif not is_same_client(answer, connection.principal):
        close_connection(state, connection, ReasonCode.NOT_AUTHORIZED, "has become somebody else", now)
    else:
        _change(state, connection, answer, True, now)


def _change(
    state: EngineState, connection: ServedConnection, principal: Principal, is_complete: bool, now: float
) -> None:
    """Change the rights once everything that must be known about them is."""
    if connection.state is not ConnectionState.CONNECTED:
        return
    session = connection.attached
    will_topic = None if session.will is None else session.will.message.topic
    if not is_complete:
        detail = "nobody decided what it may do"
        close_connection(state, connection, ReasonCode.NOT_AUTHORIZED, detail, now)
    elif questions := questions_about_session(principal, session, will_topic):
        resume = partial(_change, state, connection, principal)
        state.effects.append(Authorize(connection, principal, questions, resume))
    else:
        change_rights(state, connection, principal)
