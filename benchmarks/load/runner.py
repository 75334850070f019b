"""Runs: each scenario against each broker, some times, a fresh broker every time.

Knows: the order (brokers take turns, so that noise meets all of them), what to do when a run fails.
Does not know: how a load is made, tables, the command line.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from .generator import Endpoint, GeneratorError
from .measurement import Delivery, Measurement, Summary, summarize, with_ratios
from .peers import HOST, Peer, PeerFailedError, make_certificates
from .processes import Spent
from .scenarios import Scenario


class LoadGenerator(Protocol):
    """Makes one load and says what came of it."""

    @property
    def name(self) -> str:
        """Its name for the record."""

    def measure(self, scenario: Scenario, endpoint: Endpoint, pid: int) -> tuple[Delivery, Spent]:
        """Run a scenario against the broker with process id `pid`.

        Raises:
            GeneratorError: it could not be made.
        """


def run_all(
    scenarios: Sequence[Scenario],
    peers: Sequence[Peer],
    generator: LoadGenerator,
    *,
    runs: int,
    folder: Path,
    progress: Callable[[str], None],
) -> list[Summary]:
    """Measure everything; `progress` is told before each run what comes.

    A broker that fails in a scenario has a row that says why; the others go on.
    """
    certificates = make_certificates(folder / "pki")
    summaries = []
    for scenario in scenarios:
        measured: dict[str, list[Measurement]] = {peer.name: [] for peer in peers}
        errors: dict[str, str] = {}
        for run in range(runs):
            for peer in peers:
                progress(f"{scenario.name}, {peer.name}, run {run + 1}")
                if peer.name in errors or (scenario.is_mutual_tls and not peer.has_mutual_tls):
                    continue
                place = folder / f"{scenario.name}-{peer.name}-{run}"
                load = scenario.scaled(peer.scale)
                try:
                    with peer.running(place, certificates) as running:
                        port = running.tls_port if scenario.is_mutual_tls else running.port
                        tls = certificates.client if scenario.is_mutual_tls else None
                        endpoint = Endpoint(host=HOST, port=port or 0, tls=tls)
                        delivery, spent = generator.measure(load, endpoint, running.pid)
                except (GeneratorError, PeerFailedError) as error:
                    errors[peer.name] = str(error)
                    continue
                measured[peer.name].append(
                    Measurement(scenario=scenario.name, peer=peer.name, delivery=delivery, spent=spent)
                )
        summaries += [_summary(scenario, peer, measured[peer.name], errors.get(peer.name)) for peer in peers]
    return with_ratios(summaries)


def _summary(scenario: Scenario, peer: Peer, runs: Sequence[Measurement], error: str | None) -> Summary:
    if error is not None or not runs:
        return Summary(scenario=scenario.name, peer=peer.name, runs=0, error=error)
    return summarize(runs, scale=peer.scale, counts_connections=scenario.counts_connections)
