"""
Every setting, with its type, default, bounds and meaning: one frozen struct per section.

This is the only place where a setting is defined. `config/headgate.toml` is printed from it
(`python -m daemon.config.reference`), and a test fails when the two differ.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

#: Shown in place of a secret wherever settings are printed or logged.
REDACTED = "•••"


def _meta(text: str, *, secret: bool = False, **bounds: Any) -> Meta:
    return Meta(description=text, extra={"secret": secret}, **bounds)


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections. Its repr never shows a secret, so that no log or traceback can."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in visible(self).items())
        return f"{type(self).__name__}({shown})"


class Server(Section, frozen=True):
    """Addresses, ports and the limits at the door."""

    host: Annotated[str, _meta("address that the ingest port listens on")] = "127.0.0.1"
    ingest_port: Annotated[int, _meta("port for events", ge=1, le=65535)] = 8080
    dashboard_port: Annotated[int, _meta("port of the dashboard and its API", ge=1, le=65535)] = 8081
    admin_host: Annotated[str, _meta("address of the admin port; keep it private")] = "127.0.0.1"
    admin_port: Annotated[int, _meta("port of /livez, /readyz, /metrics and /slots", ge=1, le=65535)] = 9090
    trusted_proxies: Annotated[
        tuple[str, ...],
        _meta("addresses or networks (CIDR) whose X-Forwarded-For and X-Forwarded-Proto are believed"),
    ] = ()
    connections_max: Annotated[
        int, _meta("connections over all frontends; more wait in the listen queue", ge=16, le=1_000_000)
    ] = 4096
    requests_max: Annotated[
        int, _meta("requests in work per frontend; more are answered 503", ge=1, le=1_000_000)
    ] = 4096
    backlog: Annotated[int, _meta("listen queue per frontend, connections", ge=1, le=65535)] = 1024
    head_timeout_s: Annotated[float, _meta("seconds for a whole request head", gt=0, le=300)] = 10.0
    body_timeout_s: Annotated[float, _meta("seconds for a whole request body", gt=0, le=600)] = 30.0
    drain_window_s: Annotated[
        float,
        _meta(
            "seconds in which a stopping frontend still answers, with Connection: close; three times as long at most "
            "while requests still come",
            ge=0,
            le=60,
        ),
    ] = 0.5
    drain_limit_s: Annotated[
        float, _meta("seconds that a stopping process gets to finish what it accepted", gt=0, le=600)
    ] = 10.0


class Frontend(Section, frozen=True):
    """The processes that answer HTTP."""

    count: Annotated[int, _meta("processes; 0 means one per core", ge=0, le=256)] = 0
    tick_s: Annotated[
        float,
        _meta(
            "seconds in which events are gathered under load; an idle frontend does not wait", ge=0, le=0.1
        ),
    ] = 0.001
    answer_timeout_s: Annotated[
        float, _meta("seconds until an event that is not durable yet is answered 503", gt=0, le=60)
    ] = 4.0
    oldest_wait_max_s: Annotated[
        float,
        _meta(
            "seconds that the oldest event may wait for its acknowledgement; while one waits longer, new ones are "
            "answered 503 at once; more than publisher.ack_deadline_s, or an outage of Kafka refuses events; 0: never",
            ge=0,
            le=60,
        ),
    ] = 3.0
    hot_key_per_s: Annotated[
        int,
        _meta(
            "events per second of one visitor after which they are spread over partitions, out of order", ge=1
        ),
    ] = 2_000
    queue_records_max: Annotated[
        int, _meta("records that may wait for acknowledgement per frontend; beyond: 503", ge=1)
    ] = 50_000
    queue_bytes_max: Annotated[
        int, _meta("bytes that may wait for acknowledgement per frontend; beyond: 503", ge=65536)
    ] = 64 * 1024 * 1024


class Publisher(Section, frozen=True):
    """The processes that write the event log."""

    count: Annotated[int, _meta("processes", ge=1, le=64)] = 1
    ack_deadline_s: Annotated[
        float,
        _meta("seconds that Kafka gets to acknowledge a batch before it goes to the local log", gt=0, le=60),
    ] = 2.0
    queue_records_max: Annotated[int, _meta("records in work per publisher", ge=1)] = 200_000
    queue_bytes_max: Annotated[int, _meta("bytes in work per publisher", ge=65536)] = 256 * 1024 * 1024
    frame_bytes_max: Annotated[
        int, _meta("bytes of one message between processes", ge=65536, le=1024 * 1024 * 1024)
    ] = 32 * 1024 * 1024
    probe_s: Annotated[
        float, _meta("seconds between tries to reach Kafka while it is away", gt=0, le=300)
    ] = 1.0
    rebuild_after_s: Annotated[
        float,
        _meta("seconds without any acknowledgement after which the Kafka client is made anew", gt=0, le=600),
    ] = 15.0
    drain_records_per_s: Annotated[
        int, _meta("records per second that go from the local log to Kafka once it is back", ge=1)
    ] = 5_000


class Processor(Section, frozen=True):
    """The processes that store the events of the log in PostgreSQL."""

    count: Annotated[int, _meta("processes; 0 means that events stay on the log", ge=0, le=64)] = 1
    group: Annotated[
        str,
        _meta(
            "consumer group on Kafka, and name of the position on the local log",
            min_length=1,
            max_length=255,
        ),
    ] = "event-processor"
    batch_records_max: Annotated[
        int, _meta("records that are stored in one transaction", ge=1, le=100_000)
    ] = 2_000
    batch_bytes_max: Annotated[
        int, _meta("bytes of records that are stored in one transaction", ge=65536, le=256 * 1024 * 1024)
    ] = 8 * 1024 * 1024
    batch_wait_s: Annotated[
        float, _meta("seconds between two transactions, unless there is enough for a full one", ge=0, le=60)
    ] = 0.1
    batch_timeout_s: Annotated[
        float, _meta("seconds that PostgreSQL gets to store one batch", gt=0, le=600)
    ] = 30.0
    retention_s: Annotated[
        float, _meta("seconds that stored events are kept, in whole days; 0 means for ever", ge=0)
    ] = 90 * 86400.0
    id_retention_s: Annotated[
        float,
        _meta(
            "seconds that the ids of events are remembered, never shorter than the events; 0 means for ever "
            "(those of ResultFly always are)",
            ge=0,
        ),
    ] = 90 * 86400.0
    tidy_s: Annotated[float, _meta("seconds between looks for days to make and to drop", gt=0, le=3600)] = (
        60.0
    )


class Limits(Section, frozen=True):
    """What a caller may send."""

    body_bytes_max: Annotated[int, _meta("bytes of a single event's body, inflated", ge=1024)] = 512 * 1024
    batch_bytes_max: Annotated[int, _meta("bytes of a batch's body, inflated", ge=1024)] = 5 * 1024 * 1024
    item_bytes_max: Annotated[int, _meta("bytes of one item of a batch", ge=1024)] = 64 * 1024
    batch_items_max: Annotated[int, _meta("items of a batch", ge=1, le=100_000)] = 500
    rate_per_s: Annotated[float, _meta("requests per second of a key that has no rate of its own", gt=0)] = (
        1000.0
    )
    burst: Annotated[int, _meta("requests at once of a key that has no burst of its own", ge=1)] = 1000
    lease_s: Annotated[
        float, _meta("seconds between renewals of the slices of a limit that a frontend holds", gt=0, le=1)
    ] = 0.015


class Datafly(Section, frozen=True):
    """Datafly Signal."""

    hosts: Annotated[
        dict[str, str],
        _meta(
            'host name → source id, for signed requests that name no source: "data.example.com" = "src_…" '
            "(in the environment: data.example.com=src_…,…)"
        ),
    ] = field(default_factory=dict)


class Resultfly(Section, frozen=True):
    """ResultFly CDP."""

    window_s: Annotated[
        float,
        _meta(
            "seconds in which a second externalEventId is recognised at the door; after that, and for ever, by the "
            "event's derived id further down",
            gt=0,
        ),
    ] = 30 * 86400.0
    default_region: Annotated[
        str,
        _meta(
            "country (ISO 3166, two letters) whose national notation phone numbers may be in; empty: numbers need "
            "their calling code"
        ),
    ] = ""
    regions: Annotated[
        dict[str, str],
        _meta('the same for single tenants: acme = "DE" (in the environment: acme=DE,…)'),
    ] = field(default_factory=dict)

    def region(self, tenant: str) -> str:
        """The region of a tenant's phone numbers; empty where there is none."""
        return self.regions.get(tenant, self.default_region)


