"""Who exists and what they may do: for now the development PKI.

Knows: the public face of the package.
Does not know: anything else.
Spec: none.
"""

from .development_pki import CertificateFiles, DevelopmentPKI
from .errors import FleetError, NameRefusedError, PKIError

__all__ = ["CertificateFiles", "DevelopmentPKI", "FleetError", "NameRefusedError", "PKIError"]
