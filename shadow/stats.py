"""What the shadow service counts.

Knows: counts.
Does not know: what metrics are called.
Spec: none.
"""

from msgspec import Struct


class ShadowStats(Struct):
    """Counts since the start; the last four are of the moment.

    `drifts_not_followed` is 1 where more shadows drift than are followed.
    """

    requests: int = 0
    refused: int = 0
    throttled: int = 0
    ignored: int = 0
    repeated: int = 0
    changes: int = 0
    commits: int = 0
    store_failures: int = 0
    internal_failures: int = 0
    converged: int = 0
    retold: int = 0
    swept: int = 0
    drifting: int = 0
    drifts_not_followed: int = 0
    hot_rows: int = 0
    hot_bytes: int = 0
