"""Every metric: its name, its meaning, where it is read.

Knows: what the rooms count.
Does not know: how metrics are written, who reads them.
Spec: names are gnomon_ROOM_WHAT_total|seconds|bytes, without client ids and topics as labels.
"""

import os
import platform
import resource
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from broker.protocol.reason_codes import ReasonCode

from .figures import Figures
from .version import installed_version


class Metric(Struct, frozen=True):
    """One metric; where it has a label, `read` returns a value for each of its values."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    read: Callable[[Figures], float | Mapping[str, float]]
    label: str = ""


def _plain(kind: Literal["counter", "gauge"], *rows: tuple[str, str, str]) -> tuple[Metric, ...]:
    return tuple(Metric(name, kind, meaning, attrgetter(place)) for name, place, meaning in rows)


def _by_reason(counts: Mapping[ReasonCode, int]) -> dict[str, float]:
    """Name the reasons; there are as many as MQTT has reason codes."""
    return {code.name.lower(): number for code, number in counts.items()}


def _dropped(figures: Figures) -> dict[str, float]:
    sessions = figures.stats.sessions
    return {
        "congested": sessions.dropped_congested,
        "expired": sessions.dropped_expired,
        "pending_full": sessions.dropped_pending_full,
        "too_large": sessions.dropped_too_large,
    }


def _rejected(figures: Figures) -> dict[str, float]:
    stats = figures.stats
    return {
        "total": stats.connections_rejected,
        "source": stats.connections_rejected_by_source,
        "rate": stats.connects_rejected_by_rate,
    }


def _cpu_seconds(_: Figures) -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _resident_bytes(_: Figures) -> float:
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:  # Not Linux.
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


METRICS: Final[Sequence[Metric]] = (
    # What there is at the moment.
    *_plain(
        "gauge",
        (
            "gnomon_broker_connections",
            "census.connections",
            "Network connections, with or without a session.",
        ),
        ("gnomon_session_sessions", "census.sessions", "Sessions, connected or not."),
        ("gnomon_session_sessions_connected", "census.sessions_connected", "Sessions with a connection."),
        ("gnomon_session_subscriptions", "census.subscriptions", "Subscriptions of all sessions."),
        ("gnomon_session_in_flight_messages", "census.in_flight_messages", "Sent and not acknowledged."),
        ("gnomon_session_pending_messages", "census.pending_messages", "Messages that wait for a session."),
        (
            "gnomon_session_pending_bytes",
            "census.pending_bytes",
            "Bytes of messages that wait for a session.",
        ),
        ("gnomon_routing_retained_messages", "census.retained_messages", "Retained, those of $SYS left out."),
    ),
    # Connections and sessions: how they begin and end.
    *_plain(
        "counter",
        ("gnomon_broker_connections_opened", "stats.connections_opened", "Network connections accepted."),
        (
            "gnomon_broker_handshake_holds",
            "stats.handshake_holds",
            "How often a listener did not accept because too many handshakes were in progress.",
        ),
        (
            "gnomon_broker_handshakes_failed",
            "stats.handshakes_failed",
            "TLS handshakes that failed or took too long, and PROXY headers that took too long.",
        ),
        (
            "gnomon_broker_proxy_headers_refused",
            "stats.proxy_headers_refused",
            "PROXY headers that are none.",
        ),
        ("gnomon_broker_connects_accepted", "stats.connects_accepted", "CONNECT answered with success."),
        ("gnomon_broker_connects_refused", "stats.connects_refused", "CONNECT refused."),
        (
            "gnomon_broker_authentication_timeouts",
            "stats.authentication_timeouts",
            "CONNECT refused because the authenticator did not answer in time.",
        ),
        ("gnomon_broker_keep_alive_timeouts", "stats.keep_alive_timeouts", "Clients silent for too long."),
        ("gnomon_broker_peer_errors", "stats.peer_errors", "Clients that broke the protocol."),
        ("gnomon_broker_slow_consumers_closed", "stats.slow_consumers_closed", "Clients that took nothing."),
        ("gnomon_session_takeovers", "stats.session_takeovers", "Clients that connected a second time."),
        ("gnomon_session_expired", "stats.sessions_expired", "Sessions whose expiry interval ended."),
    ),
    Metric(
        "gnomon_broker_connections_rejected",
        "counter",
        "Network connections closed unheard, by cause: total, source (of one address), rate (in one second).",
        _rejected,
        "cause",
    ),
    Metric(
        "gnomon_broker_connections_closed",
        "counter",
        "Network connections that ended, by MQTT reason code.",
        lambda figures: _by_reason(figures.stats.closed),
        "reason",
    ),
    Metric(
        "gnomon_session_subscriptions_refused",
        "counter",
        "Topic filters not granted, by MQTT reason code.",
        lambda figures: _by_reason(figures.stats.subscriptions_refused),
        "reason",
    ),
    # Traffic.
    *_plain(
        "counter",
        ("gnomon_broker_received_bytes", "stats.bytes_received", "Bytes received, without TLS."),
        ("gnomon_broker_sent_bytes", "stats.bytes_sent", "Bytes sent, without TLS."),
        ("gnomon_broker_packets_received", "stats.packets_received", "Control packets received."),
        ("gnomon_broker_packets_sent", "stats.packets_sent", "Control packets sent."),
        ("gnomon_broker_messages_received", "stats.publishes_received", "PUBLISH received."),
        ("gnomon_broker_messages_sent", "stats.messages_sent", "PUBLISH sent, repetitions included."),
        ("gnomon_broker_messages_denied", "stats.publishes_denied", "PUBLISH that the rules do not allow."),
        ("gnomon_broker_wills_published", "stats.wills_published", "Wills published."),
        (
            "gnomon_session_messages_superseded",
            "stats.sessions.superseded",
            "Waiting, replaced by a later one.",
        ),
        ("gnomon_routing_retained_refused", "stats.retained_refused", "Not retained: there are too many."),
    ),
    Metric(
        "gnomon_session_messages_dropped",
        "counter",
        "Deliveries lost, by cause: expired, pending_full (too many wait), too_large (for the client), "
        "congested (QoS 0, and the client does not read).",
        _dropped,
        "cause",
    ),
    # Back-pressure.
    *_plain(
        "counter",
        (
            "gnomon_broker_write_buffers_filled",
            "stats.write_buffers_filled",
            "How often a client did not take what was written for it.",
        ),
        (
            "gnomon_broker_frame_budgets_spent",
            "stats.frame_budgets_spent",
            "How often a connection had more packets than its budget for one turn.",
        ),
        (
            "gnomon_broker_mailbox_holds",
            "stats.mailbox_holds",
            "How often a publisher was not read from because a service had too much to do.",
        ),
        (
            "gnomon_broker_publish_rate_holds",
            "stats.publish_rate_holds",
            "How often a client was not read from because it published too fast.",
        ),
        (
            "gnomon_broker_publish_rate_closes",
            "stats.publish_rate_closes",
            "Clients closed because they published too fast for too long.",
        ),
        (
            "gnomon_broker_receive_maximum_holds",
            "stats.receive_maximum_holds",
            "How often a 3.1.1 publisher was not read from because too much of its was unacknowledged.",
        ),
        (
            "gnomon_routing_cache_clears",
            "stats.route_cache_clears",
            "How often the remembered receivers of topics were forgotten because there were too many.",
        ),
    ),
    # Shadows.
    *_plain(
        "counter",
        ("gnomon_shadow_requests", "shadow.requests", "Requests to shadows."),
        ("gnomon_shadow_refused", "shadow.refused", "Requests answered with a rejection."),
        ("gnomon_shadow_ignored", "shadow.ignored", "Messages on request topics that are no requests."),
        ("gnomon_shadow_commits", "shadow.commits", "Groups of changes that the store took."),
        (
            "gnomon_shadow_store_failures",
            "shadow.store_failures",
            "Groups that the store did not take or read.",
        ),
        ("gnomon_shadow_internal_failures", "shadow.internal_failures", "Requests that failed by our fault."),
    ),
    # The process.
    Metric(
        "gnomon_build_info",
        "gauge",
        "Always 1; the label has the version.",
        lambda _: {installed_version(): 1},
        "version",
    ),
    Metric(
        "python_info",
        "gauge",
        "Always 1; the label has the version of Python.",
        lambda _: {platform.python_version(): 1},
        "version",
    ),
    Metric("process_cpu_seconds", "counter", "Time on processors, user and system.", _cpu_seconds),
    Metric("process_resident_memory_bytes", "gauge", "Memory that is in RAM.", _resident_bytes),
    *_plain("gauge", ("process_start_time_seconds", "started_at", "Start, in seconds since the epoch.")),
)


def written_name(metric: Metric) -> str:
    """Return the name as it is scraped: counters end in `_total`."""
    return f"{metric.name}_total" if metric.kind == "counter" else metric.name
