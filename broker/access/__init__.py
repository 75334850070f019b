"""Who a client is, and what it may publish, subscribe and receive.

Knows: certificates, principals, rules, reserved topics.
Does not know: connections, sessions, files, clocks.
Spec: v5 §4.12, §5.4; v3.1.1 §5.4.
"""

from .authenticator import OPERATOR_ROLE, RulesAuthenticator
from .builtin import DEFAULT_RULES, builtin_rules
from .ports import AccessRefusedError, Authenticator, ConnectRequest, Permissions
from .principal import AlternativeNames, CertificateSubject, ClientCertificate, Principal
from .reserved import DEFAULT_ROOT, ReservedTopics
from .rules import Rule, RulePermissions
from .rules_file import RulesError, parse_rules
from .x509 import check_validity, client_certificate

__all__ = [
    "DEFAULT_ROOT",
    "DEFAULT_RULES",
    "OPERATOR_ROLE",
    "AccessRefusedError",
    "AlternativeNames",
    "Authenticator",
    "CertificateSubject",
    "ClientCertificate",
    "ConnectRequest",
    "Permissions",
    "Principal",
    "ReservedTopics",
    "Rule",
    "RulePermissions",
    "RulesAuthenticator",
    "RulesError",
    "builtin_rules",
    "check_validity",
    "client_certificate",
    "parse_rules",
]
