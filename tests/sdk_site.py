"""What tests of AWS's SDKs need beside the SDK: somebody who changes shadows, and what the server knows.

Knows: how an operator asks.
Does not know: any SDK.
"""

import json
from typing import Any

from gnomon.admin.client import AdminClient, place_of_data
from server_site import Site


def operate(site: Site, thing_name: str, state: Any, shadow_name: str | None = None) -> None:
    """Let an operator, who uses another client, change a shadow, and wait until that is done."""
    level = "" if shadow_name is None else f"name/{shadow_name}/"
    topic = f"$aws/things/{thing_name}/shadow/{level}update"
    with site.operator("5") as operator:
        operator.subscribe(f"{topic}/accepted")
        operator.publish(topic, json.dumps({"state": state}).encode(), qos=1)
        operator.receive()


def session_of(site: Site, client_id: str) -> Any:
    """What the server tells of a Session."""
    with AdminClient(place_of_data(site.server.data)) as admin:
        return admin.request("session/show", client_id=client_id)["session"]


def cut(site: Site, client_id: str) -> None:
    """Let the server close a client's connection; its Session stays."""
    with AdminClient(place_of_data(site.server.data)) as admin:
        assert admin.request("session/kick", client_id=client_id)["was_connected"]
