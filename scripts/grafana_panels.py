"""
What the dashboard shows: every panel with its title, its question in PromQL and what it means.

`scripts/grafana_dashboard.py` makes Grafana's JSON of it.
"""

from __future__ import annotations

from dataclasses import dataclass

#: A dashboard is this wide.
COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Ask:
    """One question of a panel: PromQL, with `HERE` for the chosen instances, and the legend of its answers."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """
    One panel.

    `kind` is Grafana's (timeseries, stat, heatmap, state-timeline), `unit` one of Grafana's units, `width` in
    columns of 24. `steps` are thresholds: (from, colour), the first from nothing.
    """

    title: str
    meaning: str
    asks: tuple[Ask, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    steps: tuple[tuple[float | None, str], ...] = ()
    mappings: tuple[tuple[str, str, str], ...] = ()
    decimals: int | None = None
    max: float | None = None
    log: bool = False


def quantiles(metric: str, label: str, levels: tuple[float, ...] = (0.5, 0.99)) -> tuple[Ask, ...]:
    """The quantiles of a histogram, per value of `label`."""
    by = f"le, {label}" if label else "le"
    shown = "{{" + label + "}} " if label else ""
    return tuple(
        Ask(
            f"histogram_quantile({level}, sum by ({by}) (rate({metric}_bucket{{HERE}}[$__rate_interval])))",
            f"{shown}p{level * 100:g}",
        )
        for level in levels
    )


def mean(metric: str, label: str) -> Ask:
    """The mean of a histogram, per value of `label`."""
    by = f"sum by ({label})" if label else "sum"
    return Ask(
        f"{by} (rate({metric}_sum{{HERE}}[$__rate_interval])) / "
        f"({by} (rate({metric}_count{{HERE}}[$__rate_interval])) > 0)",
        "{{" + label + "}}" if label else "mean",
    )


def rate(metric: str, label: str = "", matchers: str = "") -> Ask:
    """How much a counter grows per second, per value of `label`."""
    inside = f"HERE, {matchers}" if matchers else "HERE"
    by = f"sum by ({label})" if label else "sum"
    legend = " ".join("{{" + name.strip() + "}}" for name in label.split(",")) if label else metric
    return Ask(f"{by} (rate({metric}{{{inside}}}[$__rate_interval]))", legend)


def share(outcome: str) -> str:
    """The share of events that ended as `outcome` (a pattern), 0 to 1."""
    return (
        f'sum(rate(headgate_events_total{{HERE, outcome=~"{outcome}"}}[$__rate_interval])) / '
        "(sum(rate(headgate_events_total{HERE}[$__rate_interval])) > 0)"
    )


GOOD_AT_0 = ((None, "green"), (1.0, "red"))
YES_NO = (("0", "no", "red"), ("1", "yes", "green"))

NOW = (
    Panel("Ready", "Whether a well-formed event gets a 2xx (/readyz).", (Ask("min(headgate_ready{HERE})"),),
          kind="stat", width=3, mappings=YES_NO, steps=((None, "red"), (1, "green"))),
    Panel("Events/s", "Events that arrived.", (rate("headgate_events_received_total"),), "cps", "stat", 3),
    Panel("Durable", "Share of events that are on the log, duplicates included.", (Ask(share("accepted|duplicate")),),
          "percentunit", "stat", 3, steps=((None, "red"), (0.8, "orange"), (0.95, "green")), decimals=2),
    Panel("503", "Share of events that could not be made durable.", (Ask(share("unavailable")),),
          "percentunit", "stat", 3, steps=((None, "green"), (0.001, "orange"), (0.05, "red")), decimals=3),
    Panel("Request p99", "Seconds; one request in a hundred takes longer.", quantiles("headgate_request_seconds", "", (0.99,)),
          "s", "stat", 3, steps=((None, "green"), (0.1, "orange"), (0.5, "red"))),
    Panel("In the spool", "Records on disk that Kafka has not got yet.", (Ask("sum(headgate_spool_records{HERE})"),),
          kind="stat", width=3, steps=((None, "green"), (1, "orange"))),
    Panel("Slots not ready", "Processes that are not READY.",
          (Ask('sum(headgate_slots{HERE, state!="READY"})'),), kind="stat", width=3, steps=GOOD_AT_0),
    Panel("Kafka", "Whether the breaker takes Kafka for there.", (Ask("max(headgate_log_breaker_open{HERE})"),),
          kind="stat", width=3, steps=((None, "green"), (1, "red")),
          mappings=(("0", "closed", "green"), ("1", "open", "red"))),
)  # fmt: skip

TRAFFIC = (
    Panel("Events by outcome", "What became of them. The sum is what arrived, a moment later.",
          (rate("headgate_events_total", "outcome"),), "cps", width=12, stacked=True),
    Panel("Refused and lost", "The same without accepted and duplicate. rate_limited: 429; unavailable: 503; "
          "interrupted: a frontend died with them, the caller got no answer.",
          (rate("headgate_events_total", "outcome", 'outcome!~"accepted|duplicate"'),), "cps", width=12),
    Panel("Requests by endpoint", "t: track, p: page, i: identify, g: group.",
          (rate("headgate_request_seconds_count", "endpoint"),), "reqps", stacked=True),
    Panel("Requests without an event", "Preflights, health, unknown paths and methods.",
          (rate("headgate_other_requests_total", "kind"),), "reqps"),
    Panel("In work", "Received and not ended (never below 0, and 0 at rest), and requests being answered.",
          (Ask("sum(headgate_events_received_total{HERE}) - sum(headgate_events_total{HERE})", "events"),
           Ask("sum(headgate_requests_in_work{HERE})", "requests"))),
)  # fmt: skip

LATENCY = (
    Panel("Requests", "Seconds from head to reply, over all endpoints: how many took how long.",
          (Ask("sum by (le) (increase(headgate_request_seconds_bucket{HERE}[$__rate_interval]))", "{{le}}"),),
          "s", "heatmap", 12),
    Panel("By endpoint", "Seconds from head to reply.",
          quantiles("headgate_request_seconds", "endpoint", (0.5, 0.95, 0.99)), "s", width=12, log=True),
    Panel("By stage, p99", "body: reading it; decode: and checking; stores: claims and identity; publish: until "
          "the log's acknowledgement.", quantiles("headgate_stage_seconds", "stage", (0.99,)), "s", log=True),
    Panel("By stage, mean", "Where a request's time goes.", (mean("headgate_stage_seconds", "stage"),), "s", stacked=True),
    Panel("Events per tick", "How many share one trip to Redis and one message to a publisher.",
          (mean("headgate_tick_events", ""), *quantiles("headgate_tick_events", "", (0.99,)))),
)  # fmt: skip

DURABILITY = (
    Panel("Records made durable", "By where: kafka, or the local log while Kafka is away or where there is none.",
          (rate("headgate_log_records_total", "durability"),), "cps", stacked=True),
    Panel("Bytes made durable", "Envelopes, before compression.", (rate("headgate_log_bytes_total", "durability"),),
          "Bps", stacked=True),
    Panel("Acknowledgement", "Seconds from a message's arrival at the publisher to the log's acknowledgement.",
          quantiles("headgate_log_ack_seconds", "durability"), "s", log=True),
    Panel("Spool", "Records that wait for Kafka.", (Ask("sum by (slot) (headgate_spool_records{HERE})", "publisher {{slot}}"),)),
    Panel("Oldest in the spool", "Age of the oldest record that waits for Kafka.",
          (Ask("max by (instance) (headgate_spool_oldest_seconds{HERE})", "{{instance}}"),), "s"),
    Panel("Draining", "Records per second that go from the spool to Kafka.",
          (rate("headgate_spool_drained_records_total", "slot"),), "cps"),
    Panel("Disk", "Free space of the data folder, and what the local log has of it.",
          (Ask("min by (instance) (headgate_disk_free_bytes{HERE})", "free {{instance}}"),
           Ask("sum by (instance) (headgate_spool_bytes{HERE})", "log {{instance}}")), "bytes"),
    Panel("Queues", "Records between the doors and the log.",
          (Ask("sum by (slot) (headgate_outbox_records{HERE})", "frontend {{slot}}"),
           Ask("sum by (slot) (headgate_publisher_queue_records{HERE})", "publisher {{slot}}"))),
    Panel("Queues, bytes", "The same in bytes.",
          (Ask("sum by (slot) (headgate_outbox_bytes{HERE})", "frontend {{slot}}"),
           Ask("sum by (slot) (headgate_publisher_queue_bytes{HERE})", "publisher {{slot}}")), "bytes"),
    Panel("Trouble", "Messages refused or sent again, full queues, Kafka clients made anew, hot keys salted.",
          (rate("headgate_log_nacks_total"), rate("headgate_outbox_resent_frames_total"),
           rate("headgate_outbox_full_total"), rate("headgate_log_client_rebuilds_total"),
           rate("headgate_hot_key_records_total")), "cps"),
    Panel("Damage", "Rows kept aside for an operator; corrupt files, records saved from them, rows that were lost.",
          (Ask("sum by (why) (headgate_spool_aside_rows{HERE})", "aside: {{why}}"),
           Ask("sum(increase(headgate_log_corrupt_files_total{HERE}[$__rate_interval]))", "corrupt files"),
           Ask("sum(increase(headgate_log_salvaged_records_total{HERE}[$__rate_interval]))", "records saved"),
           Ask("sum(increase(headgate_log_lost_rows_total{HERE}[$__rate_interval]))", "rows lost"))),
    Panel("Gate", "1 while all events get 503: a store is away that must not be, or events wait too long.",
          (Ask("max by (why) (headgate_gate_shut{HERE})", "shut: {{why}}"),
           rate("headgate_gate_refused_requests_total", "why"))),
    Panel("Kafka's breaker", "Open: events go to the local log.",
          (Ask("headgate_log_breaker_open{HERE}", "{{instance}} publisher {{slot}}"),), kind="state-timeline", width=12,
          steps=((None, "green"), (1, "red")), mappings=(("0", "closed", "green"), ("1", "open", "red"))),
    Panel("Messages", "Records of one message from a frontend to a publisher; messages per second; frontends connected.",
          (mean("headgate_outbox_frame_records", ""), rate("headgate_outbox_frames_total"),
           Ask("sum(headgate_publisher_connections{HERE})", "connections")), width=12),
)  # fmt: skip

STORING = (
    Panel("Behind", "Age of the oldest event on the log that is not stored in PostgreSQL yet.",
          (Ask("max by (instance) (headgate_processor_lag_seconds{HERE})", "{{instance}}"),), "s"),
    Panel("Waiting", "Records on the log that are not stored yet.",
          (Ask("sum by (instance) (headgate_processor_lag_records{HERE})", "{{instance}}"),)),
    Panel("Records", "stored: new rows; copy: the event was there already; poison: to the dead letters.",
          (rate("headgate_processor_records_total", "result"),), "cps", stacked=True),
    Panel("Poison", "Records that can't be stored, by reason; they are on the topic of dead letters.",
          (Ask("sum by (reason) (increase(headgate_processor_poison_total{HERE}[$__rate_interval]))", "{{reason}}"),)),
    Panel("Batches", "Records that were read together.",
          (mean("headgate_processor_batch_records", ""), *quantiles("headgate_processor_batch_records", "", (0.99,)))),
    Panel("Batches, seconds", "From reading some records until they are durable.",
          quantiles("headgate_processor_batch_seconds", ""), "s", log=True),
    Panel("Profiles", "Created, linked to a new identifier, merged, and conflicts between two EXTERNALs.",
          (rate("headgate_processor_profiles_total", "change"),), "cps"),
    Panel("Retries and gaps", "Batches tried again, and records that were gone before they were read.",
          (rate("headgate_processor_retries_total", "what"),
           Ask("sum(increase(headgate_processor_missed_records_total{HERE}[$__rate_interval]))", "missed")), width=8),
    Panel("Waits for", "1 while the processor waits for PostgreSQL, or for Kafka to read from.",
          (Ask("max by (instance, store) (headgate_processor_waiting{HERE})", "{{instance}} {{store}}"),),
          kind="state-timeline", width=24, steps=((None, "green"), (1, "red")),
          mappings=(("0", "no", "green"), ("1", "waits", "red"))),
    Panel("Tidied", "Days of events dropped, ids forgotten.",
          (Ask("sum by (what) (increase(headgate_processor_tidied_total{HERE}[$__rate_interval]))", "{{what}}"),)),
)  # fmt: skip

STORES = (
    Panel("Stores", "As the frontends see Redis and PostgreSQL, and the publishers Kafka.",
          (Ask('min by (instance, store) (headgate_store_up{HERE, role="frontend", store=~"redis|postgres"})',
               "{{instance}} {{store}}"),
           Ask('min by (instance, store) (headgate_store_up{HERE, role="publisher", store="kafka"})',
               "{{instance}} {{store}}")),
          kind="state-timeline", width=12, steps=((None, "red"), (1, "green")),
          mappings=(("0", "away", "red"), ("1", "there", "green"))),
    Panel("Outages", "Outages that began.",
          (Ask("sum by (store) (increase(headgate_store_outages_total{HERE}[$__rate_interval]))", "{{store}}"),), width=12),
    Panel("Redis", "Seconds of a round trip.", quantiles("headgate_redis_trip_seconds", "", (0.5, 0.99)), "s", log=True),
    Panel("Redis, trips", "Round trips on the hot path: one per tick, not one per request.",
          (rate("headgate_redis_trips_total"),), "ops"),
    Panel("Claims", "Of event ids: new; confirmed (a duplicate); pending (the first copy is in work); skipped (Redis away).",
          (rate("headgate_claims_total", "result"),), "ops"),
)  # fmt: skip

LIMITS = (
    Panel("Rate limited", "Events over their key's rate (429). The log names the source.",
          (rate("headgate_events_total", "outcome", 'outcome="rate_limited"'),), "cps"),
    Panel("Leases", "Tokens that the frontends hold, and calls per second that renew them.",
          (Ask("sum(headgate_lease_tokens{HERE})", "tokens"), rate("headgate_lease_renewals_total"))),
    Panel("Limited by the local share", "Requests while Redis was away.", (rate("headgate_local_limit_requests_total"),), "reqps"),
    Panel("Where keys were found", "memory is the cache; last_good: all stores away; unknown: 401.",
          (rate("headgate_key_lookups_total", "found"),), "ops", width=12),
    Panel("Keys found in memory", "Share of look-ups that needed no store.",
          (Ask('sum(rate(headgate_key_lookups_total{HERE, found="memory"}[$__rate_interval])) / '
               "(sum(rate(headgate_key_lookups_total{HERE}[$__rate_interval])) > 0)", "memory"),),
          "percentunit", width=12, max=1),
)  # fmt: skip

PROCESSES = (
    Panel("CPU per 1,000 events", "Seconds of CPU that the processes of a role need for 1,000 events: flat while traffic grows.",
          (Ask("1000 * sum by (role) (rate(headgate_process_cpu_seconds_total{HERE}[$__rate_interval])) / scalar("
               "sum(rate(headgate_events_received_total{HERE}[$__rate_interval])) > 0)", "{{role}}"),),
          "s", stacked=True),
    Panel("CPU", "Cores in use, per process; 1 is all that a process can well use.",
          (rate("headgate_process_cpu_seconds_total", "role, slot"),), "none"),
    Panel("Memory", "Bytes that each process holds; embedded with its servers.",
          (Ask("sum by (role, slot) (headgate_process_resident_bytes{HERE})", "{{role}} {{slot}}"),), "bytes"),
    Panel("Slots by state", "READY is what you want to see.",
          (Ask("sum by (state) (headgate_slots{HERE})", "{{state}}"),), stacked=True),
    Panel("Crashes and hangs", "Processes started again after a crash, and silent ones that were aborted.",
          (Ask("sum by (role) (increase(headgate_slot_restarts_total{HERE}[$__rate_interval]))", "restart {{role}}"),
           Ask("sum by (role) (increase(headgate_slot_aborts_total{HERE}[$__rate_interval]))", "abort {{role}}"))),
    Panel("Reloads", "Reloads and rolling restarts, by result.",
          (Ask("sum by (result) (increase(headgate_rolls_total{HERE}[$__rate_interval]))", "{{result}}"),)),
    Panel("File descriptors", "In use, as a share of what the process may have.",
          (Ask("max by (role, slot) (headgate_process_open_files{HERE} / headgate_process_open_files_max{HERE})",
               "{{role}} {{slot}}"),), "percentunit", width=12),
    Panel("Age", "Seconds since each process started.",
          (Ask("time() - max by (role, slot) (headgate_process_start_time_seconds{HERE})", "{{role}} {{slot}}"),),
          "s", width=12),
)  # fmt: skip

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("Now", NOW),
    ("Traffic and outcomes", TRAFFIC),
    ("Latency", LATENCY),
    ("Durability", DURABILITY),
    ("From the log to PostgreSQL", STORING),
    ("Stores", STORES),
    ("Limits and keys", LIMITS),
    ("Processes", PROCESSES),
)
