"""Measure brokers under load: `make bench`, or `python benchmarks/run.py --help`.

Knows: the command line.
Does not know: how anything is measured (benchmarks/load).
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# Started as a program, this file has its own folder on the path, not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.load import durable, shadows
from benchmarks.load.generator import Generator
from benchmarks.load.mqttload import MqttLoad
from benchmarks.load.peers import PEERS, Peer
from benchmarks.load.report import environment, print_table, write_json
from benchmarks.load.runner import LoadGenerator, run_all
from benchmarks.load.scenarios import SCENARIOS, Scenario

_QUICK_SCALE: Final = 0.25
_WIDTH: Final = 140
_EPILOG: Final = """\
examples:
  python benchmarks/run.py
  python benchmarks/run.py --quick --scenario fanin-qos0 --scenario fanin-qos1
  python benchmarks/run.py --peers gnomon,mosquitto --runs 5 --json figures.json
  python benchmarks/run.py --mqttload ~/mqttload/mqttload
  python benchmarks/run.py --durable --part offline --runs 5
  python benchmarks/run.py --shadows --part updates --part get

scenarios:
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code: 1 where a run failed or was not exact."""
    options = _parse(arguments)
    if options.durable is not None:
        return durable.main(options.durable)
    if options.shadows is not None:
        return shadows.main(options.shadows)
    # The table needs so much; a narrow terminal may break its lines, but no figure is cut.
    console = Console(width=max(_WIDTH, shutil.get_terminal_size().columns))
    peers, versions = _installed(options.peers.split(","), console)
    if not peers:
        console.print("none of these brokers is installed")
        return 3
    scale = _QUICK_SCALE if options.quick else 1.0
    runs = 1 if options.quick else options.runs
    scenarios: list[Scenario] = [SCENARIOS[name].scaled(scale) for name in options.scenario or SCENARIOS]
    generator: LoadGenerator = MqttLoad(options.mqttload) if options.mqttload else Generator()
    about = environment(generator=generator.name, runs=runs, scale=scale, peers=versions)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="gnomon-bench-") as folder,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        bar = progress.add_task("starting", total=len(scenarios) * len(peers) * runs, completed=-1)
        summaries = run_all(
            scenarios,
            peers,
            generator,
            runs=runs,
            folder=Path(folder),
            progress=lambda text: progress.update(bar, description=text, advance=1),
        )
    about["load_average_at_end"] = [round(value, 2) for value in os.getloadavg()]
    print_table(console, summaries, about)
    if options.json:
        write_json(options.json, about, summaries)
        console.print(f"written: {options.json}")
    is_good = all(not (each.error or each.lost or each.duplicates) for each in summaries)
    return 0 if is_good else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    lines = "\n".join(f"  {each.name:12} {_told(each)}" for each in SCENARIOS.values())
    parser = argparse.ArgumentParser(
        prog="benchmarks/run.py",
        description="Load brokers on loopback and compare their CPU per message delivered.",
        epilog=_EPILOG + lines,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--scenario",
        action="append",
        choices=list(SCENARIOS),
        metavar="NAME",
        help="one scenario; may be repeated (default: all)",
    )
    parser.add_argument("--runs", type=_positive, default=3, metavar="N", help="runs of each (default: 3)")
    parser.add_argument(
        "--peers", default=",".join(PEERS), metavar="A,B", help="brokers (default: %(default)s)"
    )
    parser.add_argument(
        "--mqttload", type=Path, metavar="PATH", help="load by this program instead of the own generator"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    parser.add_argument("--quick", action="store_true", help="one run of a quarter of the load")
    parser.add_argument(
        "--durable",
        nargs=argparse.REMAINDER,
        metavar="ARGS",
        help="measure durable sessions instead; all that follows is for benchmarks/load/durable.py",
    )
    parser.add_argument(
        "--shadows",
        nargs=argparse.REMAINDER,
        metavar="ARGS",
        help="measure device shadows instead; all that follows is for benchmarks/load/shadows.py",
    )
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.peers.split(",")) - PEERS.keys()):
        parser.error(f"argument --peers: unknown broker {unknown[0]!r} (choose from {', '.join(PEERS)})")
    if options.mqttload is not None and not os.access(options.mqttload, os.X_OK):
        parser.error(f"argument --mqttload: {options.mqttload} is not a program that can be started")
    return options


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _told(scenario: Scenario) -> str:
    clients = f"{scenario.clients:,}"
    what = {
        "fanin": f"{clients} publishers to 1 subscriber",
        "fanout": f"1 publisher to {clients} subscribers",
        "pairs": f"{clients} publishers, each with its own subscriber",
        "paced": f"{clients} devices at {scenario.rate:g} message/s each, 1 consumer",
        "conns": f"{clients} connections {'over mutual TLS' if scenario.is_mutual_tls else 'over TCP'}",
    }[scenario.kind]
    return what if scenario.counts_connections else f"{what}, QoS {scenario.qos}"


def _installed(names: Sequence[str], console: Console) -> tuple[list[Peer], dict[str, str]]:
    """Return the brokers that are there with their versions, and name the missing ones."""
    peers: list[Peer] = []
    versions: dict[str, str] = {}
    for name in names:
        peer = PEERS[name]
        version = peer.version()
        if version is None:
            console.print(f"missing: {name} is not installed and left out ({peer.advice})")
            versions[name] = "missing"
        else:
            peers.append(peer)
            versions[name] = version
    return peers, versions


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # The brokers and generators are ended by then.
