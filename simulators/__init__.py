"""Device-side halves: devices and operators that behave like real ones.

Knows: the public faces, and a foreign MQTT client.
Does not know: the broker's insides.
"""

from .client import Endpoint, SimulatedClient, Version
from .device import DeviceState, SimulatedDevice
from .device_process import DeviceFailedError, DeviceProcesses
from .operator import ShadowView, SimulatedOperator

__all__ = [
    "DeviceFailedError",
    "DeviceProcesses",
    "DeviceState",
    "Endpoint",
    "ShadowView",
    "SimulatedClient",
    "SimulatedDevice",
    "SimulatedOperator",
    "Version",
]
