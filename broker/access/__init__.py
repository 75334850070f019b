"""Who a client is, and what it may publish, subscribe and receive.

Knows: certificates, passwords, principals, rules, reserved topics.
Does not know: connections, sessions, files, clocks.
Spec: v5 §4.12, §5.4; v3.1.1 §5.4.
"""

from .asking import Action, AskingPermissions, PolicyDecision, Question
from .authenticator import OPERATOR_ROLE, RulesAuthenticator
from .builtin import DEFAULT_RULES, builtin_rules
from .password_file import (
    PASSWORD_FILE_SIZE_MAXIMUM,
    PasswordFileError,
    PasswordUsers,
    check_user_name,
    is_password,
    parse_password_file,
    with_user,
)
from .ports import (
    AccessRefusedError,
    Authenticator,
    ConnectRequest,
    Continue,
    EnhancedAuthenticator,
    Permissions,
    Success,
)
from .principal import AlternativeNames, CertificateSubject, ClientCertificate, Principal
from .reserved import ADMIN_REPLIES, DEFAULT_ROOT, ReservedTopics
from .rules import Rule, RulePermissions
from .rules_file import RulesError, parse_rules
from .x509 import check_validity, client_certificate

__all__ = [
    "ADMIN_REPLIES",
    "DEFAULT_ROOT",
    "DEFAULT_RULES",
    "OPERATOR_ROLE",
    "PASSWORD_FILE_SIZE_MAXIMUM",
    "AccessRefusedError",
    "Action",
    "AlternativeNames",
    "AskingPermissions",
    "Authenticator",
    "CertificateSubject",
    "ClientCertificate",
    "ConnectRequest",
    "Continue",
    "EnhancedAuthenticator",
    "PasswordFileError",
    "PasswordUsers",
    "Permissions",
    "PolicyDecision",
    "Principal",
    "Question",
    "ReservedTopics",
    "Rule",
    "RulePermissions",
    "RulesAuthenticator",
    "RulesError",
    "Success",
    "builtin_rules",
    "check_user_name",
    "check_validity",
    "client_certificate",
    "is_password",
    "parse_password_file",
    "parse_rules",
    "with_user",
]
