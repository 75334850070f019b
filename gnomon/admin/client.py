"""An operator's connection to a running server: requests out, answers back.

Knows: where the server is found, paho-mqtt, which answer belongs to which request.
Does not know: what is asked.
Spec: v5 §4.10.
"""

import json
import queue
import secrets
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from broker.access import ADMIN_REPLIES
from broker.listener_url import parse_address, parse_query
from fleet import DevelopmentPKI, PKIError

from ..data_folder import PKI_FOLDER
from ..errors import ConfigurationError, EnvironmentFailureError, GnomonError
from ..local_server import mtls_address
from .service import ROOT

OPERATOR_NAME: Final = "gnomon-cli"
_KEEP_ALIVE_S: Final = 30
_TIMEOUT_S: Final = 15.0
_URL_WANTED: Final = "say mtls://HOST:PORT?cert=FILE&key=FILE&ca=FILE"


class AdminRefusedError(GnomonError):
    """The server refused the operator or the request."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A server's address, and the files of an operator (PEM)."""

    host: str
    port: int
    certificate: Path
    key: Path
    authority: Path


def place_of_data(data: Path) -> Place:
    """Return the way to the server that runs on `data`, by its development PKI.

    Raises:
        EnvironmentFailureError: no server runs there, or it has no development PKI.
    """
    host, port = mtls_address(data)
    pki = DevelopmentPKI(data / PKI_FOLDER)
    if not pki.authority.is_file():
        raise EnvironmentFailureError(f"{data}: its server has no development PKI; use --url")
    try:
        files = pki.ensure_operator(OPERATOR_NAME)
    except PKIError as error:
        raise EnvironmentFailureError(f"{error}; or use --url") from None
    return Place(
        host=host, port=port, certificate=files.certificate, key=files.key, authority=files.authority
    )


def place_of_url(url: str) -> Place:
    """Return the way to the server at `mtls://host:port?cert=..&key=..&ca=..`.

    Raises:
        ConfigurationError: the URL has another form.
    """
    base, _, query = url.partition("?")
    try:
        address, fields = parse_address(base), parse_query(query)
    except ValueError as error:
        raise ConfigurationError(f"--url: {error}") from None
    if address.scheme != "mtls" or fields.keys() != {"certificate", "key", "client_ca"}:
        raise ConfigurationError(f"--url: {_URL_WANTED}")
    certificate, key, authority = (Path(str(fields[name])) for name in ("certificate", "key", "client_ca"))
    return Place(host=address.host, port=address.port, certificate=certificate, key=key, authority=authority)


class AdminClient:
    """One connection; `with` connects and disconnects it. One request at a time."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._client_id = f"{OPERATOR_NAME}-{secrets.token_hex(8)}"
        self._response_topic = f"{ADMIN_REPLIES}{self._client_id}/1"
        self._correlation = b""
        self._ready = threading.Event()
        self._failure: GnomonError | None = None
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self._paho.on_connect = self._connected
        self._paho.on_subscribe = self._subscribed
        self._paho.on_message = self._received
        self._paho.on_publish = self._published
        self._paho.on_disconnect = self._disconnected

    def __enter__(self) -> Self:
        """Connect, and listen for answers.

        Raises:
            EnvironmentFailureError: there is no way to the server.
            AdminRefusedError: the server refuses the client.
        """
        place = self._place
        try:
            context = ssl.create_default_context(cafile=place.authority)
            context.load_cert_chain(place.certificate, place.key)
            self._paho.tls_set_context(context)
            self._paho.connect(place.host, place.port, _KEEP_ALIVE_S)
        except (OSError, ValueError) as error:
            raise EnvironmentFailureError(f"{place.host}:{place.port}: {error}") from None
        self._paho.loop_start()
        is_answered = self._ready.wait(_TIMEOUT_S)
        if self._failure is not None or not is_answered:
            self.__exit__(None, None, None)
            raise self._failure or EnvironmentFailureError(f"{place.host}:{place.port}: no answer in time")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self._paho.disconnect()
        self._paho.loop_stop()
        self._paho.reinitialise()  # Closes what paho leaves to __del__.

    def request(self, verb: str, **fields: str | int | None) -> dict[str, Any]:
        """Ask, and return the answer.

        Raises:
            AdminRefusedError: the server says no.
            EnvironmentFailureError: the connection is lost, or no answer came in time.
        """
        self._correlation = secrets.token_bytes(8)
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's
        properties.ResponseTopic = self._response_topic
        properties.CorrelationData = self._correlation
        body = json.dumps({name: value for name, value in fields.items() if value is not None})
        self._paho.publish(ROOT + verb, body.encode(), qos=1, properties=properties)
        return self.next_answer(_TIMEOUT_S)

    def next_answer(self, timeout_s: float) -> dict[str, Any]:
        """Return the next answer to the last request: those to `trace/start` go on coming.

        Raises:
            AdminRefusedError, EnvironmentFailureError: as in `request`.
        """
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise EnvironmentFailureError("the server did not answer in time") from None
        if answer is None:
            raise self._failure or EnvironmentFailureError("the connection was lost")
        if isinstance(code := answer.get("code"), str):
            raise AdminRefusedError(code, f"{answer.get('message')} ({code})")
        return answer

    # In paho's thread.

    def _connected(
        self, client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            self._fail(AdminRefusedError("NotAuthorized", f"the server refused the connection: {reason}"))
        else:
            client.subscribe(self._response_topic, 1)

    def _subscribed(
        self, _client: paho.Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        if reasons[0].is_failure:
            self._fail(AdminRefusedError("NotAuthorized", f"the client is no operator: {reasons[0]}"))
        self._ready.set()

    def _published(
        self, _client: paho.Client, _data: object, _mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            self._fail(AdminRefusedError("NotAuthorized", f"the server refused the request: {reason}"))

    def _received(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if getattr(message.properties, "CorrelationData", None) == self._correlation:
            try:
                answer = json.loads(message.payload)
            except ValueError:
                answer = None
            self._answers.put(answer if isinstance(answer, dict) else None)

    def _disconnected(self, _client: paho.Client, *_details: object) -> None:
        self._fail(EnvironmentFailureError("the connection to the server was lost"))

    def _fail(self, failure: GnomonError) -> None:
        if self._failure is None:
            self._failure = failure
        self._answers.put(None)
        self._ready.set()
