"""
Every metric of Headgate, with its meaning, unit and label values: the table that dashboards rely on.

One class per room; a process makes the ones whose rooms it uses. `role` and `slot` are added by the
supervisor. Label values are closed sets: no tenant, key, path or user agent is ever a label.
"""

from __future__ import annotations

from collections.abc import Iterable

from daemon.observe.metrics import SIZE_BUCKETS, Counter, Gauge, Histogram, Instrument

STORES = ("redis", "postgres", "kafka")
STAGES = ("body", "decode", "stores", "publish")
GATE_CAUSES = ("redis", "postgres", "overload", "requests")
ENDPOINTS = (
    "t", "p", "i", "g", "events", "batch", "segment", "pixel", "webhook", "track", "browser_events",
    "cdp_events", "cdp_batch", "cdp_contracts",
)  # fmt: skip


class Room:
    """The metrics of one room of the code."""

    def instruments(self) -> list[Instrument]:
        """All of them."""
        return [value for value in vars(self).values() if isinstance(value, Counter | Gauge | Histogram)]


class IngestMetrics(Room):
    """The frontend's door: what came in and what became of it."""

    def __init__(self, outcomes: Iterable[str]) -> None:
        self.received = Counter(
            "headgate_events_received",
            "Events that arrived: items of a batch each, a request refused before its items are known as one.",
        )
        self.outcomes = Counter(
            "headgate_events",
            "Events that ended, by outcome; received minus the sum of these is in work.",
            "outcome",
            outcomes,
        )
        self.requests = Histogram(
            "headgate_request_seconds", "Seconds from a request's head to its reply, by endpoint.", label="endpoint",
            values=ENDPOINTS,
        )  # fmt: skip
        self.stages = Histogram(
            "headgate_stage_seconds",
            "Seconds in a stage of a request: body (reading it), decode (and checking), stores (claims and "
            "identity in Redis), publish (until the log's acknowledgement).",
            label="stage",
            values=STAGES,
        )
        self.in_work = Gauge("headgate_requests_in_work", "Requests being answered now.")
        self.tick_events = Histogram(
            "headgate_tick_events", "Events gathered in one tick.", bounds=SIZE_BUCKETS
        )
        self.other_requests = Counter(
            "headgate_other_requests",
            "Requests that carry no event: preflight, health, asset, contracts, not_found, method_not_allowed.",
            "kind",
            ("preflight", "health", "asset", "contracts", "not_found", "method_not_allowed"),
        )


class GateMetrics(Room):
    """The gate before all events: what is refused before its body is read, and why."""

    def __init__(self) -> None:
        self.shut = Gauge(
            "headgate_gate_shut",
            "1 while all events are refused: redis, postgres (away, and when_away is refuse), overload (events wait "
            "for more than frontend.oldest_wait_max_s).",
            "why",
            GATE_CAUSES[:-1],
        )
        self.refused = Counter(
            "headgate_gate_refused_requests",
            "Requests answered 503 before their body was read; requests: over server.requests_max in work.",
            "why",
            GATE_CAUSES,
        )


class OutboxMetrics(Room):
    """The frontend's side of the queue to the publishers."""

    def __init__(self) -> None:
        self.records = Gauge("headgate_outbox_records", "Records that wait for acknowledgement.")
        self.bytes = Gauge("headgate_outbox_bytes", "Bytes that wait for acknowledgement.")
        self.frames = Counter("headgate_outbox_frames", "Publish messages sent.")
        self.frame_records = Histogram(
            "headgate_outbox_frame_records", "Records of one message.", SIZE_BUCKETS
        )
        self.resent = Counter(
            "headgate_outbox_resent_frames", "Messages sent again after a publisher was gone."
        )
        self.salted = Counter(
            "headgate_hot_key_records", "Records whose key was salted because it was too hot."
        )
        self.full = Counter(
            "headgate_outbox_full", "Times that the queue was full and an event was answered 503."
        )


class StoreMetrics(Room):
    """Redis, PostgreSQL and Kafka as this process sees them."""

    def __init__(self, stores: Iterable[str] = STORES) -> None:
        """`stores` are those that this process talks to: what it does not know it must not call down."""
        self.up = Gauge("headgate_store_up", "1 while the store answers, else 0.", "store", stores)
        self.outages = Counter("headgate_store_outages", "Outages that began.", "store", stores)
        self.trips = Counter("headgate_redis_trips", "Round trips to Redis on the hot path.")
        self.trip_seconds = Histogram("headgate_redis_trip_seconds", "Seconds of one round trip to Redis.")
        self.claims = Counter(
            "headgate_claims",
            "Claims of an event's id: new, pending (somebody else's, not finished), confirmed (a duplicate), "
            "conflict (another event had the id), skipped (Redis away).",
            "result",
            ("new", "pending", "confirmed", "conflict", "skipped"),
        )
        self.lookups = Counter(
            "headgate_key_lookups",
            "Look-ups of a key, by where it was found: memory, redis, postgres, last_good (stores away), "
            "unknown.",
            "found",
            ("memory", "redis", "postgres", "last_good", "unknown"),
        )
        self.leases = Gauge("headgate_lease_tokens", "Tokens of rate limits that this frontend holds unused.")
        self.lease_renewals = Counter("headgate_lease_renewals", "Calls that renewed slices of rate limits.")
        self.local_limits = Counter(
            "headgate_local_limit_requests", "Requests limited by a local share because Redis was away."
        )