class Tracklayer(Section, frozen=True):
    """TrackLayer."""

    browser_events_max: Annotated[
        int,
        _meta(
            "events of pages that one address (IPv6: its /64) may send to one merchant within the window",
            ge=1,
            le=100_000,
        ),
    ] = 30
    browser_window_s: Annotated[float, _meta("that window, in seconds", gt=0, le=86400)] = 60.0
    pii: Annotated[
        Literal["raw", "hashed"],
        _meta(
            "how user_data goes to the log: raw as it came, or hashed as the platforms want it, without what "
            "can't be hashed"
        ),
    ] = "raw"


class Kafka(Section, frozen=True):
    """The event log. Without brokers, the local log is the whole log."""

    brokers: Annotated[tuple[str, ...], _meta("host:port of some brokers; empty means the local log")] = ()
    client_id: Annotated[str, _meta("name shown in the brokers' logs and metrics")] = "headgate"
    topic_raw: Annotated[str, _meta("topic that takes the envelopes", min_length=1)] = "raw-events"
    topic_dlq: Annotated[str, _meta("topic that takes what can't be processed", min_length=1)] = "dlq-events"
    partitions: Annotated[
        int, _meta("partitions of topics that are created; also of the local log", ge=1, le=10_000)
    ] = 12
    replication_factor: Annotated[int, _meta("replicas of topics that are created", ge=1, le=15)] = 1
    create_topics: Annotated[
        bool, _meta("create missing topics; when false a missing topic is named and nothing starts")
    ] = True
    compression: Annotated[
        Literal["none", "gzip", "snappy", "lz4", "zstd"], _meta("compression of batches")
    ] = "none"
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], _meta("how to talk to the brokers")
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], _meta("SASL mechanism")] = (
        "PLAIN"
    )
    sasl_username: Annotated[str, _meta("SASL user")] = ""
    sasl_password: Annotated[str, _meta("SASL password", secret=True)] = ""
    ssl_ca_file: Annotated[str, _meta("PEM file of the authorities to trust; empty means the system's")] = ""
    ssl_cert_file: Annotated[str, _meta("PEM file of the client certificate")] = ""
    ssl_key_file: Annotated[str, _meta("PEM file of the client key")] = ""
    ssl_key_password: Annotated[str, _meta("password of the client key", secret=True)] = ""
    ssl_check_hostname: Annotated[bool, _meta("require that the certificate names the broker's host")] = True
    request_timeout_s: Annotated[float, _meta("seconds for one request to a broker", gt=0, le=300)] = 10.0
    when_away: Annotated[
        Literal["spool", "refuse"],
        _meta("without Kafka: spool takes events on the local log, refuse answers 503"),
    ] = "spool"


