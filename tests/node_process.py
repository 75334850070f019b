"""A program of Node.js that a test steers: a JSON command a line in, a JSON answer or event a line out.

Knows: how it is started and ended, which answer belongs to which command.
Does not know: what commands and events mean.
"""

import itertools
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paho_peer import TIMEOUT_S, take


class NodeError(Exception):
    """A command failed; `details` is what the program says beside the message."""

    def __init__(self, message: str, details: Any) -> None:
        super().__init__(message)
        self.details = details


class NodeProcess:
    """The program `peer.mjs` of a folder whose packages are installed.

    It reads {id, client, do, ...}, answers {id, ok} or {id, error, details}, tells {client, event, value}.
    """

    def __init__(self, folder: Path) -> None:
        node = shutil.which("node")
        assert node is not None, "Node.js is not installed: tools/setup.sh --programs"
        assert (folder / "node_modules").is_dir(), f"{folder} is not set up: tools/setup.sh --programs"
        self._process = subprocess.Popen(
            [node, "peer.mjs"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._events: dict[tuple[str, str], queue.Queue[Any]] = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def send(self, client: str, what: str, **arguments: Any) -> int:
        """Let a client do something; the number to `settle` with."""
        number = next(self._numbers)
        with self._lock:
            self._answers[number] = queue.Queue()
        assert self._process.stdin is not None
        command = {"id": number, "client": client, "do": what, **arguments}
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return number

    def settle(self, number: int) -> Any:
        """Wait for the answer to a command.

        Raises:
            NodeError: it failed.
        """
        answer = take(self._answers[number], f"the answer to command {number}")
        with self._lock:
            del self._answers[number]
        if "error" in answer:
            raise NodeError(answer["error"], answer.get("details"))
        return answer["ok"]

    def ask(self, client: str, what: str, **arguments: Any) -> Any:
        """Let a client do something, and wait as `settle` does."""
        return self.settle(self.send(client, what, **arguments))

    def next_event(self, client: str, event: str) -> Any:
        """Wait for the next event of this name."""
        return take(self._box(client, event), f"{event} for {client}")

    def has_event(self, client: str, event: str) -> bool:
        return not self._box(client, event).empty()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _box(self, client: str, event: str) -> "queue.Queue[Any]":
        with self._lock:
            return self._events.setdefault((client, event), queue.Queue())

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "event" in told:
                self._box(told["client"], told["event"]).put(told["value"])
            else:
                self._answers[told["id"]].put(told)
        with self._lock:
            for answers in self._answers.values():
                answers.put({"error": "Node.js has ended"})


@contextmanager
def node_process(folder: Path) -> Iterator[NodeProcess]:
    """Run `peer.mjs` of a folder until the end of the block."""
    process = NodeProcess(folder)
    try:
        yield process
    finally:
        process.close()
