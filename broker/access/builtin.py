"""The rules of a broker that was given none.

Knows: what a device and an operator usually need.
Does not know: anything that the rules file format could not say.
Spec: the topics of AWS IoT Core's device contract.
"""

from typing import Final

from .reserved import DEFAULT_ROOT
from .rules import Rule
from .rules_file import parse_rules

#: Of a reserved root, clients can publish to request topics only, whatever a rule allows (reserved.py).
DEFAULT_RULES: Final = """\
version = 1

# A device publishes its requests and telemetry.
[[rule]]
effect = "allow"
actions = ["publish"]
topics = ["$aws/things/${thing_name}/#", "dt/${thing_name}/#"]

# A device publishes to Basic Ingest.
[[rule]]
effect = "allow"
actions = ["publish"]
topics = ["$aws/rules/#"]
when = { thing_name = "*" }

# A device receives its replies, deltas, notifications, blocks and commands.
[[rule]]
effect = "allow"
actions = ["subscribe"]
topics = ["$aws/things/${thing_name}/#", "cmd/${thing_name}/#"]

# An operator edits shadows, sends commands and administers.
[[rule]]
effect = "allow"
actions = ["publish"]
topics = [
    "$aws/things/+/shadow/get",
    "$aws/things/+/shadow/update",
    "$aws/things/+/shadow/delete",
    "$aws/things/+/shadow/name/+/get",
    "$aws/things/+/shadow/name/+/update",
    "$aws/things/+/shadow/name/+/delete",
    "cmd/#",
    "$gnomon/admin/#",
]
when = { role = "operator" }

# An operator watches devices.
[[rule]]
effect = "allow"
actions = ["subscribe"]
topics = ["$aws/things/#", "$aws/events/#", "dt/#"]
when = { role = "operator" }

# An operator receives the answers to its own requests.
[[rule]]
effect = "allow"
actions = ["subscribe"]
topics = ["$gnomon/admin/v1/reply/${client_id}/#"]
when = { role = "operator" }

# Everybody with a certificate reads statistics.
[[rule]]
effect = "allow"
actions = ["subscribe"]
topics = ["$SYS/#"]
when = { certificate = "present" }
"""


def builtin_rules(root: str = DEFAULT_ROOT) -> tuple[Rule, ...]:
    """Return `DEFAULT_RULES` for a broker whose contract root is `root`."""
    return parse_rules(DEFAULT_RULES.replace(f'"{DEFAULT_ROOT}/', f'"{root}/'), source="built-in rules")
