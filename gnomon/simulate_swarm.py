"""`gnomon simulate`: a swarm against the server that the options name.

Knows: the data folder, the forms of `--url`, signals.
Does not know: what a swarm does, how it is shown.
Spec: none.
"""

import signal
import threading
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from simulators.swarm import Report, Scenario, Swarm, SwarmError, Target

from .data_folder import PKI_FOLDER
from .errors import ConfigurationError, EnvironmentFailureError
from .local_server import mtls_address
from .serve import choose_loop
from .swarm_view import choose_view

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def find_target(data: Path, url: str | None, *, authority: Path | None, pki: Path | None) -> Target:
    """Return the server at `url`, else the one that runs on `data`.

    Raises:
        ConfigurationError: the URL has another form.
        EnvironmentFailureError: no server runs on `data`.
    """
    if url is None:
        host, port = mtls_address(data)
        return Target(host=host, port=port, pki=pki or data / PKI_FOLDER, authority=authority)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 0
    except ValueError:
        host, port = "", 0
    if parts.scheme not in ("mtls", "tcp") or not host or not port or parts.path or parts.query:
        raise ConfigurationError(f"--url: {url!r} should be mtls://HOST:PORT or tcp://HOST:PORT")
    if parts.scheme == "tcp":
        if authority is not None or pki is not None:
            raise ConfigurationError("--url: tcp:// has no certificates; leave --ca and --pki out")
        return Target(host=host, port=port)
    return Target(host=host, port=port, pki=pki or data / PKI_FOLDER, authority=authority)


def run_swarm(scenario: Scenario, target: Target, *, is_quiet: bool) -> Report:
    """Run until the end of the duration; the first SIGINT or SIGTERM ends it early, with its report.

    Raises:
        EnvironmentFailureError: the swarm cannot run.
    """
    stopped = threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)  # Who asks twice wants no report.

    for number in _SIGNALS:
        signal.signal(number, stop)
    with choose_view(scenario, target.url, is_quiet=is_quiet) as view:
        swarm = Swarm(
            scenario, target, on_progress=view.show, stopped=stopped, loop_factory=choose_loop("auto")
        )
        try:
            return swarm.run()
        except SwarmError as error:
            raise EnvironmentFailureError(str(error)) from None


def to_json(report: Report) -> dict[str, Any]:
    """Return a report as plain values."""
    plain: dict[str, Any] = msgspec.to_builtins(report)
    return plain
