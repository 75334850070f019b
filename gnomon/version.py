"""Which version this is.

Knows: the installed distribution.
Does not know: anything else.
Spec: none.
"""

from importlib import metadata


def installed_version() -> str:
    """Return the version of the installed distribution; a bare checkout has none."""
    try:
        return metadata.version("gnomon")
    except metadata.PackageNotFoundError:
        return "unknown"
