"""The garbage collector, set so that it does not stop a server with many connections.

Knows: what a full collection costs here, and how rarely one is needed.
Does not know: what the objects are.

Nearly everything dies by its reference count: the collector only finds cycles, such as tracebacks of
failed handshakes, and those die young. A full collection looks at every connection: with 5,000 of
them it stopped the loop for 100 ms, and a fleet that connects sets off several.
"""

import gc
from typing import Final

#: New objects (net) between young collections; how many of those between middle ones; of those between
#: full ones. Full ones still happen, after 20 million objects that were not freed by their count.
_THRESHOLDS: Final = (20_000, 10, 100)


def settle_collector() -> None:
    """Call it once, when everything that stays has been made: none of that is ever looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
