"""A device that counts in its shadow, over any number of servers.

Knows: requests and replies of the shadow service, as far as it needs them.
Does not know: what the replies should hold (checker).
Spec: AWS IoT device shadow service, MQTT topics.
"""

import asyncio
import json
from typing import Any, Final

from broker.protocol.packets import Publish

from .history import History, ShadowSeen
from .peer import Peer
from .site import CrashSite

_REPLY_S: Final = 5.0
_NOT_FOUND: Final = 404
_TOO_MANY: Final = 429
_PAUSE_S: Final = 0.05


class ShadowRole:
    """Updates, waits for `accepted`, updates again; gets the document first on every connection."""

    def __init__(self, site: CrashSite, history: History, thing: str) -> None:
        self._site = site
        self._history = history
        self._thing = thing
        self._prefix = f"$aws/things/{thing}/shadow"
        self._number = 1
        self._gets = 0
        self._replies: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._peer = Peer(thing, history, answer_s=_REPLY_S, on_message=self._take)

    async def live(self) -> None:
        """Go on until cancelled."""
        context = self._site.context(self._thing)
        try:
            while True:
                await self._site.up.wait()
                try:
                    await self._peer.connect(self._site.port, context)
                    await self._peer.subscribe(f"{self._prefix}/+/+", 1)
                    await self._read()
                    while True:
                        await self._update()
                except OSError:
                    await self._peer.abort()
                    await asyncio.sleep(0.01)
        finally:
            await self._peer.abort()

    async def _read(self) -> None:
        self._gets += 1
        since = self._history.now
        reply = await self._ask("get", f"get-{self._gets}", {})
        if reply.get("code") == _NOT_FOUND:
            seen = ShadowSeen(self._thing, 0, 0, True, since)
        elif reply.get("code") == _TOO_MANY:
            return
        else:
            seen = ShadowSeen(self._thing, reply["version"], reply["state"]["reported"]["n"], True, since)
        self._history.add(seen)

    async def _update(self) -> None:
        """Count one further; without an answer the next connection asks for the same again."""
        state = {"state": {"reported": {"n": self._number}}}
        reply = await self._ask("update", f"update-{self._number}", state)
        if reply.get("code") == _TOO_MANY:
            await asyncio.sleep(_PAUSE_S)
            return
        assert "version" in reply, reply
        self._history.add(ShadowSeen(self._thing, reply["version"], self._number))
        self._number += 1

    async def _ask(self, operation: str, token: str, request: dict[str, Any]) -> dict[str, Any]:
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[token] = reply
        payload = json.dumps({**request, "clientToken": token}).encode()
        self._peer.publish(f"{self._prefix}/{operation}", 1, payload=payload)
        try:
            return await self._peer.wait(reply)
        finally:
            del self._replies[token]

    def _take(self, packet: Publish) -> None:
        if packet.topic.endswith((b"/accepted", b"/rejected")):
            body = json.loads(packet.payload)
            reply = self._replies.get(body.get("clientToken", ""))
            if reply is not None and not reply.done():
                reply.set_result(body)