class PublisherMetrics(Room):
    """The publisher: from the frontends' queues to the log."""

    def __init__(self) -> None:
        self.records = Counter(
            "headgate_log_records", "Records made durable, by where.", "durability", ("kafka", "local")
        )
        self.bytes = Counter("headgate_log_bytes", "Bytes of envelopes made durable, by where.", "durability",
                             ("kafka", "local"))  # fmt: skip
        self.ack = Histogram(
            "headgate_log_ack_seconds",
            "Seconds from a message's arrival to the log's acknowledgement, by where.",
            label="durability",
            values=("kafka", "local"),
        )
        self.nacks = Counter("headgate_log_nacks", "Messages that could not be made durable.")
        self.queue_records = Gauge("headgate_publisher_queue_records", "Records in work.")
        self.queue_bytes = Gauge("headgate_publisher_queue_bytes", "Bytes in work.")
        self.connections = Gauge("headgate_publisher_connections", "Frontends connected.")
        self.spool_records = Gauge(
            "headgate_spool_records", "Records on the local log that Kafka has not got yet."
        )
        self.spool_bytes = Gauge("headgate_spool_bytes", "Bytes of the local log on disk.")
        self.spool_oldest = Gauge(
            "headgate_spool_oldest_seconds",
            "Age of the oldest record that Kafka has not got yet; 0: there is none.",
        )
        self.spool_aside = Gauge(
            "headgate_spool_aside_rows",
            "Rows that stay on the local log for an operator: refused (too large for Kafka), damaged (not what was "
            "written).",
            "why",
            ("refused", "damaged"),
        )
        self.drained = Counter(
            "headgate_spool_drained_records", "Records that went from the local log to Kafka."
        )
        self.breaker = Gauge("headgate_log_breaker_open", "1 while Kafka is taken for away, else 0.")
        self.rebuilds = Counter("headgate_log_client_rebuilds", "Times that the Kafka client was made anew.")


class LocalLogMetrics(Room):
    """The local log's files: what was found damaged, and what came of it."""

    def __init__(self) -> None:
        self.corrupt_files = Counter(
            "headgate_log_corrupt_files", "Files of the local log that were corrupt and were moved aside."
        )
        self.salvaged = Counter(
            "headgate_log_salvaged_records", "Records of corrupt files that were saved into the new one."
        )
        self.lost_rows = Counter(
            "headgate_log_lost_rows",
            "Rows of the local log that could not be read any more: damaged ones, and missing ones of corrupt files "
            "(by their numbers).",
        )


class ProcessorMetrics(Room):
    """The processor: from the log to PostgreSQL."""

    def __init__(self, reasons: Iterable[str]) -> None:
        self.records = Counter(
            "headgate_processor_records",
            "Records of the log that are finished: stored, copy (an event that is stored already), poison.",
            "result",
            ("stored", "copy", "poison"),
        )
        self.poison = Counter(
            "headgate_processor_poison",
            "Records that went to the topic of dead letters, by reason.",
            "reason",
            reasons,
        )
        self.batch_records = Histogram(
            "headgate_processor_batch_records", "Records that were read together.", SIZE_BUCKETS
        )
        self.batch_seconds = Histogram(
            "headgate_processor_batch_seconds", "Seconds from reading some records until they were durable."
        )
        self.lag_records = Gauge(
            "headgate_processor_lag_records",
            "Records on the log that are not stored yet, as this process sees it.",
        )
        self.lag_seconds = Gauge(
            "headgate_processor_lag_seconds",
            "Age of the oldest record that is not stored yet; 0: there is none.",
        )
        self.waiting = Gauge(
            "headgate_processor_waiting",
            "1 while the processor waits for it: postgres, kafka (the log that it reads).",
            "store",
            ("postgres", "kafka"),
        )
        self.retries = Counter(
            "headgate_processor_retries", "Times that a batch was tried again: store (PostgreSQL), dead_letters.",
            "what", ("store", "dead_letters"),
        )  # fmt: skip
        self.missed = Counter(
            "headgate_processor_missed_records",
            "Records, of the local log rows, that were removed before they were read.",
        )
        self.profiles = Counter(
            "headgate_processor_profiles",
            "What events changed of profiles: created, linked (a new identifier), merged, conflict.",
            "change",
            ("created", "linked", "merged", "conflict"),
        )
        self.tidied = Counter(
            "headgate_processor_tidied",
            "Days of events that were dropped, ids that were forgotten.",
            "what",
            ("day", "id"),
        )


class SupervisorMetrics(Room):
    """The supervisor itself."""

    def __init__(self, roles: tuple[str, ...], states: tuple[str, ...]) -> None:
        self.slots = Gauge("headgate_slots", "Slots by state.", "state", states)
        self.restarts = Counter(
            "headgate_slot_restarts", "Crashed processes that were started again.", "role", roles
        )
        self.aborts = Counter("headgate_slot_aborts", "Silent processes that were aborted.", "role", roles)
        self.rolls = Counter("headgate_rolls", "Reloads and rolling restarts, by result.", "result",
                             ("done", "failed", "refused"))  # fmt: skip
        self.ready = Gauge("headgate_ready", "1 while a well-formed event can get a 2xx, else 0.")
