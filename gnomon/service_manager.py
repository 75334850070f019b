"""Word to systemd that the server is up, or about to end.

Knows: the socket that the service manager names in the environment.
Does not know: what the server does.
Spec: sd_notify(3).
"""

import contextlib
import os
import socket
from typing import Literal


def notify(state: Literal["READY=1", "STOPPING=1"]) -> None:
    """Tell the service manager, where there is one; a deaf one is no reason to fail."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(state.encode(), path.replace("@", "\0", 1) if path[0] == "@" else path)
