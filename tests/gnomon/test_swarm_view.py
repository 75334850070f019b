"""What a swarm shows while it runs, and at its end."""

import pytest
from rich.console import Console

from gnomon.swarm_view import LineView, TableView, print_report
from simulators.swarm import Scenario, SwarmPhase, SwarmProgress, Tally
from simulators.swarm.report import make_report

SCENARIO = Scenario(devices=3, duration_s=60.0, edits=1.0)
TARGET = "mtls://[::1]:8883"


def progress(phase: SwarmPhase, seconds: float, sent: int, *, lost: int = 0) -> SwarmProgress:
    return SwarmProgress(phase=phase, done=2, seconds=seconds, tally=tally(sent, lost=lost))


def tally(sent: int, *, lost: int = 0) -> Tally:
    counted = Tally()
    counted.counts.updates_sent = sent
    counted.counts.accepted = sent - 1 if sent else 0
    counted.counts.connections_lost = lost
    counted.latencies["accepted"].add(2_000_000)
    return counted


def test_lines_come_with_a_phase_and_then_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    view = LineView(SCENARIO)
    view.show(progress("certificates", 0.0, 0))
    view.show(progress("load", 0.2, 1))
    view.show(progress("load", 2.2, 21))
    view.show(progress("load", 6.2, 421, lost=1))
    assert capsys.readouterr().out.splitlines() == [
        "certificates 0 s: 2 of 3 devices",
        "load 0 s: 2 of 3 devices, 0 updates/s, 0 answered/s, 0 errors",
        "load 6 s: 2 of 3 devices, 100 updates/s, 100 answered/s, 1 errors",
    ]


def test_a_quiet_view_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    LineView(SCENARIO, is_quiet=True).show(progress("load", 9.0, 1))
    assert capsys.readouterr().out == ""


def test_the_table_shows_rates_latencies_and_errors() -> None:
    console = Console(force_terminal=True, width=100, record=True)
    with TableView(SCENARIO, TARGET, console) as view:
        view.show(progress("load", 0.5, 1))
        view.show(progress("load", 10.0, 500, lost=4))
    text = console.export_text()
    assert TARGET in text
    assert "10 of 60 s" in text
    assert "2 of 3" in text
    assert "50/s sent, 50/s answered" in text
    assert "p50 2.0 ms, p99 2.0 ms" in text
    assert "4" in text.split("errors")[1].splitlines()[0]


def test_the_report_names_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    counted = tally(10, lost=1)
    counted.counts.edits_sent, counted.counts.edits_converged = 4, 3
    counted.fail("cut [by] somebody")
    counted.refuse(429)
    print_report(make_report(SCENARIO, TARGET, counted, seconds=2.0, ready=2, drifting=1, cpu_s=[0.5]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"2 of 3 devices on {TARGET}, 2 s: 5 updates/s sent, 4.5/s answered"
    assert lines[1] == "4 edits sent, 3 converged; 0 deltas, 0 reports that follow them"
    assert lines[-2:] == ["connection: cut [by] somebody (1)", "refused with 429: 1"]
    assert any("update to accepted" in line and "2.0" in line for line in lines)