class LocalLog(Section, frozen=True):
    """The log on this machine's disk: the spool when Kafka is away, the whole log without Kafka."""

    bytes_max: Annotated[int, _meta("bytes of the log per publisher; beyond: 503", ge=1024 * 1024)] = (
        64 * 1024**3
    )
    headroom_bytes: Annotated[
        int, _meta("bytes kept free on the disk so that draining can go on; below: 503", ge=0)
    ] = 64 * 1024 * 1024
    retention_s: Annotated[
        float, _meta("seconds that records are kept when there is no Kafka; 0 means for ever", ge=0)
    ] = 7 * 86400.0
    spool_age_max_s: Annotated[
        float,
        _meta(
            "age of the oldest record that waits for Kafka, in seconds, beyond which no more are spooled: 503; keep it "
            "below the topic's retention.ms; 0 means no bound",
            ge=0,
        ),
    ] = 3 * 86400.0


class Postgres(Section, frozen=True):
    """Sources, keys and settings that change at run time."""

    dsn: Annotated[
        str, _meta("postgresql://user:password@host/database; empty means the embedded server", secret=True)
    ] = ""
    pool_max: Annotated[int, _meta("connections per process", ge=1, le=1000)] = 4
    timeout_s: Annotated[float, _meta("seconds for one statement", gt=0, le=300)] = 5.0
    when_away: Annotated[
        Literal["serve", "refuse"],
        _meta("without PostgreSQL: serve takes events of known keys (keys.last_good_s), refuse answers 503"),
    ] = "serve"


class Redis(Section, frozen=True):
    """Limits, claims and visitor identities."""

    url: Annotated[
        str, _meta("redis://…, rediss://… or unix://…; empty means the embedded server", secret=True)
    ] = ""
    timeout_s: Annotated[
        float, _meta("seconds until an unanswered call counts as an outage", gt=0, le=60)
    ] = 0.25
    retry_s: Annotated[float, _meta("seconds between tries while Redis is away", gt=0, le=60)] = 0.5
    prefix: Annotated[str, _meta("prefix of every key", min_length=1)] = "hg:"
    when_away: Annotated[
        Literal["serve", "refuse"],
        _meta(
            "without Redis: serve takes events with local limits and without looking for duplicates, refuse answers 503"
        ),
    ] = "serve"


class Keys(Section, frozen=True):
    """How long what is known of a key is believed."""

    memory_ttl_s: Annotated[float, _meta("seconds in a frontend's memory", gt=0)] = 300.0
    redis_ttl_s: Annotated[float, _meta("seconds in Redis", gt=0)] = 300.0
    negative_ttl_s: Annotated[float, _meta("seconds that an unknown key is remembered as unknown", ge=0)] = (
        5.0
    )
    last_good_s: Annotated[
        float, _meta("seconds that a known key is good for while PostgreSQL and Redis are away", ge=0)
    ] = 600.0
    entries_max: Annotated[int, _meta("keys in a frontend's memory", ge=1)] = 200_000


