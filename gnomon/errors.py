"""Errors that end the program, each with its exit code.

Knows: the exit codes of the command line.
Does not know: who prints them.
Spec: none.
"""

from typing import ClassVar


class GnomonError(Exception):
    """Root: the text is one sentence for the user, `exit_code` is what the process ends with."""

    exit_code: ClassVar[int] = 1


class ConfigurationError(GnomonError):
    """A setting is wrong; the text names the file (or other source), the key and what would be right."""

    exit_code = 2


class EnvironmentFailureError(GnomonError):
    """The machine does not allow it: port in use, permission missing, folder locked."""

    exit_code = 3
