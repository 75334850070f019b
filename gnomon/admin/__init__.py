"""What operators ask of a running server, and how it answers.

Knows: the public face of the room.
Does not know: anything else.
Spec: none.
"""

from .requests import AdminError
from .service import AdminService
from .sessions import SessionHandlers
from .traces import Traces

__all__ = ["AdminError", "AdminService", "SessionHandlers", "Traces"]
