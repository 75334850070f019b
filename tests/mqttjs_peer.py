"""mqtt.js clients for tests: one Node.js process that runs tests/integration/mqttjs/peer.mjs.

Knows: the lines that the process reads and writes.
Does not know: what a test says with the clients.
"""

import itertools
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from paho_peer import take

_FOLDER = Path(__file__).parent / "integration" / "mqttjs"
_TIMEOUT_S = 15.0


class MqttJsError(Exception):
    """mqtt.js tells of an error; `code` is the reason code where there is one."""

    def __init__(self, message: str, code: int | str | None) -> None:
        super().__init__(message)
        self.code = code


class MqttJsMessage(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    is_retained: bool
    properties: Mapping[str, Any]


class MqttJs:
    """The process with all its clients."""

    def __init__(self) -> None:
        node = shutil.which("node")
        assert node is not None, "Node.js is not installed: tools/setup.sh --programs"
        assert (_FOLDER / "node_modules" / "mqtt").is_dir(), "mqtt.js is missing: tools/setup.sh --programs"
        self._process = subprocess.Popen(
            [node, "peer.mjs"], cwd=_FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self.messages: dict[str, queue.Queue[MqttJsMessage]] = {}
        self.disconnects: dict[str, queue.Queue[int]] = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def ask(self, client: str, what: str, **arguments: Any) -> Any:
        """Let a client do something, and wait for it."""
        number = next(self._numbers)
        answers = self._answers[number] = queue.Queue()
        command = {"id": number, "client": client, "do": what, **arguments}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command, default=_buffer).encode() + b"\n")
        self._process.stdin.flush()
        answer = take(answers, f"the answer to {what} of {client}")
        del self._answers[number]
        if "error" in answer:
            raise MqttJsError(answer["error"], answer["code"])
        return answer["ok"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line, object_hook=_bytes)
            if "message" in told:
                message = told["message"]
                self.messages[told["client"]].put(
                    MqttJsMessage(
                        message["topic"],
                        message["payload"],
                        message["qos"],
                        message["retain"],
                        message["properties"],
                    )
                )
            elif "disconnect" in told:
                self.disconnects[told["client"]].put(told["disconnect"])
            else:
                self._answers[told["id"]].put(told)
        for answers in list(self._answers.values()):
            answers.put({"error": "Node.js has ended", "code": None})


class MqttJsPeer:
    """One client.

    Args:
        process: where it runs.
        client_id: Client Identifier; unique in the process.
        url: as mqtt.js reads it.
        options: of mqtt.js's connect.
    """

    def __init__(self, process: MqttJs, client_id: str, url: str, options: Mapping[str, Any]) -> None:
        self.client_id = client_id
        self._process = process
        self._url = url
        self._options = options
        process.messages.setdefault(client_id, queue.Queue())
        process.disconnects.setdefault(client_id, queue.Queue())

    def connect(self) -> Mapping[str, Any]:
        """Connect; the CONNACK.

        Raises:
            MqttJsError: the server refused.
        """
        connack: Mapping[str, Any] = self._process.ask(
            self.client_id, "connect", url=self._url, options=self._options
        )
        return connack

    def subscribe(self, topic_filter: str, qos: int = 0, **options: Any) -> int:
        """Subscribe; the reason code of the SUBACK."""
        granted = self._process.ask(
            self.client_id, "subscribe", topic=topic_filter, options={"qos": qos, **options}
        )
        code: int = granted[0]
        return code

    def unsubscribe(self, topic_filter: str) -> None:
        self._process.ask(self.client_id, "unsubscribe", topic=topic_filter)

    def publish(self, topic: str, payload: bytes, qos: int = 0, **options: Any) -> None:
        """Publish, and wait for the end of its flow.

        Raises:
            MqttJsError: the server refused.
        """
        self._process.ask(
            self.client_id, "publish", topic=topic, payload=payload, options={"qos": qos, **options}
        )

    def receive(self) -> MqttJsMessage:
        return take(self._process.messages[self.client_id], f"a message for {self.client_id}")

    def disconnected(self) -> int:
        """Wait for a DISCONNECT of the server; its reason code."""
        return take(self._process.disconnects[self.client_id], f"DISCONNECT for {self.client_id}")

    def end(self) -> None:
        self._process.ask(self.client_id, "end")

    def kill(self) -> None:
        """Go away without DISCONNECT."""
        self._process.ask(self.client_id, "kill")


@contextmanager
def mqttjs() -> Iterator[MqttJs]:
    """Run Node.js until the end of the block."""
    process = MqttJs()
    try:
        yield process
    finally:
        process.close()


def _buffer(value: object) -> dict[str, Any]:
    assert isinstance(value, bytes)
    return {"type": "Buffer", "data": list(value)}


def _bytes(value: dict[str, Any]) -> Any:
    return bytes(value["data"]) if value.get("type") == "Buffer" else value
