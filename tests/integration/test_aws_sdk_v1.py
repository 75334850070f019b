"""AWSIoTPythonSDK, AWS's first SDK for Python, unmodified, over mutual TLS at 3.1.1.

It asks and listens at QoS 0, sends a user name without a password, and waits two seconds after each kind
of subscription: hence few tests. It keeps one version per shadow, raised by `update/accepted`, and drops a
delta that is not newer: it hears of a delta only if that comes before `accepted`.
"""

import json
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from AWSIoTPythonSDK.MQTTLib import AWSIoTMQTTShadowClient

from paho_peer import TIMEOUT_S, take
from sdk_site import operate, session_of
from server_site import Site

pytestmark = pytest.mark.filterwarnings(
    # The SDK asks for PROTOCOL_SSLv23, which is PROTOCOL_TLS.
    "ignore:ssl.PROTOCOL_TLS is deprecated:DeprecationWarning:AWSIoTPythonSDK.core.protocol.paho.client"
)


class Shadow:
    """The SDK's handler of one classic shadow: each answer is (payload, status), the token checked."""

    def __init__(self, client: AWSIoTMQTTShadowClient, thing_name: str) -> None:
        self._handler = client.createShadowHandlerWithName(thing_name, True)
        self.deltas: queue.Queue[Any] = queue.Queue()

    def listen(self) -> None:
        self._handler.shadowRegisterDeltaCallback(
            lambda payload, _status, _token: self.deltas.put(json.loads(payload))
        )

    def get(self) -> tuple[Any, str]:
        return self._ask(lambda answer: self._handler.shadowGet(answer, TIMEOUT_S))

    def update(self, document: Any) -> tuple[Any, str]:
        return self._ask(lambda answer: self._handler.shadowUpdate(json.dumps(document), answer, TIMEOUT_S))

    def delete(self) -> tuple[Any, str]:
        return self._ask(lambda answer: self._handler.shadowDelete(answer, TIMEOUT_S))

    def _ask(self, send: Any) -> tuple[Any, str]:
        answers: queue.Queue[tuple[str, str, str]] = queue.Queue()
        sent = send(lambda payload, status, token: answers.put((payload, status, token)))
        payload, status, token = take(answers, "an answer")
        assert status != "timeout"
        assert token == sent == json.loads(payload)["clientToken"]
        return json.loads(payload), status


@contextmanager
def connected(site: Site, name: str, host: str) -> Iterator[AWSIoTMQTTShadowClient]:
    files = site.pki.ensure_device(name)
    client = AWSIoTMQTTShadowClient(name)
    client.configureEndpoint(host, site.port)
    client.configureCredentials(str(files.authority), str(files.key), str(files.certificate))
    assert client.connect()
    try:
        yield client
    finally:
        assert client.disconnect()


def test_every_delta_reaches_the_callback_of_its_own_update(mtls_site: Site, name: str) -> None:
    with connected(mtls_site, name, "localhost") as client:
        shadow = Shadow(client, name)
        shadow.listen()
        for number in range(1, 6):
            answer, status = shadow.update({"state": {"desired": {"level": number}}})
            assert (status, answer["version"]) == ("accepted", number)
            delta = take(shadow.deltas, "the delta")
            assert (delta["version"], delta["state"]) == (number, {"level": number})
        shadow.update({"state": {"reported": {"level": 5}}})
        operate(mtls_site, name, {"desired": {"level": 6}})
        assert take(shadow.deltas, "the operator's delta")["version"] == 7


def test_a_shadow_lives_from_404_to_404(mtls_site: Site, name: str) -> None:
    with connected(mtls_site, name, "127.0.0.1") as client:
        session = session_of(mtls_site, name)
        assert (session["keep_alive_s"], session["expiry_interval_s"]) == (600, 0)
        shadow = Shadow(client, name)
        absent, status = shadow.get()
        assert (status, absent["code"]) == ("rejected", 404)
        answer, status = shadow.update({"state": {"desired": {"led": "on"}, "reported": {"led": "off"}}})
        assert (status, answer["version"]) == ("accepted", 1)
        conflict, status = shadow.update({"state": {"reported": {"led": "on"}}, "version": 7})
        assert (status, conflict["code"], conflict["message"]) == ("rejected", 409, "Version conflict")
        invalid, status = shadow.update({"state": {"color": "red"}})
        assert (status, invalid["code"]) == ("rejected", 400)
        document, status = shadow.get()
        assert (status, document["version"], document["state"]) == (
            "accepted",
            1,
            {"desired": {"led": "on"}, "reported": {"led": "off"}, "delta": {"led": "on"}},
        )
        deleted, status = shadow.delete()
        assert (status, deleted["version"]) == ("accepted", 1)
        gone, status = shadow.get()
        assert (status, gone["code"]) == ("rejected", 404)
