"""The swarm's operator: edits the desired states of devices.

Knows: the payload of an edit.
Does not know: MQTT's connection (party), what becomes of an edit (follower), when one is due.
Spec: AWS IoT device shadow service, using shadows in apps.
"""

from broker.protocol.packets import TopicName

from .device import EDIT
from .party import Party
from .scenario import EDITED_KEY, Scenario
from .tally import Tally


class Editor(Party):
    """One operator. Without a connection no edit is made."""

    def __init__(self, name: str, scenario: Scenario, tally: Tally) -> None:
        super().__init__(name, scenario.seed, tally)
        self._things = f"{scenario.root}/things"

    def edit(self, thing_name: str, number: int, due_ns: int, now_ns: int) -> bool:
        """Ask a thing to become what the number says; False where that cannot be sent now."""
        if not self.is_ready or len(self.unacknowledged) >= self.connection.receive_maximum:
            return False
        token = f"{EDIT}{number}"
        topic = TopicName(f"{self._things}/{thing_name}/shadow/update".encode())
        payload = f'{{"state":{{"desired":{{"{EDITED_KEY}":{number}}}}},"clientToken":"{token}"}}'.encode()
        self.publish(topic, payload, token, due_ns, now_ns)
        self.tally.counts.edits_sent += 1
        return True
