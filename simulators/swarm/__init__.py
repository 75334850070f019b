"""Thousands of devices in a few processes, and one report of what became of them.

Knows: the face of the room.
Does not know: anything else.
Spec: none.
"""

from .coordinator import Swarm, SwarmPhase, SwarmProgress
from .errors import SwarmError
from .report import Latency, Report, latency_of
from .scenario import IN_FLIGHT_MAXIMUM, Profile, Scenario
from .tally import Counts, Tally
from .target import Target

__all__ = [
    "IN_FLIGHT_MAXIMUM",
    "Counts",
    "Latency",
    "Profile",
    "Report",
    "Scenario",
    "Swarm",
    "SwarmError",
    "SwarmPhase",
    "SwarmProgress",
    "Tally",
    "Target",
    "latency_of",
]
