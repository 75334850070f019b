"""The other generator: an external program named mqttload, driven by the same scenario table.

Knows: its command line and its JSON.
Does not know: brokers as processes, tables.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .generator import Endpoint, GeneratorError
from .measurement import Delivery
from .processes import Spent
from .scenarios import OUTSTANDING, PARALLEL, PAYLOAD_SIZE, WINDOW, Scenario

_TIMEOUT_S: Final = 300.0
_CLIENT_OPTION: Final[Mapping[str, str]] = {
    "fanin": "-P",
    "fanout": "-S",
    "pairs": "-N",
    "paced": "-P",
    "conns": "-N",
}
#: It ends so when messages were lost or doubled; the figures are there all the same.
_NOT_EXACT: Final = 2


class MqttLoad:
    """Runs scenarios through the external program."""

    name = "mqttload"

    def __init__(self, program: Path) -> None:
        self._program = program

    def measure(self, scenario: Scenario, endpoint: Endpoint, pid: int) -> tuple[Delivery, Spent]:
        """Make one load, and let the program read what the process `pid` spends on it.

        Raises:
            GeneratorError: the program could not make the run.
        """
        command = [str(self._program), *_arguments(scenario, endpoint), "--pid", str(pid), "--json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise GeneratorError(str(error)) from error
        if done.returncode not in (0, _NOT_EXACT):
            raise GeneratorError(f"mqttload ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        result = json.loads(done.stdout)
        return _connections(result) if scenario.counts_connections else _messages(result)


def _arguments(scenario: Scenario, endpoint: Endpoint) -> list[str]:
    arguments = [scenario.kind, "-h", endpoint.host, "-p", str(endpoint.port)]
    arguments += [_CLIENT_OPTION[scenario.kind], str(scenario.clients)]
    if endpoint.tls is not None:
        files = endpoint.tls
        arguments += ["--tls", "--cafile", str(files.authority), "--sni", "localhost"]
        arguments += ["--cert", str(files.certificate), "--key", str(files.key)]
    if scenario.counts_connections:
        return [*arguments, "--parallel", str(PARALLEL), "--hold", "0.2"]
    arguments += ["-q", str(scenario.qos), "-s", str(PAYLOAD_SIZE)]
    if scenario.kind == "paced":
        seconds = scenario.per_publisher / scenario.rate
        return [*arguments, "--rate", str(scenario.rate), "--seconds", str(seconds)]
    arguments += ["-n", str(scenario.messages), "--outstanding", str(OUTSTANDING), "-w", str(WINDOW)]
    return arguments


def _messages(result: Mapping[str, Any]) -> tuple[Delivery, Spent]:
    latency = result["latency_us"]
    delivery = Delivery(
        expected=result["expected"],
        delivered=result["delivered"],
        lost=result["lost"],
        duplicates=result["duplicates"],
        reordered=result["reordered"],
        foreign=result["foreign"] + result["bad"],
        seconds=result["seconds"],
        generator_cpu_s=result["self_cpu_us_per_msg"] * result["delivered"] / 1e6,
        p50_us=latency["p50"],
        p99_us=latency["p99"],
        late_p99_us=result.get("send_late_us", {}).get("p99"),
    )
    return delivery, _spent(result)


def _connections(result: Mapping[str, Any]) -> tuple[Delivery, Spent]:
    latency = result["connect_latency_us"]
    delivery = Delivery(
        expected=result["conns"],
        delivered=result["ready"],
        lost=result["conns"] - result["ready"] + result["closed_in_hold"],
        seconds=result["seconds"],
        generator_cpu_s=result["self_cpu_ms_per_conn"] * result["ready"] / 1e3,
        p50_us=latency["p50"],
        p99_us=latency["p99"],
    )
    return delivery, _spent(result)


def _spent(result: Mapping[str, Any]) -> Spent:
    own, others = result["procs"][0], result["other_cpu_pct_of_machine"]
    return Spent(
        cpu_s=result["broker_cpu_s"],
        others_share=others / 100,
        rss_growth_kb=own["rss_after_kb"] - own["rss_before_kb"],
    )
