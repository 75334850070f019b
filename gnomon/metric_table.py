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


def _bus_dropped(figures: Figures) -> dict[str, float]:
    outbound = figures.outbound
    return {
        "expired": outbound.dropped_expired,
        "full": outbound.dropped_full,
        "refused": outbound.refused,
        "too_large": outbound.dropped_too_large,
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
            "gnomon_broker_store_holds",
            "stats.store_holds",
            "How often a publisher was not read from because too many changes waited for the disk.",
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
    # Services beside a foreign broker.
    *_plain(
        "counter",
        ("gnomon_bus_connects", "bus.connects", "Connections to the foreign broker."),
        (
            "gnomon_bus_sessions_lost",
            "bus.sessions_lost",
            "How often the foreign broker had forgotten the session, and what it kept for us.",
        ),
        ("gnomon_bus_messages_received", "bus.messages_received", "PUBLISH of the foreign broker."),
        ("gnomon_bus_messages_superseded", "outbound.superseded", "Waiting for it, replaced by a later one."),
    ),
    Metric(
        "gnomon_bus_messages_dropped",
        "counter",
        "Messages that the foreign broker did not get, by cause: expired, full (too many wait), refused (by "
        "it), too_large (for it).",
        _bus_dropped,
        "cause",
    ),
    # Shadows.
    *_plain(
        "counter",
        ("gnomon_shadow_requests", "shadow.requests", "Requests to shadows."),
        ("gnomon_shadow_refused", "shadow.refused", "Requests answered with a rejection."),
        (
            "gnomon_shadow_throttled",
            "shadow.throttled",
            "Requests refused because there were too many in flight, or in one second.",
        ),
        ("gnomon_shadow_ignored", "shadow.ignored", "Messages on request topics that are no requests."),
        (
            "gnomon_shadow_repeated",
            "shadow.repeated",
            "Requests that a broker sent again and that had been done before.",
        ),
        ("gnomon_shadow_changes", "shadow.changes", "Accepted updates and deletes."),
        ("gnomon_shadow_commits", "shadow.commits", "Groups of changes that the store took."),
        (
            "gnomon_shadow_store_failures",
            "shadow.store_failures",
            "Groups that the store did not take or read.",
        ),
        ("gnomon_shadow_internal_failures", "shadow.internal_failures", "Requests that failed by our fault."),
        (
            "gnomon_shadow_converged",
            "shadow.converged",
            "Shadows whose reported state follows desired again.",
        ),
        ("gnomon_shadow_retold", "shadow.retold", "Deltas that were published again."),
        ("gnomon_shadow_swept", "shadow.swept", "Expired tombstones and journal entries that were removed."),
    ),
    *_plain(
        "gauge",
        ("gnomon_shadow_drifting", "shadow.drifting", "Shadows with a delta."),
        (
            "gnomon_shadow_drifts_not_followed",
            "shadow.drifts_not_followed",
            "1 where more shadows have a delta than are followed.",
        ),
        (
            "gnomon_shadow_drift_age_seconds",
            "shadow_drift_age_s",
            "For how long the shadow with the oldest delta has had one.",
        ),
        ("gnomon_shadow_hot_rows", "shadow.hot_rows", "Shadows in memory."),
        ("gnomon_shadow_hot_bytes", "shadow.hot_bytes", "Memory for shadows that nobody uses just now."),
    ),
    Metric(
        "gnomon_shadow_converge_seconds",
        "gauge",
        "Time from the first delta to none, of the shadows that followed in the last five to ten minutes.",
        attrgetter("shadow_converge_s"),
        "quantile",
    ),
    # The database.
    *_plain(
        "counter",
        ("gnomon_storage_commits", "storage.commits", "Transactions."),
        ("gnomon_storage_commit_seconds", "storage.commit_seconds", "Time that transactions took."),
        ("gnomon_storage_works", "storage.works", "Groups of changes that transactions took."),
        ("gnomon_storage_rows", "storage.rows", "Rows written or deleted."),
        (
            "gnomon_storage_works_refused",
            "storage.works_refused",
            "Groups of changes that failed by our fault.",
        ),
        ("gnomon_storage_failures", "storage.failures", "How often the disk or the server began to fail."),
        ("gnomon_storage_retries", "storage.retries", "Transactions that failed and were begun again."),
        ("gnomon_storage_reads", "storage.reads", "Reads."),
        ("gnomon_storage_reads_failed", "storage.reads_failed", "Reads that failed."),
        ("gnomon_storage_vacuumed_pages", "storage.vacuumed_pages", "Pages given back to the disk."),
    ),
    *_plain(
        "gauge",
        (
            "gnomon_storage_failing",
            "is_storage_failing",
            "1 while nothing can be stored, and so nothing that needs it is acknowledged.",
        ),
        (
            "gnomon_storage_commit_seconds_maximum",
            "storage.commit_seconds_maximum",
            "The longest transaction since the start.",
        ),
        ("gnomon_storage_works_waiting", "storage.works_waiting", "Groups of changes that wait."),
        ("gnomon_storage_waiting_bytes", "storage.bytes_waiting", "Bytes of changes that wait."),
        ("gnomon_storage_database_bytes", "storage.database_bytes", "Size of the database file."),
        ("gnomon_storage_free_bytes", "storage.free_bytes", "Room in the database file for what comes."),
        ("gnomon_storage_wal_bytes", "storage.wal_bytes", "Size of the write-ahead log's file."),
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
