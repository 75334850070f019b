"""One device of the swarm: it reports when it is told to, and every request's fate is in the tally.

Knows: the device's half of the shadow conversation, the requests on their way and their window.
Does not know: MQTT's connection (party), what follows from a delta (follower), when it is due.
Spec: AWS IoT device shadow service, simulating a device; v5 §3.8, §4.9.
"""

import json
from collections import deque
from collections.abc import Callable, Sized
from typing import Final

from msgspec import MsgspecError

from broker.protocol.packets import Subscribe, SubscriptionRequest, TopicFilter, TopicName

from .follower import Follower
from .party import ANSWER_TIMEOUT_NS, Party
from .replies import decode_receipt, decode_reply
from .scenario import Scenario
from .tally import Tally

#: Updates that wait because as many as allowed are unanswered; beyond it they are missed.
BACKLOG_MAXIMUM: Final = 1000
#: Begins the tokens of edits; their number follows.
EDIT: Final = "edit-"
_FOLLOW: Final = "follow-"
_GET: Final = "get"
_NOT_FOUND: Final = 404


class SwarmDevice(Party):
    """A device whose client id is its thing name; `number` counts from 0 over the whole swarm."""

    def __init__(self, number: int, scenario: Scenario, tally: Tally) -> None:
        super().__init__(scenario.name(number), scenario.seed, tally)
        self.number = number
        self.follower = Follower(tally)
        self._scenario = scenario
        self._template = scenario.payload_template()
        self._is_loaded = False
        self._next_number = 0
        self._backlog: deque[tuple[int, int]] = deque()
        #: Requests that the service has not answered: token to (when due, when sent).
        self._unanswered: dict[str, tuple[int, int]] = {}
        self._follow_token = ""
        self._follows = 0
        prefix = f"{scenario.root}/things/{self.name}/shadow/"
        self._get_topic = TopicName(f"{prefix}get".encode())
        self._update_topic = TopicName(f"{prefix}update".encode())
        self._telemetry_topic = TopicName(f"dt/{self.name}/telemetry".encode())
        self._handlers: dict[bytes, Callable[[bytes, int], None]] = {
            f"{prefix}update/delta".encode(): self._on_delta,
            f"{prefix}update/accepted".encode(): self._on_accepted,
            f"{prefix}update/rejected".encode(): self._on_rejected,
            f"{prefix}get/accepted".encode(): self._on_document,
            f"{prefix}get/rejected".encode(): self._on_no_document,
        }

    @property
    def is_settled(self) -> bool:
        """Whether nothing is on its way, and the device is what was asked for last."""
        return not (self._unanswered or self.unacknowledged or self._backlog or self.follower.is_drifting)

    def update(self, number: int, due_ns: int, now_ns: int) -> None:
        """Send an update that is due now; it waits where the window is full."""
        self.tally.counts.updates_due += 1
        self.tally.latencies["late"].add(now_ns - due_ns)
        if not self.is_ready or len(self._backlog) >= BACKLOG_MAXIMUM:
            self.tally.counts.updates_missed += 1
            return
        self._backlog.append((number, due_ns))
        self.pump(now_ns)

    def load(self, now_ns: int) -> None:
        """Keep the window full from now on."""
        self._is_loaded = True
        self.pump(now_ns)

    def unload(self) -> None:
        """Begin nothing new; what is under way goes on."""
        self._is_loaded = False
        self.tally.counts.updates_missed += len(self._backlog)
        self._backlog.clear()

    def abandon(self) -> None:
        """Count what has no answer at the end."""
        self.tally.counts.unanswered += len(self._waiting)

    def lost(self, reason: str | None) -> None:
        """The connection is gone, or was never made; what was on its way is cut off."""
        self.tally.counts.unanswered += len(self._waiting)
        self.tally.counts.updates_missed += len(self._backlog)
        self._unanswered.clear()
        self._backlog.clear()
        super().lost(reason)

    def handle_timer(self, now_ns: int) -> None:
        """Look whether something takes too long, too."""
        while self._unanswered:
            token, (_, sent_ns) = next(iter(self._unanswered.items()))
            if now_ns - sent_ns <= ANSWER_TIMEOUT_NS:
                break
            del self._unanswered[token]
            self.tally.counts.unanswered += 1
            self._forget(token)
        super().handle_timer(now_ns)

    # What the connection brings.

    def on_connected(self, now_ns: int) -> None:
        """Subscribe to what the shadow service says, if it is spoken to."""
        if self._scenario.follows_shadow:
            requests = tuple(SubscriptionRequest(TopicFilter(topic), 1) for topic in self._handlers)
            self.connection.send(Subscribe(self.next_packet_id(), requests))
        else:
            self.become_ready(now_ns)

    def on_subscribed(self, now_ns: int) -> None:
        """Ask how things stand."""
        self._request(self._get_topic, b'{"clientToken":"get"}', _GET, now_ns, now_ns)

    def become_ready(self, now_ns: int) -> None:
        """Count the connection."""
        super().become_ready(now_ns)
        self.tally.counts.connects += 1
        self.tally.latencies["connect"].add(now_ns - self._due_ns)

    def on_puback(self, token: str, due_ns: int, now_ns: int) -> None:
        """Count the PUBACK of an update."""
        if token.isdecimal():
            self.tally.counts.pubacks += 1
            self.tally.latencies["puback"].add(now_ns - due_ns)
            self.tally.last_answer_ns = now_ns

    def on_refused(self, token: str) -> None:
        """The service never sees it."""
        self._unanswered.pop(token, None)
        self._forget(token)

    def on_puback_missing(self, token: str) -> None:
        """Where no service answers, this is what is missing."""
        if not self._scenario.follows_shadow:
            self.tally.counts.unanswered += 1

    def on_message(self, topic: bytes, payload: bytes, now_ns: int) -> None:
        """Hear the service."""
        handler = self._handlers.get(topic)
        try:
            if handler is not None:
                handler(payload, now_ns)
        except MsgspecError:
            self.tally.counts.malformed += 1

    def pump(self, now_ns: int) -> None:
        """Send what may be sent: first what follows a delta, then updates."""
        if not self.is_ready or self.ending is not None:
            return
        room = self._room()
        if room > 0 and self.follower.has_report:
            self._follows += 1
            self._follow_token = token = f"{_FOLLOW}{self._follows}"
            body = {"state": {"reported": self.follower.take_report()}, "clientToken": token}
            self._request(self._update_topic, json.dumps(body).encode(), token, now_ns, now_ns)
            room -= 1
        while room > 0 and self._backlog:
            number, due_ns = self._backlog.popleft()
            self._send_update(number, due_ns, now_ns)
            room -= 1
        while room > 0 and self._is_loaded:
            self.tally.counts.updates_due += 1
            self._send_update(self._next_number, now_ns, now_ns)
            self._next_number += 1
            room -= 1

    # What the service says.

    def _on_accepted(self, payload: bytes, now_ns: int) -> None:
        reply = decode_receipt(payload)
        self.follower.version = max(self.follower.version, reply.version)
        token = reply.client_token
        times = self._unanswered.pop(token, None)
        if times is None:
            if token.startswith(EDIT):
                self.follower.edit_accepted(now_ns)
        elif token == self._follow_token:
            self.follower.reported(now_ns)
        else:
            self.tally.counts.accepted += 1
            self.tally.latencies["accepted"].add(now_ns - times[0])
            self.tally.last_answer_ns = now_ns

    def _on_rejected(self, payload: bytes, now_ns: int) -> None:
        reply = decode_receipt(payload)
        token = reply.client_token
        if self._unanswered.pop(token, None) is not None or token.startswith(EDIT):
            self.tally.refuse(reply.code)
            self._forget(token)

    def _on_delta(self, payload: bytes, now_ns: int) -> None:
        reply = decode_reply(payload)
        self.follower.take_delta(reply.state or {}, reply.version, now_ns)

    def _on_document(self, payload: bytes, now_ns: int) -> None:
        reply = decode_reply(payload)
        if self._unanswered.pop(reply.client_token, None) is not None:
            self.follower.start(reply.state or {}, reply.version, now_ns)
            self.become_ready(now_ns)

    def _on_no_document(self, payload: bytes, now_ns: int) -> None:
        reply = decode_receipt(payload)
        if self._unanswered.pop(reply.client_token, None) is None:
            return
        if reply.code == _NOT_FOUND:
            self.follower.start({}, 0, now_ns)
            self.become_ready(now_ns)
        else:
            self.tally.refuse(reply.code)
            self.ending = f"the service refused get: {reply.code}"

    # Private.

    @property
    def _waiting(self) -> Sized:
        """Requests that count for the window."""
        return self._unanswered if self._scenario.follows_shadow else self.unacknowledged

    def _room(self) -> int:
        """How many requests may be sent now (v5 §4.9: also the server's Receive Maximum)."""
        return min(
            self._scenario.in_flight - len(self._waiting),
            self.connection.receive_maximum - len(self.unacknowledged),
        )

    def _send_update(self, number: int, due_ns: int, now_ns: int) -> None:
        payload = self._template % (*self._scenario.values(self.number, number), number)
        topic = self._update_topic if self._scenario.follows_shadow else self._telemetry_topic
        self._request(topic, payload, str(number), due_ns, now_ns)
        self.tally.counts.updates_sent += 1

    def _request(self, topic: TopicName, payload: bytes, token: str, due_ns: int, now_ns: int) -> None:
        if self._scenario.follows_shadow:
            self._unanswered[token] = (due_ns, now_ns)
        self.publish(topic, payload, token, due_ns, now_ns)

    def _forget(self, token: str) -> None:
        """A request failed."""
        if token == self._follow_token:
            self.follower.failed()
        elif token == _GET:
            self.ending = "nobody answers get: no shadow service, or it may not be asked"
        elif (number := token.removeprefix(EDIT)) != token and number.isdecimal():
            self.follower.edit_failed(int(number))
