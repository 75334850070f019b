"""The Bus port's second adapter: services beside somebody else's broker, over MQTT 5."""

from .bus import ForeignBus
from .errors import BusFullError, BusRefusedError, ForeignFilesError
from .outbound import OutboundStats
from .session import BusStats

__all__ = ["BusFullError", "BusRefusedError", "BusStats", "ForeignBus", "ForeignFilesError", "OutboundStats"]
