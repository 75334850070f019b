"""Errors of the fleet package.

Knows: what can go wrong with identities and certificates.
Does not know: who shows the sentence to whom.
Spec: none.
"""


class FleetError(Exception):
    """Root of every error that the fleet package raises on purpose."""


class PKIError(FleetError):
    """A certificate or key cannot be made, read or trusted; the text says which file and what helps."""


class NameRefusedError(PKIError):
    """The name cannot stand in a certificate."""