class Claims(Section, frozen=True):
    """Deduplication by the caller's own id."""

    window_s: Annotated[float, _meta("seconds in which a second messageId is a duplicate", gt=0)] = 86400.0
    pending_s: Annotated[
        float, _meta("seconds after which the claim of a crashed frontend is free again", gt=0, le=5)
    ] = 5.0


class Identity(Section, frozen=True):
    """What is remembered of a visitor."""

    ttl_s: Annotated[float, _meta("seconds that a visitor is remembered after the last event", gt=0)] = (
        63072000.0
    )
    new_visitor_ttl_s: Annotated[
        float, _meta("the same for a visitor whose cookie has not come back yet", gt=0)
    ] = 86400.0
    click_id_ttl_s: Annotated[float, _meta("seconds that a click id goes with a visitor's events", gt=0)] = (
        7776000.0
    )


class Supervisor(Section, frozen=True):
    """How child processes are watched."""

    beat_timeout_s: Annotated[
        float, _meta("seconds without a heartbeat after which a process is aborted", ge=2, le=600)
    ] = 10.0
    start_timeout_s: Annotated[float, _meta("seconds that a process gets to become ready", gt=0, le=600)] = (
        60.0
    )
    abort_grace_s: Annotated[float, _meta("seconds between ABRT and KILL", gt=0, le=60)] = 2.0
    backoff_first_s: Annotated[float, _meta("seconds before the second restart in a row", gt=0, le=60)] = 0.1
    backoff_max_s: Annotated[float, _meta("longest wait before a restart", gt=0, le=3600)] = 30.0
    crashes_max: Annotated[
        int, _meta("crashes within the window that are restarted; one more parks", ge=1)
    ] = 5
    crash_window_s: Annotated[float, _meta("the window for that, in seconds", gt=0)] = 60.0


class Observe(Section, frozen=True):
    """Logs."""

    log_level: Annotated[Literal["debug", "info", "warning", "error"], _meta("least severe line written")] = (
        "info"
    )
    log_format: Annotated[
        Literal["auto", "json", "console"], _meta("auto: console on a terminal, else JSON lines")
    ] = "auto"


class Security(Section, frozen=True):
    """Secrets of Headgate itself."""

    sealing_key: Annotated[
        str,
        _meta(
            "64 hex digits that seal the sources' secrets in PostgreSQL; "
            "empty: made once and kept in <data_dir>/sealing.key",
            secret=True,
            pattern="^([0-9a-fA-F]{64})?$",
        ),
    ] = ""


class Settings(Section, frozen=True):
    """All settings of one instance."""

    mode: Annotated[
        Literal["development", "production"],
        _meta("development allows pages on localhost and cookies over plain http"),
    ] = "production"
    data_dir: Annotated[
        str, _meta("folder for the local log, embedded servers and credentials", min_length=1)
    ] = ".data"
    server: Server = field(default_factory=Server)
    frontend: Frontend = field(default_factory=Frontend)
    publisher: Publisher = field(default_factory=Publisher)
    processor: Processor = field(default_factory=Processor)
    limits: Limits = field(default_factory=Limits)
    datafly: Datafly = field(default_factory=Datafly)
    resultfly: Resultfly = field(default_factory=Resultfly)
    tracklayer: Tracklayer = field(default_factory=Tracklayer)
    kafka: Kafka = field(default_factory=Kafka)
    log: LocalLog = field(default_factory=LocalLog)
    postgres: Postgres = field(default_factory=Postgres)
    redis: Redis = field(default_factory=Redis)
    keys: Keys = field(default_factory=Keys)
    claims: Claims = field(default_factory=Claims)
    identity: Identity = field(default_factory=Identity)
    supervisor: Supervisor = field(default_factory=Supervisor)
    observe: Observe = field(default_factory=Observe)
    security: Security = field(default_factory=Security)

    @property
    def development(self) -> bool:
        """Whether pages on localhost are allowed and cookies go over plain http."""
        return self.mode == "development"


def is_secret(section: type[Section], name: str) -> bool:
    """Whether the field `name` of `section` holds a secret that must never be shown."""
    hint = msgspec.structs.fields(section)
    for one in hint:
        if one.name == name:
            meta = getattr(one.type, "__metadata__", ())
            return any(isinstance(m, Meta) and bool((m.extra or {}).get("secret")) for m in meta)
    raise KeyError(name)


def visible(section: Section) -> dict[str, Any]:
    """The fields of `section` with every secret that is set replaced by a mark."""
    shown: dict[str, Any] = {}
    for one in msgspec.structs.fields(type(section)):
        value = getattr(section, one.name)
        if isinstance(value, Section):
            shown[one.name] = visible(value)
        elif value and is_secret(type(section), one.name):
            shown[one.name] = REDACTED
        else:
            shown[one.name] = value
    return shown
